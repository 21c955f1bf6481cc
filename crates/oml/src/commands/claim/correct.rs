//! `oml claim correct`: several results at once, so that the chance of any false one among them stays at alpha.

use std::f64::consts::LN_10;
use std::fmt;
use std::path::PathBuf;

use anyhow::{Context as _, anyhow};
use clap::Args;
use oml_core::claim::ln_holm;
use serde::Serialize;

use crate::cli::probability;
use crate::commands::check::p_value;
use crate::error::ExitStatus;
use crate::printer::Printer;
use crate::report::dossier::Dossier;

/// Flags of `oml claim correct`.
#[derive(Debug, Args)]
pub(crate) struct CorrectArgs {
    /// What `oml audit` or `oml check` printed with --json, or bundles made by `oml claim make`: of all suspects and sets that were tried
    #[arg(value_name = "FILE", num_args = 1.., required = true)]
    results: Vec<PathBuf>,
    /// Largest probability of any false one among them
    #[arg(long, value_name = "P", default_value = "1e-6", value_parser = probability)]
    alpha: f64,
}

pub(super) fn run(args: &CorrectArgs, printer: &Printer) -> anyhow::Result<ExitStatus> {
    let mut found = Vec::with_capacity(args.results.len());
    for path in &args.results {
        let reading = || format!("cannot use {}", path.display());
        let dossier = Dossier::read(path).with_context(reading)?;
        let evidence = dossier.evidence().ok_or_else(|| {
            anyhow!("expected an audit, a check or a claim that holds, got another result")
        });
        found.push(evidence.with_context(reading)?);
    }
    let ln: Vec<f64> = found.iter().map(|evidence| evidence.ln_p_value).collect();
    let results = found.into_iter().zip(ln_holm(&ln)).zip(&args.results);
    let output = Output {
        alpha: args.alpha,
        results: results
            .map(|((evidence, adjusted), path)| Corrected {
                file: path.display().to_string(),
                model: evidence.model,
                basis: evidence.basis,
                log10_p_value: evidence.ln_p_value / LN_10,
                log10_adjusted: adjusted / LN_10,
                stands: adjusted <= args.alpha.ln(),
            })
            .collect(),
    };
    printer.result(&output, &output)?;
    Ok(match output.results.iter().any(|result| result.stands) {
        true => ExitStatus::Yes,
        false => ExitStatus::No,
    })
}

#[derive(Serialize)]
struct Output {
    alpha: f64,
    results: Vec<Corrected>,
}

#[derive(Serialize)]
struct Corrected {
    file: String,
    model: String,
    /// What the p-value is.
    basis: &'static str,
    log10_p_value: f64,
    /// After Holm's correction.
    log10_adjusted: f64,
    stands: bool,
}

impl fmt::Display for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stand = self.results.iter().filter(|result| result.stands).count();
        writeln!(
            f,
            "{stand} of {} stand at {:.0e} for all together (Holm)",
            self.results.len(),
            self.alpha
        )?;
        for result in &self.results {
            writeln!(
                f,
                "  {:7}  {}: p-value {}, adjusted {} ({}; {})",
                if result.stands { "stands" } else { "falls" },
                result.file,
                p_value(result.log10_p_value),
                p_value(result.log10_adjusted),
                result.model,
                result.basis
            )?;
        }
        Ok(())
    }
}
