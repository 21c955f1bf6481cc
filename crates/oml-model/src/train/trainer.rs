//! One optimizer step: gradients accumulated over packed micro-batches, clipped, and applied by AdamW.

mod detour;

use oml_kernels::AdamWStep;

use crate::{
    backend::{Backend, Objective, RowLoss, Teacher},
    decoder::{Batch, Decoder, TrainingSequence, groups},
};

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

/// What draws the weights back towards the base in every step.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Pull {
    /// Decoupled L2-SP penalty: `θ ← θ − lr·distance·(θ − θ₀)`.
    pub distance: f32,
    /// Weight averaging: `θ ← (1 − average)·θ + average·θ₀`.
    pub average: f32,
}

impl Pull {
    /// Whether the base is needed.
    pub fn is_active(self) -> bool {
        self.distance > 0.0 || self.average > 0.0
    }
}

/// The losses of one step.
#[derive(Clone, Debug, Default)]
pub struct StepLosses {
    /// Weighted sum over all objectives.
    pub loss: f64,
    /// Each objective's result, sequence by sequence.
    pub rows: Vec<RowLoss>,
    /// Norm of all gradients together before clipping, where it was asked for.
    pub gradient_norm: Option<f64>,
}

impl StepLosses {
    /// Whether loss and gradient are numbers.
    pub fn are_finite(&self) -> bool {
        self.loss.is_finite() && self.gradient_norm.is_none_or(f64::is_finite)
    }
}

/// What a step changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Parameters,
    FirstMoments,
    SecondMoments,
}

/// A decoder with gradients and optimizer state. Trains the adapters where there are any, else all weights.
pub struct Trainer<B: Backend> {
    /// The model.
    pub decoder: Decoder<B>,
    options: AdamWOptions,
    micro_batch: usize,
    gradients: B::Buffer,
    moments: (B::Buffer, B::Buffer),
    base: Option<B::Buffer>,
    /// The weights that were left for others.
    kept: Option<B::Buffer>,
    steps: u32,
}

impl<B: Backend> Trainer<B> {
    /// A trainer in whose micro-batches at most `micro_batch` tokens lie side by side.
    pub fn new(decoder: Decoder<B>, options: AdamWOptions, micro_batch: usize) -> Self {
        let length = decoder.backend.length(trained(&decoder));
        let buffer = || decoder.backend.buffer(length);
        let (gradients, moments) = (buffer(), (buffer(), buffer()));
        Self {
            decoder,
            options,
            micro_batch,
            gradients,
            moments,
            base: None,
            kept: None,
            steps: 0,
        }
    }

    /// Remembers the present weights as the base that [`Pull`] draws to.
    pub fn remember_base(&mut self) {
        let decoder = &mut self.decoder;
        let length = decoder.backend.length(trained(decoder));
        let mut base = decoder.backend.buffer(length);
        let Decoder {
            backend,
            weights,
            adapters,
            ..
        } = decoder;
        backend.copy(
            adapters.as_ref().map_or(&weights.flat, |a| &a.flat),
            length,
            &mut base,
        );
        self.base = Some(base);
    }

    /// Steps taken so far.
    pub fn steps(&self) -> u32 {
        self.steps
    }

    /// What is trained, flat.
    pub fn parameters(&self) -> &B::Buffer {
        trained(&self.decoder)
    }

    /// First and second moments, flat.
    pub fn moments(&self) -> (&B::Buffer, &B::Buffer) {
        (&self.moments.0, &self.moments.1)
    }

    /// Gradients of the last step, flat.
    pub fn gradients(&self) -> &B::Buffer {
        &self.gradients
    }

    /// Puts numbers in place of a part's from an element on.
    pub(super) fn put(&mut self, part: Part, start: usize, values: &[f32]) {
        let Decoder {
            backend,
            weights,
            adapters,
            ..
        } = &mut self.decoder;
        let target = match part {
            Part::Parameters => adapters.as_mut().map_or(&mut weights.flat, |a| &mut a.flat),
            Part::FirstMoments => &mut self.moments.0,
            Part::SecondMoments => &mut self.moments.1,
        };
        backend.upload(values, target, start);
    }

    /// Goes on counting steps from here.
    pub(super) fn set_steps(&mut self, steps: u32) {
        self.steps = steps;
    }

    /// Frees gradients, moments, base and working memory of training; steps are no longer possible.
    pub(super) fn finish(&mut self) {
        let empty = || self.decoder.backend.buffer(0);
        (self.gradients, self.moments) = (empty(), (empty(), empty()));
        (self.base, self.kept) = (None, None);
        self.decoder.forget_training();
    }

    /// Losses and gradients of all sequences together; the gradients stay in [`Trainer::gradients`], with `add` added to those there.
    pub fn accumulate(
        &mut self,
        sequences: &[&TrainingSequence],
        teacher: Option<Teacher<'_, B>>,
        add: bool,
    ) -> StepLosses {
        let mut losses = StepLosses::default();
        for (i, group) in groups(sequences.iter().map(|s| s.ids.len()), self.micro_batch)
            .into_iter()
            .enumerate()
        {
            let batch = Batch::training(&sequences[group]);
            let teacher = teacher.as_ref().map(|t| Teacher {
                hidden: t.hidden,
                head: t.head,
            });
            let rows = self.decoder.losses_and_gradients(
                &batch,
                teacher,
                &mut self.gradients,
                add || i > 0,
            );
            for (row, objective) in rows.iter().zip(&batch.objectives) {
                let (Objective::Token { weight, .. } | Objective::Teacher { weight, .. }) =
                    objective;
                losses.loss += f64::from(row.loss) * f64::from(*weight);
            }
            losses.rows.extend(rows);
        }
        losses
    }

    /// One step: gradients of all sequences together, clipped, then AdamW with this learning rate and pull. Where the loss or
    /// the gradients' norm is not finite, parameters and moments stay as they are.
    ///
    /// # Panics
    /// If a pull is asked for and [`Trainer::remember_base`] was not called.
    pub fn step(
        &mut self,
        sequences: &[&TrainingSequence],
        teacher: Option<Teacher<'_, B>>,
        learning_rate: f32,
        pull: Pull,
    ) -> StepLosses {
        let losses = self.accumulate(sequences, teacher, false);
        self.update(losses, learning_rate, pull)
    }

    /// The second half of [`Trainer::step`]: what [`Trainer::accumulate`] has left is clipped and applied.
    ///
    /// # Panics
    /// As [`Trainer::step`].
    pub fn update(&mut self, mut losses: StepLosses, learning_rate: f32, pull: Pull) -> StepLosses {
        let mut gradient_scale = 1.0;
        if let Some(limit) = self.options.max_grad_norm {
            let norm = self.decoder.backend.sum_of_squares(&self.gradients).sqrt();
            losses.gradient_norm = Some(norm);
            gradient_scale = (f64::from(limit) / (norm + 1e-6)).min(1.0) as f32;
        }
        if !losses.are_finite() {
            return losses;
        }
        self.steps = self.steps.saturating_add(1);
        let AdamWOptions {
            beta1,
            beta2,
            eps,
            weight_decay,
            ..
        } = self.options;
        let step = AdamWStep {
            learning_rate,
            beta1,
            beta2,
            epsilon: eps,
            weight_decay,
            gradient_scale,
            distance: pull.distance,
            average: pull.average,
            step: self.steps,
        };
        assert!(
            self.base.is_some() || !pull.is_active(),
            "a pull needs the base"
        );
        let base = if pull.is_active() {
            self.base.as_ref()
        } else {
            None
        };
        let Decoder {
            backend,
            weights,
            adapters,
            ..
        } = &mut self.decoder;
        let flat = adapters.as_mut().map_or(&mut weights.flat, |a| &mut a.flat);
        backend.adamw(
            &step,
            flat,
            (&mut self.moments.0, &mut self.moments.1),
            &self.gradients,
            base,
        );
        losses
    }
}

fn trained<B: Backend>(decoder: &Decoder<B>) -> &B::Buffer {
    decoder
        .adapters
        .as_ref()
        .map_or(&decoder.weights.flat, |a| &a.flat)
}
