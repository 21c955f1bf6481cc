//! Controls: models that never saw the fingerprints, asked like the suspect and judged by the same rule.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use oml_core::audit::{Matcher, Put, Rule};
use oml_core::bundle::ControlResult;
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
    let mut runs = Vec::with_capacity(paths.len());
    for (place, path) in paths.iter().enumerate() {
        let mut opened = workbench::open(engine, path, printer)?;
        let hits = hits(&mut opened, asked, rule, wraps, printer)
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

fn hits(
    opened: &mut Opened,
    asked: &Asked,
    rule: Rule,
    wraps: &[Prompt],
    printer: &Printer,
) -> anyhow::Result<Vec<usize>> {
    let fingerprints = asked.set().fingerprints();
    let bar = printer.bar(fingerprints.len() as u64, "control");
    bar.set_message(opened.name.clone());
    let mut hits = Vec::new();
    let pairs: Vec<_> = asked.indices().into_iter().zip(fingerprints).collect();
    for round in pairs.chunks(ROUND) {
        interrupt::check()?;
        let puts = round.iter().flat_map(|(index, fingerprint)| {
            let put = |wrap| (wrap, Put::new(wrap, &fingerprint.query));
            wraps
                .iter()
                .filter(|wrap| opened.tokenizer.takes(wrap))
                .map(move |wrap| (*index, *fingerprint, put(wrap)))
        });
        let puts: Vec<_> = puts.collect();
        let texts: Vec<(&Prompt, &Put)> = puts
            .iter()
            .map(|(_, _, (wrap, put))| (*wrap, put))
            .collect();
        let answers = suspect::texts(opened, &texts, rule.tokens)?;
        let matcher = Matcher::new(rule, Some(&opened.tokenizer as &dyn Tokenizer));
        for ((index, fingerprint, (_, put)), answer) in puts.iter().zip(answers) {
            let responses: Vec<&str> = fingerprint
                .responses
                .iter()
                .map(|response| response.text.as_str())
                .collect();
            if hits.last() != Some(index) && matcher.is_hit(&put.text, &responses, &answer)? {
                hits.push(*index);
            }
        }
        bar.inc(round.len() as u64);
    }
    bar.finish_and_clear();
    Ok(hits)
}
