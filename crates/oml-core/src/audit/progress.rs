//! How far an audit has come: which query is next, and whether what was written down follows the plan.

use std::collections::HashMap;

use super::plan::{Subject, plan};
use super::terms::Terms;

/// A query that is next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Due {
    /// What it is about.
    pub subject: Subject,
    /// Which wrap it is put in.
    pub wrap: usize,
}

/// A request as far as it has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request {
    /// What it was.
    pub due: Due,
    /// Whether the answer was a response; none while, or if, there is no answer.
    pub hit: Option<bool>,
}

/// An entry that the plan does not allow.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("entry about request {number}: expected {expected}")]
pub struct ProgressError {
    /// Number of the request.
    pub number: u64,
    /// What would have been allowed.
    pub expected: &'static str,
}

/// An audit under way.
#[derive(Debug, Clone)]
pub struct Progress {
    plan: Vec<Subject>,
    wraps: usize,
    /// Subjects that were begun: the first so many of the plan.
    begun: usize,
    /// Subjects of the plan before this one are done.
    done: usize,
    requests: Vec<Request>,
    /// Requests about each subject, in order.
    of: HashMap<Subject, Vec<usize>>,
}

impl Progress {
    /// The beginning of an audit.
    #[must_use]
    pub fn new(terms: &Terms) -> Self {
        let indices: Vec<u64> = terms.indices().collect();
        let mut plan = plan(&terms.seed, &indices, terms.decoys);
        let most = usize::try_from(terms.most).unwrap_or(usize::MAX);
        plan.truncate(most.saturating_mul(terms.decoys + 1));
        Self {
            plan,
            wraps: terms.wraps.len(),
            begun: 0,
            done: 0,
            requests: Vec::new(),
            of: HashMap::new(),
        }
    }

    /// At most `limit` queries that may be asked now, side by side.
    #[must_use]
    pub fn due(&self, limit: usize) -> Vec<Due> {
        let subjects = self.plan[self.done..].iter();
        let due = subjects.filter_map(|subject| self.next_of(*subject));
        due.take(limit).collect()
    }

    /// Requests so far, by number.
    #[must_use]
    pub fn requests(&self) -> &[Request] {
        &self.requests
    }

    /// What was found about each subject that was begun, in the order of the plan: whether any wrap brought a hit.
    pub fn subjects(&self) -> impl Iterator<Item = (Subject, bool)> + '_ {
        let begun = self.plan[..self.begun].iter();
        begun.map(|subject| (*subject, self.is_hit(*subject)))
    }

    /// A request leaves.
    ///
    /// # Errors
    /// When it is not the one that the plan has next.
    pub fn ask(&mut self, number: u64, due: Due) -> Result<(), ProgressError> {
        let fault = |expected| ProgressError { number, expected };
        if number != self.requests.len() as u64 {
            return Err(fault("the number after that of the request before"));
        }
        let is_begun = self.of.contains_key(&due.subject);
        if !is_begun && self.plan.get(self.begun) != Some(&due.subject) {
            return Err(fault("the next query of the plan"));
        }
        if self.next_of(due.subject) != Some(due) {
            return Err(fault("the next wrap of a query without a hit"));
        }
        self.begun += usize::from(!is_begun);
        self.of
            .entry(due.subject)
            .or_default()
            .push(self.requests.len());
        self.requests.push(Request { due, hit: None });
        self.advance();
        Ok(())
    }

    /// A request is answered.
    ///
    /// # Errors
    /// When there is no such request, or it was answered before.
    pub fn answer(&mut self, number: u64, hit: bool) -> Result<(), ProgressError> {
        let place = usize::try_from(number).ok();
        let request = place.and_then(|place| self.requests.get_mut(place));
        match request {
            Some(request) if request.hit.is_none() => request.hit = Some(hit),
            Some(_) => {
                return Err(ProgressError {
                    number,
                    expected: "one answer",
                });
            }
            None => {
                return Err(ProgressError {
                    number,
                    expected: "an answer to a request that left",
                });
            }
        }
        self.advance();
        Ok(())
    }

    fn next_of(&self, subject: Subject) -> Option<Due> {
        let asked = self.of.get(&subject).map_or(0, Vec::len);
        (asked < self.wraps && !self.is_hit(subject)).then_some(Due {
            subject,
            wrap: asked,
        })
    }

    fn is_hit(&self, subject: Subject) -> bool {
        let requests = self.of.get(&subject).into_iter().flatten();
        requests
            .map(|place| self.requests[*place].hit)
            .any(|hit| hit == Some(true))
    }

    fn advance(&mut self) {
        while let Some(subject) = self.plan.get(self.done)
            && self.next_of(*subject).is_none()
        {
            self.done += 1;
        }
    }
}
