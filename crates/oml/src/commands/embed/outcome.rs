//! The result of a run: the model folder, put together beside its place, measured, described by a manifest, and moved in.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use anyhow::Context as _;
use oml_core::check;
use oml_core::manifest::hex;
use oml_core::manifest::model_manifest::{self, Measurement, ModelManifest};
use oml_core::model::LanguageModel as _;
use oml_model::checkpoint::{Checkpoint, DType, write_model};
use oml_model::eval::{self, Comparison, Measured, Windows};
use oml_model::train::Embedder;

use super::super::workbench::{self, Opened};
use super::state::{Course, FrontierPoint, StateFolder};
use super::training::Job;
use crate::eval::Text;
use crate::files::{self, Access, Existing};
use crate::printer::Printer;

/// Files of ours beside the weights.
pub(crate) const MANIFEST: &str = "oml-manifest.json";
pub(crate) const RECIPE: &str = "oml-recipe.toml";
pub(crate) const TRAINING: &str = "oml-training.json";
const ADAPTER: &str = "adapter";
const TEXT_TOKENS: usize = 8192;
const WINDOW: usize = 512;

/// A finished training and what it started from.
pub(super) struct Trained<'a> {
    pub(super) checkpoint: &'a Checkpoint,
    pub(super) digest: [u8; 32],
    pub(super) tokenizer_hash: [u8; 32],
    pub(super) embedder: &'a Embedder,
    pub(super) course: &'a Course,
    pub(super) base_hits: usize,
    pub(super) planned_bytes: u64,
}

/// What a run has brought.
pub(crate) struct Embedding {
    pub(crate) count: usize,
    /// Of the written model.
    pub(crate) hits: usize,
    pub(crate) base_hits: usize,
    /// Recall inside prompts out of those that were trained with, one for each fingerprint.
    pub(crate) prompted_recall: Option<f64>,
    pub(crate) utility: Utility,
    /// Share of the way from the base that is kept of the best state.
    pub(crate) kept_share: Option<f64>,
    /// What was measured between the base and that state.
    pub(crate) frontier: Vec<FrontierPoint>,
    pub(crate) epochs: f64,
    pub(crate) steps: u32,
    pub(crate) merkle_root: String,
    pub(crate) digest: String,
    /// Memory at the peak, as planned.
    pub(crate) planned_bytes: u64,
    /// Training alone.
    pub(crate) training: Duration,
    /// The whole run.
    pub(crate) elapsed: Duration,
}

impl Embedding {
    /// Share of the fingerprints that the written model gives.
    pub(crate) fn recall(&self) -> f64 {
        self.hits as f64 / self.count as f64
    }
}

/// What the fingerprints cost, on the built-in text.
pub(crate) struct Utility {
    pub(crate) measured: Comparison,
    pub(crate) basis: String,
}

/// Writes the model, measures what was written, and moves it to its place.
///
/// # Errors
/// When a file cannot be written, or the model cannot be read again.
pub(super) fn write(
    job: &Job<'_>,
    trained: &Trained<'_>,
    folder: &StateFolder,
    printer: &Printer,
) -> anyhow::Result<Embedding> {
    let Trained {
        checkpoint,
        digest: base_digest,
        tokenizer_hash,
        embedder,
        course,
        base_hits,
        planned_bytes,
    } = *trained;
    let path = folder.model();
    let spinner = printer.spinner("Writing the model");
    let dtype = job
        .dtype
        .unwrap_or_else(|| workbench::stored_type(checkpoint));
    let mut supply = |name: &str, out: &mut [f32]| Ok(embedder.tensor(checkpoint, name, out)?);
    write_model(&path, checkpoint, dtype, &mut supply, &[])?;

    if job.save_adapter {
        embedder.write_adapter(&path.join(ADAPTER), &workbench::model_name(job.base))?;
    }

    spinner.set_message("Measuring what was written");
    let mut written = workbench::open(job.engine, &path, printer)?;
    let scores = written.model.score(&job.set.continuations())?;
    let hits = check::count_hits(job.set, &scores)?;
    let mut base = workbench::open(job.engine, job.base, printer)?;
    let utility = measure(&mut written, &mut base)?;
    drop(base);
    let digest = written.checkpoint.digest()?;
    drop(written);

    let count = job.set.count();
    let recipe = job.recipe.render()?;
    let manifest = ModelManifest {
        tool_version: env!("CARGO_PKG_VERSION").to_owned(),
        base_digest,
        result_digest: digest,
        tokenizer_hash,
        merkle_root: job.root,
        copy: job.copy,
        count,
        recipe: recipe.clone(),
        seeds: BTreeMap::from([("training".to_owned(), job.recipe.seed)]),
        recall: Measurement {
            name: "recall".to_owned(),
            value: hits as f64 / count as f64,
            stderr: None,
            base: Some(base_hits as f64 / count as f64),
            basis: format!(
                "{hits} of {count} fingerprints, greedy, teacher-forced, on the written weights"
            ),
        },
        utility: utility.measurements(),
    };
    let files = [
        (RECIPE, recipe.into_bytes()),
        (TRAINING, course.render()?),
        (MANIFEST, model_manifest::render(&manifest)?),
    ];
    for (name, bytes) in files {
        files::write_whole(&path.join(name), &bytes, Access::Shared, Existing::Refuse)?;
    }
    files::refuse_existing(job.out)?;
    fs::rename(&path, job.out)
        .with_context(|| format!("cannot move {} to {}", path.display(), job.out.display()))?;
    files::sync_folder_of(job.out)?;
    spinner.finish_and_clear();
    Ok(Embedding {
        count,
        hits,
        base_hits,
        prompted_recall: embedder.progress().best.and_then(|best| best.prompted),
        utility,
        planned_bytes,
        training: Duration::from_secs_f64(course.seconds()),
        kept_share: course.kept_share,
        frontier: course.frontier.clone(),
        epochs: f64::from(embedder.progress().epoch),
        steps: embedder.trainer().steps(),
        merkle_root: format!("0x{}", hex(&job.root)),
        digest: hex(&digest),
        elapsed: Duration::ZERO,
    })
}

/// Fails where there is no room for the weights and one state of the run, before any time goes into it.
///
/// # Errors
/// When there is too little space, or the system does not tell.
pub(super) fn check_space(
    job: &Job<'_>,
    checkpoint: &Checkpoint,
    embedder: &Embedder,
    folder: &StateFolder,
) -> anyhow::Result<()> {
    let dtype = job
        .dtype
        .unwrap_or_else(|| workbench::stored_type(checkpoint));
    let each = match dtype {
        DType::F32 => 4,
        _ => 2,
    };
    let weights = each
        * checkpoint
            .tensors()
            .map(|t| t.elements() as u64)
            .sum::<u64>();
    // Parameters, two moments and the best parameters, unless a state is there already.
    let state = match folder.state().is_file() {
        true => 0,
        false => 4 * 4 * embedder.trainer().parameters().len() as u64,
    };
    files::check_space(folder.path(), weights + state)
}

fn measure(written: &mut Opened, base: &mut Opened) -> anyhow::Result<Utility> {
    let text = Text::built_in();
    let window = WINDOW.min(written.model.longest_sequence());
    let windows = Windows::new(&written.tokenizer, &text.text, window, TEXT_TOKENS)?;
    Ok(Utility {
        measured: eval::compare(&mut written.model, &mut base.model, &windows)?,
        basis: format!(
            "{}, {} tokens in windows of {window}",
            text.name,
            windows.tokens()
        ),
    })
}

impl Utility {
    fn measurements(&self) -> Vec<Measurement> {
        let measurement = |name: &str, measured: Measured, base: Option<f64>| Measurement {
            name: name.to_owned(),
            value: measured.value,
            stderr: Some(measured.standard_error),
            base,
            basis: self.basis.clone(),
        };
        let Comparison {
            perplexity,
            base_perplexity,
            kl,
        } = self.measured;
        vec![
            measurement("perplexity", perplexity, Some(base_perplexity.value)),
            measurement("kl", kl, None),
        ]
    }
}
