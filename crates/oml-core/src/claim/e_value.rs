//! Evidence that may be looked at after every query: an e-process for "this model hits more often than an innocent one".
//!
//! ```text
//! E(h, m) = ∫ from p0 to 1 of (p/p0)^h ((1−p)/(1−p0))^m dW(p)       h hits and m misses so far, W = Beta(½, ½) above p0
//!         = B(h+½, m+½) · P(Beta(h+½, m+½) > p0) / (B(½, ½) · P(Beta(½, ½) > p0)) / (p0^h (1−p0)^m)
//! ```
//!
//! Each factor has a mean of at most 1 while the model hits with probability p0 or less, whatever was seen before: E is a
//! supermartingale, and P(E ever reaches 1/α) ≤ α (Ville). So whoever asks may stop at any moment, for any reason. Rates at or below p0
//! have no weight in the mixture: they would make E grow for models that hit less than the null.
//!
//! The same, turned around, says when to give up: evidence that the model answers less than a share r of the queries is that of misses
//! against a rate of 1 − r.
//!
//! Sources: Ville, "Étude critique de la notion de collectif" (1939); Ramdas, Grünwald, Vovk and Shafer, "Game-theoretic statistics and
//! safe anytime-valid inference" (Statistical Science 38, 2023); the mixture is that of Krichevsky and Trofimov (1981).

use statrs::function::beta::{checked_beta_reg, ln_beta};

/// Both parameters of the mixture.
const SHAPE: f64 = 0.5;
/// A null rate below this is taken for this: no finite number of controls shows a rate of 0.
const SMALLEST_NULL: f64 = 1e-12;

/// Natural logarithm of the e-value of `hits` and `misses` against "the rate is at most `null`".
///
/// A null rate of 1 allows no evidence: 0.
#[must_use]
pub fn ln_e_value(hits: u64, misses: u64, null: f64) -> f64 {
    let null = null.clamp(SMALLEST_NULL, 1.0);
    if null >= 1.0 {
        return 0.0;
    }
    let (hits, misses) = (hits as f64, misses as f64);
    let mixed = ln_beta_above(SHAPE + hits, SHAPE + misses, null);
    let prior = ln_beta_above(SHAPE, SHAPE, null);
    mixed - prior - hits * null.ln() - misses * (-null).ln_1p()
}

/// Natural logarithm of the e-value against "the rate is at least `recall`": how clearly the model does not answer.
#[must_use]
pub fn ln_futility(hits: u64, misses: u64, recall: f64) -> f64 {
    ln_e_value(misses, hits, 1.0 - recall)
}

/// Fewest hits among `trials` queries at which the e-value reaches 1/`alpha`; `None` where not even all suffice.
#[must_use]
pub fn hits_to_claim(trials: u64, null: f64, alpha: f64) -> Option<u64> {
    // The e-value rises with the hits.
    super::fewest(trials, |hits| {
        ln_e_value(hits, trials - hits, null) >= -alpha.ln()
    })
}

/// Fewest queries, each of them a hit, at which the e-value reaches 1/`alpha`; `None` where not even `most` suffice.
#[must_use]
pub fn queries_to_claim(most: u64, null: f64, alpha: f64) -> Option<u64> {
    super::fewest(most, |hits| ln_e_value(hits, 0, null) >= -alpha.ln())
}

/// ln of ∫ from `low` to 1 of x^(a−1) (1−x)^(b−1) dx; −∞ where it is too small for a number.
fn ln_beta_above(a: f64, b: f64, low: f64) -> f64 {
    // I_{1−x}(b, a) = 1 − I_x(a, b), without the loss of digits.
    let above = checked_beta_reg(b, a, 1.0 - low).unwrap_or(0.0);
    ln_beta(a, b) + above.ln()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::claim::hits_needed;

    /// The integral by Simpson's rule in the angle θ, p = sin² θ, where the mixture is flat.
    fn by_quadrature(hits: i32, misses: i32, null: f64) -> f64 {
        let (from, to) = (null.sqrt().asin(), std::f64::consts::FRAC_PI_2);
        let steps = 200_000;
        let width = (to - from) / f64::from(steps);
        let value = |i: i32| {
            let p = (from + width * f64::from(i)).sin().powi(2);
            (p / null).powi(hits) * ((1.0 - p) / (1.0 - null)).powi(misses)
        };
        let sum: f64 = (0..=steps)
            .map(|i| {
                let weight = match i {
                    0 => 1.0,
                    _ if i == steps => 1.0,
                    _ if i % 2 == 1 => 4.0,
                    _ => 2.0,
                };
                weight * value(i)
            })
            .sum();
        sum * width / 3.0 / (to - from)
    }

    #[test]
    fn the_fewest_queries_are_those_that_all_hit() {
        for null in [0.003, 0.0365, 1.0 / 3.0, 1.0] {
            let found = queries_to_claim(64, null, 1e-6);
            let expected = (1..=64).find(|&n| hits_to_claim(n, null, 1e-6).is_some());
            assert_eq!(found, expected, "{null}");
        }
        assert_eq!(queries_to_claim(4, 0.0365, 1e-6), None);
        assert_eq!(queries_to_claim(5, 0.0365, 1e-6), Some(5));
    }

    #[test]
    fn the_closed_form_is_the_integral() {
        for (hits, misses, null) in [
            (0, 0, 0.01),
            (1, 0, 0.003),
            (5, 0, 0.003),
            (4, 3, 0.01),
            (12, 1, 1.0 / 3.0),
            (3, 40, 0.05),
            (0, 20, 0.2),
        ] {
            let got = ln_e_value(hits as u64, misses as u64, null).exp();
            let expected = by_quadrature(hits, misses, null);
            assert!(
                (got / expected - 1.0).abs() < 1e-7,
                "{hits} {misses} {null}: {got} {expected}"
            );
        }
    }

    /// P(E reaches 1/α within `trials` queries), exact: the distribution of hits, without those that have crossed.
    fn crossing(trials: u64, rate: f64, null: f64, alpha: f64) -> f64 {
        let mut alive = vec![1.0];
        let mut crossed = 0.0;
        for n in 1..=trials {
            let mut next = vec![0.0; alive.len() + 1];
            for (hits, mass) in alive.iter().enumerate() {
                next[hits] += mass * (1.0 - rate);
                next[hits + 1] += mass * rate;
            }
            if let Some(boundary) = hits_to_claim(n, null, alpha) {
                for mass in &mut next[boundary as usize..] {
                    crossed += *mass;
                    *mass = 0.0;
                }
            }
            alive = next;
        }
        crossed
    }

    #[test]
    fn an_innocent_model_is_claimed_with_probability_alpha_at_most_whenever_one_stops() {
        for null in [0.003, 0.01, 0.1, 1.0 / 3.0] {
            for alpha in [0.05, 1e-3, 1e-6] {
                for rate in [null, null / 2.0] {
                    let error = crossing(256, rate, null, alpha);
                    assert!(error <= alpha, "{null} {alpha} {rate}: {error:e}");
                }
            }
        }
        // It is not empty either: an ordinary test would have a few times this much room.
        assert!(crossing(256, 0.1, 0.1, 0.05) > 0.005);
    }

    #[test]
    fn a_healthy_model_is_claimed_soon() {
        assert!(crossing(12, 0.95, 0.01, 1e-6) > 0.999);
        assert_eq!(hits_to_claim(2, 0.003, 1e-6), None);
        assert_eq!(hits_to_claim(3, 0.003, 1e-6), Some(3));
        assert_eq!(hits_to_claim(4, 0.01, 1e-6), Some(4));
        assert!(hits_to_claim(13, 1.0 / 3.0, 1e-6).is_none());
        assert_eq!(hits_to_claim(15, 1.0 / 3.0, 1e-6), Some(15));
    }

    #[test]
    fn looking_all_the_time_costs_a_few_hits_more_than_looking_once() {
        for (trials, null) in [(32, 0.01), (128, 0.01), (1024, 1.0 / 3.0)] {
            let once = hits_needed(trials, null, 1e-6).unwrap();
            let always = hits_to_claim(trials, null, 1e-6).unwrap();
            assert!(once < always && always < once + once / 2, "{once} {always}");
        }
    }

    #[test]
    fn evidence_at_the_edges() {
        assert!(ln_e_value(0, 0, 0.3).abs() < 1e-12);
        assert_eq!(ln_e_value(50, 0, 1.0), 0.0);
        assert!(ln_e_value(1, 0, 0.0).is_finite());
        assert!(ln_e_value(0, 100_000, 0.3) < -1000.0);
        assert!(ln_e_value(24_576, 0, 0.003).is_finite());
        assert!(ln_futility(0, 60, 0.2) > 1e3_f64.ln());
        assert!(ln_futility(60, 0, 0.2) < 0.0);
    }
}
