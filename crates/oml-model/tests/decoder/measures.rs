//! Utility of tiny models against sums in f64, and models that compute no number.

use std::{error::Error, path::Path, sync::Mutex};

use oml_core::{
    model::{Continuation, LanguageModel, ModelError, Sampling},
    tokenizer::Tokenizer,
};
use oml_kernels::Isa;
use oml_model::{
    causal::{CausalModel, RequestError, token_score},
    checkpoint::{Checkpoint, DType, write_model},
    eval::{Choice, ComparisonError, Windows, choices, compare, perplexity},
};

use crate::{
    model::{available, causal, checkpoint, engine, ids},
    run::MODEL,
};

/// Ids that stand in the text as numbers.
struct Numbers;

impl Tokenizer for Numbers {
    fn vocabulary_size(&self) -> usize {
        97
    }

    fn encode(&self, text: &str, _: bool) -> Result<Vec<u32>, ModelError> {
        Ok(text
            .split_whitespace()
            .map(|word| word.parse().unwrap_or(0))
            .collect())
    }

    fn decode(&self, ids: &[u32]) -> Result<String, ModelError> {
        Ok(format!("{ids:?}"))
    }

    fn token(&self, _: u32) -> Option<String> {
        None
    }

    fn chat_prompt(&self, _: &str) -> Result<Option<Vec<u32>>, ModelError> {
        Ok(None)
    }

    fn hash(&self) -> [u8; 32] {
        [0; 32]
    }
}

fn windows(tokens: usize, length: usize) -> Windows {
    let text: Vec<String> = ids(tokens, 1).iter().map(u32::to_string).collect();
    Windows::new(&Numbers, &text.join(" "), length, tokens).unwrap()
}

/// The tiny model with every weight changed by `change`, in `out`.
pub(crate) fn changed(out: &Path, change: &dyn Fn(&str, &mut [f32])) -> Checkpoint {
    let base = checkpoint(MODEL);
    let mut supply = |name: &str, out: &mut [f32]| -> Result<(), Box<dyn Error + Send + Sync>> {
        base.read_f32(name, out)?;
        change(name, out);
        Ok(())
    };
    write_model(out, &base, DType::F32, &mut supply, &[]).unwrap();
    Checkpoint::open(out).unwrap()
}

/// Weights that are finite and whose products are not.
pub(crate) fn overflowing(name: &str, values: &mut [f32]) {
    if name == "model.norm.weight" {
        values.fill(3e38);
    }
}

/// Log-probabilities after each of the tokens.
fn log_probabilities(model: &mut CausalModel, ids: &[u32]) -> Vec<Vec<f64>> {
    let rows = Mutex::new(vec![Vec::new(); ids.len()]);
    model
        .visit_logits(&[(ids.to_vec(), (0..ids.len()).collect())], &|_, p, z| {
            let sum: f64 = z.iter().map(|v| f64::from(*v).exp()).sum();
            rows.lock().unwrap()[p] = z.iter().map(|v| f64::from(*v) - sum.ln()).collect();
        })
        .unwrap();
    rows.into_inner().unwrap()
}

#[test]
fn the_divergence_is_that_of_whole_distributions() {
    let folder = tempfile::tempdir().unwrap();
    let changed = changed(&folder.path().join("m"), &|_, values| {
        for (i, value) in values.iter_mut().enumerate() {
            *value *= 1.0 + 0.1 * ((i % 7) as f32 - 3.0);
        }
    });
    let wide = checkpoint("llama-wide-heads");
    let windows = windows(300, 50);
    for (isa, checkpoint) in available().flat_map(|isa| [(isa, &changed), (isa, &wide)]) {
        let mut base = causal(MODEL, isa);
        let mut model = CausalModel::load(&engine(isa), checkpoint).unwrap();
        let mut expected = 0.0;
        for ids in ids(300, 1).chunks(50) {
            let (p, q) = (
                log_probabilities(&mut base, ids),
                log_probabilities(&mut model, ids),
            );
            for (p, q) in p.iter().zip(&q).take(49) {
                expected += p.iter().zip(q).map(|(p, q)| p.exp() * (p - q)).sum::<f64>();
            }
        }
        let compared = compare(&mut model, &mut base, &windows).unwrap();
        let alone = [&mut model, &mut base].map(|model| perplexity(model, &windows).unwrap());
        for (got, alone) in [compared.perplexity, compared.base_perplexity]
            .iter()
            .zip(alone)
        {
            assert_eq!(got.count, alone.count);
            assert!(
                (got.value / alone.value - 1.0).abs() < 1e-5,
                "{got:?} {alone:?}"
            );
            let errors = [got.standard_error, alone.standard_error];
            assert!((errors[0] / errors[1] - 1.0).abs() < 1e-3, "{errors:?}");
        }
        let got = compared.kl;
        assert_eq!(got.count, 6 * 49);
        let expected = expected / 294.0;
        assert!(
            expected > 1e-3 && (got.value / expected - 1.0).abs() < 1e-3,
            "{got:?} {expected}"
        );
        let mut same = causal(MODEL, isa);
        let compared = compare(&mut same, &mut base, &windows).unwrap();
        assert!(compared.kl.value.abs() < 1e-6);
    }
}

/// Which sequence is said not to be finite.
fn fault(error: ModelError) -> usize {
    match error.0.downcast_ref() {
        Some(RequestError::NotFinite { index }) => *index,
        _ => panic!("{}", error.0),
    }
}

#[test]
fn a_model_that_computes_no_number_is_not_measured() {
    let folder = tempfile::tempdir().unwrap();
    // finite as stored, but not when multiplied
    let changed = changed(&folder.path().join("m"), &overflowing);
    let windows = windows(300, 50);
    for isa in available() {
        let mut base = causal(MODEL, isa);
        let mut model = CausalModel::load(&engine(isa), &changed).unwrap();
        let item = Continuation {
            context: &[1, 2],
            continuation: &[3],
        };
        assert_eq!(fault(model.score(&[item]).unwrap_err()), 0);
        assert_eq!(fault(perplexity(&mut model, &windows).unwrap_err()), 0);
        assert!(matches!(
            compare(&mut model, &mut base, &windows),
            Err(ComparisonError::Model(RequestError::NotFinite { index: 0 }))
        ));
        assert!(matches!(
            compare(&mut base, &mut model, &windows),
            Err(ComparisonError::Base(RequestError::NotFinite { index: 0 }))
        ));
        let question = Choice {
            goal: "1".into(),
            solutions: ["2".into(), "3".into()],
            label: 0,
        };
        assert_eq!(
            fault(choices(&mut model, &Numbers, &[question]).unwrap_err()),
            0
        );

        let mut visit = |_, _: &[f32]| panic!("a distribution of no numbers");
        let error = model.next_distributions(&[&[90]], &mut visit);
        assert_eq!(fault(error.unwrap_err()), 0);
        let sampling = Sampling {
            max_tokens: 2,
            temperature: 0.0,
            top_k: 0,
            top_p: 1.0,
            stop: vec![],
        };
        let error = model.generate(&[&[90]], &[1], &sampling);
        assert_eq!(fault(error.unwrap_err()), 0);
    }
}

#[test]
fn no_rank_follows_from_nan() {
    let isa = Isa::detect();
    let mut logits = vec![0.5f32; 40];
    logits[7] = 2.0;
    assert_eq!(token_score(isa, &logits, 7).unwrap().rank, 0);
    assert_eq!(token_score(isa, &logits, 3).unwrap().rank, 4);
    for bad in [f32::NAN, f32::INFINITY] {
        let mut with = logits.clone();
        with[7] = bad;
        assert_eq!(token_score(isa, &with, 7), None);
        assert!(token_score(isa, &with, 3).is_none_or(|score| score.rank > 0));
    }
}
