//! Controls: models that never saw the fingerprints, asked like the suspect and judged by the same rule.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use oml_core::audit::{Matcher, Put, Rule};
use oml_core::bundle::ControlResult;
use oml_core::fingerprint::Fingerprint;
use oml_core::manifest::controls_file;
use oml_core::prompt::Prompt;
use oml_core::tokenizer::Tokenizer;
use oml_model::engine::Engine;

use super::suspect;
use crate::commands::asked::Asked;
use crate::commands::workbench::{self, Opened};
use crate::files::{self, Access, Existing};
use crate::interrupt;
use crate::printer::Printer;

/// Queries that a control is asked side by side.
const ROUND: usize = 64;

/// The file of what controls answered, beside the transcript in `out`.
pub(in crate::commands) fn path(out: &Path) -> PathBuf {
    let mut name = out.as_os_str().to_owned();
    name.push(".controls.json");
    PathBuf::from(name)
}

/// Keeps what the controls answered, for a claim.
///
/// # Errors
/// When the file cannot be written.
pub(super) fn write(out: &Path, controls: &[ControlResult]) -> anyhow::Result<()> {
    if controls.is_empty() {
        return Ok(());
    }
    let bytes = controls_file::render(controls)?;
    files::write_whole(&path(out), &bytes, Access::Private, Existing::Replace)
}

/// What the controls of a stopped audit answered; nothing where it had none.
///
/// # Errors
/// When the file is there and cannot be read.
pub(super) fn read(out: &Path) -> anyhow::Result<Vec<ControlResult>> {
    let path = path(out);
    if !path.exists() {
        return Ok(Vec::new());
    }
    let controls = controls_file::parse(&files::read(&path, controls_file::MAX_BYTES)?);
    controls.with_context(|| format!("cannot read {}", path.display()))
}

/// Asks each control every fingerprint inside every wrap. The first one is handed to `first` as well, while it is open.
///
/// # Errors
/// When a model cannot be read or fails.
pub(super) fn run(
    paths: &[PathBuf],
    asked: &Asked,
    rule: Rule,
    wraps: &[Prompt],
    engine: &Engine,
    printer: &Printer,
    mut first: impl FnMut(&mut Opened) -> anyhow::Result<()>,
) -> anyhow::Result<Vec<ControlResult>> {
    let indices = asked.indices().into_iter();
    let pairs = indices.zip(asked.set().fingerprints());
    // In a slice the pairs are numbered anew.
    let pairs = pairs.map(|(index, fingerprint)| Pair {
        index,
        ..Pair::from(fingerprint)
    });
    let pairs: Vec<Pair<'_>> = pairs.collect();
    let mut runs = Vec::with_capacity(paths.len());
    for (place, path) in paths.iter().enumerate() {
        let mut opened = workbench::open(engine, path, printer)?;
        let hits = hits(&mut opened, rule, wraps, &pairs, printer)
            .with_context(|| format!("cannot ask {}", path.display()))?;
        if place == 0 {
            first(&mut opened)?;
        }
        let digest = opened.checkpoint.digest()?;
        let name = opened.name.clone();
        runs.push(ControlResult::new(name, digest, &asked.indices(), &hits));
    }
    Ok(runs)
}

/// A pair by its number in the whole set and its texts.
pub(in crate::commands) struct Pair<'a> {
    pub(in crate::commands) index: usize,
    pub(in crate::commands) query: &'a str,
    pub(in crate::commands) responses: Vec<&'a str>,
}

impl<'a> From<&'a Fingerprint> for Pair<'a> {
    fn from(fingerprint: &'a Fingerprint) -> Self {
        let texts = fingerprint.responses.iter();
        Self {
            index: fingerprint.index,
            query: &fingerprint.query,
            responses: texts.map(|response| response.text.as_str()).collect(),
        }
    }
}

/// Numbers of the pairs that `model` answers inside any wrap that it takes.
///
/// # Errors
/// After Ctrl-C, or when the model fails.
pub(in crate::commands) fn hits(
    model: &mut Opened,
    rule: Rule,
    wraps: &[Prompt],
    pairs: &[Pair<'_>],
    printer: &Printer,
) -> anyhow::Result<Vec<usize>> {
    let bar = printer.bar(pairs.len() as u64, "asking");
    bar.set_message(model.name.clone());
    let mut hits = Vec::new();
    for round in pairs.chunks(ROUND) {
        interrupt::check()?;
        let mut puts: Vec<(&Pair<'_>, &Prompt, Put)> = Vec::new();
        for pair in round {
            let takes = wraps.iter().filter(|wrap| model.tokenizer.takes(wrap));
            puts.extend(takes.map(|wrap| (pair, wrap, Put::new(wrap, pair.query))));
        }
        let questions: Vec<_> = puts.iter().map(|(_, wrap, put)| (*wrap, put)).collect();
        let answers = suspect::texts(model, &questions, rule.tokens)?;
        let matcher = Matcher::new(rule, Some(&model.tokenizer as &dyn Tokenizer));
        for ((pair, _, put), answer) in puts.iter().zip(answers) {
            if hits.last() != Some(&pair.index)
                && matcher.is_hit(&put.text, &pair.responses, &answer)?
            {
                hits.push(pair.index);
            }
        }
        bar.inc(round.len() as u64);
    }
    bar.finish_and_clear();
    Ok(hits)
}
