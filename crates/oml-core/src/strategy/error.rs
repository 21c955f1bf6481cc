//! Why a set cannot be generated.

use crate::fingerprint::SetError;
use crate::model::ModelError;

/// One way generation can fail.
#[derive(Debug, thiserror::Error)]
pub enum GenerateError {
    /// The model or tokenizer failed.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// An option or the resulting set is out of bounds.
    #[error(transparent)]
    Set(#[from] SetError),
    /// The model's queries were rejected too often.
    #[error(
        "query attempts: expected {wanted} usable queries within {attempts} attempts, got {usable}"
    )]
    Exhausted {
        /// Fingerprints asked for.
        wanted: usize,
        /// Fingerprints found.
        usable: usize,
        /// Attempts made.
        attempts: u64,
    },
    /// The vocabulary has too few words to draw from.
    #[error("tokenizer vocabulary: expected at least {needed} word tokens, got {found}")]
    TooFewWords {
        /// Words needed.
        needed: usize,
        /// Words found.
        found: usize,
    },
    /// Nothing stands before the first token of a text.
    #[error(
        "first token none: expected a chat template or a token that begins every text, got a tokenizer with neither"
    )]
    NoBeginning,
    /// Too little benign text.
    #[error(
        "benign text: expected at least {needed} beginnings of sentences with {length} tokens after each, got {found}"
    )]
    TooFewPieces {
        /// Pieces needed.
        needed: usize,
        /// Pieces found.
        found: usize,
        /// Tokens of each.
        length: usize,
    },
    /// The caller stopped between two batches.
    #[error("stopped at {found} of {wanted} fingerprints")]
    Stopped {
        /// Fingerprints asked for.
        wanted: usize,
        /// Fingerprints found.
        found: usize,
    },
    /// A user's own query cannot be used.
    #[error("queries[{position}]: expected {expected}, got {got}")]
    Query {
        /// Position in the user's list.
        position: usize,
        /// What is allowed.
        expected: &'static str,
        /// What was found.
        got: String,
    },
    /// Too few of the user's queries have a valid response.
    #[error("queries: expected {wanted} with a valid response, got {usable} of {given}")]
    TooFewQueries {
        /// Fingerprints asked for.
        wanted: usize,
        /// Queries with a response.
        usable: usize,
        /// Queries given.
        given: usize,
    },
    /// The model answered for another number of items than it was asked.
    #[error("model answer: expected {expected} items, got {got}")]
    Answer {
        /// Items asked.
        expected: usize,
        /// Items answered.
        got: usize,
    },
}
