//! An audit under way: round by round, until the evidence suffices.

use std::path::Path;

use anyhow::{Context as _, bail};
use oml_core::audit::{Conclusion, Course, Decoy, Matcher, Progress, Subject, Terms, replay};
use oml_core::tokenizer::Tokenizer;

use super::desk::{Desk, Pairs};
use super::journal::Journal;
use super::suspect::Suspect;
use crate::commands::asked::Asked;
use crate::interrupt;
use crate::printer::Printer;

/// Requests in a row without an answer after which the suspect is left alone.
const FAILURES: usize = 3;

/// An audit with its transcript.
pub(super) struct Session<'a> {
    desk: Desk<'a>,
    terms: Terms,
    matcher: Matcher<'a>,
    failures: usize,
}

impl<'a> Session<'a> {
    /// Takes up the audit of a transcript where it is.
    ///
    /// # Errors
    /// When the transcript does not follow its terms and the set, or the usage log cannot be opened.
    pub(super) fn new(
        journal: Journal,
        asked: &'a Asked,
        fingerprints: &Path,
        decoys: Vec<Decoy>,
        tokenizer: Option<&'a dyn Tokenizer>,
    ) -> anyhow::Result<Self> {
        let pairs = Pairs::new(asked);
        let transcript = journal.transcript();
        let terms = transcript.terms.clone();
        let matcher = Matcher::new(terms.rule, tokenizer);
        let progress = replay(
            &terms,
            &transcript.entries,
            |index| pairs.known(index),
            &matcher,
        )
        .context("cannot go on")?;
        Ok(Self {
            desk: Desk::new(journal, progress, pairs, decoys, fingerprints)?,
            terms,
            matcher,
            failures: 0,
        })
    }

    /// Asks until the evidence suffices, either way, or all was asked.
    ///
    /// # Errors
    /// After Ctrl-C, when the suspect does not answer, or the transcript or the usage log cannot be written.
    pub(super) fn run(&mut self, suspect: &mut Suspect, printer: &Printer) -> anyhow::Result<()> {
        let bar = printer.bar(self.terms.most, "audit");
        loop {
            let course = Course::of(&self.terms, &self.desk.progress);
            bar.set_position(course.fingerprints.trials);
            bar.set_message(format!(
                "{} hits, e-value {}",
                course.fingerprints.hits,
                super::output::power(course.ln_e_value)
            ));
            let is_open = course.conclusion(&self.terms) == Conclusion::Open;
            let due = self.desk.lay_out(suspect.round());
            if !is_open || due == 0 {
                bar.finish_and_clear();
                return Ok(());
            }
            interrupt::check()?;
            suspect.ask(due, &self.terms, &mut self.desk)?;
            self.judge()?;
        }
    }

    /// The transcript as it is, on disk, and what is in it.
    ///
    /// # Errors
    /// When the system refuses to write.
    pub(super) fn finish(self) -> anyhow::Result<(Journal, Progress)> {
        self.desk.journal.sync()?;
        Ok((self.desk.journal, self.desk.progress))
    }

    /// Judges the answers of a round.
    fn judge(&mut self) -> anyhow::Result<()> {
        let (asks, answered) = self.desk.clear();
        for ask in &asks {
            let texts = answered.iter().filter(|answer| answer.number == ask.number);
            let Some(text) = texts.filter_map(|answer| answer.text.as_ref()).next_back() else {
                self.failures += 1;
                continue;
            };
            self.failures = 0;
            let responses = match ask.subject {
                Subject::Decoy(_) => ask.responses.iter().map(String::as_str).collect(),
                Subject::Fingerprint(index) => {
                    let known = self.desk.pairs.known(index);
                    known.map_or(Vec::new(), |known| known.responses)
                }
            };
            let hit = self.matcher.is_hit(&ask.put.text, &responses, text)?;
            self.desk.progress.answer(ask.number, hit)?;
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
