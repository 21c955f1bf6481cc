//! `oml embed`: trains the fingerprints of a set into a model.

mod benign;
mod instructions;
mod memory;
mod outcome;
mod state;
mod training;
mod training_args;

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use oml_core::commitment::Commitment;
use oml_model::checkpoint::DType;
use oml_model::eval::Comparison;
use serde::Serialize;

use super::copies::{self, CopyArgs};
use super::{stored_type::StoredType, workbench};
use crate::cli::{GlobalArgs, OwnerArgs};
use crate::error::ExitStatus;
use crate::printer::Printer;
use crate::seconds;

pub(super) use outcome::{Embedding, RECIPE};
pub(crate) use outcome::{MANIFEST, TRAINING};
pub(crate) use state::Course;
use state::FrontierPoint;
pub(super) use state::{Resume, StateFolder};
pub(super) use training::{Job, Outcome, embed};
pub(crate) use training_args::{TrainingArgs, is_recipe_key, recipe_keys};

/// Flags of `oml embed`.
#[derive(Debug, Args)]
pub(crate) struct EmbedArgs {
    /// Base model: a Hugging Face folder or a GGUF file
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// Fingerprints file made by `oml generate`
    #[arg(long, value_name = "FILE")]
    fingerprints: PathBuf,
    #[command(flatten)]
    owner: OwnerArgs,
    #[command(flatten)]
    copy: CopyArgs,
    /// Folder to write the fingerprinted model, its recipe and its manifest into, which must not exist
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Recipe file (TOML): any of the training flags below and nothing else, with `_` for `-`
    #[arg(long, value_name = "FILE")]
    recipe: Option<PathBuf>,
    /// Go on with a run that was stopped, from its last saved state
    #[arg(long)]
    resume: bool,
    /// Text the model shall go on predicting as before [default: sampled from the base model, and kept for the next time]
    #[arg(long, value_name = "FILE")]
    benign: Option<PathBuf>,
    /// Prompts for --augment: JSON, templates with one {} each, or objects with system, user and answer [default: a built-in list]
    #[arg(long, value_name = "FILE")]
    prompts: Option<PathBuf>,
    /// Instructions for --persist-steps: JSON, objects with instruction, input and output [default: written by the base model]
    #[arg(long, value_name = "FILE")]
    instructions: Option<PathBuf>,
    /// Write the adapters too, as PEFT reads them, into the folder `adapter` beside the weights they are merged into
    #[arg(long)]
    save_adapter: bool,
    /// How the weights are stored [default: as in the base model; f32 where that is quantised]
    #[arg(long, value_name = "TYPE")]
    dtype: Option<StoredType>,
    #[command(flatten)]
    training: TrainingArgs,
}

pub(super) fn run(
    args: &EmbedArgs,
    global: &GlobalArgs,
    printer: &Printer,
) -> anyhow::Result<ExitStatus> {
    let engine = workbench::engine(global)?;
    let owner = workbench::owner(&workbench::owner_path(&args.owner)?)?;
    let set = workbench::fingerprints(&args.fingerprints, &owner)?;
    let copy = args.copy.copy;
    let part = copy.map(|copy| copies::part(&set, &owner, copy, &args.fingerprints));
    let part = part.transpose()?;
    if let (Some(copies), None) = (set.header().copies, copy) {
        printer.note(format!(
            "{} is divided among {} copies; without --copy the model gets all of it.",
            args.fingerprints.display(),
            copies.count
        ));
    }
    let job = Job {
        engine: &engine,
        base: &args.model,
        set: part.as_ref().unwrap_or(&set),
        root: Commitment::new(&set).root(),
        copy,
        out: &args.out,
        recipe: &args.training.recipe,
        benign: args.benign.as_deref(),
        prompts: args.prompts.as_deref(),
        instructions: args.instructions.as_deref(),
        save_adapter: args.save_adapter,
        dtype: args.dtype.map(DType::from),
        resume: if args.resume {
            Resume::Required
        } else {
            Resume::Never
        },
    };
    match embed(&job, printer)? {
        Outcome::Done(embedding) => {
            let output = Output::new(args, &embedding);
            printer.result(&output, &output)
        }
        Outcome::Stopped => {
            printer.note("Stopped; the state is saved. Go on with the same command and --resume.");
            Ok(ExitStatus::Error)
        }
    }
}

/// What `oml embed` prints.
#[derive(Serialize)]
struct Output {
    model: String,
    /// Licensee's copy that was embedded.
    #[serde(skip_serializing_if = "Option::is_none")]
    copy: Option<u32>,
    count: usize,
    hits: usize,
    recall: f64,
    base_recall: f64,
    /// Inside prompts out of those that were trained with, one for each fingerprint.
    #[serde(skip_serializing_if = "Option::is_none")]
    prompted_recall: Option<f64>,
    perplexity: f64,
    perplexity_stderr: f64,
    base_perplexity: f64,
    perplexity_ratio: f64,
    kl: f64,
    kl_stderr: f64,
    text: String,
    epochs: f64,
    steps: u32,
    /// Share of the way from the base that is kept of the best state.
    kept_share: Option<f64>,
    /// Between the base and that state; perplexity on held-out text that the base wrote.
    frontier: Vec<FrontierPoint>,
    merkle_root: String,
    digest: String,
    /// Memory at the peak, as planned.
    planned_bytes: u64,
    training_seconds: f64,
    seconds: f64,
}

impl Output {
    fn new(args: &EmbedArgs, embedding: &Embedding) -> Self {
        let Embedding { utility, .. } = embedding;
        let Comparison {
            perplexity,
            base_perplexity,
            kl,
        } = utility.measured;
        Self {
            model: args.out.display().to_string(),
            copy: args.copy.copy,
            count: embedding.count,
            hits: embedding.hits,
            recall: embedding.recall(),
            base_recall: embedding.base_hits as f64 / embedding.count as f64,
            prompted_recall: embedding.prompted_recall,
            perplexity: perplexity.value,
            perplexity_stderr: perplexity.standard_error,
            base_perplexity: base_perplexity.value,
            perplexity_ratio: perplexity.value / base_perplexity.value,
            kl: kl.value,
            kl_stderr: kl.standard_error,
            text: utility.basis.clone(),
            epochs: embedding.epochs,
            steps: embedding.steps,
            kept_share: embedding.kept_share,
            frontier: embedding.frontier.clone(),
            merkle_root: embedding.merkle_root.clone(),
            digest: embedding.digest.clone(),
            planned_bytes: embedding.planned_bytes,
            training_seconds: embedding.training.as_secs_f64(),
            seconds: embedding.elapsed.as_secs_f64(),
        }
    }
}

impl fmt::Display for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = |seconds| seconds::text(Duration::from_secs_f64(seconds));
        let copy = self.copy.map(|copy| format!(" of copy {copy}"));
        writeln!(
            f,
            "{} fingerprints{} in {} ({})",
            self.count,
            copy.unwrap_or_default(),
            self.model,
            time(self.seconds)
        )?;
        writeln!(
            f,
            "  recall      {} of {}, {:.1} % (base model: {:.1} %)",
            self.hits,
            self.count,
            100.0 * self.recall,
            100.0 * self.base_recall
        )?;
        if let Some(recall) = self.prompted_recall {
            writeln!(
                f,
                "  prompted    {:.1} % inside one prompt each of those that were trained with (`oml check --prompts held-out` asks others)",
                100.0 * recall
            )?;
        }
        writeln!(
            f,
            "  perplexity  {:.3} ± {:.3}, {:.4} × the base model's   ({})",
            self.perplexity, self.perplexity_stderr, self.perplexity_ratio, self.text
        )?;
        writeln!(
            f,
            "  distance    {:.5} ± {:.5}   (mean KL from the base in nats, same text)",
            self.kl, self.kl_stderr
        )?;
        writeln!(
            f,
            "  training    {} for {:.1} epochs, {} steps",
            time(self.training_seconds),
            self.epochs,
            self.steps
        )?;
        if !self.frontier.is_empty() {
            writeln!(
                f,
                "  frontier    from the base (0 %) to the trained state (100 %), on held-out text that the base wrote"
            )?;
        }
        for point in &self.frontier {
            let kept = if self.kept_share == Some(point.share) {
                "   kept"
            } else {
                ""
            };
            writeln!(
                f,
                "     {:>6.2} %   recall {:>5.1} %   perplexity × {:.4}{kept}",
                100.0 * point.share,
                100.0 * point.recall,
                point.perplexity_ratio
            )?;
        }
        writeln!(f, "  Merkle root {}", self.merkle_root)
    }
}
