//! What can be wrong with copies and with what is traced.

use super::MAX_COPIES;

/// A number of copies, a copy, or observations that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CopiesError {
    /// No copies, or too many.
    #[error("copies: expected 1 to {MAX_COPIES}, got {got}")]
    Count {
        /// Copies asked for.
        got: u32,
    },
    /// The set is not divided among copies.
    #[error("copies: expected a set that was made for copies, got one without")]
    None,
    /// A copy that the set does not have.
    #[error("copy: expected 1 to {count}, got {got}")]
    Copy {
        /// Copies of the set.
        count: u32,
        /// The copy asked for.
        got: u32,
    },
    /// Observations of another number of fingerprints.
    #[error("observations: expected {expected}, one per fingerprint of the set, got {got}")]
    Observations {
        /// Fingerprints in the set.
        expected: usize,
        /// Observations given.
        got: usize,
    },
    /// The largest probability of accusing an innocent is not a probability.
    #[error("alpha: expected a number above 0 and below 1, got {got}")]
    Alpha {
        /// The value given.
        got: String,
    },
}
