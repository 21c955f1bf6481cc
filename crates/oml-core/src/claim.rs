//! Statistics of an ownership claim: how surprising are `h` hits in `n` queries if the model were not the owner's?
//!
//! ```text
//! p-value          P(Bin(n, p0) ≥ h) = Σ_{i=h}^{n} C(n,i) p0^i (1−p0)^{n−i}, summed as ln pmf(h) + ln Σ ratios
//! Clopper–Pearson  low:  P(Bin(n, low)  ≥ h) = α/2      high: P(Bin(n, high) ≤ h) = α/2   (exact coverage ≥ 1−α)
//! paper bound      FPR ≤ exp(−2M (m/M − 1/k)²) for m of M matches, one of k candidates each (0 excess: 1)
//! ```
//!
//! Sources: Clopper and Pearson, Biometrika 26 (1934); Hoeffding's inequality as used in "Scalable Fingerprinting of
//! Large Language Models" (arXiv 2502.07760).

mod e_value;
mod fisher;
mod holm;

use statrs::function::factorial::ln_binomial;

pub use e_value::{hits_to_claim, ln_e_value, ln_futility, queries_to_claim};
pub use fisher::{Share, ln_fisher};
pub use holm::ln_holm;

/// An interval of probabilities.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Interval {
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

/// Natural logarithm of P(Bin(`trials`, `p`) ≥ `hits`).
///
/// `hits` above `trials` has probability 0, `hits` of 0 probability 1; `p` is clamped to 0..=1.
#[must_use]
pub fn ln_binomial_tail(hits: u64, trials: u64, p: f64) -> f64 {
    let p = p.clamp(0.0, 1.0);
    if hits == 0 || p == 1.0 && hits <= trials {
        return 0.0;
    }
    if hits > trials || p == 0.0 {
        return f64::NEG_INFINITY;
    }
    if hits as f64 > trials as f64 * p {
        ln_far_tail(hits, trials, p)
    } else {
        // The mass below `hits` is the far tail of the misses.
        (-ln_far_tail(trials - hits + 1, trials, 1.0 - p).exp()).ln_1p()
    }
}

/// P(Bin(`trials`, `p`) ≥ `hits`): the exact p-value of `hits` hits under the null rate `p`.
#[must_use]
pub fn binomial_tail(hits: u64, trials: u64, p: f64) -> f64 {
    ln_binomial_tail(hits, trials, p).exp()
}

/// Fewest hits in `trials` whose p-value is at most `alpha`; `None` when not even all hits suffice.
#[must_use]
pub fn hits_needed(trials: u64, p: f64, alpha: f64) -> Option<u64> {
    // The tail falls as hits rise.
    fewest(trials, |hits| {
        ln_binomial_tail(hits, trials, p) <= alpha.ln()
    })
}

/// The smallest number up to `most` that is enough, where every larger one is too; `None` where not even `most` is.
fn fewest(most: u64, enough: impl Fn(u64) -> bool) -> Option<u64> {
    if !enough(most) {
        return None;
    }
    let (mut low, mut high) = (0, most);
    while low < high {
        let middle = low + (high - low) / 2;
        if enough(middle) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    Some(low)
}

/// The two-sided Clopper–Pearson interval of `hits` in `trials`; 0 to 1 when there is no trial.
#[must_use]
pub fn clopper_pearson(hits: u64, trials: u64, confidence: f64) -> Interval {
    let one_sided = f64::midpoint(1.0, confidence);
    Interval {
        low: lower_bound(hits, trials, one_sided),
        high: upper_bound(hits, trials, one_sided),
    }
}

/// The one-sided lower Clopper–Pearson bound.
#[must_use]
pub fn lower_bound(hits: u64, trials: u64, confidence: f64) -> f64 {
    if hits == 0 || trials == 0 {
        return 0.0;
    }
    let ln_alpha = (-confidence).ln_1p();
    boundary(|p| ln_binomial_tail(hits, trials, p) >= ln_alpha)
}

/// The one-sided upper Clopper–Pearson bound.
#[must_use]
pub fn upper_bound(hits: u64, trials: u64, confidence: f64) -> f64 {
    if hits >= trials {
        return 1.0;
    }
    let ln_alpha = (-confidence).ln_1p();
    boundary(|p| ln_binomial_tail(trials - hits, trials, 1.0 - p) <= ln_alpha)
}

/// The paper's bound on the false-positive rate of `matches` in `queries` with `candidates` possible responses each.
#[must_use]
pub fn paper_bound(matches: u64, queries: u64, candidates: u64) -> f64 {
    if queries == 0 || candidates == 0 {
        return 1.0;
    }
    let queries = queries as f64;
    let excess = (matches as f64 / queries - 1.0 / candidates as f64).max(0.0);
    (-2.0 * queries * excess * excess).exp()
}

/// ln P(X ≥ hits) where hits is above the mean, so that the terms fall from the first one on.
fn ln_far_tail(hits: u64, trials: u64, p: f64) -> f64 {
    if hits > trials || p <= 0.0 {
        return f64::NEG_INFINITY;
    }
    let odds = p / (1.0 - p);
    let (mut term, mut sum) = (1.0_f64, 1.0_f64);
    for i in hits..trials {
        term *= (trials - i) as f64 / (i + 1) as f64 * odds;
        sum += term;
        if term < sum * f64::EPSILON {
            break;
        }
    }
    ln_binomial(trials, hits)
        + hits as f64 * p.ln()
        + (trials - hits) as f64 * (-p).ln_1p()
        + sum.ln()
}

/// The smallest p in 0..=1 where `reached` turns true, to the last bit.
fn boundary(reached: impl Fn(f64) -> bool) -> f64 {
    let (mut low, mut high) = (0.0_f64, 1.0_f64);
    loop {
        let middle = f64::midpoint(low, high);
        if middle <= low || middle >= high {
            return high;
        }
        if reached(middle) {
            high = middle;
        } else {
            low = middle;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(got: f64, expected: f64, relative: f64) {
        let difference = (got - expected).abs();
        assert!(
            difference <= relative * expected.abs(),
            "got {got:e}, expected {expected:e}"
        );
    }

    #[test]
    fn tails_equal_sixty_digit_sums() {
        // mpmath at 60 digits.
        let table = [
            (1, 1, 0.5, -std::f64::consts::LN_2),
            (6, 32, 0.01, -14.137_319_762_250_053),
            (5, 32, 0.01, -11.038_146_436_286_978),
            (8, 32, 0.01, -20.886_741_044_622_9),
            (9, 100, 0.01, -13.991_638_176_096_96),
            (12, 100, 0.01, -21.488_110_459_367_51),
            (900, 1024, 0.001, -5_842.411_971_595_218),
            (1024, 1024, 0.001, -7_073.541_405_677_708),
            (3, 1024, 0.001, -2.468_916_901_928_682),
            (1, 1024, 0.001, -0.444_681_327_247_492),
            (500, 1024, 0.5, -0.245_050_574_555_749_77),
            (1, 16384, 1e-9, -11.019_213_500_595_996),
            (16384, 16384, 0.0625, -45_426.093_625_176_576),
            (64, 128, 0.3, -13.279_044_077_905_873),
            (25, 32, 1.0 / 3.0, -15.133_734_647_607_996),
            (64, 100, 1.0 / 3.0, -21.738_109_618_610_45),
        ];
        for (hits, trials, p, expected) in table {
            close(ln_binomial_tail(hits, trials, p), expected, 1e-11);
        }
    }

    #[test]
    fn tails_at_the_edges() {
        assert_eq!(binomial_tail(0, 10, 0.3), 1.0);
        assert_eq!(binomial_tail(11, 10, 0.3), 0.0);
        assert_eq!(binomial_tail(1, 10, 0.0), 0.0);
        assert_eq!(binomial_tail(10, 10, 1.0), 1.0);
        assert_eq!(binomial_tail(0, 0, 0.5), 1.0);
        close(binomial_tail(10, 10, 0.5), 0.5_f64.powi(10), 1e-13);
        close(binomial_tail(1, 10, 0.5), 1.0 - 0.5_f64.powi(10), 1e-13);
    }

    #[test]
    fn hits_needed_for_a_claim() {
        let third = 1.0 / 3.0;
        let table = [
            (32, 0.01, 6, 8),
            (100, 0.01, 9, 12),
            (32, third, 25, 28),
            (100, third, 58, 64),
        ];
        for (trials, p, at_1e6, at_1e9) in table {
            assert_eq!(
                hits_needed(trials, p, 1e-6),
                Some(at_1e6),
                "{trials} at {p}"
            );
            assert_eq!(
                hits_needed(trials, p, 1e-9),
                Some(at_1e9),
                "{trials} at {p}"
            );
        }
        assert_eq!(hits_needed(8, third, 1e-6), None);
    }

    #[test]
    fn intervals_equal_beta_quantiles() {
        // scipy.stats.beta.ppf: two-sided 95 %, then one-sided 95 %.
        let table = [
            (
                0,
                1024,
                0.0,
                0.003_595_940_406_834_479,
                0.0,
                0.002_921_244_635_388_027_3,
            ),
            (
                1,
                1024,
                2.472_411_621_365_891_4e-5,
                0.005_428_927_737_062_97,
                5.008_985_326_174_915e-5,
                0.004_624_219_996_744_401,
            ),
            (
                1024,
                1024,
                0.996_404_059_593_165_5,
                1.0,
                0.997_078_755_364_612,
                1.0,
            ),
            (
                973,
                1024,
                0.935_032_951_755_476_3,
                0.962_695_609_945_940_9,
                0.937_522_193_325_604_4,
                0.960_889_098_287_371_7,
            ),
            (
                5,
                10,
                0.187_086_028_447_398_55,
                0.812_913_971_552_601_5,
                0.222_441_101_008_129_4,
                0.777_558_898_991_870_6,
            ),
            (0, 1, 0.0, 0.975, 0.0, 0.95),
            (1, 1, 0.025, 1.0, 0.05, 1.0),
        ];
        for (hits, trials, low, high, lower, upper) in table {
            let interval = clopper_pearson(hits, trials, 0.95);
            close(interval.low, low, 1e-9);
            close(interval.high, high, 1e-9);
            close(lower_bound(hits, trials, 0.95), lower, 1e-9);
            close(upper_bound(hits, trials, 0.95), upper, 1e-9);
        }
        assert_eq!(
            clopper_pearson(0, 0, 0.95),
            Interval {
                low: 0.0,
                high: 1.0
            }
        );
    }

    #[test]
    fn paper_bound_falls_with_the_excess() {
        close(paper_bound(10, 10, 2), (-5.0_f64).exp(), 1e-14);
        assert_eq!(paper_bound(3, 10, 3), 1.0);
        assert_eq!(paper_bound(0, 0, 3), 1.0);
    }
}
