//! Tiny models of every family, loaded for each instruction set, and what the tests do with them.

use std::{path::PathBuf, sync::Mutex};

use oml_kernels::Isa;
use oml_model::{
    backend::{Cpu, Objective},
    causal::CausalModel,
    checkpoint::Checkpoint,
    decoder::{Batch, Decoder, Mode, TrainingSequence, Weights},
    engine::Engine,
    sampler::SequenceRandom,
    train::{AdamWOptions, Trainer},
};

/// Every tiny model.
pub(crate) const FOLDERS: [&str; 19] = [
    "gemma",
    "gemma2",
    "gemma3",
    "gpt-neox",
    "gpt-neox-sequential",
    "llama-biases",
    "llama-gqa-tied",
    "llama-rope-linear",
    "llama-rope-llama3",
    "llama-rope-yarn",
    "llama-wide-heads",
    "mistral",
    "mistral-window",
    "mixtral",
    "phi3",
    "phi3-longrope",
    "qwen2",
    "qwen2-windows",
    "qwen3",
];

/// A sequence of every length class: one token, fewer than a vector, more than a block of queries.
pub(crate) const LENGTHS: [usize; 5] = [5, 1, 40, 17, 33];

pub(crate) fn folder(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/goldens/decoder")
        .join(name)
}

pub(crate) fn checkpoint(name: &str) -> Checkpoint {
    Checkpoint::open(&folder(name)).unwrap()
}

/// The instruction sets of this processor that multiply in f32.
pub(crate) fn exact() -> impl Iterator<Item = Isa> {
    Isa::ALL
        .into_iter()
        .filter(|isa| isa.is_available() && *isa != Isa::Amx)
}

pub(crate) fn available() -> impl Iterator<Item = Isa> {
    Isa::ALL.into_iter().filter(|isa| isa.is_available())
}

pub(crate) fn engine(isa: Isa) -> Engine {
    Engine {
        isa: Some(isa),
        threads: Some(2),
    }
}

pub(crate) fn causal(name: &str, isa: Isa) -> CausalModel {
    CausalModel::load(&engine(isa), &checkpoint(name)).unwrap()
}

pub(crate) fn trainable(checkpoint: &Checkpoint, isa: Isa) -> Decoder<Cpu> {
    let mut backend = engine(isa).cpu();
    let weights = Weights::load(&mut backend, checkpoint, Mode::Trainable).unwrap();
    Decoder::new(backend, checkpoint.config(), weights)
}

/// A trainer of all weights in one micro-batch.
pub(crate) fn trainer(checkpoint: &Checkpoint, isa: Isa, options: AdamWOptions) -> Trainer<Cpu> {
    Trainer::new(trainable(checkpoint, isa), options, 4096)
}

/// Token ids below 97, the vocabulary of the tiny models, from a seed.
pub(crate) fn ids(length: usize, seed: u64) -> Vec<u32> {
    let mut random = SequenceRandom::new(seed);
    (0..length)
        .map(|_| (random.next_u64() % 97) as u32)
        .collect()
}

/// Sequences of [`LENGTHS`].
pub(crate) fn texts(seed: u64) -> Vec<Vec<u32>> {
    (seed..)
        .zip(LENGTHS)
        .map(|(s, length)| ids(length, s))
        .collect()
}

/// Every token but the first is to be predicted, each with weight `1 / total`.
pub(crate) fn language(texts: &[Vec<u32>]) -> Vec<TrainingSequence> {
    let total: usize = texts.iter().map(|ids| ids.len() - 1).sum();
    let weight = 1.0 / total as f32;
    texts
        .iter()
        .map(|ids| TrainingSequence {
            ids: ids.clone(),
            objectives: (1..ids.len())
                .map(|t| (t - 1, Objective::Token { id: ids[t], weight }))
                .collect(),
        })
        .collect()
}

/// Logits at every position of every sequence, packed together.
pub(crate) fn logits(decoder: &mut Decoder<Cpu>, texts: &[Vec<u32>]) -> Vec<Vec<f32>> {
    let batch = Batch::new(
        texts
            .iter()
            .map(|ids| (&ids[..], (0..ids.len()).collect::<Vec<_>>())),
    );
    let rows = Mutex::new(vec![Vec::new(); batch.tokens()]);
    decoder.logits(&batch, &|row, logits| {
        rows.lock().unwrap()[row] = logits.to_vec();
    });
    rows.into_inner().unwrap()
}

/// Largest distance between two sets of rows, over the largest magnitude in the first.
pub(crate) fn distance(expected: &[Vec<f32>], got: &[Vec<f32>]) -> f32 {
    assert_eq!(expected.len(), got.len());
    let (mut worst, mut scale) = (0f32, 1e-9f32);
    for (expected, got) in expected.iter().zip(got) {
        assert_eq!(expected.len(), got.len());
        for (e, g) in expected.iter().zip(got) {
            assert!(g.is_finite());
            worst = worst.max((e - g).abs());
            scale = scale.max(e.abs());
        }
    }
    worst / scale
}

/// L2 norm.
pub(crate) fn norm(values: &[f32]) -> f64 {
    values
        .iter()
        .map(|v| f64::from(*v).powi(2))
        .sum::<f64>()
        .sqrt()
}

/// Bits, for comparisons that allow no difference.
pub(crate) fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|v| v.to_bits()).collect()
}
