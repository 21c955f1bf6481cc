//! SynthID-Text: tournament sampling that changes no probability on average over keys.
//!
//! Bit l of the token's value is g_l(x). Of two candidates drawn independently, layer l keeps the one with the larger g_l, and at a tie
//! either; m layers, applied to the distribution itself in place of 2^m drawn candidates:
//!
//! ```text
//! p ← p · (1 + g_l − Σ_y p(y) g_l(y)),        l = 1 .. m
//! ```
//!
//! g_l is 1 or 0 with probability 1/2 whatever the token, so the mean of the new p over keys is the old p.
//!
//! The test is a weighted sum of the bits of the scored tokens, with weights that fall in a line from 10 in the first layer to 1 in the
//! last, since each layer leaves the next less to choose from. Under the null layer l's bits are B_l ~ Bin(n, 1/2), independent,
//! and the tail of Σ w_l B_l is computed by convolution on a lattice that rounds against the accuser ([`crate::copies::tail`]): never
//! below the exact tail, and above it by a few cells of 1/128 standard deviation and n · m · 10⁻³⁰ at most.
//!
//! Source: Dathathri and others, Nature 634 (2024): two candidates per match, non-distortionary, weighted mean.

use super::{MAX_CONTEXT, WatermarkError};
use crate::claim::ln_binomial_tail;
use crate::copies::score::Weight;
use crate::copies::tail::{Innocent, Term};

/// Weights of the first and of the last layer in the test.
const HEAVIEST: f64 = 10.0;
const LIGHTEST: f64 = 1.0;

/// Tournament sampling with two candidates per match.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SynthId {
    context: usize,
    layers: u32,
}

impl SynthId {
    /// 30 layers, contexts of 4 tokens: the parameters of the paper.
    pub const DEFAULT: Self = Self {
        context: 4,
        layers: 30,
    };

    /// Other parameters.
    ///
    /// # Errors
    /// When they make no watermark.
    pub const fn new(context: usize, layers: u32) -> Result<Self, WatermarkError> {
        if context == 0 || context > MAX_CONTEXT {
            let limit = MAX_CONTEXT;
            return Err(WatermarkError::Context {
                got: context,
                limit,
            });
        }
        if layers == 0 || layers > 64 {
            return Err(WatermarkError::Layers { got: layers });
        }
        Ok(Self { context, layers })
    }

    /// Tokens of context.
    #[must_use]
    pub const fn context(&self) -> usize {
        self.context
    }

    /// Layers of the tournament.
    #[must_use]
    pub const fn layers(&self) -> u32 {
        self.layers
    }

    /// Plays the tournament: changes the weights of candidates with these values to the winner's distribution.
    pub fn play(&self, values: &[u64], weights: &mut [f32]) {
        let total = weights.iter().map(|w| f64::from(*w)).sum::<f64>() as f32;
        if total <= 0.0 {
            return;
        }
        weights.iter_mut().for_each(|w| *w /= total);
        for layer in 0..self.layers {
            let bit = |value: &u64| (value >> layer & 1) as f32;
            // Of the sum of weights, which rounding moves a little from 1.
            let (mut ones, mut all) = (0.0f64, 0.0f64);
            for (weight, value) in weights.iter().zip(values) {
                ones += f64::from(weight * bit(value));
                all += f64::from(*weight);
            }
            let zero = (1.0 - ones / all) as f32;
            for (weight, value) in weights.iter_mut().zip(values) {
                *weight *= zero + bit(value);
            }
        }
    }

    /// Ones of each layer among the values of scored tokens.
    #[must_use]
    pub fn ones(&self, values: &[u64]) -> Vec<u64> {
        let count = |layer| values.iter().map(|value| value >> layer & 1).sum();
        (0..self.layers).map(count).collect()
    }

    /// The null of `scored` tokens.
    #[must_use]
    pub fn null(&self, scored: u32) -> Innocent {
        let term = |layer| Term {
            count: scored,
            probability: 0.5,
            weight: Weight {
                held: self.weight(layer),
                absent: 0.0,
            },
        };
        let terms: Vec<Term> = (0..self.layers as usize).map(term).collect();
        Innocent::new(&terms)
    }

    /// The sum that the test is about.
    #[must_use]
    pub fn score(&self, ones: &[u64]) -> f64 {
        let weighted = ones.iter().enumerate();
        weighted.map(|(l, n)| self.weight(l) * *n as f64).sum()
    }

    /// Natural logarithm of the p-value of the plain sum of bits, P(Bin(n · m, 1/2) ≥ ones): for comparison.
    #[must_use]
    pub fn ln_plain_p_value(&self, ones: &[u64], scored: u32) -> f64 {
        let bits = u64::from(scored) * u64::from(self.layers);
        ln_binomial_tail(ones.iter().sum(), bits, 0.5)
    }

    fn weight(&self, layer: usize) -> f64 {
        let last = f64::from(self.layers.saturating_sub(1)).max(1.0);
        HEAVIEST - (HEAVIEST - LIGHTEST) * layer as f64 / last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_layer_is_a_match_of_two() {
        let scheme = SynthId::new(1, 1).unwrap();
        let mut weights = [4.0, 4.0, 2.0];
        // g = 1, 0, 1 with p = 0.4, 0.4, 0.2: the second wins only against itself.
        scheme.play(&[1, 0, 3], &mut weights);
        for (got, expected) in weights.iter().zip([0.4 * 1.4, 0.4 * 0.4, 0.2 * 1.4]) {
            assert!((got - expected).abs() < 1e-6, "{weights:?}");
        }
    }

    #[test]
    fn layers_equal_a_played_tournament() {
        // All 2^3 candidates of a tournament with three layers, over two tokens and all their values.
        let scheme = SynthId::new(1, 3).unwrap();
        let (p, values) = ([0.7f64, 0.3], [0b101u64, 0b110]);
        let mut won = [0.0f64; 2];
        for drawn in 0..256usize {
            let tokens: Vec<usize> = (0..8).map(|i| drawn >> i & 1).collect();
            let probability: f64 = tokens.iter().map(|t| p[*t]).product();
            // Of two tokens, how likely the second wins is enough to follow.
            let mut chance: Vec<f64> = tokens.iter().map(|t| *t as f64).collect();
            for layer in 0..3 {
                let g = |t: usize| (values[t] >> layer & 1) as f64;
                let second = f64::midpoint(1.0, g(1) - g(0));
                chance = chance
                    .chunks(2)
                    .map(|pair| {
                        let (a, b) = (pair[0], pair[1]);
                        a * b + (a * (1.0 - b) + b * (1.0 - a)) * second
                    })
                    .collect();
            }
            won[1] += probability * chance[0];
            won[0] += probability * (1.0 - chance[0]);
        }
        let mut weights = [0.7, 0.3];
        scheme.play(&values, &mut weights);
        for (got, expected) in weights.iter().zip(won) {
            assert!(
                (f64::from(*got) - expected).abs() < 1e-6,
                "{weights:?} {won:?}"
            );
        }
    }

    #[test]
    fn a_certain_token_stays_certain() {
        let mut weights = [0.0, 3.0, 0.0];
        SynthId::DEFAULT.play(&[u64::MAX, 0, u64::MAX], &mut weights);
        assert_eq!(weights, [0.0, 1.0, 0.0]);
        SynthId::DEFAULT.play(&[], &mut []);
    }

    #[test]
    fn parameters_are_judged() {
        assert!(matches!(
            SynthId::new(0, 30),
            Err(WatermarkError::Context { got: 0, .. })
        ));
        assert!(matches!(
            SynthId::new(17, 30),
            Err(WatermarkError::Context { .. })
        ));
        assert!(matches!(
            SynthId::new(4, 65),
            Err(WatermarkError::Layers { got: 65 })
        ));
        assert_eq!(SynthId::new(4, 30), Ok(SynthId::DEFAULT));
    }
}
