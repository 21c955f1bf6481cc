//! Watermarks: exact under the null, without distortion over keys, found in marked text, and lost as the documentation says.

use std::collections::BTreeSet;

use oml_core::secret::OwnerSeed;
use oml_core::watermark::{
    Candidates, Contexts, Detector, Kgw, MAX_TOKENS, Scheme, SynthId, Watermark, WatermarkError,
};
use proptest::prelude::*;

const VOCABULARY: u32 = 40;

fn owner(number: u64) -> OwnerSeed {
    let mut seed = [6; 32];
    seed[..8].copy_from_slice(&number.to_le_bytes());
    OwnerSeed::new(seed)
}

/// Reproducible numbers in [0, 1).
fn uniforms(seed: u64) -> impl FnMut() -> f64 {
    let mut state = seed;
    move || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// A language of Zipf's kind: which word is the most frequent depends on the last one.
fn next(last: u32) -> Candidates {
    let ids = 0..VOCABULARY;
    ids.map(|id| (id, 1.0 / (1 + (id + 7 * last) % VOCABULARY) as f32))
        .collect()
}

/// Which draws are marked.
type Marked = for<'a> fn(&Watermark, &'a Contexts) -> Option<&'a [u32]>;

/// A text of the language, drawn with the watermark or without.
fn text(watermark: Option<&Watermark>, tokens: usize, seed: u64) -> Vec<u32> {
    text_marked(watermark, Watermark::marked, tokens, seed)
}

fn text_marked(
    watermark: Option<&Watermark>,
    marked: Marked,
    tokens: usize,
    seed: u64,
) -> Vec<u32> {
    let mut uniform = uniforms(seed);
    let mut contexts = Contexts::new(watermark.map_or(0, |watermark| watermark.scheme().context()));
    let mut ids = Vec::new();
    for _ in 0..tokens {
        let candidates = next(ids.last().copied().unwrap_or(0));
        let mark = watermark.and_then(|watermark| Some((watermark, marked(watermark, &contexts)?)));
        let id = match mark {
            Some((watermark, context)) => watermark.draw(context, candidates, &mut uniform),
            None => candidates.pick(uniform()),
        };
        contexts.push(id);
        ids.push(id);
    }
    ids
}

fn p_value(watermark: &Watermark, ids: &[u32]) -> f64 {
    Detector::default()
        .detect(watermark, ids)
        .unwrap()
        .p_value()
}

#[test]
fn marked_texts_are_found_and_others_are_not() {
    for scheme in Scheme::ALL {
        let watermark = Watermark::new(&owner(1), scheme);
        let marked = text(Some(&watermark), 200, 1);
        let p = p_value(&watermark, &marked);
        assert!(p < 1e-6, "{}: {p:e}", scheme.name());
        let other = p_value(&Watermark::new(&owner(2), scheme), &marked);
        assert!(other > 1e-3, "{}: {other:e}", scheme.name());
        let plain = p_value(&watermark, &text(None, 200, 1));
        assert!(plain > 1e-3, "{}: {plain:e}", scheme.name());
        // Who has another's seed has another key under each scheme.
        let [a, b] = [0, 1].map(|i| Watermark::new(&owner(1), Scheme::ALL[i]));
        assert_ne!(a, b);
    }
}

/// Texts without the watermark are found at α as often as α, by simulation over keys and texts.
#[test]
fn p_values_are_uniform_or_conservative_under_the_null() {
    const TRIALS: u64 = 2_000;
    for scheme in Scheme::ALL {
        let mut below = [0u64; 4];
        let levels = [0.5, 0.1, 0.01, 0.001];
        let watermarks: Vec<Watermark> = (0..20)
            .map(|key| Watermark::new(&owner(100 + key), scheme))
            .collect();
        let mut detector = Detector::default();
        for trial in 0..TRIALS / 20 {
            let ids = text(None, 60, 1_000 + trial);
            for watermark in &watermarks {
                let p = detector.detect(watermark, &ids).unwrap().p_value();
                for (count, level) in below.iter_mut().zip(levels) {
                    *count += u64::from(p <= level);
                }
            }
        }
        for (count, level) in below.into_iter().zip(levels) {
            let n = TRIALS as f64;
            let deviation = (n * level * (1.0 - level)).sqrt();
            let above = (count as f64 - n * level) / deviation;
            assert!(
                above < 3.5,
                "{} {level}: {count} of {TRIALS}",
                scheme.name()
            );
            // And not uselessly small: a test that never finds is conservative too.
            if level > 0.05 {
                let share = count as f64 / n;
                assert!(share > 0.6 * level, "{} {level}: {share}", scheme.name());
            }
        }
    }
}

/// Averaged over keys, the first marked token has the model's distribution: χ² against it, with fixed seeds.
#[test]
fn two_schemes_do_not_distort_and_one_does() {
    const KEYS: u64 = 20_000;
    let context = [3, 1, 4, 1];
    let weights = next(1);
    let total: f64 = weights.weights().iter().map(|w| f64::from(*w)).sum();
    for scheme in Scheme::ALL {
        let mut counts = vec![0u64; VOCABULARY as usize];
        for key in 0..KEYS {
            let watermark = Watermark::new(&owner(key), scheme);
            let context = &context[..scheme.context()];
            let id = watermark.draw(context, next(1), &mut uniforms(key));
            counts[id as usize] += 1;
        }
        let expected = |id: usize| KEYS as f64 * f64::from(weights.weights()[id]) / total;
        let chi_square: f64 = counts
            .iter()
            .enumerate()
            .map(|(id, n)| (*n as f64 - expected(id)).powi(2) / expected(id))
            .sum();
        // 39 degrees of freedom: the 99.9 % quantile is 72.1. A green list moves each draw but, over keys, towards the even
        // distribution.
        let distorts = matches!(scheme, Scheme::Kgw(_));
        assert_eq!(
            chi_square > 72.1,
            distorts,
            "{}: {chi_square}",
            scheme.name()
        );
    }
}

/// A text echoes itself no more often than the model's; without the masking of repeated contexts it would.
#[test]
fn masked_contexts_keep_a_text_from_echoing_itself() {
    const KEYS: u64 = 3_000;
    // Contexts of one token, which return all the time in 40 tokens.
    let scheme = Scheme::SynthId(SynthId::new(1, 30).unwrap());
    let echoes = |is_marked: bool, marked: Marked| -> f64 {
        let count = |key: u64| {
            let watermark = Watermark::new(&owner(50_000 + key), scheme);
            let ids = text_marked(is_marked.then_some(&watermark), marked, 40, key);
            let distinct: BTreeSet<&[u32]> = ids.windows(2).collect();
            (39 - distinct.len()) as f64
        };
        (0..KEYS).map(count).sum::<f64>() / KEYS as f64
    };
    let plain = echoes(false, Watermark::marked);
    let masked = echoes(true, Watermark::marked);
    let unmasked = echoes(true, |_, contexts| contexts.last());
    // The standard error of each mean is about 0.04.
    assert!((masked - plain).abs() < 0.2, "{masked} {plain}");
    assert!(unmasked - plain > 1.0, "{unmasked} {plain}");
}

#[test]
fn a_repeated_context_is_drawn_plainly() {
    for scheme in Scheme::ALL {
        let watermark = Watermark::new(&owner(3), scheme);
        let mut contexts = watermark.contexts();
        for id in [1, 2, 3, 4, 9, 1, 2, 3, 4] {
            contexts.push(id);
        }
        // 1 2 3 4 came before, and 4 alone too.
        let masked = watermark.marked(&contexts).is_none();
        assert_eq!(masked, scheme.masks_repeats(), "{}", scheme.name());
    }
}

#[test]
fn what_repeats_counts_once() {
    for scheme in Scheme::ALL {
        let watermark = Watermark::new(&owner(4), scheme);
        let once = text(Some(&watermark), 100, 9);
        let mut detector = Detector::default();
        let found = detector.detect(&watermark, &once).unwrap();
        let tenfold = detector.detect(&watermark, &once.repeat(10)).unwrap();
        // Only the seams are new.
        let width = scheme.context() as u32;
        assert!(tenfold.scored <= found.scored + width, "{}", scheme.name());
        let constant = detector.detect(&watermark, &[7; 5_000]).unwrap();
        assert!(
            constant.scored <= 1 && constant.p_value() > 0.01,
            "{constant:?}"
        );
    }
}

#[test]
fn replaced_tokens_weaken_the_evidence() {
    for scheme in Scheme::ALL {
        let watermark = Watermark::new(&owner(5), scheme);
        let marked = text(Some(&watermark), 100, 2);
        let mut uniform = uniforms(77);
        let mut replaced = |share: f64| -> Vec<u32> {
            let mut change = |id: &u32| match uniform() < share {
                true => (uniform() * f64::from(VOCABULARY)) as u32,
                false => *id,
            };
            marked.iter().map(&mut change).collect()
        };
        let ln_p = [0.0, 0.1, 0.3].map(|share| p_value(&watermark, &replaced(share)).ln());
        assert!(
            ln_p[0] < ln_p[1] && ln_p[1] < ln_p[2],
            "{}: {ln_p:?}",
            scheme.name()
        );
    }
}

#[test]
fn greedy_text_is_marked_by_a_green_list_alone() {
    let logits: Vec<f32> = (0..VOCABULARY).map(|id| -0.01 * id as f32).collect();
    for scheme in Scheme::ALL {
        let mut chosen = BTreeSet::new();
        for key in 0..50 {
            let watermark = Watermark::new(&owner(key), scheme);
            chosen.insert(watermark.greedy(&[1; 4][..scheme.context()], &logits));
        }
        match scheme {
            // The first green token, which differs from key to key.
            Scheme::Kgw(_) => assert!(chosen.len() > 5 && !chosen.contains(&None), "{chosen:?}"),
            _ => assert_eq!(chosen, BTreeSet::from([None])),
        }
    }
    // A lead of more than δ is never lost.
    let kgw = Scheme::Kgw(Kgw::new(1, 0.5, 1.0).unwrap());
    let certain = [0.0, 5.0, 3.0];
    for key in 0..20 {
        let watermark = Watermark::new(&owner(key), kgw);
        assert_eq!(watermark.greedy(&[2], &certain), Some(1));
    }
}

#[test]
fn texts_without_evidence_have_the_p_value_1() {
    for scheme in Scheme::ALL {
        let watermark = Watermark::new(&owner(1), scheme);
        for ids in [&[][..], &[1], &[1, 2, 3, 4][..scheme.context()]] {
            let found = Detector::default().detect(&watermark, ids).unwrap();
            assert_eq!((found.scored, found.ln_p_value), (0, 0.0));
        }
        let long = vec![0; MAX_TOKENS + 1];
        let fault = Detector::default().detect(&watermark, &long).unwrap_err();
        assert!(matches!(fault, WatermarkError::TooLong { .. }), "{fault}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_ids_have_a_p_value(ids in prop::collection::vec(any::<u32>(), 0..60)) {
        for scheme in Scheme::ALL {
            let watermark = Watermark::new(&owner(1), scheme);
            let found = Detector::default().detect(&watermark, &ids).unwrap();
            prop_assert!(found.ln_p_value <= 0.0 && found.ln_p_value > -200.0);
            prop_assert!(found.scored as usize <= ids.len().saturating_sub(scheme.context()));
            prop_assert!(found.mean.is_finite());
        }
    }

    #[test]
    fn a_drawn_token_is_a_candidate(
        ids in prop::collection::btree_set(any::<u32>(), 1..20),
        seed in any::<u64>(),
        power in 0u32..40,
    ) {
        let weighted = ids.iter().enumerate().map(|(i, id)| (*id, 0.5f32.powi(power as i32 * i as i32 / 10)));
        let candidates: Candidates = weighted.collect();
        for scheme in Scheme::ALL {
            let watermark = Watermark::new(&owner(seed), scheme);
            let id = watermark.draw(&[1, 2], candidates.clone(), &mut uniforms(seed));
            prop_assert!(ids.contains(&id));
        }
    }
}
