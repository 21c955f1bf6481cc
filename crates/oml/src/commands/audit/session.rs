//! An audit under way: what is due is written down, marked as spent, asked, and written down again.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use oml_core::audit::{
    Answer, Ask, Conclusion, Decoy, Event, Known, Matcher, Progress, Put, Subject, Verdict, replay,
};
use oml_core::fingerprint::Fingerprint;
use oml_core::tokenizer::Tokenizer;
use oml_core::usage;

use super::journal::Journal;
use super::suspect::Suspect;
use crate::commands::asked::Asked;
use crate::commands::usage as usage_log;
use crate::interrupt;
use crate::printer::Printer;

/// Requests in a row without an answer after which the suspect is left alone.
const FAILURES: usize = 3;

/// An audit with its transcript.
pub(super) struct Session<'a> {
    journal: Journal,
    progress: Progress,
    asked: &'a Asked,
    /// Numbers of the pairs in the whole set, rising: the same order as the pairs.
    indices: Vec<usize>,
    fingerprints: PathBuf,
    decoys: Vec<Decoy>,
    matcher: Matcher<'a>,
    failures: usize,
}

impl<'a> Session<'a> {
    /// Takes up the audit of a transcript where it is.
    ///
    /// # Errors
    /// When the transcript does not follow its terms and the set.
    pub(super) fn new(
        journal: Journal,
        asked: &'a Asked,
        fingerprints: &Path,
        decoys: Vec<Decoy>,
        tokenizer: Option<&'a dyn Tokenizer>,
    ) -> anyhow::Result<Self> {
        let indices = asked.indices();
        let matcher = Matcher::new(journal.transcript().terms.rule, tokenizer);
        let progress = {
            let transcript = journal.transcript();
            let known = |index| fingerprint(asked, &indices, index).map(known);
            replay(&transcript.terms, &transcript.entries, known, &matcher)
                .context("cannot go on")?
        };
        Ok(Self {
            journal,
            progress,
            asked,
            indices,
            fingerprints: fingerprints.to_owned(),
            decoys,
            matcher,
            failures: 0,
        })
    }

    /// Asks until the evidence suffices, either way, or all was asked.
    ///
    /// # Errors
    /// After Ctrl-C, when the suspect does not answer, or the transcript or the usage log cannot be written.
    pub(super) fn run(&mut self, suspect: &mut Suspect, printer: &Printer) -> anyhow::Result<()> {
        let bar = printer.bar(self.journal.transcript().terms.most, "audit");
        loop {
            let verdict = Verdict::of(&self.journal.transcript().terms, &self.progress);
            bar.set_position(verdict.fingerprints.trials);
            bar.set_message(format!(
                "{} hits, e-value {}",
                verdict.fingerprints.hits,
                super::output::power(verdict.ln_e_value)
            ));
            let due = self.progress.due(suspect.round());
            if verdict.conclusion != Conclusion::Open || due.is_empty() {
                bar.finish_and_clear();
                return Ok(());
            }
            interrupt::check()?;
            let mut asks = Vec::with_capacity(due.len());
            for due in due {
                let ask = self.leave(due.subject, due.wrap, suspect)?;
                self.progress.ask(ask.number, due)?;
                asks.push(ask);
            }
            self.spend(&asks, suspect)?;
            self.journal.sync()?;
            self.ask(&asks, suspect)?;
        }
    }

    /// The transcript as it is, on disk, and what is in it.
    ///
    /// # Errors
    /// When the system refuses to write.
    pub(super) fn finish(self) -> anyhow::Result<(Journal, Progress)> {
        self.journal.sync()?;
        Ok((self.journal, self.progress))
    }

    /// The next request, written down.
    fn leave(&mut self, subject: Subject, wrap: usize, suspect: &Suspect) -> anyhow::Result<Ask> {
        let terms = &self.journal.transcript().terms;
        let (query, responses) = match subject {
            Subject::Fingerprint(index) => {
                let fingerprint = fingerprint(self.asked, &self.indices, index);
                let fingerprint = fingerprint.context("a fingerprint of the plan is not here")?;
                (fingerprint.query.as_str(), Vec::new())
            }
            Subject::Decoy(number) => {
                let decoy = self.decoys.get(usize::try_from(number)?);
                let decoy = decoy.context("a decoy of the plan is not here")?;
                (decoy.query.as_str(), decoy.responses.clone())
            }
        };
        let prompt = terms
            .wraps
            .get(wrap)
            .context("a wrap of the plan is not here")?;
        let put = Put::new(prompt, query);
        let ask = Ask {
            number: self.progress.requests().len() as u64,
            subject,
            wrap,
            request: suspect.request(&put, terms.rule.tokens)?,
            put,
            responses,
        };
        self.journal.push(Event::Ask(ask.clone()))?;
        Ok(ask)
    }

    /// Writes into the usage log that the fingerprints among `asks` are spent, where strangers will see them.
    fn spend(&self, asks: &[Ask], suspect: &Suspect) -> anyhow::Result<()> {
        let Suspect::Endpoint { asker, .. } = suspect else {
            return Ok(());
        };
        let mut indices: Vec<usize> = asks
            .iter()
            .filter_map(|ask| match ask.subject {
                // A later wrap shows nothing new.
                Subject::Fingerprint(index) if ask.wrap == 0 => usize::try_from(index).ok(),
                _ => None,
            })
            .collect();
        if indices.is_empty() {
            return Ok(());
        }
        indices.sort_unstable();
        let event = usage::Event::Audit {
            suspect: asker.url().to_owned(),
        };
        usage_log::record(&self.fingerprints, self.asked.root(), event, &indices)
    }

    fn ask(&mut self, asks: &[Ask], suspect: &mut Suspect) -> anyhow::Result<()> {
        let terms = self.journal.transcript().terms.clone();
        let mut answered: Vec<Answer> = Vec::with_capacity(asks.len());
        let journal = &mut self.journal;
        let done = suspect.ask(asks, &terms, &mut |answer| {
            journal.push(Event::Answer(answer.clone()))?;
            answered.push(answer);
            Ok(())
        });
        done?;
        for ask in asks {
            let texts = answered.iter().filter(|answer| answer.number == ask.number);
            let Some(text) = texts.filter_map(|answer| answer.text.as_ref()).next_back() else {
                self.failures += 1;
                continue;
            };
            self.failures = 0;
            let responses = match ask.subject {
                Subject::Decoy(_) => ask.responses.iter().map(String::as_str).collect(),
                Subject::Fingerprint(index) => {
                    let fingerprint = fingerprint(self.asked, &self.indices, index);
                    fingerprint
                        .map(known)
                        .map_or(Vec::new(), |known| known.responses)
                }
            };
            let hit = self.matcher.is_hit(&ask.put.text, &responses, text)?;
            self.progress.answer(ask.number, hit)?;
        }
        if self.failures >= FAILURES && !interrupt::requested() {
            let fault = answered
                .iter()
                .rev()
                .find_map(|answer| answer.fault.clone());
            bail!(
                "the suspect did not answer {} requests in a row: {}",
                self.failures,
                fault.unwrap_or_else(|| "no reason given".into())
            );
        }
        Ok(())
    }
}

fn fingerprint<'a>(asked: &'a Asked, indices: &[usize], index: u64) -> Option<&'a Fingerprint> {
    let place = indices.binary_search(&usize::try_from(index).ok()?).ok()?;
    asked.set().fingerprints().get(place)
}

fn known(fingerprint: &Fingerprint) -> Known<'_> {
    Known {
        query: &fingerprint.query,
        responses: fingerprint
            .responses
            .iter()
            .map(|r| r.text.as_str())
            .collect(),
    }
}
