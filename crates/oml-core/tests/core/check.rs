//! The verdict from scores: hits, recall, null rate and refusals.

use std::ops::ControlFlow;

use oml_core::check::{CheckError, Control, DEFAULT_ALPHA, check, count_hits};
use oml_core::fingerprint::FingerprintSet;
use oml_core::model::{LanguageModel, TokenScore};
use oml_core::secret::OwnerSeed;
use oml_core::strategy::perinucleus::Rule;
use oml_core::strategy::{GenerateOptions, PartialSet, Parts, Strategy, Writing, generate};

use crate::double::{Bigrams, Words};

fn set(count: usize, response_length: usize, responses: usize) -> FingerprintSet {
    let tokenizer = Words::new(300);
    let rule = Rule {
        responses,
        ..Rule::default()
    };
    let options = GenerateOptions {
        strategy: Strategy::Perinucleus {
            writing: Writing::default(),
            rule,
        },
        query_length: 6,
        response_length,
        ..GenerateOptions::new(count, [0; 32])
    };
    let (mut model, owner) = (Bigrams::new(&tokenizer), OwnerSeed::new([1; 32]));
    let parts = Parts {
        model: &mut model,
        tokenizer: &tokenizer,
        owner: &owner,
        writer: None,
        benign: None,
    };
    let go_on = &mut |_: &PartialSet| ControlFlow::Continue(());
    generate(parts, &options, PartialSet::default(), go_on).unwrap()
}

fn scores(ranks: &[&[u32]]) -> Vec<Vec<TokenScore>> {
    let score = |&rank: &u32| TokenScore {
        log_probability: -f32::from(rank as u16) - 0.5,
        rank,
    };
    ranks
        .iter()
        .map(|ranks| ranks.iter().map(score).collect())
        .collect()
}

#[test]
fn a_hit_needs_every_token_of_any_response() {
    let set = set(3, 2, 2);
    let ranks: [&[u32]; 6] = [&[0, 1], &[1, 0], &[5, 5], &[0, 0], &[0, 0], &[0, 0]];
    let report = check(&set, &scores(&ranks), &[], DEFAULT_ALPHA).unwrap();
    let hits: Vec<bool> = report.fingerprints.iter().map(|f| f.hit).collect();
    assert_eq!(hits, [false, true, true]);
    assert_eq!((report.count, report.hits), (3, 2));
    assert_eq!(report.fingerprints[0].responses[1][0].rank, 1);
    assert!((report.fingerprints[0].responses[0][1].probability - (-1.5_f64).exp()).abs() < 1e-12);
    assert_eq!(
        report.null.basis,
        "worst case without a control: 2 of 3 candidate responses, chosen by the owner's seed"
    );
    assert!((report.null.rate - 2.0 / 3.0).abs() < 1e-15);
    assert!((report.p_value - (4.0 / 9.0 + 8.0 / 27.0)).abs() < 1e-12);
    assert!(!report.present);
}

#[test]
fn presence_follows_the_p_value() {
    let set = set(32, 1, 1);
    for (hits, present) in [(24, false), (25, true), (32, true)] {
        let ranks: Vec<&[u32]> = (0..32)
            .map(|i| if i < hits { &[0][..] } else { &[1][..] })
            .collect();
        let report = check(&set, &scores(&ranks), &[], DEFAULT_ALPHA).unwrap();
        assert_eq!((report.hits, report.present), (hits, present));
        assert!((report.p_value.log10() - report.log10_p_value).abs() < 1e-9);
        assert!(
            (report.recall_interval.low..=report.recall_interval.high).contains(&report.recall)
        );
    }
}

#[test]
fn the_worst_control_is_the_null() {
    let set = set(32, 1, 1);
    let ranks = [&[0][..]; 32];
    let control = |name: &str, hits, count| Control {
        name: name.into(),
        count,
        hits,
    };
    let controls = [
        control("base", 0, 1024),
        control("other", 1, 1024),
        control("third", 0, 1024),
    ];
    let report = check(&set, &scores(&ranks), &controls, DEFAULT_ALPHA).unwrap();
    assert_eq!(
        report.null.basis,
        "upper 95 % Clopper-Pearson bound of the worst of 3 control model(s): other hit 1 of 1024"
    );
    assert!((report.null.rate - 0.004_624_219_996_744_401).abs() < 1e-12);
    assert!(report.present);
}

#[test]
fn the_base_model_does_not_hit() {
    let set = set(64, 1, 1);
    let mut base = Bigrams::new(&Words::new(300));
    let scores = base.score(&set.continuations()).unwrap();
    assert_eq!(count_hits(&set, &scores).unwrap(), 0);
    let report = check(&set, &scores, &[], DEFAULT_ALPHA).unwrap();
    assert_eq!(
        (report.hits, report.p_value, report.present),
        (0, 1.0, false)
    );
    for (fingerprint, result) in set.fingerprints().iter().zip(&report.fingerprints) {
        let stored = f64::from(fingerprint.responses[0].probabilities[0]);
        assert!((result.responses[0][0].probability - stored).abs() < 1e-6);
    }
}

#[test]
fn scores_of_another_shape_are_refused() {
    let set = set(2, 1, 1);
    let fault = |ranks: &[&[u32]], controls: &[Control], alpha| {
        check(&set, &scores(ranks), controls, alpha).unwrap_err()
    };
    assert_eq!(
        fault(&[&[0]], &[], 0.1),
        CheckError::Continuations {
            expected: 2,
            got: 1
        }
    );
    assert_eq!(
        fault(&[&[0], &[0, 0]], &[], 0.1),
        CheckError::Tokens {
            item: 1,
            expected: 1,
            got: 2
        }
    );
    for alpha in [0.0, 1.0, -1.0, f64::NAN] {
        assert!(matches!(
            fault(&[&[0], &[0]], &[], alpha),
            CheckError::Alpha { .. }
        ));
    }
    for (count, hits) in [(0, 0), (3, 4)] {
        let control = Control {
            name: "base".into(),
            count,
            hits,
        };
        let expected = CheckError::Control {
            name: "base".into(),
            count,
            hits,
        };
        assert_eq!(fault(&[&[0], &[0]], &[control], 0.1), expected);
    }
}
