//! Ways to make fingerprints, and the one function that makes a set from the owner's seed.
//!
//! Every random choice comes from the seed through [`crate::derive`], candidates are judged in their numbered order, and
//! the model's answer for one sequence does not depend on its batch: the same seed, model and options give the same set
//! whatever the batch size.

mod custom;
mod error;
mod generate;
pub mod perinucleus;
mod query;
mod random_word;
mod words;

pub use error::GenerateError;
pub use generate::{GenerateOptions, Progress, generate};

use crate::fingerprint::{MAX_RESPONSES, SetError, bounded};

/// How a set is made, with the parameters that decide it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Strategy {
    /// Natural queries, responses just outside the base model's nucleus.
    Perinucleus {
        /// Temperature at which the model writes its queries.
        temperature: f32,
        /// How a response is chosen.
        rule: perinucleus::Rule,
    },
    /// Random words for query and response.
    RandomWord,
    /// The user's own queries, responses as for perinucleus.
    Custom {
        /// How a response is chosen.
        rule: perinucleus::Rule,
    },
    /// Pairs that were given, by another tool or by hand: nothing in them follows from the owner's seed.
    Imported,
}

impl Default for Strategy {
    fn default() -> Self {
        Self::Perinucleus {
            temperature: query::DEFAULT_TEMPERATURE,
            rule: perinucleus::Rule::default(),
        }
    }
}

impl Strategy {
    /// The name on the command line and in files.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Perinucleus { .. } => "perinucleus",
            Self::RandomWord => "random_word",
            Self::Custom { .. } => "custom",
            Self::Imported => "imported",
        }
    }

    /// Number of responses the seed chose among, at least: the worst-case null rate is 1 of these.
    #[must_use]
    pub const fn candidates(&self) -> usize {
        match self {
            Self::Perinucleus { rule, .. } | Self::Custom { rule } => rule.candidates,
            Self::RandomWord => words::MIN_WORDS,
            Self::Imported => 1,
        }
    }

    /// Refuses parameters that make no sense.
    ///
    /// # Errors
    /// The parameter, what it may be, and what it is.
    pub fn validate(&self) -> Result<(), SetError> {
        let rule = match self {
            Self::Perinucleus { temperature, rule } => {
                if !(temperature.is_finite() && *temperature >= 0.0) {
                    return Err(SetError::Field {
                        field: "strategy temperature".into(),
                        expected: "a number from 0".into(),
                        got: temperature.to_string(),
                    });
                }
                rule
            }
            Self::Custom { rule } => rule,
            Self::RandomWord | Self::Imported => return Ok(()),
        };
        if !(rule.threshold > 0.0 && rule.threshold < 1.0) {
            return Err(SetError::Field {
                field: "strategy threshold".into(),
                expected: "a probability above 0 and below 1".into(),
                got: rule.threshold.to_string(),
            });
        }
        bounded(
            "strategy candidates",
            rule.candidates,
            1,
            perinucleus::MAX_CANDIDATES,
        )?;
        bounded(
            "strategy responses",
            rule.responses,
            1,
            rule.candidates.min(MAX_RESPONSES),
        )
    }
}
