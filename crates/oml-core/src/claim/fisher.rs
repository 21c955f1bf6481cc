//! Fisher's exact test: does the suspect hit fingerprints more often than decoys?
//!
//! ```text
//! P(X ≥ h),  X ~ Hypergeometric: of n = fingerprints + decoys asked, H = hits in all; h of them fell on the fingerprints
//! ```
//!
//! Needs no null rate and no control: where fingerprints and decoys could have changed places, each division of the same hits
//! among them is equally likely. It holds for a number of queries that was fixed before.
//!
//! Source: Fisher, "The Design of Experiments" (1935).

use statrs::function::factorial::ln_binomial;

/// Hits among some queries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    /// Queries that were answered with their response.
    pub hits: u64,
    /// Queries asked.
    pub trials: u64,
}

/// Natural logarithm of the one-sided p-value.
#[must_use]
pub fn ln_fisher(fingerprints: Share, decoys: Share) -> f64 {
    let (n, m) = (fingerprints.trials, decoys.trials);
    let total = fingerprints.hits + decoys.hits;
    let all = ln_binomial(n + m, total);
    let term = |h: u64| ln_binomial(n, h) + ln_binomial(m, total - h) - all;
    let most = total.min(n);
    let least = total.saturating_sub(m);
    if fingerprints.hits <= least {
        return 0.0;
    }
    let largest = (fingerprints.hits..=most)
        .map(term)
        .fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = (fingerprints.hits..=most)
        .map(|h| (term(h) - largest).exp())
        .sum();
    (largest + sum.ln()).min(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fisher(hits: u64, trials: u64, others: u64, decoys: u64) -> f64 {
        let share = |hits, trials| Share { hits, trials };
        ln_fisher(share(hits, trials), share(others, decoys)).exp()
    }

    #[test]
    fn p_values_equal_sums_of_fractions() {
        // Sums of hypergeometric terms as exact fractions (Python).
        let table = [
            (3, 4, 1, 4, 0.242_857_142_857_142_88),
            (10, 12, 1, 12, 0.000_322_096_802_107_570_7),
            (12, 12, 0, 12, 3.698_011_505_253_395e-7),
            (2, 20, 2, 20, 0.697_505_197_505_197_5),
        ];
        for (hits, trials, others, decoys, expected) in table {
            let got = fisher(hits, trials, others, decoys);
            assert!((got / expected - 1.0).abs() < 1e-9, "{got:e} {expected:e}");
        }
    }

    #[test]
    fn p_values_at_the_edges() {
        assert_eq!(fisher(0, 10, 0, 10), 1.0);
        assert_eq!(fisher(0, 0, 0, 0), 1.0);
        assert_eq!(fisher(5, 5, 5, 5), 1.0);
        assert_eq!(fisher(3, 5, 0, 0), 1.0);
        assert!(fisher(500, 500, 0, 500) < 1e-290);
    }
}
