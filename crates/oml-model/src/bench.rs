//! Workloads to time the engine with, and the two rates of the machine that set their floor.
//!
//! - step: one AdamW step. W1 is 16 sequences of 48 tokens with the loss on the last 16 of each; an embedding batch has
//!   lengths 17 to 48 in a fixed shuffle and the loss on the last token.
//! - decode (W2): 16 prompts of 32 tokens, 16 new tokens each, greedily.
//!
//! Multiplications and additions of the matrix products, per token and weight: 2 forward, 2 for the gradient of the input, 2
//! for that of the weight; a frozen weight has no third. Attention and element-wise work are not counted.
//!
//! floor = products / rate of a product whose packed operands lie in the cache + bytes / memory rate, where the bytes are
//! those of the optimizer's sweep (gradients, masters, both moments: 28 per trained weight) or, in decoding, the weights
//! once per token.

use oml_core::model::{LanguageModel, ModelError, Sampling};
use oml_kernels::{Floats, Form, Packed, Pool, for_each_chunk, matmul, pack};
use thiserror::Error;

use crate::backend::{Cpu, Directions, Objective};
use crate::causal::{CausalModel, RequestError};
use crate::checkpoint::Checkpoint;
use crate::decoder::{
    ALL_LINEAR, AdapterSpec, Adapters, Decoder, LoadError, Mode, Sizes, TrainingSequence, Weights,
};
use crate::engine::Engine;
use crate::train::{AdamWOptions, Pull, Trainer};

const MICRO_BATCH: usize = 2048;
const LORA_RANK: usize = 16;
const LORA_ALPHA: f32 = 32.0;
const LEARNING_RATE: f32 = 1e-5;
/// Bytes read and written per trained weight by AdamW: gradient 4, master 8, moments 16.
const SWEEP_BYTES: f64 = 28.0;
const W1: (usize, usize, usize) = (16, 48, 16);
const W2: (usize, usize, usize) = (16, 32, 16);

/// How much there is to do in one run of a workload.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Work {
    /// Tokens processed (decode: generated).
    pub tokens: usize,
    /// Multiplications and additions in matrix products.
    pub operations: f64,
    /// Bytes that must pass between memory and processor once.
    pub bytes: f64,
}

/// Why a workload cannot be run on a model.
#[derive(Debug, Error)]
pub enum BenchError {
    /// The model could not be loaded.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// It does not read sequences of that length.
    #[error("the workload does not fit: {0}")]
    Request(#[from] RequestError),
}

/// One training step, ready to run again and again.
pub struct Step {
    trainer: Trainer<Cpu>,
    sequences: Vec<TrainingSequence>,
    work: Work,
}

impl Step {
    /// W1, or an embedding batch of `tokens` packed tokens; on all parameters, or on low-rank adapters of all maps.
    ///
    /// # Errors
    /// Whatever the checkpoint refuses, or a sequence longer than the model takes.
    pub fn new(
        engine: &Engine,
        checkpoint: &Checkpoint,
        tokens: Option<usize>,
        lora: bool,
    ) -> Result<Self, BenchError> {
        let mut backend = engine.cpu();
        let mode = if lora {
            Mode::Frozen(Directions::Both)
        } else {
            Mode::Trainable
        };
        let weights = Weights::load(&mut backend, checkpoint, mode)?;
        let mut decoder = Decoder::new(backend, checkpoint.config(), weights);
        let sizes = *decoder.sizes();
        if lora {
            adapt(&mut decoder);
        }
        let sequences: Vec<TrainingSequence> = match tokens {
            None => (0..W1.0)
                .map(|s| sequence(&sizes, s, W1.1, W1.2, W1.0 * W1.2))
                .collect(),
            Some(tokens) => {
                let lengths = packed_lengths(tokens);
                lengths
                    .iter()
                    .enumerate()
                    .map(|(s, length)| sequence(&sizes, s, *length, 1, lengths.len()))
                    .collect()
            }
        };
        let limit = checkpoint.config().longest_sequence();
        let mut lengths = sequences.iter().map(|s| s.ids.len()).enumerate();
        if let Some((index, got)) = lengths.find(|(_, got)| *got > limit) {
            return Err(RequestError::TooLong { index, got, limit }.into());
        }
        let work = step_work(&sizes, &sequences, lora);
        Ok(Self {
            trainer: Trainer::new(decoder, AdamWOptions::default(), MICRO_BATCH),
            sequences,
            work,
        })
    }

    /// How much one step is.
    pub fn work(&self) -> Work {
        self.work
    }

    /// Takes the step; returns the loss before it.
    pub fn run(&mut self) -> f64 {
        let sequences: Vec<&TrainingSequence> = self.sequences.iter().collect();
        self.trainer
            .step(&sequences, None, LEARNING_RATE, Pull::default())
            .loss
    }
}

/// W2, ready to run again and again.
pub struct Decode {
    model: CausalModel,
    prompts: Vec<Vec<u32>>,
    tokens: usize,
    work: Work,
}

impl Decode {
    /// Greedy decoding of `tokens` tokens for each prompt; W2 has 16. With `lora`, adapters of all maps are computed beside the weights.
    ///
    /// # Errors
    /// Whatever the checkpoint refuses.
    pub fn new(
        engine: &Engine,
        checkpoint: &Checkpoint,
        tokens: Option<usize>,
        lora: bool,
    ) -> Result<Self, LoadError> {
        let mut model = CausalModel::load(engine, checkpoint)?;
        if lora {
            adapt(model.decoder());
        }
        let tokens = tokens.unwrap_or(W2.2);
        let sizes = Sizes::new(checkpoint.config());
        let prompts = (0..W2.0)
            .map(|s| (0..W2.1).map(|t| token(&sizes, s, t)).collect())
            .collect();
        let weights = linear_weights(&sizes, sizes.experts_per_token);
        let adapters = if lora {
            adapter_weights(&sizes)
        } else {
            Weighed::default()
        };
        let (read, picked) = (W2.0 * (W2.1 + tokens - 1), W2.0 * tokens);
        let bytes_per_weight = if engine.isa() == oml_kernels::Isa::Amx {
            2.0
        } else {
            4.0
        };
        let work = Work {
            tokens: W2.0 * tokens,
            operations: 2.0 * (weights.products(read, picked) + adapters.products(read, picked)),
            bytes: bytes_per_weight * (weights.all() + adapters.all()) * tokens as f64,
        };
        Ok(Self {
            model,
            prompts,
            tokens,
            work,
        })
    }

    /// How much one run is.
    pub fn work(&self) -> Work {
        self.work
    }

    /// Generates for all prompts.
    ///
    /// # Errors
    /// The model's.
    pub fn run(&mut self) -> Result<(), ModelError> {
        let prompts: Vec<&[u32]> = self.prompts.iter().map(Vec::as_slice).collect();
        let sampling = Sampling {
            max_tokens: self.tokens,
            temperature: 0.0,
            top_k: 0,
            top_p: 1.0,
            stop: Vec::new(),
        };
        self.model
            .generate(&prompts, &vec![0; prompts.len()], &sampling)
            .map(drop)
    }
}

/// A product whose packed operands lie in the cache: the fastest that products get.
pub struct Product {
    pool: Pool,
    a: Packed,
    b: Packed,
    c: Floats,
}

impl Product {
    const SIZE: usize = 768;

    /// The product, ready to run.
    pub fn new(engine: &Engine) -> Self {
        let pool = Pool::new(engine.threads());
        let n = Self::SIZE;
        let source: Vec<f32> = (0..n * n).map(|i| (i % 13) as f32 - 6.0).collect();
        let (mut a, mut b) = (
            Packed::new(engine.isa(), Form::Left),
            Packed::new(engine.isa(), Form::Right),
        );
        pack(&pool, &source, n, n, n, &mut [&mut a]);
        pack(&pool, &source, n, n, n, &mut [&mut b]);
        Self {
            pool,
            a,
            b,
            c: Floats::zeroed(n * n),
        }
    }

    /// Multiplications and additions of one run.
    pub fn operations(&self) -> f64 {
        2.0 * (Self::SIZE as f64).powi(3)
    }

    /// Multiplies.
    pub fn run(&mut self) {
        matmul(&self.pool, &self.a, &self.b, &mut self.c, Self::SIZE, false);
    }
}

/// A sweep over more memory than any cache holds, reading and writing each element.
pub struct Sweep {
    pool: Pool,
    data: Vec<f32>,
}

impl Sweep {
    const ELEMENTS: usize = 1 << 26;
    const CHUNK: usize = 1 << 16;

    /// The sweep, ready to run.
    pub fn new(engine: &Engine) -> Self {
        Self {
            pool: Pool::new(engine.threads()),
            data: vec![1.0; Self::ELEMENTS],
        }
    }

    /// Bytes read and written in one run.
    pub fn bytes(&self) -> f64 {
        8.0 * Self::ELEMENTS as f64
    }

    /// Sweeps.
    pub fn run(&mut self) {
        for_each_chunk(&self.pool, &mut self.data, Self::CHUNK, |_, piece| {
            piece.iter_mut().for_each(|v| *v += 1.0)
        });
    }
}

/// Low-rank adapters of all maps, of the rank that is measured.
fn adapt(decoder: &mut Decoder<Cpu>) {
    let spec = AdapterSpec {
        rank: LORA_RANK,
        alpha: LORA_ALPHA,
        target_modules: vec![ALL_LINEAR.to_owned()],
        layers: None,
        use_dora: false,
    };
    let mut state = 0u32;
    let mut uniform = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state as f32 / u32::MAX as f32
    };
    let sizes = *decoder.sizes();
    decoder.adapters = Some(Adapters::new(
        &mut decoder.backend,
        &sizes,
        &spec,
        &mut uniform,
    ));
}

/// A token without meaning, the same as in the PyTorch workloads.
fn token(sizes: &Sizes, s: usize, t: usize) -> u32 {
    ((7919 * s + 104_729 * t + 31 * s * t * t + 17) % sizes.vocabulary) as u32
}

fn sequence(
    sizes: &Sizes,
    s: usize,
    length: usize,
    response: usize,
    responses: usize,
) -> TrainingSequence {
    let ids: Vec<u32> = (0..length).map(|t| token(sizes, s, t)).collect();
    let weight = 1.0 / responses as f32;
    let objectives = (length - response - 1..length - 1)
        .map(|position| {
            (
                position,
                Objective::Token {
                    id: ids[position + 1],
                    weight,
                },
            )
        })
        .collect();
    TrainingSequence { ids, objectives }
}

/// Lengths 17 to 48 in a fixed shuffle, `tokens` in all.
fn packed_lengths(tokens: usize) -> Vec<usize> {
    let (mut lengths, mut left) = (Vec::new(), tokens.max(2));
    while left > 0 {
        let length = 17 + 13 * lengths.len() % 32;
        // A rest too short for a sequence of its own goes to the last one.
        let length = if left < length + 17 { left } else { length };
        lengths.push(length);
        left -= length;
    }
    lengths
}

/// Weights by the rows that meet them in products.
#[derive(Clone, Copy, Default)]
struct Weighed {
    every_token: f64,
    /// Behind the last layer's attention, which only picked rows reach.
    picked: f64,
}

impl Weighed {
    /// `before` and `after` attention in each layer, then a `head`.
    fn new(sizes: &Sizes, before: usize, after: usize, head: usize) -> Self {
        Self {
            every_token: (sizes.layers * (before + after) - after) as f64,
            picked: (after + head) as f64,
        }
    }

    fn all(self) -> f64 {
        self.every_token + self.picked
    }

    /// Products of all weights with these rows.
    fn products(self, tokens: usize, picked: usize) -> f64 {
        self.every_token * tokens as f64 + self.picked * picked as f64
    }
}

/// The linear maps, of so many feed-forward blocks in each layer, and the head.
fn linear_weights(sizes: &Sizes, blocks: usize) -> Weighed {
    let (hidden, heads) = (sizes.hidden, sizes.heads);
    let block = sizes.intermediate + sizes.gate.inputs(sizes.intermediate);
    let routed = usize::from(sizes.family.names.experts.is_some());
    Weighed::new(
        sizes,
        hidden * heads.qkv_width(),
        hidden * (heads.query_width() + blocks * block + routed * sizes.experts),
        hidden * sizes.vocabulary,
    )
}

/// Low-rank adapters of all maps that get one.
fn adapter_weights(sizes: &Sizes) -> Weighed {
    let (hidden, inner) = (sizes.hidden, sizes.intermediate);
    let (query, kv) = (sizes.heads.query_width(), sizes.heads.kv_width());
    let dense = usize::from(sizes.family.names.experts.is_none());
    Weighed::new(
        sizes,
        LORA_RANK * ((hidden + query) + 2 * (hidden + kv)),
        LORA_RANK * ((query + hidden) + dense * 3 * (hidden + inner)),
        0,
    )
}

fn step_work(sizes: &Sizes, sequences: &[TrainingSequence], lora: bool) -> Work {
    let tokens: usize = sequences.iter().map(|s| s.ids.len()).sum();
    let picked: usize = sequences.iter().map(|s| s.objectives.len()).sum();
    let weights = linear_weights(sizes, sizes.experts_per_token);
    let (times, adapters) = if lora {
        (4.0, adapter_weights(sizes))
    } else {
        (6.0, Weighed::default())
    };
    let trained = if lora {
        adapters
    } else {
        linear_weights(sizes, sizes.experts)
    };
    Work {
        tokens,
        operations: times * weights.products(tokens, picked)
            + 6.0 * adapters.products(tokens, picked),
        bytes: SWEEP_BYTES * trained.all(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::config::ModelConfig;

    fn smollm2_135m() -> Sizes {
        let config = json!({
            "model_type": "llama",
            "hidden_size": 576,
            "intermediate_size": 1536,
            "num_hidden_layers": 30,
            "num_attention_heads": 9,
            "num_key_value_heads": 3,
            "vocab_size": 49_152,
            "max_position_embeddings": 8192,
        });
        Sizes::new(&ModelConfig::from_json(config.as_object().unwrap()).unwrap())
    }

    #[test]
    fn w1_on_smollm2_is_523_billion_operations() {
        let sizes = smollm2_135m();
        let sequences: Vec<_> = (0..W1.0)
            .map(|s| sequence(&sizes, s, W1.1, W1.2, W1.0 * W1.2))
            .collect();
        let work = step_work(&sizes, &sequences, false);
        assert_eq!(work.tokens, 768);
        assert!(
            (work.operations / 1e9 - 523.0).abs() < 1.0,
            "{}",
            work.operations
        );
    }

    #[test]
    fn packed_lengths_fill_the_batch() {
        for tokens in [2, 17, 33, 34, 100, 8192] {
            let lengths = packed_lengths(tokens);
            assert_eq!(lengths.iter().sum::<usize>(), tokens);
            assert!(
                lengths
                    .iter()
                    .all(|length| *length >= 17.min(tokens) && *length < 65),
                "{lengths:?}"
            );
        }
        assert_eq!(packed_lengths(8192)[..4], [17, 30, 43, 24]);
    }
}
