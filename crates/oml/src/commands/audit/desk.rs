//! What lies between the plan and the wire: right before a request leaves it is written down and its pair is marked as spent, for good.
//!
//! ```text
//! transcript  ask, ask, …   ┐ synced once for all that leave together   ──▶ they leave
//! usage log   spent pairs   ┘                                               answers are written, and synced with the next asks
//! ```

use std::collections::VecDeque;
use std::path::Path;

use anyhow::Context as _;
use oml_core::audit::{Answer, Ask, Decoy, Due, Event, Known, Progress, Put, Subject, Suspect};
use oml_core::fingerprint::Fingerprint;
use oml_core::usage;

use super::journal::Journal;
use crate::commands::asked::Asked;
use crate::commands::usage::Log;

/// Makes the body of the request that puts a query and asks for so many tokens.
pub(super) type Render<'a> = &'a dyn Fn(&Put, u32) -> anyhow::Result<String>;

/// The requests of one round, and what is known of them.
pub(super) struct Desk<'a> {
    pub(super) journal: Journal,
    pub(super) progress: Progress,
    pub(super) pairs: Pairs<'a>,
    decoys: Vec<Decoy>,
    /// Where strangers see the queries: the log of what they saw, and who they are.
    spent: Option<(Log, usage::Event)>,
    due: VecDeque<Due>,
    /// Requests that are written down and not handed out yet.
    ready: VecDeque<Ask>,
    left: Vec<Ask>,
    answers: Vec<Answer>,
}

/// Pairs by their number in the whole set.
pub(super) struct Pairs<'a> {
    asked: &'a Asked,
    /// Numbers of the pairs, rising: the same order as the pairs.
    indices: Vec<usize>,
}

impl<'a> Pairs<'a> {
    pub(super) fn new(asked: &'a Asked) -> Self {
        Self {
            asked,
            indices: asked.indices(),
        }
    }

    fn get(&self, index: u64) -> Option<&'a Fingerprint> {
        let index = usize::try_from(index).ok()?;
        let place = self.indices.binary_search(&index).ok()?;
        self.asked.set().fingerprints().get(place)
    }

    /// The texts of a pair.
    pub(super) fn known(&self, index: u64) -> Option<Known<'a>> {
        self.get(index).map(|fingerprint| Known {
            query: &fingerprint.query,
            responses: fingerprint
                .responses
                .iter()
                .map(|r| r.text.as_str())
                .collect(),
        })
    }
}

impl<'a> Desk<'a> {
    /// An audit that has come as far as `progress`. `fingerprints` is the file of the pairs.
    ///
    /// # Errors
    /// When the usage log cannot be opened.
    pub(super) fn new(
        journal: Journal,
        progress: Progress,
        pairs: Pairs<'a>,
        decoys: Vec<Decoy>,
        fingerprints: &Path,
    ) -> anyhow::Result<Self> {
        let spent = match &journal.transcript().terms.suspect {
            Suspect::Endpoint { url, .. } => {
                let suspect = url.clone();
                let log = Log::open(fingerprints, pairs.asked.root())?;
                Some((log, usage::Event::Audit { suspect }))
            }
            Suspect::Checkpoint { .. } => None,
        };
        Ok(Self {
            journal,
            progress,
            pairs,
            decoys,
            spent,
            due: VecDeque::new(),
            ready: VecDeque::new(),
            left: Vec::new(),
            answers: Vec::new(),
        })
    }

    /// Lays out the next round of at most `limit` requests; returns how many there are.
    pub(super) fn lay_out(&mut self, limit: usize) -> usize {
        self.due = self.progress.due(limit).into();
        self.due.len()
    }

    /// The next request of the round, written down for good: it has to leave now. With `together` all of the round are written down with
    /// the first.
    ///
    /// # Errors
    /// When the transcript or the usage log cannot be written; then nothing may leave.
    pub(super) fn next(
        &mut self,
        together: bool,
        render: Render<'_>,
    ) -> anyhow::Result<Option<Ask>> {
        if self.ready.is_empty() && !self.due.is_empty() {
            let count = if together { self.due.len() } else { 1 };
            for due in self
                .due
                .drain(..count.min(self.due.len()))
                .collect::<Vec<_>>()
            {
                let ask = self.ask(due, render)?;
                self.journal.push(Event::Ask(ask.clone()))?;
                self.progress.ask(ask.number, due)?;
                self.ready.push_back(ask);
            }
            self.spend()?;
        }
        let ask = self.ready.pop_front();
        self.left.extend(ask.clone());
        Ok(ask)
    }

    /// An attempt at an answer, written down.
    ///
    /// # Errors
    /// When the system refuses.
    pub(super) fn answer(&mut self, answer: Answer) -> anyhow::Result<()> {
        self.journal.push(Event::Answer(answer.clone()))?;
        self.answers.push(answer);
        Ok(())
    }

    /// The requests of the round that left, and every attempt at an answer.
    pub(super) fn clear(&mut self) -> (Vec<Ask>, Vec<Answer>) {
        (
            std::mem::take(&mut self.left),
            std::mem::take(&mut self.answers),
        )
    }

    fn ask(&self, due: Due, render: Render<'_>) -> anyhow::Result<Ask> {
        let terms = &self.journal.transcript().terms;
        let (query, responses) = match due.subject {
            Subject::Fingerprint(index) => {
                let fingerprint = self.pairs.get(index);
                let fingerprint = fingerprint.context("a fingerprint of the plan is not here")?;
                (fingerprint.query.as_str(), Vec::new())
            }
            Subject::Decoy(number) => {
                let decoy = self.decoys.get(usize::try_from(number)?);
                let decoy = decoy.context("a decoy of the plan is not here")?;
                (decoy.query.as_str(), decoy.responses.clone())
            }
        };
        let prompt = terms.wraps.get(due.wrap);
        let put = Put::new(prompt.context("a wrap of the plan is not here")?, query);
        Ok(Ask {
            number: self.progress.requests().len() as u64,
            subject: due.subject,
            wrap: due.wrap,
            request: render(&put, terms.rule.tokens)?,
            put,
            responses,
        })
    }

    /// Marks the pairs of what is ready as spent, and makes both files last.
    fn spend(&mut self) -> anyhow::Result<()> {
        let mut indices: Vec<usize> = self
            .ready
            .iter()
            .filter_map(|ask| match ask.subject {
                // A later wrap shows nothing new.
                Subject::Fingerprint(index) if ask.wrap == 0 => usize::try_from(index).ok(),
                _ => None,
            })
            .collect();
        let Some((log, event)) = self.spent.as_mut().filter(|_| !indices.is_empty()) else {
            return self.journal.sync();
        };
        indices.sort_unstable();
        log.push(event.clone(), &indices)?;
        log.sync()?;
        self.journal.sync()
    }
}
