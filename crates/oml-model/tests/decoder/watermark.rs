//! Marked generation: these tokens, whatever the batch, found by their key and by no other, and plain where nothing is marked.

use std::sync::Arc;

use oml_core::model::{Continuation, LanguageModel as _, Sampling};
use oml_core::secret::OwnerSeed;
use oml_core::watermark::{Detector, Scheme, Watermark};
use oml_kernels::Isa;
use oml_model::surprise::surprise;

use crate::model::{available, causal, ids};

fn watermark(seed: u8, scheme: Scheme) -> Arc<Watermark> {
    Arc::new(Watermark::new(&OwnerSeed::new([seed; 32]), scheme))
}

fn sampling(max_tokens: usize, temperature: f32) -> Sampling {
    Sampling {
        max_tokens,
        temperature,
        top_k: 0,
        top_p: 1.0,
        stop: vec![],
    }
}

#[test]
fn marked_texts_are_these() {
    let mut model = causal("llama-gqa-tied", Isa::Portable);
    let prompt = ids(5, 50);
    let texts = Scheme::ALL.map(|scheme| {
        let mark = watermark(7, scheme);
        let sampling = sampling(10, 1.0);
        let texts = model.generate_marked(&[&prompt], &[1], &sampling, Some(&mark));
        texts.unwrap().concat()
    });
    let plain = model.generate(&[&prompt], &[1], &sampling(10, 1.0));
    let plain = plain.unwrap().concat();
    // The first tokens have no context of their own.
    assert_eq!(texts[0][..4], plain[..4]);
    assert_eq!(texts[1][..1], plain[..1]);
    assert_eq!(texts[2][..4], plain[..4]);
    assert_eq!(
        texts,
        [
            [28, 43, 75, 45, 45, 94, 21, 3, 11, 43],
            [28, 93, 93, 93, 43, 74, 55, 23, 70, 75],
            [28, 43, 75, 45, 45, 45, 55, 38, 45, 45],
        ]
    );
}

#[test]
fn a_marked_text_does_not_depend_on_its_batch_and_is_found() {
    let prompts: Vec<Vec<u32>> = (0..24).map(|i| ids(1 + i % 9, 50 + i as u64)).collect();
    let views: Vec<&[u32]> = prompts.iter().map(|p| &p[..]).collect();
    let seeds: Vec<u64> = (0..24).map(|i| 1000 + 7 * i).collect();
    // Hot, since the tiny model is sure of itself and repeats a few tokens.
    let sampling = sampling(52, 3.0);
    for isa in available() {
        let mut model = causal("llama-gqa-tied", isa);
        for scheme in Scheme::ALL {
            let mark = watermark(7, scheme);
            let together = model
                .generate_marked(&views, &seeds, &sampling, Some(&mark))
                .unwrap();
            for i in [0, 11, 23] {
                let alone = model
                    .generate_marked(&views[i..=i], &seeds[i..=i], &sampling, Some(&mark))
                    .unwrap();
                assert_eq!(alone[0], together[i], "{isa} {}: {i}", scheme.name());
            }
            let mut detector = Detector::default();
            let mut found = |watermark: &Watermark| {
                let p_values = together.iter().map(|ids| {
                    let detection = detector.detect(watermark, ids).unwrap();
                    detection.ln_p_value
                });
                p_values.filter(|ln| *ln < -6.9).count()
            };
            let (own, other) = (found(&mark), found(&watermark(8, scheme)));
            assert!(
                own >= 22 && other <= 1,
                "{isa} {}: {own}, {other}",
                scheme.name()
            );
        }
    }
}

#[test]
fn greedy_text_is_plain_but_under_a_green_list() {
    let prompts: Vec<Vec<u32>> = (0..8).map(|i| ids(5, 50 + i)).collect();
    let views: Vec<&[u32]> = prompts.iter().map(|p| &p[..]).collect();
    let mut model = causal("llama-gqa-tied", Isa::Portable);
    let mut greedy = |mark: Option<&Arc<Watermark>>| {
        let texts = model.generate_marked(&views, &[], &sampling(20, 0.0), mark);
        texts.unwrap()
    };
    let plain = greedy(None);
    let [synthid, kgw, gumbel] = Scheme::ALL.map(|scheme| greedy(Some(&watermark(7, scheme))));
    assert_eq!((&synthid, &gumbel), (&plain, &plain));
    assert_ne!(kgw, plain);
}

/// Surprise is what scores and distributions say.
#[test]
fn surprise_equals_scores_and_distributions() {
    let (context, continuation) = (ids(7, 60), ids(6, 61));
    let item = Continuation {
        context: &context,
        continuation: &continuation,
    };
    let mut model = causal("llama-gqa-tied", Isa::Portable);
    let scores = model.score(&[item]).unwrap().concat();
    let loss: f64 = scores.iter().map(|s| -f64::from(s.log_probability)).sum();
    let whole = [&context[..], &continuation[..]].concat();
    let contexts: Vec<&[u32]> = (7..13).map(|end| &whole[..end]).collect();
    let mut expected = [0.0; 2];
    model
        .next_distributions(&contexts, &mut |_, probabilities| {
            let p = || probabilities.iter().map(|p| f64::from(*p));
            let sharp: f64 = p().map(|p| p * p).sum();
            expected[0] -= p().map(|p| p * p.ln()).sum::<f64>();
            // Temperature 1/2 squares.
            expected[1] -= p().map(|p| p * p / sharp * p.ln()).sum::<f64>();
        })
        .unwrap();
    for (temperature, expected) in [1.0, 0.5].into_iter().zip(expected) {
        let got = surprise(&mut model, &[item], temperature).unwrap()[0];
        assert!((got.loss - loss).abs() < 1e-3, "{got:?} {loss}");
        assert!((got.expected - expected).abs() < 1e-3, "{got:?} {expected}");
    }
}
