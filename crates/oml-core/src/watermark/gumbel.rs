//! Aaronson's scheme: the key's numbers decide the draw, as random ones would (the Gumbel trick, or exponential minimum sampling).
//!
//! ```text
//! u(x) = (⌊value(x) / 2¹²⌋ + ½) / 2⁵²        token = arg max u(x)^{1/p(x)}
//! ```
//!
//! u is uniform, so the token has the model's distribution over keys, and given the key it is determined. The test is
//! S = Σ −ln(1 − u) over the n scored tokens; under the null S ~ Gamma(n, 1).
//!
//! Source: Aaronson, "Watermarking of Large Language Models", talk at the Simons Institute and notes (2022, 2023).

use statrs::function::gamma::ln_gamma;

use super::candidates::Candidates;
use super::{MAX_CONTEXT, WatermarkError};

/// Exponential minimum sampling.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gumbel {
    context: usize,
}

impl Gumbel {
    /// Contexts of 4 tokens.
    pub const DEFAULT: Self = Self { context: 4 };

    /// Other contexts.
    ///
    /// # Errors
    /// When they make no watermark.
    pub const fn new(context: usize) -> Result<Self, WatermarkError> {
        if context == 0 || context > MAX_CONTEXT {
            let limit = MAX_CONTEXT;
            return Err(WatermarkError::Context {
                got: context,
                limit,
            });
        }
        Ok(Self { context })
    }

    /// Tokens of context.
    #[must_use]
    pub const fn context(&self) -> usize {
        self.context
    }

    /// The candidate that the values choose.
    #[must_use]
    pub fn choose(&self, values: &[u64], candidates: &Candidates) -> u32 {
        let mut best = (f64::NEG_INFINITY, 0);
        let all = candidates.ids().iter().zip(candidates.weights());
        for ((id, weight), value) in all.zip(values) {
            // The logarithm of u^(1/p) but for the sum of weights, which is the same for all.
            let key = uniform(*value).ln() / f64::from(*weight);
            if key > best.0 {
                best = (key, *id);
            }
        }
        best.1
    }

    /// What a token with this value adds to S.
    #[must_use]
    pub fn score(&self, value: u64) -> f64 {
        -(-uniform(value)).ln_1p()
    }
}

/// A number in (0, 1): with 52 bits, ½ beside them is not rounded away.
fn uniform(value: u64) -> f64 {
    ((value >> 12) as f64 + 0.5) / (1u64 << 52) as f64
}

/// Natural logarithm of P(Gamma(n, 1) ≥ s) = Σ_{k<n} e^{−s} sᵏ / k!, a sum of positive terms; 1 where n is 0.
#[must_use]
pub fn ln_gamma_tail(n: u32, s: f64) -> f64 {
    if n == 0 || s <= 0.0 {
        return 0.0;
    }
    // The terms rise to k = s and fall from there on; they are summed from the largest.
    let largest = f64::from(n - 1).min(s.floor());
    let ln_largest = largest * s.ln() - s - ln_gamma(largest + 1.0);
    let (mut sum, mut term) = (1.0, 1.0);
    for k in (1..=largest as u32).rev() {
        term *= f64::from(k) / s;
        sum += term;
        if term < f64::EPSILON * 1e-3 {
            break;
        }
    }
    term = 1.0;
    for k in largest as u32 + 1..n {
        term *= s / f64::from(k);
        sum += term;
        if term < f64::EPSILON * 1e-3 {
            break;
        }
    }
    (ln_largest + sum.ln()).min(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tails_equal_an_independent_gamma() {
        // e^−s Σ sᵏ/k! in decimals of 60 digits (Python).
        let table: [(u32, f64, f64); 6] = [
            (1, 1.0, 3.678_794_411_714_423e-1),
            (10, 20.0, 4.995_412_308_307_587e-3),
            (200, 200.0, 4.905_965_819_927_637e-1),
            (200, 300.0, 3.371_103_255_525_884e-10),
            (200, 100.0, 1.0),
            (1000, 2000.0, 6.847_349_459_614_753e-136),
        ];
        for (n, s, expected) in table {
            let got = ln_gamma_tail(n, s).exp();
            assert!((got / expected - 1.0).abs() < 1e-9, "{n} {s}: {got:e}");
        }
        assert_eq!(ln_gamma_tail(0, 5.0), 0.0);
        assert_eq!(ln_gamma_tail(5, 0.0), 0.0);
    }

    #[test]
    fn numbers_stay_inside_the_unit_interval() {
        assert!(uniform(0) > 0.0 && uniform(u64::MAX) < 1.0);
        assert!(Gumbel::DEFAULT.score(u64::MAX).is_finite());
    }

    #[test]
    fn a_lone_candidate_is_chosen() {
        let one: Candidates = [(7, 1e-30)].into_iter().collect();
        assert_eq!(Gumbel::DEFAULT.choose(&[0], &one), 7);
    }
}
