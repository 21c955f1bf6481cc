//! What an observation says for or against a copy.
//!
//! A score is a table: what a fingerprint of each class adds for a copy that holds it and for one that does not, given how
//! the suspect answered. The symmetric score, for a fingerprint with share p:
//!
//! ```text
//!            copy holds it       copy does not
//! hit        +√((1 − p) / p)     −√(p / (1 − p))
//! miss       −√((1 − p) / p)     +√(p / (1 − p))
//! refused     0                   0
//! ```
//!
//! An innocent's has mean 0 and variance 1 per answered fingerprint, whatever the answers. Any table is fair to innocents
//! as long as it depends on nothing but the answers and the classes: their distribution is computed for it
//! ([`super::tail`]).
//!
//! Source: Škorić, Katzenbeisser and Celik, Des. Codes Cryptogr. 46 (2008), after Tardos, J. ACM 55 (2008).

use super::observation::{HIT, MISS, SYMBOLS, Tally};
use super::tail::Term;
use super::{Bias, Share};

/// What one fingerprint adds to a copy's score.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Weight {
    /// When the copy holds the fingerprint.
    pub held: f64,
    /// When it does not.
    pub absent: f64,
}

/// Weights, `[class][symbol]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Table(pub(super) Vec<[Weight; SYMBOLS]>);

impl Table {
    /// The symmetric score.
    #[must_use]
    pub fn symmetric(bias: Bias) -> Self {
        let row = |share: &Share| {
            let p = share.probability();
            let hit = Weight {
                held: ((1.0 - p) / p).sqrt(),
                absent: -(p / (1.0 - p)).sqrt(),
            };
            let mut row = [Weight::default(); SYMBOLS];
            row[HIT] = hit;
            row[MISS] = Weight {
                held: -hit.held,
                absent: -hit.absent,
            };
            row
        };
        Self(bias.shares().iter().map(row).collect())
    }

    /// The score of a copy: `all` counts every fingerprint, `held` those that the copy holds.
    #[must_use]
    pub fn score(&self, all: &Tally, held: &Tally) -> f64 {
        let mut score = 0.0;
        for ((weights, all), held) in self.0.iter().zip(&all.0).zip(&held.0) {
            for ((weight, all), held) in weights.iter().zip(all).zip(held) {
                score += f64::from(*held) * weight.held + f64::from(all - held) * weight.absent;
            }
        }
        score
    }

    /// The highest score that any subset could have.
    #[must_use]
    pub fn highest(&self, all: &Tally) -> f64 {
        let pairs = self.0.iter().flatten().zip(all.0.iter().flatten());
        pairs
            .map(|(weight, count)| f64::from(*count) * weight.held.max(weight.absent))
            .sum()
    }

    /// The independent parts of an innocent copy's score, given all answers.
    #[must_use]
    pub fn terms(&self, bias: Bias, all: &Tally) -> Vec<Term> {
        let mut terms = Vec::new();
        for ((weights, counts), share) in self.0.iter().zip(&all.0).zip(bias.shares()) {
            for (weight, count) in weights.iter().zip(counts) {
                terms.push(Term {
                    count: *count,
                    probability: share.probability(),
                    weight: *weight,
                });
            }
        }
        terms
    }
}
