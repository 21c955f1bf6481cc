//! Prompts around queries: where they come from, and how many fingerprints come back inside each.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use anyhow::Context as _;
use oml_core::check;
use oml_core::fingerprint::FingerprintSet;
use oml_core::manifest::prompts_file;
use oml_core::model::{Continuation, LanguageModel as _};
use oml_core::prompt::{self, Prompt};
use serde::Serialize;

use super::workbench::Opened;
use crate::files;
use crate::printer::Printer;

/// A list of prompts by name, or a file of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PromptList {
    Training,
    HeldOut,
    File(std::path::PathBuf),
}

impl FromStr for PromptList {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text {
            "training" => Self::Training,
            "held-out" => Self::HeldOut,
            path => Self::File(path.into()),
        })
    }
}

impl PromptList {
    /// The prompts.
    ///
    /// # Errors
    /// When the file is missing, or is not a list of prompts.
    pub(super) fn read(&self) -> anyhow::Result<Vec<Prompt>> {
        match self {
            Self::Training => Ok(prompt::training()),
            Self::HeldOut => Ok(prompt::held_out()),
            Self::File(path) => read(path),
        }
    }
}

/// The prompts of a file.
///
/// # Errors
/// When the file is missing, or is not a list of prompts.
pub(super) fn read(path: &Path) -> anyhow::Result<Vec<Prompt>> {
    let bytes = files::read(path, prompts_file::MAX_BYTES)?;
    let prompts = prompts_file::parse(&bytes);
    prompts.with_context(|| format!("cannot read {}", path.display()))
}

/// Fingerprints that come back inside one prompt.
#[derive(Serialize)]
pub(super) struct Prompted {
    prompt: String,
    pub(super) hits: usize,
    pub(super) count: usize,
}

impl fmt::Display for Prompted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let recall = 100.0 * self.hits as f64 / self.count as f64;
        write!(f, "{recall:>5.1} %  {}", self.prompt)
    }
}

/// Asks every query inside every prompt; conversations are left out where the model has no chat template.
///
/// # Errors
/// When a query cannot be put into a prompt, or the model fails.
pub(super) fn ask(
    opened: &mut Opened,
    set: &FingerprintSet,
    prompts: &[Prompt],
    printer: &Printer,
) -> anyhow::Result<Vec<Prompted>> {
    let takes = |prompt: &&Prompt| opened.tokenizer.takes(prompt);
    let prompts: Vec<&Prompt> = prompts.iter().filter(takes).collect();
    let bar = printer.bar(prompts.len() as u64, "ask");
    bar.set_message("inside prompts");
    let mut asked = Vec::with_capacity(prompts.len());
    for prompt in prompts {
        let mut contexts = Vec::with_capacity(set.count());
        for fingerprint in set.fingerprints() {
            contexts.push(opened.tokenizer.prompted(prompt, &fingerprint.query)?);
        }
        let mut items = Vec::with_capacity(set.count());
        for (fingerprint, context) in set.fingerprints().iter().zip(&contexts) {
            items.extend(fingerprint.responses.iter().map(|response| Continuation {
                context,
                continuation: &response.ids,
            }));
        }
        asked.push(Prompted {
            prompt: prompt.to_string(),
            hits: check::count_hits(set, &opened.model.score(&items)?)?,
            count: set.count(),
        });
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(asked)
}
