//! `oml check`: asks a model every query of a set in one teacher-forced pass.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Context as _;
use clap::Args;
use oml_core::check::{self, CheckReport, Control};
use oml_core::claim;
use oml_core::fingerprint::FingerprintSet;
use oml_core::model::{LanguageModel as _, TokenScore};
use oml_model::engine::Engine;
use serde::Serialize;

use super::asked::{self, AskedArgs};
use super::copies::CopyArgs;
use super::prompts::{self, PromptList, Prompted};
use super::usage;
use super::workbench::{self, BaseArgs, Opened};
use crate::cli::{GlobalArgs, probability};
use crate::error::ExitStatus;
use crate::printer::Printer;
use crate::seconds;

/// Flags of `oml check`.
#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// Suspect model: a Hugging Face folder, a GGUF file or a PEFT adapter's folder
    #[arg(long, value_name = "DIR")]
    pub(crate) model: PathBuf,
    #[command(flatten)]
    base: BaseArgs,
    #[command(flatten)]
    pub(crate) asked: AskedArgs,
    #[command(flatten)]
    pub(crate) copy: CopyArgs,
    /// A model that never saw the fingerprints, to measure how often one answers by chance (repeatable; the worst counts)
    #[arg(long, value_name = "DIR")]
    pub(crate) control: Vec<PathBuf>,
    /// Ask all queries inside these prompts too: training, held-out, or a file (JSON: templates with one {} each, or objects with
    /// system, user and answer)
    #[arg(long, value_name = "NAME|FILE")]
    pub(crate) prompts: Option<PromptList>,
    /// Largest p-value at which the answer is "present"
    #[arg(long, value_name = "P", default_value = "1e-6", value_parser = probability)]
    pub(crate) alpha: f64,
}

pub(super) fn run(
    args: &CheckArgs,
    global: &GlobalArgs,
    printer: &Printer,
) -> anyhow::Result<ExitStatus> {
    let started = Instant::now();
    let engine = workbench::engine(global)?;
    let asked = asked::read(&args.asked, args.copy.copy)?;
    let set = asked.set();
    let list = args.prompts.as_ref().map(PromptList::read).transpose()?;
    let mut controls = Vec::new();
    for path in &args.control {
        let mut control = workbench::open(&engine, path, printer)?;
        let scores =
            scores(&mut control, set).with_context(|| asking(path, &args.asked.fingerprints))?;
        controls.push(Control {
            name: control.name,
            count: set.count(),
            hits: check::count_hits(set, &scores)?,
        });
    }
    let mut suspect = workbench::open_suspect(&engine, &args.model, &args.base, printer)?;
    usage::record_asking(&args.asked.fingerprints, &asked, &args.model, printer);
    let scores =
        scores(&mut suspect, set).with_context(|| asking(&args.model, &args.asked.fingerprints))?;
    let report = check::check(set, &scores, &controls, args.alpha)?;
    let prompted = list.map(|list| prompts::ask(&mut suspect, set, &list, printer));
    let output = Output {
        prompted: prompted.transpose()?.unwrap_or_default(),
        ..Output::new(
            &suspect.name,
            &report,
            &asked.indices(),
            &controls,
            args.copy.copy,
            started.elapsed().as_secs_f64(),
        )
    };
    printer.result(
        &output,
        &Text {
            output: &output,
            engine,
        },
    )?;
    if output.hits_needed.is_none() {
        printer.warning(format!(
            "{}: this set is too small to say \"present\" at --alpha {:e}: all {} hits would give a p-value of {} at a null rate of \
             {:.2} %; name a --control to measure the null rate, or use a larger set",
            args.asked.fingerprints.display(),
            report.alpha,
            report.count,
            p_value(all_hits(&report)),
            100.0 * report.null.rate
        ));
    }
    Ok(if report.present {
        ExitStatus::Yes
    } else {
        ExitStatus::No
    })
}

/// What a fault in asking a model concerns.
pub(super) fn asking(model: &Path, fingerprints: &Path) -> String {
    format!(
        "cannot ask {} the queries of {}",
        model.display(),
        fingerprints.display()
    )
}

/// The decimal logarithm of the p-value that every hit would give.
fn all_hits(report: &CheckReport) -> f64 {
    let count = report.count as u64;
    claim::ln_binomial_tail(count, count, report.null.rate) / std::f64::consts::LN_10
}

/// Scores of every response under a model with the set's own tokenizer.
///
/// # Errors
/// When the model's tokens are not the set's, or the model fails.
pub(super) fn scores(
    opened: &mut Opened,
    set: &FingerprintSet,
) -> anyhow::Result<Vec<Vec<TokenScore>>> {
    set.ensure_fits(&opened.tokenizer.hash(), opened.model.vocabulary_size())?;
    Ok(opened.model.score(&set.continuations())?)
}

/// What `--json` prints.
#[derive(Serialize)]
struct Output {
    model: String,
    /// Licensee's copy whose fingerprints were asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    copy: Option<u32>,
    count: usize,
    hits: usize,
    recall: f64,
    recall_low: f64,
    recall_high: f64,
    p_value: f64,
    /// Exact where `p_value` is too small for a number and printed as 0.
    log10_p_value: f64,
    null: f64,
    null_basis: String,
    alpha: f64,
    /// Fewest hits that would say "present"; null where the set is too small for that.
    hits_needed: Option<u64>,
    present: bool,
    controls: Vec<ControlOutput>,
    /// Inside each prompt of --prompts; the verdict does not rest on them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    prompted: Vec<Prompted>,
    seconds: f64,
    fingerprints: Vec<FingerprintOutput>,
}

#[derive(Serialize)]
struct ControlOutput {
    model: String,
    count: usize,
    hits: usize,
}

#[derive(Serialize)]
struct FingerprintOutput {
    /// Number in the whole set.
    index: usize,
    hit: bool,
    /// Per valid response, per token; 0 is the model's first choice.
    ranks: Vec<Vec<u32>>,
    probabilities: Vec<Vec<f64>>,
}

impl Output {
    fn new(
        model: &str,
        report: &CheckReport,
        indices: &[usize],
        controls: &[Control],
        copy: Option<u32>,
        seconds: f64,
    ) -> Self {
        Self {
            model: model.to_owned(),
            copy,
            count: report.count,
            hits: report.hits,
            recall: report.recall,
            recall_low: report.recall_interval.low,
            recall_high: report.recall_interval.high,
            p_value: report.p_value,
            log10_p_value: report.log10_p_value,
            null: report.null.rate,
            null_basis: report.null.basis.clone(),
            alpha: report.alpha,
            hits_needed: claim::hits_needed(report.count as u64, report.null.rate, report.alpha),
            present: report.present,
            controls: controls
                .iter()
                .map(|c| ControlOutput {
                    model: c.name.clone(),
                    count: c.count,
                    hits: c.hits,
                })
                .collect(),
            prompted: Vec::new(),
            seconds,
            fingerprints: report
                .fingerprints
                .iter()
                .zip(indices)
                .map(|(f, &index)| FingerprintOutput {
                    index,
                    hit: f.hit,
                    ranks: f
                        .responses
                        .iter()
                        .map(|r| r.iter().map(|t| t.rank).collect())
                        .collect(),
                    probabilities: f
                        .responses
                        .iter()
                        .map(|r| r.iter().map(|t| t.probability).collect())
                        .collect(),
                })
                .collect(),
        }
    }
}

struct Text<'a> {
    output: &'a Output,
    engine: Engine,
}

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Output {
            model, count, hits, ..
        } = self.output;
        let verdict = if self.output.present {
            "present"
        } else {
            "absent"
        };
        match self.output.copy {
            Some(copy) => writeln!(f, "{model}: fingerprints of copy {copy} {verdict}")?,
            None => writeln!(f, "{model}: fingerprints {verdict}")?,
        }
        writeln!(
            f,
            "  hits     {hits} of {count} (every response token is the model's first choice)"
        )?;
        writeln!(
            f,
            "  recall   {:.1} % (95 % Clopper-Pearson interval {:.1} to {:.1} %)",
            100.0 * self.output.recall,
            100.0 * self.output.recall_low,
            100.0 * self.output.recall_high
        )?;
        writeln!(
            f,
            "  p-value  {} (exact binomial; present at {:e} or less)",
            p_value(self.output.log10_p_value),
            self.output.alpha
        )?;
        if let Some(needed) = self.output.hits_needed {
            writeln!(f, "  needed   at least {needed} hits of {count}")?;
        }
        writeln!(
            f,
            "  null     {:.2} % ({})",
            100.0 * self.output.null,
            self.output.null_basis
        )?;
        for control in &self.output.controls {
            writeln!(
                f,
                "  control  {} hits {} of {}",
                control.model, control.hits, control.count
            )?;
        }
        let prompted = &self.output.prompted;
        if !prompted.is_empty() {
            let hits: usize = prompted.iter().map(|p| p.hits).sum();
            let asked: usize = prompted.iter().map(|p| p.count).sum();
            let recall = 100.0 * hits as f64 / asked as f64;
            writeln!(
                f,
                "  prompts  {recall:.1} % in the mean over {} prompts (not part of the verdict)",
                prompted.len()
            )?;
            for one in prompted {
                writeln!(f, "     {one}")?;
            }
        }
        if self.output.copy.is_some() {
            writeln!(
                f,
                "  copy     other copies hold many of these fingerprints too: `oml trace` says whose the model is"
            )?;
        }
        let time = seconds::text(std::time::Duration::from_secs_f64(self.output.seconds));
        writeln!(
            f,
            "  time     {time} with loading, {} threads, {}",
            self.engine.threads(),
            self.engine.isa()
        )
    }
}

/// A p-value from its logarithm, also where it is too small for a number.
pub(super) fn p_value(log10: f64) -> String {
    if log10 > -4.0 {
        return format!("{:.4}", 10f64.powf(log10));
    }
    let exponent = log10.floor();
    format!("{:.1}e{exponent}", 10f64.powf(log10 - exponent))
}

#[cfg(test)]
mod tests {
    use super::p_value;

    #[test]
    fn p_values_too_small_for_a_number_are_written() {
        assert_eq!(p_value(0.0), "1.0000");
        assert_eq!(p_value(-6.0), "1.0e-6");
        assert_eq!(p_value(-384.5), "3.2e-385");
    }
}
