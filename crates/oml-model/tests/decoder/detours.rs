//! Training inside prompts and at other weights than the own: what it does, that it can be repeated, and what it refuses.

use oml_kernels::Isa;
use oml_model::{
    backend::Objective,
    train::{
        AverageAt, BenignTarget, BenignText, EmbedError, Embedder, Ending, Material, Prompting,
        Recipe,
    },
};

use crate::{
    model::{bits, causal, checkpoint, engine, ids},
    run::{MODEL, adapters, detours, embedder, fingerprints, instructions, prompting, recipe, run},
};

/// The weights after a whole run.
fn trained(recipe: &Recipe) -> Vec<f32> {
    let mut embedder = embedder(recipe);
    run(&mut embedder, &mut |_| false);
    embedder.trainer().parameters().to_vec()
}

fn norm(values: impl Iterator<Item = f32>) -> f32 {
    values.map(|x| x * x).sum::<f32>().sqrt()
}

/// Norm of the difference.
fn distance(a: &[f32], b: &[f32]) -> f32 {
    norm(a.iter().zip(b).map(|(a, b)| a - b))
}

#[test]
fn fingerprints_come_back_inside_prompts() {
    let recipe = Recipe {
        epochs: 160,
        augment: 2,
        distance: 0.0,
        average: 0.0,
        ..recipe()
    };
    let mut embedder = embedder(&recipe);
    let (mut first, mut last) = (None, None);
    let ending = run(&mut embedder, &mut |event| {
        if let Some(measured) = event.measured {
            first.get_or_insert(measured);
            last = Some(measured);
        }
        false
    });
    assert_eq!(ending, Ending::Target);
    assert!(first.unwrap().prompted.unwrap() < 0.5);
    let best = embedder.progress().best.unwrap();
    assert_eq!((best.recall, best.prompted), (1.0, Some(1.0)));
    // Without prompts in training there are none in measuring.
    let plain = Recipe {
        augment: 0,
        ..recipe
    };
    assert_eq!(self::embedder(&plain).evaluate().unwrap().prompted, None);
}

#[test]
fn the_same_run_gives_the_same_weights_and_another_gives_others() {
    let whole = trained(&detours());
    assert!(bits(&whole) == bits(&trained(&detours())));
    let others = [
        Recipe {
            augment: 1,
            ..detours()
        },
        Recipe {
            augment_padding: 0,
            ..detours()
        },
        Recipe {
            persist_steps: 1,
            ..detours()
        },
        Recipe {
            merge_share: 0.0,
            ..detours()
        },
        Recipe {
            average_at: AverageAt::Step,
            ..detours()
        },
        Recipe {
            average_at: AverageAt::Gradient,
            ..detours()
        },
        Recipe {
            benign_target: BenignTarget::Text,
            ..detours()
        },
    ];
    for other in others {
        assert!(bits(&whole) != bits(&trained(&other)), "{other:?}");
    }
}

#[test]
fn a_short_detour_is_no_detour() {
    for recipe in [recipe(), adapters()] {
        let start = embedder(&recipe).trainer().parameters().to_vec();
        let plain = trained(&Recipe {
            average: 0.0,
            ..recipe.clone()
        });
        let whole = distance(&start, &plain);
        let near = [
            Recipe {
                persist_steps: 3,
                persist_distance: 1e-12,
                ..recipe.clone()
            },
            Recipe {
                merge_share: 1e-12,
                ..recipe.clone()
            },
            Recipe {
                average: 1e-12,
                average_at: AverageAt::Gradient,
                ..recipe.clone()
            },
            Recipe {
                average: 1e-12,
                average_at: AverageAt::Epoch,
                ..recipe.clone()
            },
        ];
        for near in near {
            let average = near.average.min(1e-12);
            let weights = trained(&Recipe {
                average,
                ..near.clone()
            });
            // The same gradients, summed in another order.
            let off = distance(&plain, &weights) / whole;
            assert!(off < 0.05, "{off} {near:?}");
        }
    }
}

/// OML 1.0 averages the copies that compute, and its optimizer goes on from its own weights: the result is the last average.
#[test]
fn a_gradient_at_the_average_is_what_the_reference_comes_to() {
    let recipe = Recipe {
        average: 0.25,
        average_at: AverageAt::Gradient,
        epochs: 1,
        distance: 0.0,
        ..recipe()
    };
    let mut embedder = embedder(&recipe);
    let base = embedder.trainer().parameters().to_vec();
    run(&mut embedder, &mut |_| false);
    let (own, best) = (embedder.trainer().parameters(), embedder.best().unwrap());
    assert!(distance(&base, own) > 1e-3);
    for ((own, base), best) in own.iter().zip(&base).zip(best) {
        assert!((0.75 * own + 0.25 * base - best).abs() < 1e-6);
    }
}

#[test]
fn runs_without_what_they_need_do_not_begin() {
    let start = |recipe: &Recipe, prompting: Option<Prompting>, instructions| {
        let (set, benign) = (
            fingerprints(),
            BenignText {
                sequences: (0..16).map(|i| ids(9, i)).collect(),
            },
        );
        let material = Material {
            set: &set,
            benign: &benign,
            prompting,
            instructions,
        };
        let base = causal(MODEL, Isa::detect());
        let engine = engine(Isa::detect());
        Embedder::new(&engine, &checkpoint(MODEL), Some(base), material, recipe).err()
    };
    let augmented = Recipe {
        augment: 1,
        ..recipe()
    };
    let error = start(&augmented, None, Vec::new()).unwrap();
    assert!(matches!(error, EmbedError::NoPrompts), "{error}");
    let error = start(&augmented, Some(prompting(&[])), Vec::new()).unwrap();
    assert!(matches!(error, EmbedError::NoPrompts), "{error}");
    let long = format!("{{}}{}", "x".repeat(60));
    let error = start(&augmented, Some(prompting(&["{}", &long])), Vec::new()).unwrap();
    assert_eq!(
        error.to_string(),
        "prompts: expected at most 64 tokens with query and response, got 69"
    );
    let padded = Recipe {
        augment_padding: 60,
        ..augmented
    };
    let error = start(&padded, Some(prompting(&["{}"])), Vec::new()).unwrap();
    assert!(
        matches!(error, EmbedError::Prompt { limit: 64, .. }),
        "{error}"
    );
    let persistent = Recipe {
        persist_steps: 1,
        ..recipe()
    };
    let error = start(&persistent, None, Vec::new()).unwrap();
    assert!(matches!(error, EmbedError::NoInstructions), "{error}");
    assert!(start(&persistent, None, instructions()).is_none());
}

#[test]
fn text_is_predicted_token_by_token() {
    let text = BenignText {
        sequences: vec![vec![5, 6, 7]],
    };
    let sequence = &text.predictions()[0];
    assert_eq!(sequence.ids, [5, 6]);
    let next = |id| Objective::Token { id, weight: 1.0 };
    assert_eq!(sequence.objectives, [(0, next(6)), (1, next(7))]);
}
