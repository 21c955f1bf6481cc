//! The memory plan: its parts are those that a run has, and it says what would make a run fit.

use oml_kernels::Isa;
use oml_model::train::{MemoryError, MemoryPlan, OptimizerName, Recipe, RunSize};

use crate::{
    model::checkpoint,
    run::{MODEL, OTHERS, adapters, detours, embedder, recipe},
};

const RUN: RunSize = RunSize {
    isa: Isa::Portable,
    longest: 8,
    response: 2,
    items: 8,
};

fn plan(recipe: &Recipe) -> MemoryPlan {
    MemoryPlan::new(&checkpoint(MODEL), recipe, &RUN).unwrap()
}

fn bytes(plan: &MemoryPlan, name: &str) -> usize {
    let part = plan.parts.iter().find(|part| part.name == name);
    part.map_or(0, |part| part.bytes as usize)
}

#[test]
fn arrays_of_the_trained_values_are_those_of_the_run() {
    let subset = Recipe {
        train_layers: vec!["1".into()],
        ..recipe()
    };
    let units = Recipe {
        train_units: 3,
        ..recipe()
    };
    let checkpoints = Recipe {
        gradient_checkpointing: true,
        ..recipe()
    };
    assert!(bytes(&plan(&checkpoints), "activations") < bytes(&plan(&recipe()), "activations"));
    assert!(embedder(&checkpoints).trainer().decoder.checkpoints);
    let mut recipes = vec![recipe(), adapters(), detours(), subset.clone(), units];
    recipes.extend(OTHERS.map(|optimizer| Recipe {
        optimizer,
        ..recipe()
    }));
    for recipe in recipes {
        let (plan, embedder) = (plan(&recipe), embedder(&recipe));
        let trainer = embedder.trainer();
        let values = 4 * trainer.parameters().len();
        // with a mask its elements' indices and gradients too
        let mask = trainer.subset().and_then(|subset| subset.mask());
        assert_eq!(
            bytes(&plan, "gradients"),
            4 * trainer.gradients().len() + 12 * mask.map_or(0, <[usize]>::len)
        );
        assert_eq!(bytes(&plan, "best state"), values);
        let pulls = recipe.distance > 0.0;
        assert_eq!(bytes(&plan, "base"), if pulls { values } else { 0 });
        let kept = bytes(&plan, "weights kept on detours");
        assert_eq!(kept, if recipe.persist_steps > 0 { values } else { 0 });
        let (planned, real) = (
            bytes(&plan, "optimizer"),
            trainer.optimizer().to_bytes().len(),
        );
        // the last block in 8 bits is not full
        assert!(planned.abs_diff(real) < 600, "{planned} {real}");
        let whole = 4 * trainer.decoder.weights.flat.len();
        if recipe.lora_rank == 0 {
            let separate = if trainer.subset().is_some() {
                values
            } else {
                0
            };
            assert_eq!(bytes(&plan, "weights"), whole + separate);
        }
    }
    let masked = Recipe {
        mask_share: 0.25,
        ..subset.clone()
    };
    // the most is held while the mask is chosen
    let gradients = 4 * embedder(&masked).trainer().gradients().len();
    assert_eq!(bytes(&plan(&masked), "choice of the mask"), 2 * gradients);
}

#[test]
fn a_run_that_does_not_fit_says_what_would() {
    let recipe = Recipe {
        batch_size: 64,
        micro_batch_tokens: 2048,
        ..recipe()
    };
    let run = RunSize { items: 4096, ..RUN };
    let checkpoint = checkpoint(MODEL);
    let plan = MemoryPlan::new(&checkpoint, &recipe, &run).unwrap();
    let needed = plan.peak();
    assert_eq!(plan.ensure_fits(needed), Ok(()));
    let available = needed - 1;
    let error = plan.ensure_fits(available).unwrap_err();
    assert_eq!(error, MemoryError { needed, available });
    let text = format!(
        "memory: expected at least {needed} bytes available for this recipe, got {available}"
    );
    assert_eq!(error.to_string(), text);
    let changes =
        |available| MemoryPlan::changes_that_fit(&checkpoint, &recipe, &run, available).unwrap();
    assert_eq!(changes(0), [""; 0]);
    for change in [
        "micro_batch_tokens = 256",
        "distance = 0 and average = 0",
        "optimizer = \"adafactor\"",
    ] {
        assert!(
            changes(available).iter().any(|c| c == change),
            "{change}: {:?}",
            changes(available)
        );
    }
    let own = Recipe {
        optimizer: OptimizerName::Adafactor,
        ..recipe.clone()
    };
    let small = MemoryPlan::new(&checkpoint, &own, &run).unwrap().peak();
    assert!(changes(small).contains(&"optimizer = \"adafactor\"".to_owned()));
    assert!(!changes(small - 1).contains(&"optimizer = \"adafactor\"".to_owned()));
}
