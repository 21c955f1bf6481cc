//! What a judge checks, one by one: a name, a sentence on what it means, and what came out.

/// One check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// Its name.
    pub name: &'static str,
    /// What it means when it holds.
    pub means: &'static str,
    /// What came out.
    pub outcome: Outcome,
}

/// What came out of a check, in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It holds.
    Holds(String),
    /// It does not.
    Fails(String),
    /// Nobody said what to compare with, or it cannot be decided here.
    Unchecked(String),
}

impl Check {
    /// A check with what came out.
    #[must_use]
    pub const fn new(name: &'static str, means: &'static str, outcome: Outcome) -> Self {
        Self {
            name,
            means,
            outcome,
        }
    }
}

impl Outcome {
    /// What a computation says: its words when it succeeds, its fault when not.
    pub fn of(result: Result<String, impl ToString>) -> Self {
        match result {
            Ok(words) => Self::Holds(words),
            Err(fault) => Self::Fails(fault.to_string()),
        }
    }

    /// The word in outputs.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Holds(_) => "holds",
            Self::Fails(_) => "fails",
            Self::Unchecked(_) => "unchecked",
        }
    }

    /// What came out, in words.
    #[must_use]
    pub fn words(&self) -> &str {
        match self {
            Self::Holds(words) | Self::Fails(words) | Self::Unchecked(words) => words,
        }
    }
}

/// Whether no check fails.
#[must_use]
pub fn holds(checks: &[Check]) -> bool {
    let fails = |check: &Check| matches!(check.outcome, Outcome::Fails(_));
    !checks.iter().any(fails)
}
