//! `oml relate`: was one model made from the other, or were they trained apart?

use std::fmt;
use std::path::PathBuf;
use std::time::Instant;

use clap::Args;
use oml_core::relatedness::{self, Test, TestName, Verdict};
use oml_model::engine::Engine;
use oml_model::relate::{self, Relatedness};
use serde::Serialize;

use super::check::p_value;
use super::workbench::{self, model_name};
use crate::cli::{GlobalArgs, probability};
use crate::error::ExitStatus;
use crate::printer::Printer;
use crate::seconds;

/// What the verdict's p-value assumes.
const NULL: &str = "the two models were trained apart, from starts that have nothing in common";

/// Flags of `oml relate`.
#[derive(Debug, Args)]
pub(crate) struct RelateArgs {
    /// Your model: a Hugging Face folder or a GGUF file
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// Model that may have been made from it, or from what it was made from
    #[arg(long, value_name = "DIR")]
    suspect: PathBuf,
    /// Largest p-value at which the answer is "related"
    #[arg(long, value_name = "P", default_value = "1e-6", value_parser = probability)]
    alpha: f64,
}

pub(super) fn run(
    args: &RelateArgs,
    global: &GlobalArgs,
    printer: &Printer,
) -> anyhow::Result<ExitStatus> {
    let started = Instant::now();
    let engine = workbench::engine(global)?;
    let model = workbench::checkpoint(&args.model)?;
    let suspect = workbench::checkpoint(&args.suspect)?;
    let bar = printer.bar(0, "layers");
    let found = relate::relate(&engine, &model, &suspect, &mut |done, all| {
        bar.set_length(all as u64);
        bar.set_position(done as u64);
    });
    bar.finish_and_clear();
    let found = found?;
    let verdict = relatedness::assess(&found.evidence, args.alpha)?;
    let names = [model_name(&args.model), model_name(&args.suspect)];
    let seconds = started.elapsed().as_secs_f64();
    let output = Output::new(names, &found, &verdict, &engine, seconds);
    printer.result(&output, &output)?;
    if verdict.ln_least > args.alpha.ln() {
        printer.warning(format!(
            "{}: too few units to say \"related\" at --alpha {:e}: a perfect copy would have a p-value of {}",
            args.suspect.display(),
            args.alpha,
            p_value(verdict.ln_least / std::f64::consts::LN_10)
        ));
    }
    Ok(if verdict.related {
        ExitStatus::Yes
    } else {
        ExitStatus::No
    })
}

/// What `--json` prints.
#[derive(Serialize)]
struct Output {
    model: String,
    suspect: String,
    related: bool,
    p_value: f64,
    /// Exact where `p_value` is too small for a number and printed as 0.
    log10_p_value: f64,
    alpha: f64,
    null: &'static str,
    /// Tests that would each give this verdict alone.
    carried_by: Vec<&'static str>,
    tests: Vec<TestOutput>,
    /// Share of units on which unrelated models may agree, under the null of the last test.
    agreement_rate: f64,
    frame: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    tokens: Option<TokensOutput>,
    /// Figures for readers; the verdict does not rest on them.
    mean_cosine: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    embedding_cka: Option<f64>,
    layers: Vec<LayerOutput>,
    seconds: f64,
    threads: usize,
    isa: String,
}

#[derive(Serialize)]
struct TestOutput {
    name: &'static str,
    /// Null where the two models do not allow the test.
    log10_p_value: Option<f64>,
    /// A correlation, or a share of pairs or units.
    statistic: Option<f64>,
    /// Pairs or units that were compared.
    count: u64,
    /// Whether the null holds by symmetry.
    exact: bool,
    null: &'static str,
}

#[derive(Serialize)]
struct TokensOutput {
    count: usize,
    basis: &'static str,
}

#[derive(Serialize)]
struct LayerOutput {
    model_layer: usize,
    suspect_layer: usize,
    units: u64,
    pairs: usize,
    order: Option<f64>,
    same_signs: Option<u64>,
    agreeing: u64,
    mean_cosine: f64,
}

impl Output {
    fn new(
        [model, suspect]: [String; 2],
        found: &Relatedness,
        verdict: &Verdict,
        engine: &Engine,
        seconds: f64,
    ) -> Self {
        let decimal = |ln: f64| ln / std::f64::consts::LN_10;
        let evidence = &found.evidence;
        let test = |test: &Test| {
            let (statistic, count) = match test.name {
                TestName::UnitOrder => (
                    Some(evidence.unit_order.correlation()),
                    evidence.unit_order.pairs as u64,
                ),
                TestName::CoordinateOrder => (
                    evidence.coordinate_order.map(|order| order.correlation()),
                    evidence.coordinate_order.map_or(0, |o| o.pairs as u64),
                ),
                TestName::UnitSigns => (
                    evidence
                        .unit_signs
                        .map(|s| s.same as f64 / s.pairs.max(1) as f64),
                    evidence.unit_signs.map_or(0, |signs| signs.pairs),
                ),
                TestName::Agreement => (Some(evidence.agreement.share()), evidence.agreement.units),
            };
            TestOutput {
                name: test.name.name(),
                log10_p_value: test.ln_p_value.map(decimal),
                statistic,
                count,
                exact: test.name.is_exact(),
                null: test.name.null(),
            }
        };
        Self {
            model,
            suspect,
            related: verdict.related,
            p_value: verdict.ln_p_value.exp(),
            log10_p_value: decimal(verdict.ln_p_value),
            alpha: verdict.alpha,
            null: NULL,
            carried_by: verdict.carriers().map(TestName::name).collect(),
            tests: verdict.tests.iter().map(test).collect(),
            agreement_rate: verdict.agreement_rate,
            frame: found.frame.name(),
            tokens: found.tokens.map(|(basis, count)| TokensOutput {
                count,
                basis: basis.name(),
            }),
            mean_cosine: found.cosine,
            embedding_cka: found.embedding_cka,
            layers: found
                .layers
                .iter()
                .map(|layer| LayerOutput {
                    model_layer: layer.model_layer,
                    suspect_layer: layer.suspect_layer,
                    units: layer.agreement.units,
                    pairs: layer.pairs,
                    order: layer.order,
                    same_signs: layer.signs.map(|signs| signs.same),
                    agreeing: layer.agreement.agreeing,
                    mean_cosine: layer.cosine,
                })
                .collect(),
            seconds,
            threads: engine.threads(),
            isa: engine.isa().to_string(),
        }
    }

    /// What a test found, in words.
    fn finding(&self, test: &TestOutput) -> String {
        let Some(statistic) = test.statistic else {
            return match test.name {
                "unit_signs" => "not made: blocks without a gate".to_owned(),
                _ => "not made: too few tokens in common".to_owned(),
            };
        };
        let count = test.count;
        match test.name {
            "unit_signs" => format!("{:.1} % of {count} pairs alike", 100.0 * statistic),
            "agreement" => format!("{:.1} % of {count} units", 100.0 * statistic),
            _ => format!("correlation {statistic:.3} over {count} pairs"),
        }
    }
}

impl fmt::Display for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let relation = if self.related {
            "related to"
        } else {
            "not shown to be related to"
        };
        writeln!(f, "{}: {relation} {}", self.suspect, self.model)?;
        writeln!(
            f,
            "  p-value    {} (the smallest of {} tests, times {2}; related at {3:e} or less)",
            p_value(self.log10_p_value),
            self.tests.len(),
            self.tests.len(),
            self.alpha
        )?;
        let titles = [
            ("unit_order", "order of units"),
            ("unit_signs", "signs of units"),
            ("coordinate_order", "order of coordinates"),
            ("agreement", "agreement of gate and up"),
        ];
        for test in &self.tests {
            let title = titles.iter().find(|(name, _)| *name == test.name);
            let title = title.map_or(test.name, |(_, title)| title);
            let finding = self.finding(test);
            match test.log10_p_value {
                Some(log10) => writeln!(f, "  {title:<25} {finding:<37} p {}", p_value(log10))?,
                None => writeln!(f, "  {title:<25} {finding}")?,
            }
        }
        if self.related && self.carried_by == ["agreement"] {
            writeln!(
                f,
                "  basis      agreement alone: its null was measured, not proven, and somebody has undone what the other tests look at"
            )?;
        }
        writeln!(f, "  layers     {} compared", self.layers.len())?;
        write!(
            f,
            "  figures    mean cosine of matched units {:.3}",
            self.mean_cosine
        )?;
        if let Some(cka) = self.embedding_cka {
            write!(f, ", linear CKA of the embeddings {cka:.3}")?;
        }
        writeln!(f, " (not part of the verdict)")?;
        writeln!(f, "  null       {NULL};")?;
        writeln!(
            f,
            "             agreement: at most {:.0} % of units, as measured on unrelated models, not proven",
            100.0 * self.agreement_rate
        )?;
        let time = seconds::text(std::time::Duration::from_secs_f64(self.seconds));
        writeln!(
            f,
            "  time       {time} with loading, {} threads, {}",
            self.threads, self.isa
        )
    }
}
