//! The optimizers: what a step does with the gradients, and the state it keeps from step to step.

mod arrays;

use oml_kernels::{AdafactorStep, AdamWStep, SgdStep};
use serde::{Deserialize, Serialize};

pub(super) use arrays::{Array, Values};

use super::Pull;
use crate::{
    backend::{Backend, Factored},
    decoder::ParameterMap,
};

/// The optimizers by their names in recipes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OptimizerName {
    /// AdamW (arXiv 1711.05101): 8 bytes of state per trained weight.
    #[default]
    AdamW,
    /// AdamW with both moments in 8 bits (arXiv 2110.02861): 2 bytes.
    AdamW8bit,
    /// Adafactor (arXiv 1804.04235) with factored second moments and no first: next to nothing.
    Adafactor,
    /// Gradient descent with momentum: 4 bytes.
    Sgd,
}

impl OptimizerName {
    /// As a recipe spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AdamW => "adamw",
            Self::AdamW8bit => "adamw8bit",
            Self::Adafactor => "adafactor",
            Self::Sgd => "sgd",
        }
    }
}

/// AdamW's constants (arXiv 1711.05101) in the names of PyTorch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamWOptions {
    /// Decay of the first moment.
    pub beta1: f32,
    /// Decay of the second moment.
    pub beta2: f32,
    /// Added to the root of the second moment.
    pub eps: f32,
    /// Decoupled weight decay.
    pub weight_decay: f32,
    /// Largest norm of all gradients together; `None` leaves them.
    pub max_grad_norm: Option<f32>,
}

impl Default for AdamWOptions {
    fn default() -> Self {
        Self {
            beta1: 0.9,
            beta2: 0.999,
            eps: 1e-8,
            weight_decay: 0.0,
            max_grad_norm: None,
        }
    }
}

/// An optimizer's constants. Those of AdamW hold for all as far as they have them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OptimizerOptions {
    /// Which one.
    pub name: OptimizerName,
    /// What AdamW has, weight decay and the gradients' largest norm for all.
    pub adamw: AdamWOptions,
    /// Gradient descent's momentum.
    pub momentum: f32,
}

impl From<AdamWOptions> for OptimizerOptions {
    fn from(adamw: AdamWOptions) -> Self {
        Self {
            name: OptimizerName::AdamW,
            adamw,
            momentum: 0.9,
        }
    }
}

/// What an optimizer keeps from step to step.
enum State<B: Backend> {
    AdamW(B::Buffer, B::Buffer),
    AdamW8bit(B::MomentBlocks),
    Adafactor(B::Buffer),
    Sgd(B::Buffer),
}

/// An optimizer over the tensors of a flat buffer.
pub struct Optimizer<B: Backend> {
    options: OptimizerOptions,
    tensors: Vec<Factored>,
    /// Number of parameters.
    length: usize,
    state: State<B>,
}

impl<B: Backend> Optimizer<B> {
    /// An optimizer before its first step, of the tensors in `map`.
    pub(super) fn new(backend: &B, options: OptimizerOptions, map: &ParameterMap) -> Self {
        let mut optimizer = Self {
            options,
            tensors: factored(map),
            length: map.length(),
            state: State::Sgd(backend.buffer(0)),
        };
        optimizer.state = optimizer.fresh(backend, optimizer.length);
        optimizer
    }

    fn fresh(&self, backend: &B, length: usize) -> State<B> {
        match self.options.name {
            OptimizerName::AdamW => State::AdamW(backend.buffer(length), backend.buffer(length)),
            OptimizerName::AdamW8bit => State::AdamW8bit(backend.moment_blocks(length)),
            OptimizerName::Adafactor if length == 0 => State::Adafactor(backend.buffer(0)),
            OptimizerName::Adafactor => State::Adafactor(backend.buffer(self.factors())),
            OptimizerName::Sgd => State::Sgd(backend.buffer(length)),
        }
    }

    /// The constants.
    pub fn options(&self) -> &OptimizerOptions {
        &self.options
    }

    /// Frees the state; steps are no longer possible.
    pub(super) fn finish(&mut self, backend: &B) {
        self.state = self.fresh(backend, 0);
    }

    /// Elements of Adafactor's state.
    fn factors(&self) -> usize {
        self.tensors.last().map_or(0, |t| t.factors + t.length())
    }

    /// Step number `step` (from 1) with gradients times `gradient_scale`; the pull needs the base.
    #[allow(clippy::too_many_arguments)]
    pub(super) fn step(
        &mut self,
        backend: &mut B,
        step: u32,
        (learning_rate, gradient_scale): (f32, f32),
        pull: Pull,
        parameters: &mut B::Buffer,
        gradients: &B::Buffer,
        base: Option<&B::Buffer>,
    ) {
        let AdamWOptions {
            beta1,
            beta2,
            eps: epsilon,
            weight_decay,
            ..
        } = self.options.adamw;
        let Pull { distance, average } = pull;
        let adamw = AdamWStep {
            learning_rate,
            beta1,
            beta2,
            epsilon,
            weight_decay,
            gradient_scale,
            distance,
            average,
            step,
        };
        match &mut self.state {
            State::AdamW(m, v) => backend.adamw(&adamw, parameters, (m, v), gradients, base),
            State::AdamW8bit(moments) => {
                backend.adamw8bit(&adamw, parameters, moments, gradients, base);
            }
            State::Adafactor(factors) => {
                let step = AdafactorStep {
                    learning_rate,
                    weight_decay,
                    gradient_scale,
                    distance,
                    average,
                    step,
                };
                for tensor in &self.tensors {
                    backend.adafactor(&step, tensor, parameters, factors, gradients, base);
                }
            }
            State::Sgd(momentum) => {
                let step = SgdStep {
                    learning_rate,
                    momentum: self.options.momentum,
                    weight_decay,
                    gradient_scale,
                    distance,
                    average,
                };
                backend.sgd(&step, parameters, momentum, gradients, base);
            }
        }
    }
}

/// The tensors of a map as matrices, their factors one after the other.
fn factored(map: &ParameterMap) -> Vec<Factored> {
    let mut factors = 0;
    map.entries
        .iter()
        .map(|entry| {
            let columns = entry.shape.last().copied().unwrap_or(1);
            let tensor = Factored {
                rows: entry.range().len() / columns.max(1),
                columns,
                offset: entry.offset,
                factors,
            };
            factors += tensor.length();
            tensor
        })
        .collect()
}

/// Bytes of state that an optimizer keeps for the tensors of a map.
pub(super) fn state_bytes(
    name: OptimizerName,
    shapes: &mut dyn Iterator<Item = [usize; 2]>,
) -> u64 {
    let per_weight = |bytes: u64, shapes: &mut dyn Iterator<Item = [usize; 2]>| {
        bytes
            * shapes
                .map(|[rows, columns]| (rows * columns) as u64)
                .sum::<u64>()
    };
    match name {
        OptimizerName::AdamW => per_weight(8, shapes),
        OptimizerName::AdamW8bit => per_weight(2, shapes) * 33 / 32,
        OptimizerName::Sgd => per_weight(4, shapes),
        OptimizerName::Adafactor => shapes
            .map(|[rows, columns]| {
                let tensor = Factored {
                    rows,
                    columns,
                    offset: 0,
                    factors: 0,
                };
                4 * tensor.length() as u64
            })
            .sum(),
    }
}
