//! Embedding eight fingerprints in a tiny model: they come back, the best state is kept, and it is drawn back towards the base.

use oml_kernels::Isa;
use oml_model::{
    backend::Cpu,
    checkpoint::Checkpoint,
    decoder::Decoder,
    train::{BenignText, EmbedError, Embedder, Ending, Material, Measured, Recipe},
};

use crate::{
    model::{bits, causal, checkpoint, distance, engine, ids, logits, texts, trainable},
    run::{MODEL, adapters, embedder, fingerprints, recipe, run},
};

fn long(recipe: Recipe) -> Recipe {
    Recipe {
        epochs: 80,
        distance: 0.0,
        average: 0.0,
        ..recipe
    }
}

/// Runs to the end; the run and everything it measured.
fn learned(recipe: &Recipe) -> (Embedder, Vec<Measured>) {
    let (mut embedder, mut measured) = (embedder(recipe), Vec::new());
    let ending = run(&mut embedder, &mut |event| {
        measured.extend(event.measured);
        false
    });
    assert_eq!(ending, Ending::Target);
    (embedder, measured)
}

#[test]
fn the_best_state_is_kept() {
    for recipe in [long(recipe()), long(adapters())] {
        let (embedder, measured) = learned(&recipe);
        let best = embedder.progress().best.unwrap();
        assert!(best.recall == 1.0 && best.divergence > 0.0);
        let whole = measured.iter().filter(|m| m.recall == 1.0);
        let least = whole.map(|m| m.divergence).reduce(f64::min);
        assert_eq!(least, Some(best.divergence));
    }
}

#[test]
fn going_back_towards_the_base_keeps_recall() {
    for recipe in [long(recipe()), long(adapters())] {
        let (mut embedder, _) = learned(&recipe);
        let before = embedder.progress().best.unwrap();
        let walk = embedder.interpolate(&checkpoint(MODEL)).unwrap().unwrap();
        assert!((1..=16).contains(&walk.kept));
        assert!(walk.points.is_sorted_by_key(|(share, _)| *share) && walk.points.len() > 3);
        let kept = walk.points.iter().find(|(share, _)| *share == walk.kept);
        let (_, after) = *kept.unwrap();
        assert!(after.recall >= before.recall.min(recipe.target_recall));
        assert!(
            after.divergence <= before.divergence + 1e-6,
            "{after:?} {before:?}"
        );
        assert_eq!(embedder.progress().best, Some(after));
        assert_eq!(embedder.evaluate().unwrap(), after);
    }
}

/// The tensors a run would write, in a model of their own.
fn written(embedder: &Embedder, base: &Checkpoint) -> Decoder<Cpu> {
    let mut decoder = trainable(base, Isa::detect());
    for entry in &decoder.weights.map.entries {
        let tensor = &mut decoder.weights.flat[entry.range()];
        embedder.tensor(base, &entry.name, tensor).unwrap();
    }
    decoder
}

#[test]
fn what_is_written_is_the_best_state() {
    let (base, texts) = (checkpoint(MODEL), texts(90));
    let (embedder, _) = learned(&long(recipe()));
    let whole = written(&embedder, &base);
    assert!(bits(&whole.weights.flat) == bits(embedder.best().unwrap()));

    let (mut embedder, _) = learned(&long(adapters()));
    let got = logits(&mut written(&embedder, &base), &texts);
    let plain = logits(&mut trainable(&base, Isa::detect()), &texts);
    embedder.interpolate(&base).unwrap();
    let drawn = logits(&mut written(&embedder, &base), &texts);
    assert!(distance(&plain, &got) > 1e-2);
    assert!(distance(&plain, &drawn) <= distance(&plain, &got));
}

#[test]
fn runs_that_cannot_begin_say_why() {
    let engine = engine(Isa::detect());
    let checkpoint = checkpoint(MODEL);
    let benign = |count| BenignText {
        sequences: (0..count).map(|i| ids(9, i)).collect(),
    };
    let start = |recipe: Recipe, benign: &BenignText| {
        let base = causal(MODEL, Isa::detect());
        let material = Material {
            set: &fingerprints(),
            benign,
            prompting: None,
            instructions: Vec::new(),
        };
        Embedder::new(&engine, &checkpoint, Some(base), material, &recipe).err()
    };
    let error = start(recipe(), &benign(7)).unwrap();
    assert!(matches!(error, EmbedError::TooLittleBenignText { got: 7 }));
    let many = |benign_sequences, benign_length| Recipe {
        benign_sequences,
        benign_length,
        ..recipe()
    };
    let tokens = "'benign_sequences': expected at most 16777216 tokens, benign_sequences times benign_length, got 16781312";
    for (recipe, message) in [
        (
            Recipe {
                epochs: 0,
                ..recipe()
            },
            "'epochs': expected 1 to 100000, got 0",
        ),
        (
            Recipe {
                warmup_steps: u32::MAX,
                ..recipe()
            },
            "'warmup_steps': expected 0 to 100000, got 4294967295",
        ),
        (
            Recipe {
                settle_epochs: u32::MAX,
                ..recipe()
            },
            "'settle_epochs': expected 0 to 100000, got 4294967295",
        ),
        (many(4097, 4096), tokens),
    ] {
        let error = start(recipe, &benign(16)).unwrap();
        assert_eq!(error.to_string(), format!("recipe key {message}"));
    }
    let mut odd = benign(16);
    for (bad, message) in [
        (
            ids(65, 1),
            "sequence 3: 65 tokens, the model takes at most 64",
        ),
        (
            ids(1, 1),
            "sequence 3: expected at least one token, got none",
        ),
        (
            vec![5, 97],
            "token id 97: expected below the vocabulary size 97",
        ),
    ] {
        odd.sequences[3] = bad;
        let error = start(recipe(), &odd).unwrap();
        assert_eq!(error.to_string(), format!("benign text: {message}"));
    }
    assert!(start(recipe(), &benign(16)).is_none());
}
