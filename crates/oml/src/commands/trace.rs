//! `oml trace`: which licensees' copies a suspect was made from.

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use oml_core::check;
use oml_core::commitment::Commitment;
use oml_core::copies::{self, NULL, Observation, Suspicion, TraceReport};
use oml_core::fingerprint::FingerprintSet;
use oml_core::manifest::observed_file;
use serde::Serialize;

use super::asked::Asked;
use super::check::{asking, p_value, scores};
use super::copies::assignment;
use super::usage;
use super::workbench::{self, BaseArgs};
use crate::cli::{GlobalArgs, OwnerArgs, probability};
use crate::error::ExitStatus;
use crate::files;
use crate::printer::Printer;

/// Copies that are shown at least, where there are as many.
const SHOWN: usize = 5;

/// Flags of `oml trace`.
#[derive(Debug, Args)]
pub(crate) struct TraceArgs {
    /// Fingerprints file made by `oml generate --copies`
    #[arg(long, value_name = "FILE")]
    fingerprints: PathBuf,
    #[command(flatten)]
    owner: OwnerArgs,
    /// Suspect model to ask all queries: a Hugging Face folder, a GGUF file or a PEFT adapter's folder
    #[arg(
        long,
        value_name = "DIR",
        required_unless_present = "observed",
        conflicts_with = "observed"
    )]
    suspect: Option<PathBuf>,
    #[command(flatten)]
    base: BaseArgs,
    /// What was observed of a suspect elsewhere (JSON): which fingerprints it answered, missed or refused
    #[arg(long, value_name = "FILE")]
    observed: Option<PathBuf>,
    /// Largest probability of accusing any innocent copy
    #[arg(long, value_name = "P", default_value = "1e-3", value_parser = probability)]
    alpha: f64,
}

pub(super) fn run(
    args: &TraceArgs,
    global: &GlobalArgs,
    printer: &Printer,
) -> anyhow::Result<ExitStatus> {
    let owner = workbench::owner(&workbench::owner_path(&args.owner)?)?;
    let asked = Asked::whole(workbench::fingerprints(&args.fingerprints, &owner)?);
    let set = asked.set();
    let assignment = assignment(set, &owner, &args.fingerprints)?;
    let (name, observations) = match (&args.suspect, &args.observed) {
        (Some(suspect), _) => ask(suspect, args, &asked, global, printer)?,
        (None, Some(observed)) => read(observed, set)?,
        (None, None) => anyhow::bail!("expected --suspect or --observed"),
    };
    let report = copies::trace(&assignment, &observations, args.alpha)?;
    let output = Output::new(name, set.count(), &report);
    printer.result(&output, &output)?;
    if report.least > report.alpha {
        printer.warning(format!(
            "{}: too few answers to accuse anybody at --alpha {:e}: an innocent copy has the highest possible score with \
             probability {}",
            args.fingerprints.display(),
            report.alpha,
            p_value(report.least.log10())
        ));
    }
    Ok(if output.accused.is_empty() {
        ExitStatus::No
    } else {
        ExitStatus::Yes
    })
}

/// Asks a model all queries.
fn ask(
    suspect: &Path,
    args: &TraceArgs,
    asked: &Asked,
    global: &GlobalArgs,
    printer: &Printer,
) -> anyhow::Result<(String, Vec<Observation>)> {
    let engine = workbench::engine(global)?;
    let mut opened = workbench::open_suspect(&engine, suspect, &args.base, printer)?;
    usage::record_asking(&args.fingerprints, asked, suspect, printer);
    let set = asked.set();
    let scores = scores(&mut opened, set).with_context(|| asking(suspect, &args.fingerprints))?;
    let seen = check::results(set, &scores)?
        .iter()
        .map(|result| {
            if result.hit {
                Observation::Hit
            } else {
                Observation::Miss
            }
        })
        .collect();
    Ok((opened.name, seen))
}

/// Reads what was observed elsewhere.
fn read(path: &Path, set: &FingerprintSet) -> anyhow::Result<(String, Vec<Observation>)> {
    let bytes = files::read(path, observed_file::MAX_BYTES)?;
    let seen = observed_file::parse(&bytes, &Commitment::new(set).root(), set.count())
        .with_context(|| format!("cannot read {}", path.display()))?;
    Ok((path.display().to_string(), seen))
}

/// What `--json` prints.
#[derive(Serialize)]
struct Output {
    suspect: String,
    copies: u32,
    copy_bias: &'static str,
    count: usize,
    answered: usize,
    hits: usize,
    refused: usize,
    alpha: f64,
    null: &'static str,
    /// Copies, the most suspicious first.
    accused: Vec<u32>,
    /// The accused, and more up to a few.
    suspicions: Vec<SuspicionOutput>,
}

#[derive(Serialize)]
struct SuspicionOutput {
    copy: u32,
    /// In standard deviations above an innocent's mean.
    score: f64,
    score_name: &'static str,
    /// Probability that one innocent copy scores as high, by either score.
    p_value: f64,
    /// Probability that any of all copies does, if all were innocent: at most.
    p_any: f64,
    accused: bool,
}

impl Output {
    fn new(suspect: String, count: usize, report: &TraceReport) -> Self {
        let accused: Vec<u32> = report.accused().map(|suspicion| suspicion.copy).collect();
        let shown = accused.len().max(SHOWN);
        let suspicion = |s: &Suspicion| SuspicionOutput {
            copy: s.copy,
            score: s.score,
            score_name: s.score_name.name(),
            p_value: s.p_value,
            p_any: s.p_any,
            accused: s.accused,
        };
        Self {
            suspect,
            copies: report.copies.count,
            copy_bias: report.copies.bias.name(),
            count,
            answered: report.answered,
            hits: report.hits,
            refused: report.refused,
            alpha: report.alpha,
            null: NULL,
            accused,
            suspicions: report
                .suspicions
                .iter()
                .take(shown)
                .map(suspicion)
                .collect(),
        }
    }
}

impl fmt::Display for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.accused[..] {
            [] => writeln!(f, "{}: no copy of {} accused", self.suspect, self.copies)?,
            [copy] => writeln!(
                f,
                "{}: copy {copy} of {} accused",
                self.suspect, self.copies
            )?,
            several => {
                let several: Vec<String> = several.iter().map(ToString::to_string).collect();
                writeln!(
                    f,
                    "{}: copies {} of {} accused",
                    self.suspect,
                    several.join(", "),
                    self.copies
                )?;
            }
        }
        let missed = self.answered - self.hits - self.refused;
        writeln!(
            f,
            "  answers  {} of {} fingerprints: {} hits, {missed} misses, {} refused",
            self.answered, self.count, self.hits, self.refused
        )?;
        writeln!(
            f,
            "  copy    score            p-value  any of {}",
            self.copies
        )?;
        for suspicion in &self.suspicions {
            let accused = if suspicion.accused { "   accused" } else { "" };
            writeln!(
                f,
                "  {:<6} {:>+6.1} {:<9} {:>9} {:>9}{accused}",
                suspicion.copy,
                suspicion.score,
                suspicion.score_name,
                p_value(suspicion.p_value.log10()),
                p_value(suspicion.p_any.log10())
            )?;
        }
        writeln!(
            f,
            "  score    standard deviations above an innocent copy's mean"
        )?;
        writeln!(
            f,
            "  any of   probability that any of the {} copies scores as high, if all were innocent; accused at {:e} or less",
            self.copies, self.alpha
        )?;
        writeln!(
            f,
            "  basis    exact tails; Bonferroni over two scores and all copies"
        )?;
        writeln!(f, "  null     {NULL}")
    }
}
