//! The demo's steps that take more than a line.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use oml_core::check::{self, CheckReport, Control, DEFAULT_ALPHA};
use oml_core::fingerprint::FingerprintSet;
use oml_core::secret::OwnerSeed;
use oml_core::strategy::Strategy;
use oml_model::train::MAX_RECIPE_BYTES;
use toml::Table;

use super::super::embed::RECIPE;
use super::super::eval::{Data, DataArgs, Utility};
use super::super::generate::ChoiceArgs;
use super::super::workbench::{self, Opened};
use super::super::{answers, check as check_command, generate, keygen};
use super::{COUNT, DemoArgs, FINGERPRINTS, QUESTIONS, QUICK_COUNT};
use crate::files;
use crate::printer::Printer;

const QUICK_TEXT_TOKENS: u32 = 2048;
const QUICK_QUESTIONS: u32 = 40;

/// The owner that the flags name, or one of the demo's own inside its folder: the demo shows a pair, which spends it.
///
/// # Errors
/// When an owner file cannot be read or written.
pub(super) fn owner(args: &DemoArgs, printer: &Printer) -> anyhow::Result<OwnerSeed> {
    let inside = args.out.join("owner.json");
    let path = args.owner.as_deref().unwrap_or(&inside);
    if args.owner.is_some() || path.exists() {
        printer.note(format!(
            "The secret in {}: everything below is derived from it.",
            path.display()
        ));
        return workbench::owner(path);
    }
    printer.note(format!(
        "A new secret in {}: everything below is derived from it.",
        path.display()
    ));
    keygen::make(path)
}

/// The set in the demo's folder, made now if it is not there, with the time that took.
///
/// # Errors
/// When the set cannot be made, read or written.
pub(super) fn fingerprints(
    args: &DemoArgs,
    base: &mut Opened,
    owner: &OwnerSeed,
    printer: &Printer,
) -> anyhow::Result<(FingerprintSet, Option<Duration>)> {
    let path = args.out.join(FINGERPRINTS);
    if path.exists() {
        let set = workbench::fingerprints(&path, owner)?;
        printer.note(format!(
            "{} are already in {}.",
            set.count(),
            path.display()
        ));
        return Ok((set, None));
    }
    let choice = ChoiceArgs::with_count(if args.quick { QUICK_COUNT } else { COUNT });
    let started = Instant::now();
    let set = generate::make(base, owner, &choice, Vec::new(), printer)?;
    let elapsed = started.elapsed();
    generate::write(&set, owner, &path)?;
    printer.note(format!("{} in {}, encrypted.", set.count(), path.display()));
    Ok((set, Some(elapsed)))
}

/// Asks a model all queries.
///
/// # Errors
/// When the model's tokens are not the set's, or the model fails.
pub(super) fn check(
    opened: &mut Opened,
    set: &FingerprintSet,
    controls: &[Control],
) -> anyhow::Result<CheckReport> {
    let scores = check_command::scores(opened, set)?;
    Ok(check::check(set, &scores, controls, DEFAULT_ALPHA)?)
}

/// The base model as a control.
pub(super) fn control(path: &Path, base: &CheckReport) -> Control {
    Control {
        name: format!("the base model {}", workbench::model_name(path)),
        count: base.count,
        hits: base.hits,
    }
}

/// Utility of both models.
///
/// # Errors
/// When a model fails.
pub(super) fn utility(
    quick: bool,
    fingerprinted: &mut Opened,
    base: &mut Opened,
    printer: &Printer,
) -> anyhow::Result<Utility> {
    let mut data = DataArgs::default();
    if quick {
        data.text_tokens = QUICK_TEXT_TOKENS;
        data.questions = QUICK_QUESTIONS;
    }
    Utility::measure(fingerprinted, Some(base), &Data::new(&data)?, printer)
}

/// Both models' answers to ordinary questions.
///
/// # Errors
/// When a model fails.
pub(super) fn answers(
    base: &mut Opened,
    fingerprinted: &mut Opened,
) -> anyhow::Result<Vec<(&'static str, String, String)>> {
    let before = answers::answers(base, &QUESTIONS)?;
    let after = answers::answers(fingerprinted, &QUESTIONS)?;
    Ok(QUESTIONS
        .into_iter()
        .zip(before)
        .zip(after)
        .map(|((question, before), after)| (question, before, after))
        .collect())
}

/// What the set and the model in the demo's folder were made with, by name, whichever run made them.
///
/// # Errors
/// When the recipe beside the model cannot be read.
pub(super) fn settings(
    set: &FingerprintSet,
    marked: &Path,
) -> anyhow::Result<Vec<(String, String)>> {
    let header = set.header();
    let mut settings = vec![
        ("strategy", header.strategy.name().to_owned()),
        ("count", set.count().to_string()),
    ];
    if let Strategy::Perinucleus { writing, rule } = header.strategy {
        settings.extend([
            ("query_temperature", writing.temperature.to_string()),
            ("t", rule.threshold.to_string()),
            ("k", rule.candidates.to_string()),
        ]);
    }
    settings.extend([
        ("query_length", header.query_length.to_string()),
        ("response_length", header.response_length.to_string()),
    ]);
    let path = marked.join(RECIPE);
    let recipe: Table = files::read_text(&path, MAX_RECIPE_BYTES)?
        .parse()
        .with_context(|| format!("cannot read {} as TOML", path.display()))?;
    let generate = settings
        .into_iter()
        .map(|(key, value)| (format!("generate {key}"), value));
    let embed = recipe
        .into_iter()
        .map(|(key, value)| (format!("embed {key}"), value.to_string()));
    Ok(generate.chain(embed).collect())
}
