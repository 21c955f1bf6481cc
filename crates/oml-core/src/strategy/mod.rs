//! Ways to make fingerprints, and the one function that makes a set from the owner's seed.
//!
//! Every random choice comes from the seed through [`crate::derive`], candidates are judged in their numbered order, and
//! the model's answer for one sequence does not depend on its batch: the same seed, model and options give the same set
//! whatever the batch size.

pub mod chain_hash;
mod custom;
mod english;
mod error;
mod generate;
pub mod perinucleus;
pub mod perplexity;
mod possible;
pub(crate) mod query;
mod random_word;
mod words;
pub mod writer;
mod writing;

pub use error::GenerateError;
pub use generate::{GenerateOptions, PartialSet, Parts, generate};
pub use possible::impossible;
pub use writing::{FirstToken, Style, Writing};

use crate::fingerprint::{MAX_RESPONSES, SetError, bounded};

/// How a set is made, with the parameters that decide it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Strategy {
    /// Natural queries, responses just outside the base model's nucleus.
    Perinucleus {
        /// How queries are written.
        writing: Writing,
        /// How a response is chosen.
        rule: perinucleus::Rule,
    },
    /// Natural queries, and the first token outside the base model's nucleus: no secret chooses it.
    InverseNucleus {
        /// How queries are written.
        writing: Writing,
        /// Probability mass of the nucleus.
        threshold: f64,
    },
    /// Natural queries, and responses of independent natural text.
    English {
        /// How queries and responses are written.
        writing: Writing,
    },
    /// Natural queries, and random words as responses.
    EnglishRandomResponse {
        /// How queries are written.
        writing: Writing,
    },
    /// Natural queries, and responses that a hash of the whole set chooses among 256 words.
    ChainHash {
        /// How queries are written.
        writing: Writing,
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
            writing: Writing::default(),
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
            Self::InverseNucleus { .. } => "inverse_nucleus",
            Self::English { .. } => "english",
            Self::EnglishRandomResponse { .. } => "english_random_response",
            Self::ChainHash { .. } => "chain_hash",
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
            Self::InverseNucleus { .. } | Self::Imported => 1,
            Self::ChainHash { .. } => chain_hash::WORDS,
            Self::English { .. } | Self::EnglishRandomResponse { .. } | Self::RandomWord => {
                words::MIN_WORDS
            }
        }
    }

    /// Whether a response is one token by definition.
    #[must_use]
    pub const fn single_token(&self) -> bool {
        matches!(self, Self::InverseNucleus { .. } | Self::ChainHash { .. })
    }

    /// How the model writes the queries, where it does.
    #[must_use]
    pub const fn writing(&self) -> Option<Writing> {
        match self {
            Self::Perinucleus { writing, .. }
            | Self::InverseNucleus { writing, .. }
            | Self::English { writing }
            | Self::EnglishRandomResponse { writing }
            | Self::ChainHash { writing } => Some(*writing),
            Self::RandomWord | Self::Custom { .. } | Self::Imported => None,
        }
    }

    /// How responses are chosen outside the nucleus, where they are.
    #[must_use]
    pub const fn rule(&self) -> Option<perinucleus::Rule> {
        match *self {
            Self::Perinucleus { rule, .. } | Self::Custom { rule } => Some(rule),
            Self::InverseNucleus { threshold, .. } => Some(perinucleus::Rule::first(threshold)),
            _ => None,
        }
    }

    /// Refuses parameters that make no sense.
    ///
    /// # Errors
    /// The parameter, what it may be, and what it is.
    pub fn validate(&self) -> Result<(), SetError> {
        if let Some(writing) = self.writing() {
            writing.validate()?;
        }
        let Some(rule) = self.rule() else {
            return Ok(());
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
