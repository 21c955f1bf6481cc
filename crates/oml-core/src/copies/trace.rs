//! Which copies a suspect's answers point to.
//!
//! Every copy gets two scores: the symmetric one, and the one fitted to the answers. Each has its exact tail under the
//! **null**: this copy had no part in the suspect, so that its subset was drawn independently of how the suspect answers.
//! With N copies and two scores each,
//!
//! ```text
//! p(copy)        = min(1, 2 · min over both scores of P(an innocent scores as high))
//! p_any(copy)    = min(1, N · p(copy))
//! accused        ⇔ p_any(copy) ≤ α           so P(any innocent copy is accused) ≤ α      (Bonferroni)
//! ```
//!
//! The bound holds given any answers, so it holds for every strategy of a coalition, for fingerprints that were forgotten,
//! and for answers hit by chance. It needs the seed to be secret from whoever made the suspect, and the queries to be
//! chosen without regard to who holds them.

use super::channel;
use super::observation::{Observation, Tally};
use super::score::Table;
use super::tail::Innocent;
use super::{Assignment, Copies, CopiesError};

/// Default probability of accusing any innocent copy.
pub const DEFAULT_ALPHA: f64 = 1e-3;
/// What the probabilities assume, in words.
pub const NULL: &str = "a copy that had no part in the suspect: its fingerprints were drawn independently of the suspect's answers";
/// Scores that every copy is judged by.
const SCORES: f64 = 2.0;

/// Which score speaks more strongly against a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScoreName {
    /// The symmetric Tardos score.
    Symmetric,
    /// The log likelihood ratio that fits the answers.
    Fitted,
}

impl ScoreName {
    /// The name in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Symmetric => "symmetric",
            Self::Fitted => "fitted",
        }
    }
}

/// What the answers say about one copy.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Suspicion {
    /// The copy, from 1.
    pub copy: u32,
    /// The score that speaks more strongly.
    pub score_name: ScoreName,
    /// That score, in standard deviations above an innocent's mean.
    pub score: f64,
    /// Probability that one innocent copy scores as high, by either score.
    pub p_value: f64,
    /// Probability that any of all copies does, if all were innocent: at most.
    pub p_any: f64,
    /// Whether `p_any` ≤ α.
    pub accused: bool,
}

/// All copies, the most suspicious first.
#[derive(Debug, Clone, PartialEq)]
pub struct TraceReport {
    /// How the set is divided.
    pub copies: Copies,
    /// Fingerprints answered: hit, missed or refused.
    pub answered: usize,
    /// Fingerprints hit.
    pub hits: usize,
    /// Fingerprints refused.
    pub refused: usize,
    /// Largest probability of accusing any innocent copy.
    pub alpha: f64,
    /// The `p_any` of the highest score that any subset could have with these answers; above α nobody can be accused.
    pub least: f64,
    /// Every copy, by rising p-value.
    pub suspicions: Vec<Suspicion>,
}

impl TraceReport {
    /// The copies that are accused, the most suspicious first.
    pub fn accused(&self) -> impl Iterator<Item = &Suspicion> {
        self.suspicions.iter().filter(|s| s.accused)
    }
}

/// Judges every copy by the suspect's answers, one per fingerprint in the order of their indices.
///
/// # Errors
/// [`CopiesError::Observations`] for another number of answers, [`CopiesError::Alpha`] for an α outside 0..1.
pub fn trace(
    assignment: &Assignment<'_>,
    observations: &[Observation],
    alpha: f64,
) -> Result<TraceReport, CopiesError> {
    if !(alpha > 0.0 && alpha < 1.0) {
        return Err(CopiesError::Alpha {
            got: alpha.to_string(),
        });
    }
    let (bias, copies) = (assignment.bias(), assignment.copies());
    let all = Tally::of_all(assignment, observations)?;
    let judges = [
        (ScoreName::Symmetric, Table::symmetric(bias)),
        (ScoreName::Fitted, channel::fitted(bias, &all)),
    ]
    .map(|(name, table)| {
        let innocent = Innocent::new(&table.terms(bias, &all));
        (name, table, innocent)
    });

    let least = judges
        .each_ref()
        .map(|(_, table, innocent)| innocent.tail(table.highest(&all)));
    let least = (f64::from(copies.count) * SCORES * least[0].min(least[1])).min(1.0);
    let mut suspicions = Vec::with_capacity(copies.count as usize);
    for copy in 1..=copies.count {
        let members = assignment.members(copy)?;
        let held = Tally::of(assignment, observations, |i| members.as_slice()[i])?;
        let [symmetric, fitted] = judges.each_ref().map(|(name, table, innocent)| {
            let score = table.score(&all, &held);
            (*name, innocent.deviations(score), innocent.tail(score))
        });
        let (score_name, score, tail) = if symmetric.2 <= fitted.2 {
            symmetric
        } else {
            fitted
        };
        let p_value = (SCORES * tail).min(1.0);
        let p_any = (f64::from(copies.count) * p_value).min(1.0);
        suspicions.push(Suspicion {
            copy,
            score_name,
            score,
            p_value,
            p_any,
            accused: p_any <= alpha,
        });
    }
    // Where p-values are equal, as at 1, the higher score comes first.
    suspicions.sort_by(|a, b| {
        let by_p = a.p_value.total_cmp(&b.p_value);
        by_p.then(b.score.total_cmp(&a.score))
    });
    let count = |kind| observations.iter().filter(|o| **o == kind).count();
    Ok(TraceReport {
        copies,
        answered: all.total() as usize,
        hits: count(Observation::Hit),
        refused: count(Observation::Refused),
        alpha,
        least,
        suspicions,
    })
}
