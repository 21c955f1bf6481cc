//! KGW: a green share γ of the tokens gets δ added to its logits. It marks every text, greedy text too, and changes the distribution.
//!
//! ```text
//! green(x) ⇔ value(x) < γ · 2⁶⁴        w(x) ← w(x) · e^δ where green
//! ```
//!
//! The published green list is a random set of exactly γ|V| tokens; here each token is green by itself with probability γ, which needs
//! no list and makes the test exact: P(Bin(n, γ) ≥ green) over the n distinct pairs of context and token.
//!
//! Sources: arXiv 2301.10226; arXiv 2306.04634 for the scoring of distinct pairs.

use super::{MAX_CONTEXT, WatermarkError};
use crate::claim::ln_binomial_tail;

/// Largest δ.
const MAX_DELTA: f32 = 20.0;

/// A soft green list.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Kgw {
    context: usize,
    gamma: f64,
    delta: f32,
}

impl Kgw {
    /// γ = 1/4, δ = 2 and contexts of one token: the parameters of the paper.
    pub const DEFAULT: Self = Self {
        context: 1,
        gamma: 0.25,
        delta: 2.0,
    };

    /// Other parameters.
    ///
    /// # Errors
    /// When they make no watermark.
    pub fn new(context: usize, gamma: f64, delta: f32) -> Result<Self, WatermarkError> {
        if context == 0 || context > MAX_CONTEXT {
            let limit = MAX_CONTEXT;
            return Err(WatermarkError::Context {
                got: context,
                limit,
            });
        }
        if !(gamma > 0.0 && gamma < 1.0) {
            return Err(WatermarkError::Gamma { got: gamma });
        }
        if !(delta > 0.0 && delta <= MAX_DELTA) {
            return Err(WatermarkError::Delta { got: delta });
        }
        Ok(Self {
            context,
            gamma,
            delta,
        })
    }

    /// Tokens of context.
    #[must_use]
    pub const fn context(&self) -> usize {
        self.context
    }

    /// Share of green tokens.
    #[must_use]
    pub const fn gamma(&self) -> f64 {
        self.gamma
    }

    /// What a green token's logit gets.
    #[must_use]
    pub const fn delta(&self) -> f32 {
        self.delta
    }

    /// Whether a token with this value is green.
    #[must_use]
    pub fn is_green(&self, value: u64) -> bool {
        // γ has 53 bits, so that the product is a whole number or below one.
        value < (self.gamma * 2f64.powi(64)) as u64
    }

    /// Raises the weights of green candidates.
    pub fn favour(&self, values: &[u64], weights: &mut [f32]) {
        let factor = self.delta.exp();
        for (weight, value) in weights.iter_mut().zip(values) {
            if self.is_green(*value) {
                *weight *= factor;
            }
        }
    }

    /// Natural logarithm of the p-value of `green` among `scored` distinct pairs.
    #[must_use]
    pub fn ln_p_value(&self, green: u64, scored: u32) -> f64 {
        ln_binomial_tail(green, u64::from(scored), self.gamma)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_of_green_is_gamma() {
        let scheme = Kgw::DEFAULT;
        assert!(scheme.is_green((1 << 62) - 1) && !scheme.is_green(1 << 62));
        let mut weights = [1.0, 1.0];
        scheme.favour(&[0, u64::MAX], &mut weights);
        assert_eq!(weights, [2f32.exp(), 1.0]);
    }

    #[test]
    fn parameters_are_judged() {
        assert!(matches!(
            Kgw::new(1, 0.0, 2.0),
            Err(WatermarkError::Gamma { .. })
        ));
        assert!(matches!(
            Kgw::new(1, f64::NAN, 2.0),
            Err(WatermarkError::Gamma { .. })
        ));
        assert!(matches!(
            Kgw::new(1, 0.5, f32::INFINITY),
            Err(WatermarkError::Delta { .. })
        ));
        assert!(matches!(
            Kgw::new(0, 0.5, 1.0),
            Err(WatermarkError::Context { .. })
        ));
        assert_eq!(Kgw::new(1, 0.25, 2.0), Ok(Kgw::DEFAULT));
    }
}
