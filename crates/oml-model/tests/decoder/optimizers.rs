//! The optimizers: against PyTorch's, on any number of threads, and AdamW in 8 bits against AdamW.

use std::collections::BTreeMap;

use oml_kernels::Isa;
use oml_model::{
    decoder::{Decoder, Mode, TrainingSequence, Weights},
    engine::Engine,
    train::{AdamWOptions, OptimizerName, OptimizerOptions, Pull, Trainer},
};
use serde::Deserialize;

use crate::{
    goldens::responses,
    model::{available, bits, checkpoint, exact, folder, language, texts, trainable},
    run::OTHERS,
};

#[derive(Deserialize)]
struct Golden {
    model: String,
    adamw: Case,
    sgd: Case,
    adafactor: Case,
}

#[derive(Deserialize)]
struct Case {
    options: Options,
    losses: Vec<f64>,
    parameters: BTreeMap<String, Sample>,
}

#[derive(Deserialize)]
struct Options {
    lr: f32,
    #[serde(default)]
    momentum: f32,
    #[serde(default)]
    weight_decay: f32,
}

#[derive(Deserialize)]
struct Sample {
    indices: Vec<usize>,
    values: Vec<f32>,
}

#[derive(Deserialize)]
struct Batch {
    sequences: Vec<Vec<u32>>,
    responses: Vec<usize>,
}

fn options(name: OptimizerName) -> OptimizerOptions {
    OptimizerOptions {
        name,
        ..AdamWOptions::default().into()
    }
}

#[test]
fn steps_are_those_of_pytorch() {
    let read = |path: &str| std::fs::read(folder(path)).unwrap();
    let golden: Golden = serde_json::from_slice(&read("optimizers.json")).unwrap();
    let batch = read(&format!("{}/golden.json", golden.model));
    let batch: Batch = serde_json::from_slice(&batch).unwrap();
    let sequences = responses(&batch.sequences, &batch.responses);
    let views: Vec<&TrainingSequence> = sequences.iter().collect();
    for isa in exact() {
        for (name, case) in [
            (OptimizerName::AdamW, &golden.adamw),
            (OptimizerName::Sgd, &golden.sgd),
            (OptimizerName::Adafactor, &golden.adafactor),
        ] {
            let options = OptimizerOptions {
                adamw: AdamWOptions {
                    beta2: 0.95,
                    weight_decay: case.options.weight_decay,
                    ..AdamWOptions::default()
                },
                momentum: case.options.momentum,
                ..options(name)
            };
            let decoder = trainable(&checkpoint(&golden.model), isa);
            let mut trainer = Trainer::new(decoder, options, 4096);
            for expected in &case.losses {
                let rate = case.options.lr;
                let loss = trainer.step(&views, None, rate, Pull::default()).loss;
                let what = format!("{isa} {name:?}: expected {expected}, got {loss}");
                assert!((loss / expected - 1.0).abs() < 1e-4, "{what}");
            }
            let mut apart = 0;
            for entry in &trainer.decoder.weights.map.entries {
                let sample = &case.parameters[&entry.name];
                let values = &trainer.parameters()[entry.range()];
                for (index, expected) in sample.indices.iter().zip(&sample.values) {
                    let distance = (values[*index] - expected).abs();
                    apart += usize::from(distance > 1e-5);
                    // where rounding decides a vanishing gradient's sign, AdamW goes either way
                    let free = 6.0 * case.options.lr;
                    assert!(distance < free, "{isa} {name:?}: {}", entry.name);
                }
            }
            assert!(apart < 6, "{isa} {name:?}: {apart} weights differ");
        }
    }
}

#[test]
fn threads_change_no_bit() {
    let (checkpoint, sequences) = (checkpoint("llama-gqa-tied"), language(&texts(80)));
    let views: Vec<&TrainingSequence> = sequences.iter().collect();
    for isa in available() {
        for name in OTHERS {
            let run = |threads| {
                let engine = Engine {
                    isa: Some(isa),
                    threads: Some(threads),
                };
                let mut backend = engine.cpu();
                let weights = Weights::load(&mut backend, &checkpoint, Mode::Trainable).unwrap();
                let decoder = Decoder::new(backend, checkpoint.config(), weights);
                let mut trainer = Trainer::new(decoder, options(name), 48);
                for _ in 0..3 {
                    trainer.step(&views, None, 1e-2, Pull::default());
                }
                (bits(trainer.parameters()), trainer.optimizer().to_bytes())
            };
            let first = run(1);
            for threads in [2, 5] {
                assert!(run(threads) == first, "{isa} {name:?}: {threads} threads");
            }
        }
    }
}

#[test]
fn every_optimizer_learns() {
    let (checkpoint, sequences) = (checkpoint("llama-gqa-tied"), language(&texts(7)));
    let views: Vec<&TrainingSequence> = sequences.iter().collect();
    let learn = |name, rate| {
        let decoder = trainable(&checkpoint, Isa::detect());
        let mut trainer = Trainer::new(decoder, options(name), 4096);
        let mut losses = (0..60).map(|_| trainer.step(&views, None, rate, Pull::default()).loss);
        let first = losses.next().unwrap();
        (first, losses.last().unwrap())
    };
    let (first, full) = learn(OptimizerName::AdamW, 5e-3);
    let (_, eight) = learn(OptimizerName::AdamW8bit, 5e-3);
    assert!(
        full < 0.3 * first && eight < 0.3 * first,
        "{first} {full} {eight}"
    );
    assert!(
        (eight - full).abs() < 0.03 * first,
        "{first} {full} {eight}"
    );
    for (name, rate) in [(OptimizerName::Adafactor, 0.02), (OptimizerName::Sgd, 0.1)] {
        let (first, last) = learn(name, rate);
        assert!(last < 0.5 * first, "{name:?}: {first} {last}");
    }
}
