//! `oml fingerprints status`: how many pairs are unused, asked, given out and spent.

use std::fmt;

use clap::Args;
use oml_core::manifest::hex;
use oml_core::usage::{Event, Tally};
use serde::Serialize;

use crate::commands::asked::{self, Asked, AskedArgs};
use crate::commands::usage;
use crate::error::ExitStatus;
use crate::printer::Printer;

/// Flags of `oml fingerprints status`.
#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    #[command(flatten)]
    pub(crate) asked: AskedArgs,
}

pub(super) fn run(args: &StatusArgs, printer: &Printer) -> anyhow::Result<ExitStatus> {
    let asked = asked::read(&args.asked, None)?;
    let (tally, unreadable) = usage::tally(&args.asked.fingerprints, &asked)?;
    let file = args.asked.fingerprints.display().to_string();
    let output = Output::new(file, &asked, &tally, unreadable);
    printer.result(&output, &output)?;
    if unreadable > 0 {
        printer.warning(format!(
            "{}: {unreadable} lines cannot be read and are not counted",
            asked::log_path(&args.asked.fingerprints).display()
        ));
    }
    Ok(ExitStatus::Yes)
}

/// What `oml fingerprints status` prints.
#[derive(Serialize)]
struct Output {
    file: String,
    merkle_root: String,
    /// Pairs here: fewer than in the whole set for a slice.
    count: usize,
    unused: usize,
    /// Numbers of the pairs that were shown.
    opened: Vec<usize>,
    checks: Vec<UseOutput>,
    slices: Vec<UseOutput>,
    /// Endpoints that were asked; the pairs are spent.
    audits: Vec<UseOutput>,
    /// Lines of the log about other sets.
    other_sets: usize,
    unreadable_lines: usize,
}

#[derive(Serialize)]
struct UseOutput {
    /// The suspect, or the prover's public key.
    name: String,
    times: usize,
    count: usize,
}

impl Output {
    fn new(file: String, asked: &Asked, tally: &Tally, unreadable_lines: usize) -> Self {
        let uses = |name: fn(&Event) -> Option<&String>| {
            let uses = tally.events().filter_map(|(event, times, count)| {
                let name = name(event)?.clone();
                Some(UseOutput { name, times, count })
            });
            uses.collect()
        };
        let used = tally.pairs(|_| true);
        let indices = asked.indices();
        let unused = |index: &&usize| used.binary_search(index).is_err();
        Self {
            file,
            merkle_root: format!("0x{}", hex(&asked.root())),
            count: indices.len(),
            unused: indices.iter().filter(unused).count(),
            opened: tally.opened(),
            checks: uses(|event| match event {
                Event::Check { suspect } => Some(suspect),
                _ => None,
            }),
            slices: uses(|event| match event {
                Event::Slice { to } => Some(to),
                _ => None,
            }),
            audits: uses(|event| match event {
                Event::Audit { suspect } => Some(suspect),
                _ => None,
            }),
            other_sets: tally.others,
            unreadable_lines,
        }
    }
}

impl fmt::Display for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: {} fingerprints", self.file, self.count)?;
        writeln!(f, "  unused  {}", self.unused)?;
        for check in &self.checks {
            writeln!(
                f,
                "  asked   {} of {}, {} times",
                check.count, check.name, check.times
            )?;
        }
        for slice in &self.slices {
            writeln!(f, "  given   {} to {}", slice.count, slice.name)?;
        }
        for audit in &self.audits {
            writeln!(f, "  spent   {} (asked of {})", audit.count, audit.name)?;
        }
        writeln!(f, "  spent   {} (opened)", self.opened.len())?;
        writeln!(f, "  Merkle root  {}", self.merkle_root)
    }
}
