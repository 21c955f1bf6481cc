//! How a command ends: exit codes, and errors that carry a hint for the reader.

use std::fmt;
use std::process::ExitCode;

/// What the exit code says: 0 yes, 1 no, 2 error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ExitStatus {
    /// The command did its work, or the answer is yes.
    Yes,
    /// The command did its work and the answer is no.
    No,
    /// The command could not do its work.
    Error,
}

impl From<ExitStatus> for ExitCode {
    fn from(status: ExitStatus) -> Self {
        match status {
            ExitStatus::Yes => Self::SUCCESS,
            ExitStatus::No => Self::from(1),
            ExitStatus::Error => Self::from(2),
        }
    }
}

/// An error with a sentence on what to do about it, printed as a `hint:` line.
#[derive(Debug)]
pub(crate) struct Hinted {
    error: anyhow::Error,
    hint: String,
}

impl Hinted {
    pub(crate) fn hint(&self) -> &str {
        &self.hint
    }
}

impl fmt::Display for Hinted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl std::error::Error for Hinted {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.error.source()
    }
}

/// Adds a hint to whatever error a result holds.
pub(crate) trait WithHint<T> {
    /// The hint is a whole sentence, in the imperative.
    fn hint(self, hint: impl Into<String>) -> anyhow::Result<T>;
}

impl<T, E: Into<anyhow::Error>> WithHint<T> for Result<T, E> {
    fn hint(self, hint: impl Into<String>) -> anyhow::Result<T> {
        self.map_err(|error| {
            Hinted {
                error: error.into(),
                hint: hint.into(),
            }
            .into()
        })
    }
}
