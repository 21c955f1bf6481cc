//! What follows from an audit so far.
//!
//! A fingerprint counts as asked with its first request, and as a hit when any wrap brought one. A request without an answer is a miss: the
//! owner gains nothing by losing answers. The e-value is looked at after every fingerprint, in the order in which they were asked; the claim
//! stands once it has reached 1/α, whatever came after.

use super::plan::Subject;
use super::progress::Progress;
use super::terms::Terms;
use crate::claim::{self, Interval, Share};

/// Confidence of the interval around recall.
const CONFIDENCE: f64 = 0.95;
const NOTHING: Share = Share { hits: 0, trials: 0 };

/// What an audit says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Conclusion {
    /// The fingerprints are there.
    Present,
    /// The suspect answers less than the least recall that was worth asking for.
    Absent,
    /// Neither, so far.
    Open,
}

impl Conclusion {
    /// The word in outputs and files.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Present => "present",
            Self::Absent => "absent",
            Self::Open => "undecided",
        }
    }
}

/// The evidence after one fingerprint.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Step {
    /// Its number in the whole set.
    pub index: u64,
    /// Whether it was a hit.
    pub hit: bool,
    /// Natural logarithm of the e-value after it.
    pub ln_e_value: f64,
}

/// The evidence along the way: as much of a verdict as says when to stop.
#[derive(Debug, Clone, PartialEq)]
pub struct Course {
    /// Fingerprints asked, and hits.
    pub fingerprints: Share,
    /// Decoys asked, and hits.
    pub decoys: Share,
    /// Largest natural logarithm of the e-value so far; at least 0.
    pub ln_e_value: f64,
    /// The same against the least recall that was worth asking for.
    ln_futility: f64,
    /// The evidence after each fingerprint.
    pub steps: Vec<Step>,
}

impl Course {
    /// What `progress` brought under `terms`.
    #[must_use]
    pub fn of(terms: &Terms, progress: &Progress) -> Self {
        let mut course = Self {
            fingerprints: NOTHING,
            decoys: NOTHING,
            ln_e_value: 0.0,
            ln_futility: 0.0,
            steps: Vec::new(),
        };
        for (subject, hit) in progress.subjects() {
            let share = match subject {
                Subject::Fingerprint(_) => &mut course.fingerprints,
                Subject::Decoy(_) => &mut course.decoys,
            };
            share.trials += 1;
            share.hits += u64::from(hit);
            if let Subject::Fingerprint(index) = subject {
                let Share { hits, trials } = course.fingerprints;
                let ln_e_value = claim::ln_e_value(hits, trials - hits, terms.null.rate);
                course.ln_e_value = course.ln_e_value.max(ln_e_value);
                let ln_futility = claim::ln_futility(hits, trials - hits, terms.least_recall);
                course.ln_futility = course.ln_futility.max(ln_futility);
                course.steps.push(Step {
                    index,
                    hit,
                    ln_e_value,
                });
            }
        }
        course
    }

    /// What is concluded.
    #[must_use]
    pub fn conclusion(&self, terms: &Terms) -> Conclusion {
        if self.ln_e_value >= -terms.alpha.ln() {
            Conclusion::Present
        } else if self.ln_futility >= -terms.futility.ln() {
            Conclusion::Absent
        } else {
            Conclusion::Open
        }
    }
}

/// The verdict with what it rests on.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    /// What is concluded.
    pub conclusion: Conclusion,
    /// Fingerprints asked, and hits.
    pub fingerprints: Share,
    /// Decoys asked, and hits.
    pub decoys: Share,
    /// Requests that brought no answer.
    pub unanswered: u64,
    /// Share of hits.
    pub recall: f64,
    /// Its 95 % Clopper–Pearson interval.
    pub recall_interval: Interval,
    /// Largest natural logarithm of the e-value along the way; at least 0.
    pub ln_e_value: f64,
    /// Natural logarithm of the exact binomial p-value, for a number of queries that was fixed before.
    pub ln_p_value: f64,
    /// Natural logarithm of Fisher's p-value of fingerprints against decoys; none without decoys.
    pub ln_fisher: Option<f64>,
    /// The evidence after each fingerprint.
    pub course: Vec<Step>,
    /// Requests about fingerprints and their hits, by wrap.
    pub by_wrap: Vec<Share>,
}

impl Verdict {
    /// What follows from `progress` under `terms`.
    #[must_use]
    pub fn of(terms: &Terms, progress: &Progress) -> Self {
        let null = terms.null.rate;
        let course = Course::of(terms, progress);
        let mut by_wrap = vec![NOTHING; terms.wraps.len()];
        for request in progress.requests() {
            if let (Subject::Fingerprint(_), Some(share)) =
                (request.due.subject, by_wrap.get_mut(request.due.wrap))
            {
                share.trials += 1;
                share.hits += u64::from(request.hit == Some(true));
            }
        }
        let unanswered = progress.requests().iter().filter(|r| r.hit.is_none());
        let (fingerprints, decoys) = (course.fingerprints, course.decoys);
        let Share { hits, trials } = fingerprints;
        Self {
            conclusion: course.conclusion(terms),
            fingerprints,
            decoys,
            unanswered: unanswered.count() as u64,
            recall: hits as f64 / trials.max(1) as f64,
            recall_interval: claim::clopper_pearson(hits, trials, CONFIDENCE),
            ln_e_value: course.ln_e_value,
            ln_p_value: claim::ln_binomial_tail(hits, trials, null),
            ln_fisher: (decoys.trials > 0).then(|| claim::ln_fisher(fingerprints, decoys)),
            course: course.steps,
            by_wrap,
        }
    }
}
