//! A trained small model against its own copies: each is related, whatever was done to it.

use std::sync::OnceLock;

use oml_core::model::{Continuation, LanguageModel as _};
use oml_core::relatedness::TestName;
use oml_model::causal::CausalModel;
use oml_model::checkpoint::Checkpoint;
use oml_model::engine::Engine;
use oml_model::relate::{FrameName, TokenBasis};

use super::changes::{
    Model, folded, merged, narrowed, pruned, rotated, rounded, shortened, shuffled,
};
use super::judge;
use super::tiny::{SMALL, train, untrained};

/// A model whose training has moved it far from its start.
fn base() -> &'static Model {
    static BASE: OnceLock<Model> = OnceLock::new();
    BASE.get_or_init(|| {
        let (trained, [first, last]) = train(&untrained(SMALL, 1), 150, 3e-3, 1);
        assert!(last < 0.7 * first, "trained: {first} to {last}");
        trained
    })
}

struct Outcome {
    /// log10 of the p-values of order, signs, coordinates and agreement.
    tests: [f64; 4],
    related: bool,
    frame: FrameName,
    share: f64,
}

/// Compares the base with a suspect, and the other way round, which must say the same.
fn outcome(suspect: &Model) -> Outcome {
    let folder = tempfile::tempdir().unwrap();
    let [own, other] = ["base", "suspect"].map(|name| folder.path().join(name));
    base().write(&own);
    suspect.write(&other);
    let (found, verdict) = judge(&own, &other);
    let (_, back) = judge(&other, &own);
    assert_eq!(verdict.related, back.related);
    let log10 = |ln: Option<f64>| ln.unwrap_or(0.0) / std::f64::consts::LN_10;
    Outcome {
        tests: verdict.tests.map(|test| log10(test.ln_p_value)),
        related: verdict.related,
        frame: found.frame,
        share: found.evidence.agreement.share(),
    }
}

/// Log probabilities of a text under a model.
fn scores(model: &Model) -> Vec<f32> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model");
    model.write(&path);
    let engine = Engine {
        isa: Some(oml_kernels::Isa::Portable),
        threads: Some(1),
    };
    let mut model = CausalModel::load(&engine, &Checkpoint::open(&path).unwrap()).unwrap();
    let ids: Vec<u32> = (0..40).map(|i| 7 * i % 96).collect();
    let item = Continuation {
        context: &ids[..4],
        continuation: &ids[4..],
    };
    let scores = model.score(&[item]).unwrap();
    scores[0]
        .iter()
        .map(|score| score.log_probability)
        .collect()
}

fn same_function(model: &Model) {
    for (a, b) in scores(base()).iter().zip(scores(model)) {
        assert!((a - b).abs() < 2e-3, "{a} and {b}");
    }
}

#[test]
fn a_model_is_related_to_itself_by_every_test() {
    let found = outcome(base());
    assert!(found.related && found.share == 1.0);
    assert!(found.tests.iter().all(|p| *p < -6.0), "{:?}", found.tests);
}

#[test]
fn fine_tuning_and_merging_leave_every_test_significant() {
    let (one, _) = train(base(), 60, 1e-3, 2);
    let (other, _) = train(base(), 60, 1e-3, 3);
    for suspect in [&one, &merged(one.clone(), &other)] {
        let found = outcome(suspect);
        assert!(found.related);
        assert!(found.tests.iter().all(|p| *p < -6.0), "{:?}", found.tests);
    }
}

#[test]
fn pruning_and_rounding_leave_every_test_significant() {
    for suspect in [
        pruned(base().clone(), 0.5),
        rounded(base().clone(), 8),
        rounded(base().clone(), 4),
    ] {
        let found = outcome(&suspect);
        assert!(found.related);
        assert!(found.tests.iter().all(|p| *p < -6.0), "{:?}", found.tests);
    }
}

#[test]
fn removed_units_and_layers_are_looked_past() {
    let found = outcome(&narrowed(base().clone(), 0.3));
    assert!(
        found.related && found.tests.iter().all(|p| *p < -6.0),
        "{:?}",
        found.tests
    );
    let suspect = shortened(base().clone(), 2);
    assert_eq!((suspect.layers(), base().layers()), (2, 3));
    let found = outcome(&suspect);
    assert!(
        found.related && found.tests.iter().all(|p| *p < -6.0),
        "{:?}",
        found.tests
    );
}

#[test]
fn renumbered_units_lose_their_order_and_keep_their_signs() {
    let suspect = shuffled(base().clone(), 5, false);
    same_function(&suspect);
    let Outcome { tests, related, .. } = outcome(&suspect);
    assert!(related);
    assert!(tests[0] > -4.0, "order: {tests:?}");
    assert!(
        tests[1] < -6.0 && tests[2] < -6.0 && tests[3] < -6.0,
        "{tests:?}"
    );
}

#[test]
fn turned_units_lose_their_signs_and_the_stream_keeps_its_order() {
    let suspect = shuffled(base().clone(), 6, true);
    same_function(&suspect);
    let Outcome { tests, related, .. } = outcome(&suspect);
    assert!(related);
    assert!(tests[0] > -4.0 && tests[1] > -4.0, "{tests:?}");
    assert!(tests[2] < -6.0 && tests[3] < -6.0, "{tests:?}");
}

#[test]
fn a_rotated_stream_with_folded_norms_keeps_the_units() {
    let suspect = folded(base().clone());
    same_function(&suspect);
    let found = outcome(&suspect);
    assert!(found.tests.iter().all(|p| *p < -6.0), "{:?}", found.tests);
    let suspect = rotated(base().clone(), 7);
    same_function(&suspect);
    let Outcome {
        tests,
        related,
        frame,
        ..
    } = outcome(&suspect);
    assert_eq!((related, frame), (true, FrameName::Tokens));
    assert!(
        tests[0] < -6.0 && tests[1] < -6.0 && tests[3] < -6.0,
        "{tests:?}"
    );
    assert!(tests[2] > -4.0, "coordinates: {tests:?}");
}

/// All of it at once: only agreement is left, and finds it.
#[test]
fn with_everything_changed_that_can_be_the_maps_still_agree() {
    let (tuned, _) = train(base(), 30, 1e-3, 4);
    let suspect = rotated(shuffled(tuned, 8, true), 9);
    let Outcome {
        tests,
        related,
        share,
        ..
    } = outcome(&suspect);
    assert!(related && share > 0.5, "{share}");
    assert!(tests[..3].iter().all(|p| *p > -4.0), "{tests:?}");
    assert!(tests[3] < -6.0, "{tests:?}");
}

/// Another tokenizer with the same tokens elsewhere: rows of the embedding are paired by their tokens.
#[test]
fn embeddings_in_another_order_are_paired_by_tokens() {
    let tokenizer = |turned: bool| {
        let id = |i: usize| if turned { 95 - i } else { i };
        let vocabulary: serde_json::Map<_, _> = (0..96)
            .map(|i| (format!("t{i}"), serde_json::json!(id(i))))
            .collect();
        let model =
            serde_json::json!({"type": "WordLevel", "vocab": vocabulary, "unk_token": "t0"});
        let definition = serde_json::json!({
            "version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
            "pre_tokenizer": null, "post_processor": null, "decoder": null, "model": model,
        });
        vec![(
            "tokenizer.json".to_owned(),
            definition.to_string().into_bytes(),
        )]
    };
    let mut own = base().clone();
    own.companions = tokenizer(false);
    let mut other = rotated(base().clone(), 10);
    other.companions = tokenizer(true);
    for name in ["model.embed_tokens.weight", "lm_head.weight"] {
        let tensor = other.tensors.get_mut(name).unwrap();
        let width = tensor.shape[1];
        let rows: Vec<f32> = tensor
            .values
            .chunks_exact(width)
            .rev()
            .flatten()
            .copied()
            .collect();
        tensor.values = rows;
    }
    let folder = tempfile::tempdir().unwrap();
    let paths = ["own", "other"].map(|name| folder.path().join(name));
    own.write(&paths[0]);
    other.write(&paths[1]);
    let (found, verdict) = judge(&paths[0], &paths[1]);
    assert_eq!(found.tokens, Some((TokenBasis::SharedTokens, 96)));
    assert_eq!((verdict.related, found.frame), (true, FrameName::Tokens));
    let carriers: Vec<TestName> = verdict.carriers().collect();
    assert!(carriers.contains(&TestName::UnitSigns) && carriers.contains(&TestName::UnitOrder));
    let (found, _) = judge(&paths[0], &paths[0]);
    assert_eq!(found.tokens, Some((TokenBasis::SameTokenizer, 96)));
}
