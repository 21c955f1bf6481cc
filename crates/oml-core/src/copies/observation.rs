//! What was seen of a suspect, per fingerprint, and how often it was seen per class.

use super::{Assignment, CopiesError};

/// How a suspect answered one query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Observation {
    /// With a valid response.
    Hit,
    /// With something else.
    Miss,
    /// Not at all: it refused this query.
    Refused,
    /// It was not asked, or its answer is not known.
    Unknown,
}

/// Kinds of answers; [`Observation::Unknown`] is none and counts nowhere.
pub(super) const SYMBOLS: usize = 3;
/// Positions of the kinds in tables.
pub(super) const HIT: usize = 0;
pub(super) const MISS: usize = 1;
pub(super) const REFUSED: usize = 2;

impl Observation {
    pub(super) const fn symbol(self) -> Option<usize> {
        match self {
            Self::Hit => Some(HIT),
            Self::Miss => Some(MISS),
            Self::Refused => Some(REFUSED),
            Self::Unknown => None,
        }
    }
}

/// Numbers of fingerprints, `[class][symbol]`: hit, miss, refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tally(pub(super) Vec<[u32; SYMBOLS]>);

impl Tally {
    /// Counts what was observed of all fingerprints.
    ///
    /// # Errors
    /// [`CopiesError::Observations`] unless there is one per fingerprint.
    pub fn of_all(
        assignment: &Assignment<'_>,
        observations: &[Observation],
    ) -> Result<Self, CopiesError> {
        Self::of(assignment, observations, |_| true)
    }

    /// Counts what was observed of the fingerprints that `counts` says yes to.
    pub(super) fn of(
        assignment: &Assignment<'_>,
        observations: &[Observation],
        counts: impl Fn(usize) -> bool,
    ) -> Result<Self, CopiesError> {
        let classes = assignment.classes();
        if observations.len() != classes.len() {
            return Err(CopiesError::Observations {
                expected: classes.len(),
                got: observations.len(),
            });
        }
        let mut tally = vec![[0; SYMBOLS]; assignment.bias().shares().len()];
        for (index, (class, observation)) in classes.iter().zip(observations).enumerate() {
            if let Some(symbol) = observation.symbol()
                && counts(index)
            {
                tally[usize::from(*class)][symbol] += 1;
            }
        }
        Ok(Self(tally))
    }

    /// Fingerprints counted.
    #[must_use]
    pub fn total(&self) -> u32 {
        self.0.iter().flatten().sum()
    }
}
