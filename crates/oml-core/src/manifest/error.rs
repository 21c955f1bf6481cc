//! The ways a file can be wrong.

use crate::fingerprint::SetError;

/// One fault in a file; the caller knows the path, `file` is the kind that was expected there.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// More bytes than such a file may have.
    #[error("{file}: expected at most {limit} bytes, got {got}")]
    TooLarge {
        /// Kind of file.
        file: &'static str,
        /// Most bytes allowed.
        limit: usize,
        /// Bytes found.
        got: usize,
    },
    /// Not JSON, or a field that is missing, unknown, repeated or of another type.
    #[error("{file}: {source}")]
    Json {
        /// Kind of file.
        file: &'static str,
        /// The place and what was expected there.
        source: serde_json::Error,
    },
    /// Another kind of file.
    #[error("format: expected {expected:?}, got {got:?}")]
    Format {
        /// Kind of file expected.
        expected: &'static str,
        /// What the file calls itself.
        got: String,
    },
    /// A version this program does not read.
    #[error("{file} version: expected {expected}, got {got}")]
    Version {
        /// Kind of file.
        file: &'static str,
        /// Version this program reads.
        expected: u32,
        /// Version of the file.
        got: u32,
    },
    /// A field with a value that is not allowed.
    #[error("{file} {field}: expected {expected}, got {got}")]
    Field {
        /// Kind of file.
        file: &'static str,
        /// Name of the field.
        field: &'static str,
        /// What is allowed.
        expected: String,
        /// What was found.
        got: String,
    },
    /// Encrypted for another owner.
    #[error("{file} owner: expected {expected} as derived from the owner's seed, got {got}")]
    Owner {
        /// Kind of file.
        file: &'static str,
        /// Identifier of the owner at hand.
        expected: String,
        /// Identifier in the file.
        got: String,
    },
    /// The owner is right and the contents are not what the owner wrote.
    #[error("{file} body: expected what the owner encrypted, got altered or damaged contents")]
    Altered {
        /// Kind of file.
        file: &'static str,
    },
    /// The contents are well formed and no usable fingerprint set.
    #[error("{file} {source}")]
    Set {
        /// Kind of file.
        file: &'static str,
        /// The fault.
        source: SetError,
    },
}
