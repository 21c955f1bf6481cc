//! The demo's steps that take more than a line.

use std::path::Path;
use std::time::{Duration, Instant};

use oml_core::check::{self, CheckReport, Control, DEFAULT_ALPHA};
use oml_core::fingerprint::FingerprintSet;
use oml_core::secret::OwnerSeed;
use oml_model::train::Recipe;
use toml::Table;

use super::super::eval::{Data, DataArgs, Utility};
use super::super::generate::ChoiceArgs;
use super::super::workbench::{self, Opened};
use super::super::{answers, check as check_command, generate, keygen};
use super::{COUNT, DemoArgs, QUESTIONS, QUICK_COUNT};
use crate::files;
use crate::printer::Printer;

const QUICK_TEXT_TOKENS: u32 = 2048;
const QUICK_QUESTIONS: u32 = 40;

/// The owner that the flags name, the user's own, or a new one inside the demo's folder.
///
/// # Errors
/// When an owner file cannot be read or written.
pub(super) fn owner(args: &DemoArgs, printer: &Printer) -> anyhow::Result<OwnerSeed> {
    let inside = args.out.join("owner.json");
    let usual = files::default_owner_file()
        .ok()
        .filter(|path| path.exists());
    let path = match &args.owner.owner {
        Some(path) => path.clone(),
        None if inside.exists() => inside,
        None => usual.unwrap_or(inside),
    };
    if args.owner.owner.is_some() || path.exists() {
        printer.note(format!(
            "The secret in {}: everything below is derived from it.",
            path.display()
        ));
        return workbench::owner(&path);
    }
    printer.note(format!(
        "A new secret in {}: everything below is derived from it.",
        path.display()
    ));
    keygen::make(&path)
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
    let path = args.out.join("fingerprints.json");
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
    let set = generate::make(base, owner, &choice, printer)?;
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

/// Every setting of the demo, by name.
///
/// # Errors
/// When the recipe cannot be written as TOML.
pub(super) fn settings(args: &DemoArgs, recipe: &Recipe) -> anyhow::Result<Vec<(String, String)>> {
    let choice = ChoiceArgs::with_count(if args.quick { QUICK_COUNT } else { COUNT });
    let mut settings = vec![
        ("generate strategy".to_owned(), "perinucleus".to_owned()),
        ("generate count".to_owned(), choice.count.to_string()),
        ("generate t".to_owned(), choice.t.to_string()),
        ("generate k".to_owned(), choice.k.to_string()),
        (
            "generate query_length".to_owned(),
            choice.query_length.to_string(),
        ),
        (
            "generate response_length".to_owned(),
            choice.response_length.to_string(),
        ),
    ];
    let table: Table = recipe.render()?.parse()?;
    settings.extend(
        table
            .into_iter()
            .map(|(key, value)| (format!("embed {key}"), value.to_string())),
    );
    Ok(settings)
}
