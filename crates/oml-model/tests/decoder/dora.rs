//! Adapters with magnitudes (DoRA): PEFT's logits, loss and gradients, and a merge that changes no answer.

use std::collections::BTreeMap;

use oml_kernels::Isa;
use oml_model::{
    backend::{Backend as _, Cpu, Directions},
    checkpoint::Checkpoint,
    decoder::{ALL_LINEAR, AdapterSpec, Adapters, Decoder, Mode, TrainingSequence, Weights},
    train::{AdamWOptions, Recipe, Trainer},
};
use serde::Deserialize;

use crate::{
    goldens::responses,
    model::{checkpoint, distance, engine, exact, folder, logits, norm, texts, trainable},
    run::{MODEL, adapters, embedder, run},
};

#[derive(Deserialize)]
struct Golden {
    model: String,
    rank: usize,
    alpha: f32,
    values: BTreeMap<String, Vec<f32>>,
    logits: Vec<Vec<Vec<f32>>>,
    loss: f64,
    gradients: BTreeMap<String, Vec<f32>>,
}

#[derive(Deserialize)]
struct Batch {
    sequences: Vec<Vec<u32>>,
    responses: Vec<usize>,
}

/// A model with adapters at their start.
fn adapted(checkpoint: &Checkpoint, isa: Isa, rank: usize, alpha: f32) -> Decoder<Cpu> {
    let mut backend = engine(isa).cpu();
    let mode = Mode::Frozen(Directions::Both);
    let weights = Weights::load(&mut backend, checkpoint, mode).unwrap();
    let mut decoder = Decoder::new(backend, checkpoint.config(), weights);
    let sizes = *decoder.sizes();
    let spec = AdapterSpec {
        rank,
        alpha,
        target_modules: vec![ALL_LINEAR.to_owned()],
        layers: None,
        use_dora: true,
    };
    let adapters = Adapters::new(&mut decoder.backend, &sizes, &spec, &mut || 0.75);
    decoder.adapt(adapters);
    decoder
}

#[test]
fn adapters_start_as_the_model_itself() {
    for isa in exact() {
        let checkpoint = checkpoint("llama-biases");
        let expected = logits(&mut trainable(&checkpoint, isa), &texts(3));
        let got = logits(&mut adapted(&checkpoint, isa, 3, 6.0), &texts(3));
        assert!(distance(&expected, &got) < 1e-5, "{isa}");
    }
}

#[test]
fn logits_loss_and_gradients_are_those_of_peft() {
    let read = |path: &str| std::fs::read(folder(path)).unwrap();
    let golden: Golden = serde_json::from_slice(&read("dora.json")).unwrap();
    let batch = read(&format!("{}/golden.json", golden.model));
    let batch: Batch = serde_json::from_slice(&batch).unwrap();
    let sequences = responses(&batch.sequences, &batch.responses);
    let views: Vec<&TrainingSequence> = sequences.iter().collect();
    let checkpoint = checkpoint(&golden.model);
    for isa in exact() {
        let mut decoder = adapted(&checkpoint, isa, golden.rank, golden.alpha);
        let adapters = decoder.adapters.as_mut().unwrap();
        let map = adapters.map.clone();
        assert_eq!(map.entries.len(), golden.values.len());
        for entry in &map.entries {
            let values = &golden.values[&entry.name];
            assert_eq!(values.len(), entry.range().len(), "{}", entry.name);
            decoder
                .backend
                .upload(values, &mut adapters.flat, entry.offset);
        }
        let got = logits(&mut decoder, &batch.sequences);
        let error = distance(&golden.logits.concat(), &got);
        assert!(error < 1e-5, "{isa}: logits off by {error}");

        let mut merged = trainable(&checkpoint, isa);
        let adapters = decoder.adapters.as_ref().unwrap();
        for entry in &merged.weights.map.entries {
            let weight = &mut merged.weights.flat[entry.range()];
            adapters.merge(&adapters.flat, &entry.name, weight);
        }
        let error = distance(&got, &logits(&mut merged, &batch.sequences));
        assert!(error < 1e-5, "{isa}: merged logits off by {error}");

        let mut trainer = Trainer::new(decoder, AdamWOptions::default(), 16);
        let loss = trainer.accumulate(&views, None, false).loss;
        assert!((loss / golden.loss - 1.0).abs() < 1e-5, "{isa}: {loss}");
        for entry in &map.entries {
            let expected = &golden.gradients[&entry.name];
            let got = &trainer.gradients()[entry.range()];
            let apart: Vec<f32> = expected.iter().zip(got).map(|(e, g)| e - g).collect();
            let free = 1e-4 * norm(expected);
            assert!(
                norm(&apart) < free,
                "{isa} {}: {}",
                entry.name,
                norm(&apart) / free
            );
        }
    }
}

#[test]
fn a_run_learns_and_walks_back() {
    let recipe = Recipe {
        use_dora: true,
        epochs: 80,
        ..adapters()
    };
    let mut embedder = embedder(&recipe);
    run(&mut embedder, &mut |_| false);
    let before = embedder.progress().best.unwrap();
    assert_eq!(before.recall, 1.0);
    let walk = embedder.interpolate(&checkpoint(MODEL)).unwrap().unwrap();
    let after = embedder.progress().best.unwrap();
    assert!(after.recall == 1.0 && after.divergence <= before.divergence + 1e-6);
    assert!(walk.points.len() > 3);
}
