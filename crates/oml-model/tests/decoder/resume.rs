//! A run that is stopped, saved and resumed is the run that was never stopped, bit for bit.

use oml_model::train::{Embedder, Ending, Recipe};

use crate::{
    model::bits,
    run::{adapters, embedder, recipe, run},
};

const IDENTITY: &str = "a tiny run";

/// Everything a run leaves behind.
fn outcome(embedder: &Embedder) -> (Vec<u32>, Vec<u32>, Vec<u32>, Option<Vec<u32>>) {
    let trainer = embedder.trainer();
    let (first, second) = trainer.moments();
    (
        bits(trainer.parameters()),
        bits(first),
        bits(second),
        embedder.best().map(bits),
    )
}

fn check(recipe: &Recipe) {
    let mut whole = embedder(recipe);
    let mut events = 0;
    let ending = run(&mut whole, &mut |_| {
        events += 1;
        false
    });
    assert!(ending != Ending::Stopped && events > 8);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    for stop_at in 1..=events {
        let mut first = embedder(recipe);
        let mut seen = 0;
        let stopped = run(&mut first, &mut |_| {
            seen += 1;
            seen == stop_at
        });
        first.save_state(&path, IDENTITY).unwrap();
        let mut second = embedder(recipe);
        assert!(second.load_state(&path, IDENTITY).unwrap());
        assert_eq!(second.progress(), first.progress());
        assert!(outcome(&second) == outcome(&first));
        if stopped == Ending::Stopped {
            let resumed = run(&mut second, &mut |_| false);
            assert_eq!(resumed, ending, "stopped at event {stop_at} of {events}");
        }
        assert_eq!(second.progress(), whole.progress(), "stopped at {stop_at}");
        assert!(outcome(&second) == outcome(&whole), "stopped at {stop_at}");
    }
}

#[test]
fn of_all_weights() {
    check(&recipe());
}

#[test]
fn of_adapters() {
    check(&adapters());
}

#[test]
fn without_benign_text() {
    check(&Recipe {
        kl_weight: 0.0,
        ..recipe()
    });
}

#[test]
fn the_same_seed_gives_the_same_weights() {
    let weights = |seed| {
        let mut embedder = embedder(&Recipe { seed, ..recipe() });
        run(&mut embedder, &mut |_| false);
        bits(embedder.trainer().parameters())
    };
    assert!(weights(9) == weights(9));
    assert!(weights(9) != weights(10));
}
