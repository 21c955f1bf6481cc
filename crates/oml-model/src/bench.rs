//! The two workloads that speed is measured on: a training step and a batched decode.
//!
//! Tokens follow a fixed formula, so that another program can do the same work: `(7919·s + 104729·t + 31·s·t² + 17) mod V`
//! for token t of sequence s. Floating-point operations are those of the matrix products alone: 2 per weight and token forward,
//! 4 more backward (2 where the weight is frozen), the head on the rows that have a loss.

use std::time::Instant;

use oml_core::model::{LanguageModel, ModelError, Sampling};
use thiserror::Error;

use crate::{
    backend::{Directions, Objective},
    causal::CausalModel,
    checkpoint::Checkpoint,
    decoder::{
        AdapterSpec, Adapters, Decoder, LoadError, Mode, Sizes, TARGET_MODULES, TrainingSequence,
        Weights,
    },
    engine::Engine,
    sampler::SequenceRandom,
    train::{AdamWOptions, Pull, Trainer},
};

/// Why a workload could not run.
#[derive(Debug, Error)]
pub enum BenchError {
    /// The model could not be loaded.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The model could not generate.
    #[error(transparent)]
    Model(#[from] ModelError),
}

/// A training step to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StepOptions {
    /// Rank-16 adapters on every linear map of the layers instead of all weights.
    pub lora: bool,
    /// Packed tokens of sequences of 17 + (13·i mod 32) tokens with a loss on their last one; `None` is 16 sequences of 48 tokens
    /// with a loss on the last 16.
    pub tokens: Option<usize>,
    /// Steps that are not measured.
    pub warm_up: usize,
    /// Steps that are measured.
    pub repeats: usize,
}

/// What a workload took.
#[derive(Clone, Debug, PartialEq)]
pub struct Measurement {
    /// Seconds of each repeat.
    pub seconds: Vec<f64>,
    /// Tokens read or written in one repeat.
    pub tokens: usize,
    /// Floating-point operations of the matrix products of one repeat.
    pub flop: f64,
}

impl Measurement {
    /// Median of the repeats.
    pub fn median(&self) -> f64 {
        let mut sorted = self.seconds.clone();
        sorted.sort_by(f64::total_cmp);
        sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
    }
}

fn token(s: usize, t: usize, vocabulary: usize) -> u32 {
    ((7919 * s + 104_729 * t + 31 * s * t * t + 17) % vocabulary) as u32
}

/// The sequences of a measured step.
pub fn step_sequences(tokens: Option<usize>, vocabulary: usize) -> Vec<TrainingSequence> {
    let lengths: Vec<(usize, usize)> = match tokens {
        None => vec![(48, 16); 16],
        Some(limit) => {
            let (mut lengths, mut used) = (Vec::new(), 0);
            while used < limit {
                let length = (17 + 13 * lengths.len() % 32).min(limit - used).max(2);
                used += length;
                lengths.push((length, 1));
            }
            lengths
        }
    };
    let rows: usize = lengths.iter().map(|(_, answers)| answers).sum();
    let sequence = |(s, (length, answers)): (usize, &(usize, usize))| {
        let ids: Vec<u32> = (0..*length).map(|t| token(s, t, vocabulary)).collect();
        let objective = |p: usize| {
            (
                p,
                Objective::Token {
                    id: ids[p + 1],
                    weight: 1.0 / rows as f32,
                },
            )
        };
        TrainingSequence {
            objectives: (length - answers - 1..length - 1).map(objective).collect(),
            ids,
        }
    };
    lengths.iter().enumerate().map(sequence).collect()
}

fn layer_weights(sizes: &Sizes) -> f64 {
    let (h, i) = (sizes.hidden as f64, sizes.intermediate as f64);
    let attention = h * (sizes.heads.qkv_width() + sizes.heads.query_width()) as f64;
    sizes.layers as f64 * (attention + 3.0 * h * i)
}

/// Measures training steps.
///
/// # Errors
/// A model that cannot be loaded.
pub fn step(
    engine: &Engine,
    checkpoint: &Checkpoint,
    options: StepOptions,
) -> Result<Measurement, BenchError> {
    let mut backend = engine.cpu();
    let mode = if options.lora {
        Mode::Frozen(Directions::Both)
    } else {
        Mode::Trainable
    };
    let weights = Weights::load(&mut backend, checkpoint, mode)?;
    let mut decoder = Decoder::new(backend, checkpoint.config(), weights);
    let sizes = *decoder.sizes();
    if options.lora {
        let spec = AdapterSpec {
            rank: 16,
            alpha: 32.0,
            target_modules: TARGET_MODULES.map(str::to_owned).to_vec(),
        };
        let mut random = SequenceRandom::new(0);
        decoder.adapters = Some(Adapters::new(
            &mut decoder.backend,
            &sizes,
            &spec,
            &mut || random.uniform() as f32,
        ));
    }
    let mut trainer = Trainer::new(
        decoder,
        AdamWOptions {
            weight_decay: 0.01,
            ..AdamWOptions::default()
        },
        2048,
    );
    let sequences = step_sequences(options.tokens, sizes.vocabulary);
    let views: Vec<&TrainingSequence> = sequences.iter().collect();
    let tokens: usize = sequences.iter().map(|s| s.ids.len()).sum();
    let rows: usize = sequences.iter().map(|s| s.objectives.len()).sum();
    let passes = if options.lora { 4.0 } else { 6.0 };
    let head = (sizes.vocabulary * sizes.hidden) as f64;
    let flop = passes * (layer_weights(&sizes) * tokens as f64 + head * rows as f64);
    let seconds = timed(options.warm_up, options.repeats, || {
        trainer.step(&views, None, 1e-5, Pull::default());
    });
    Ok(Measurement {
        seconds,
        tokens,
        flop,
    })
}

/// A batched greedy decode to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DecodeOptions {
    /// Sequences.
    pub batch: usize,
    /// Tokens of each prompt.
    pub prompt: usize,
    /// Tokens written for each.
    pub new_tokens: usize,
    /// Decodes that are not measured.
    pub warm_up: usize,
    /// Decodes that are measured.
    pub repeats: usize,
}

/// Measures greedy decoding.
///
/// # Errors
/// A model that cannot be loaded, or that cannot read so many tokens.
pub fn decode(
    engine: &Engine,
    checkpoint: &Checkpoint,
    options: DecodeOptions,
) -> Result<Measurement, BenchError> {
    let mut model = CausalModel::load(engine, checkpoint)?;
    let sizes = *model.decoder().sizes();
    let prompts: Vec<Vec<u32>> = (0..options.batch)
        .map(|s| {
            (0..options.prompt)
                .map(|t| token(s, t, sizes.vocabulary))
                .collect()
        })
        .collect();
    let views: Vec<&[u32]> = prompts.iter().map(Vec::as_slice).collect();
    let sampling = Sampling {
        max_tokens: options.new_tokens,
        temperature: 0.0,
        top_k: 0,
        top_p: 1.0,
        stop: Vec::new(),
    };
    let seeds = vec![0; options.batch];
    let mut failure = None;
    let seconds = timed(options.warm_up, options.repeats, || {
        if let Err(error) = model.generate(&views, &seeds, &sampling) {
            failure = Some(error);
        }
    });
    if let Some(error) = failure {
        return Err(error.into());
    }
    let read = options.batch * (options.prompt + options.new_tokens.saturating_sub(1));
    let head = (sizes.vocabulary * sizes.hidden) as f64;
    let flop = 2.0
        * (layer_weights(&sizes) * read as f64
            + head * (options.batch * options.new_tokens) as f64);
    Ok(Measurement {
        seconds,
        tokens: options.batch * options.new_tokens,
        flop,
    })
}

fn timed(warm_up: usize, repeats: usize, mut work: impl FnMut()) -> Vec<f64> {
    for _ in 0..warm_up {
        work();
    }
    (0..repeats)
        .map(|_| {
            let start = Instant::now();
            work();
            start.elapsed().as_secs_f64()
        })
        .collect()
}
