//! The ways a file can be wrong.

use serde_json::error::Category;

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
    #[error("{file}: line {line}, column {column}: expected JSON of this form, got {fault}")]
    Json {
        /// Kind of file.
        file: &'static str,
        /// What is there instead, without quoting it.
        fault: &'static str,
        /// Line, from 1.
        line: usize,
        /// Column, from 1; 0 at the start of a line.
        column: usize,
    },
    /// Another kind of file.
    #[error("format: expected {expected:?}, got {got:?}")]
    Format {
        /// Kind of file expected.
        expected: &'static str,
        /// What the file calls itself; `another` where we do not know that.
        got: &'static str,
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
    /// A field of one entry of a list with a value that is not allowed, or not there.
    #[error("{file} entries[{entry}].{field}: expected {expected}, got {got}")]
    Entry {
        /// Kind of file.
        file: &'static str,
        /// Position in the list, from 0.
        entry: usize,
        /// Name of the field.
        field: &'static str,
        /// What is allowed.
        expected: String,
        /// What was found, without quoting it.
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
    /// The passphrase does not open the file.
    #[error(
        "{file} passphrase: expected the one that the file was made with, got another (or the file is altered)"
    )]
    Passphrase {
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

impl FileError {
    /// The fault without what serde says of it: that quotes the file, which may be a secret one, or be there by mistake.
    pub(super) fn json(file: &'static str, error: &serde_json::Error) -> Self {
        Self::Json {
            file,
            fault: match error.classify() {
                Category::Data => {
                    "a field that is missing, unknown, repeated, too long or of another type"
                }
                Category::Eof => "an early end",
                Category::Syntax | Category::Io => "no JSON",
            },
            line: error.line(),
            column: error.column(),
        }
    }

    /// The fault of one line of a file that consists of JSON lines.
    pub(super) fn at_line(self, number: usize) -> Self {
        match self {
            Self::Json {
                file,
                fault,
                column,
                ..
            } => Self::Json {
                file,
                fault,
                line: number,
                column,
            },
            other => other,
        }
    }
}
