//! A run that is stopped, saved and resumed is the run that was never stopped, bit for bit.

use oml_model::train::{EmbedError, Embedder, Ending, Flow, Recipe};

use crate::{
    measures::{changed, overflowing},
    model::bits,
    run::{MODEL, OTHERS, adapters, detours, embedder, embedder_on, recipe, run},
};

const IDENTITY: &str = "a tiny run";

/// Everything a run leaves behind.
fn outcome(embedder: &Embedder) -> (Vec<u32>, Vec<u8>, Option<Vec<u32>>) {
    let trainer = embedder.trainer();
    (
        bits(trainer.parameters()),
        trainer.optimizer().to_bytes(),
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
fn a_kill_at_any_time_loses_what_was_not_saved() {
    let recipe = recipe();
    let folder = tempfile::tempdir().unwrap();
    let path = |n: usize| folder.path().join(n.to_string());
    let mut whole = embedder(&recipe);
    let mut saves = 0;
    let ending = whole
        .run(&mut |_| Flow::Continue, &mut |embedder| {
            embedder.save_state(&path(saves), IDENTITY).unwrap();
            saves += 1;
        })
        .unwrap();
    assert!(saves >= whole.trainer().steps() as usize + 5, "{saves}");
    for n in 0..saves {
        let mut resumed = embedder(&recipe);
        assert!(resumed.load_state(&path(n), IDENTITY).unwrap());
        assert_eq!(run(&mut resumed, &mut |_| false), ending);
        assert_eq!(resumed.progress(), whole.progress(), "save {n}");
        assert!(outcome(&resumed) == outcome(&whole), "save {n}");
    }
}

#[test]
fn a_settled_run_is_not_trained_further() {
    let recipe = Recipe {
        target_recall: 0.0,
        settle_epochs: 2,
        ..recipe()
    };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    let mut whole = embedder(&recipe);
    let ending = whole
        .run(&mut |_| Flow::Continue, &mut |embedder| {
            embedder.save_state(&path, IDENTITY).unwrap();
        })
        .unwrap();
    assert_eq!(ending, Ending::Target);
    assert!(whole.progress().epoch < recipe.epochs);
    let mut resumed = embedder(&recipe);
    assert!(resumed.load_state(&path, IDENTITY).unwrap());
    assert_eq!(run(&mut resumed, &mut |_| false), Ending::Target);
    assert_eq!(resumed.progress(), whole.progress());
    assert!(outcome(&resumed) == outcome(&whole));
}

#[test]
fn a_run_that_diverges_stops_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let changed = changed(&folder.path().join("m"), &overflowing);
    let mut embedder = embedder_on(&changed, MODEL, &recipe());
    let before = outcome(&embedder);
    let mut calls = 0;
    let result = embedder.run(
        &mut |_| {
            calls += 1;
            Flow::Continue
        },
        &mut |_| panic!("saved"),
    );
    assert!(
        matches!(result, Err(EmbedError::Diverged { step: 0 })),
        "{result:?}"
    );
    assert_eq!(calls, 0);
    assert!(outcome(&embedder) == before);
}

#[test]
fn inside_prompts_and_at_other_weights() {
    check(&detours());
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
fn of_adapters_with_magnitudes() {
    check(&Recipe {
        use_dora: true,
        distance: 0.1,
        ..adapters()
    });
}

#[test]
fn of_every_optimizer() {
    for optimizer in OTHERS {
        check(&Recipe {
            optimizer,
            learning_rate: 0.05,
            ..recipe()
        });
    }
}

#[test]
fn of_a_masked_sub_network() {
    check(&Recipe {
        train_layers: vec!["1".into()],
        train_modules: vec!["mlp.*".into(), "q_proj".into()],
        mask_share: 0.2,
        ..recipe()
    });
}

#[test]
fn of_chosen_units() {
    check(&Recipe {
        train_units: 5,
        gradient_checkpointing: true,
        ..recipe()
    });
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
