//! One run of training: from base model and set to a new model folder, with progress, saved states and Ctrl-C.

use std::path::Path;
use std::time::{Duration, Instant};

use indicatif::ProgressBar;
use oml_core::check;
use oml_core::fingerprint::FingerprintSet;
use oml_core::manifest::hex;
use oml_core::merkle::{Hash, keccak256};
use oml_core::model::LanguageModel as _;
use oml_core::prompt::{self, Prompt};
use oml_model::checkpoint::DType;
use oml_model::decoder::TrainingSequence;
use oml_model::engine::Engine;
use oml_model::train::{
    Embedder, Ending, Event, Flow, Material, Measured, Prompting, Recipe, StateError,
};

use super::super::{prompts, workbench};
use super::benign;
use super::instructions;
use super::memory;
use super::outcome::{self, Embedding, Trained};
use super::state::{Course, FrontierPoint, Resume, StateFolder};
use crate::error::WithHint as _;
use crate::files;
use crate::interrupt;
use crate::printer::Printer;
use crate::report::Moment;
use crate::seconds;

/// Steps of the bar per epoch.
const BAR_STEPS: f64 = 100.0;
/// Where no bar is drawn, a line is printed this often.
const LINE_EVERY: Duration = Duration::from_secs(15);

/// What is to be embedded where.
pub(crate) struct Job<'a> {
    pub(crate) engine: &'a Engine,
    pub(crate) base: &'a Path,
    /// What is trained: a whole set, or a copy's part of it.
    pub(crate) set: &'a FingerprintSet,
    /// Merkle root of the whole set.
    pub(crate) root: Hash,
    /// Licensee's copy that `set` is the part of.
    pub(crate) copy: Option<u32>,
    pub(crate) out: &'a Path,
    pub(crate) recipe: &'a Recipe,
    /// Text the model shall go on predicting; sampled where there is none.
    pub(crate) benign: Option<&'a Path>,
    /// Prompts to train queries in; the built-in list where there are none.
    pub(crate) prompts: Option<&'a Path>,
    /// What persistence is trained on; written by the base model where there is none.
    pub(crate) instructions: Option<&'a Path>,
    /// Whether adapters are written beside the weights they are merged into.
    pub(crate) save_adapter: bool,
    /// How the weights are stored; as in the base where nothing is said.
    pub(crate) dtype: Option<DType>,
    pub(crate) resume: Resume,
}

/// How a run ended.
pub(crate) enum Outcome {
    /// The model is in its folder.
    Done(Box<Embedding>),
    /// Ctrl-C; the state is saved.
    Stopped,
}

/// Trains and writes the result.
///
/// # Errors
/// When the base model, the set, the recipe or the text cannot be used together, or a file cannot be written.
pub(crate) fn embed(job: &Job<'_>, printer: &Printer) -> anyhow::Result<Outcome> {
    let started = Instant::now();
    let recipe = job.recipe.resolved(job.set.count());
    let job = &Job {
        recipe: &recipe,
        ..*job
    };
    anyhow::ensure!(
        !job.save_adapter || job.recipe.lora_rank > 0,
        "--save-adapter: expected a recipe with adapters, got lora_rank 0"
    );
    anyhow::ensure!(
        job.prompts.is_none() || job.recipe.augment > 0,
        "--prompts: expected a recipe that trains inside prompts, got augment 0"
    );
    interrupt::listen()?;
    files::refuse_existing(job.out)?;
    let folder = StateFolder::open(job.out, job.resume)?;
    // Now that no other run can put it there.
    files::refuse_existing(job.out)?;
    let mut base = workbench::open(job.engine, job.base, printer)?;
    interrupt::check()?;
    job.set
        .ensure_fits(&base.tokenizer.hash(), base.model.vocabulary_size())?;
    let digest = base.checkpoint.digest()?;
    if digest != job.set.header().model_digest {
        printer.warning(format!(
            "the fingerprints were made on another model than {}",
            base.name
        ));
    }
    let prompts = job
        .prompts
        .map_or_else(|| Ok(prompt::training()), prompts::read)?;
    let planned_bytes = memory::plan(job, &base, &prompts, printer)?;
    let base_hits = check::count_hits(job.set, &base.model.score(&job.set.continuations())?)?;
    interrupt::check()?;
    let text = benign::text(&mut base, &digest, job.recipe, job.benign, printer)?;
    interrupt::check()?;
    let instructions =
        instructions::sequences(&mut base, job.recipe, &text, job.instructions, printer)?;
    let identity = identity(job, &digest, &text.sequences, &prompts, &instructions)?;

    let spinner = printer.spinner("Preparing to train");
    let checkpoint = base.checkpoint;
    let mut embedder = Embedder::new(
        job.engine,
        &checkpoint,
        Some(base.model),
        Material {
            set: job.set,
            benign: &text,
            prompting: Some(Prompting::new(base.tokenizer, prompts)),
            instructions,
        },
        job.recipe,
    )?;
    drop(text);
    let resumed = load(&mut embedder, &folder, &identity, job)?;
    outcome::check_space(job, &checkpoint, &embedder, &folder)?;
    spinner.finish_and_clear();
    interrupt::check()?;
    let course = if resumed {
        folder.course()
    } else {
        Course::default()
    };
    if resumed {
        printer.note(format!(
            "Going on after epoch {}",
            embedder.progress().epoch
        ));
    }

    let mut watch = Watch::new(&folder, &identity, course, job.recipe, printer);
    watch.best = embedder.progress().best;
    let stopped = train(&mut embedder, &mut watch)? == Ending::Stopped;
    let mut course = std::mem::take(&mut watch.course);
    drop(watch);
    if stopped {
        embedder.save_state(&folder.state(), &identity)?;
        folder.keep(&course)?;
        return Ok(Outcome::Stopped);
    }
    if course.kept_share.is_none() {
        let spinner = printer.spinner("Walking back towards the base as far as recall holds");
        if let Some(walk) = embedder.interpolate(&checkpoint)? {
            let share = |sixteenths| f64::from(sixteenths) / 16.0;
            course.kept_share = Some(share(walk.kept));
            course.frontier = walk
                .points
                .iter()
                .map(|(sixteenths, measured)| FrontierPoint {
                    share: share(*sixteenths),
                    recall: measured.recall,
                    perplexity_ratio: measured.divergence.exp(),
                })
                .collect();
        }
        spinner.finish_and_clear();
    }
    let trained = Trained {
        checkpoint: &checkpoint,
        digest,
        embedder: &embedder,
        course: &course,
        base_hits,
        planned_bytes,
        tokenizer_hash: job.set.header().tokenizer_hash,
    };
    let mut embedding = match outcome::write(job, &trained, &folder, printer) {
        Ok(embedding) => embedding,
        Err(error) => {
            folder.discard_model();
            return Err(error).hint(keep_trained(&trained, &folder, &identity));
        }
    };
    folder.remove();
    embedding.elapsed = started.elapsed();
    if embedding.recall() < job.recipe.target_recall {
        printer.warning(format!(
            "recall: expected at least the recipe's target_recall {}, got {:.4} ({} of {})",
            job.recipe.target_recall,
            embedding.recall(),
            embedding.hits,
            embedding.count
        ));
    }
    Ok(Outcome::Done(Box::new(embedding)))
}

/// Goes back to a saved state, where there is one.
fn load(
    embedder: &mut Embedder,
    folder: &StateFolder,
    identity: &str,
    job: &Job<'_>,
) -> anyhow::Result<bool> {
    let loaded = embedder.load_state(&folder.state(), identity);
    let state = folder.path().display();
    match (&loaded, job.resume) {
        (
            Err(StateError::Format {
                field: "identity", ..
            }),
            Resume::IfAny,
        ) => {
            let parent = job.out.parent().unwrap_or(job.out).display();
            loaded.hint(format!(
                "The run that was stopped there was another: remove {parent}, or choose another --out."
            ))
        }
        (
            Err(StateError::Format {
                field: "identity", ..
            }),
            _,
        ) => loaded.hint(format!(
            "The base model, the fingerprints, the copy, the recipe or the benign text differ from those of the run that was stopped: \
             give the same, or remove {state} to start anew."
        )),
        (Err(StateError::Format { .. }), _) => {
            loaded.hint(format!("Remove {state} to start anew."))
        }
        _ => Ok(loaded?),
    }
}

/// Saves a finished training whose result could not be written, and says what can be done.
fn keep_trained(trained: &Trained<'_>, folder: &StateFolder, identity: &str) -> String {
    let kept = trained
        .embedder
        .save_state(&folder.state(), identity)
        .map_err(anyhow::Error::from)
        .and_then(|()| folder.keep(trained.course));
    match kept {
        Ok(()) => {
            "The training is saved: remove the fault, and go on with the same command and --resume."
                .to_owned()
        }
        Err(error) if folder.state().is_file() => format!(
            "The finished training could not be saved ({error:#}): remove the fault, and go on from the last state with --resume."
        ),
        Err(error) => format!("The finished training could not be saved either: {error:#}."),
    }
}

/// What a saved state belongs to: base, set, copy, recipe, text, and the prompts and instructions that the recipe asks for.
fn identity(
    job: &Job<'_>,
    digest: &[u8; 32],
    text: &[Vec<u32>],
    prompts: &[Prompt],
    instructions: &[TrainingSequence],
) -> anyhow::Result<String> {
    // What gives the same weights is the same run.
    let recipe = Recipe {
        gradient_checkpointing: false,
        ..job.recipe.clone()
    };
    let read = instructions.iter().map(|sequence| &sequence.ids);
    let ids: Vec<u8> = text
        .iter()
        .chain(read)
        .flatten()
        .flat_map(|id| id.to_le_bytes())
        .collect();
    let prompts = if job.recipe.augment > 0 {
        format!("{prompts:?}")
    } else {
        String::new()
    };
    let copy = job
        .copy
        .map_or(Vec::new(), |copy| copy.to_be_bytes().to_vec());
    Ok(hex(&keccak256(&[
        digest,
        &job.root,
        &copy,
        recipe.render()?.as_bytes(),
        &ids,
        prompts.as_bytes(),
    ])))
}

fn train(embedder: &mut Embedder, watch: &mut Watch<'_>) -> anyhow::Result<Ending> {
    let mut fault = None;
    // Both callbacks look after the same things, one after the other.
    let shared = std::cell::RefCell::new(&mut *watch);
    let ending = embedder.run(
        &mut |event| shared.borrow_mut().see(event),
        &mut |embedder| {
            if fault.is_none() {
                fault = shared.borrow_mut().save(embedder).err();
            }
        },
    );
    match fault {
        Some(error) => Err(error),
        None => Ok(ending?),
    }
}

/// Follows a run: bar, course, saved states, Ctrl-C.
struct Watch<'a> {
    folder: &'a StateFolder,
    identity: &'a str,
    printer: &'a Printer,
    bar: ProgressBar,
    course: Course,
    recipe: &'a Recipe,
    started: Instant,
    /// Seconds of training before this process.
    before: f64,
    first_epoch: Option<f64>,
    tokens: usize,
    saved: Instant,
    line: Instant,
    best: Option<Measured>,
    failed: bool,
}

impl<'a> Watch<'a> {
    fn new(
        folder: &'a StateFolder,
        identity: &'a str,
        course: Course,
        recipe: &'a Recipe,
        printer: &'a Printer,
    ) -> Self {
        let now = Instant::now();
        Self {
            folder,
            identity,
            printer,
            bar: printer.percent_bar((f64::from(recipe.epochs) * BAR_STEPS) as u64, "embed"),
            before: course.seconds(),
            course,
            recipe,
            started: now,
            first_epoch: None,
            tokens: 0,
            saved: now,
            line: now,
            best: None,
            failed: false,
        }
    }

    fn see(&mut self, event: &Event) -> Flow {
        let elapsed = self.started.elapsed();
        let seconds = self.before + elapsed.as_secs_f64();
        self.tokens += event.tokens;
        // A step on benign text alone, or an evaluation, has no loss of its own.
        let earlier = self.course.moments.last().map(|moment| moment.loss);
        let loss = if event.loss > 0.0 {
            Some(event.loss)
        } else {
            earlier
        };
        if let Some(loss) = loss {
            let recall = event
                .measured
                .map_or(event.running_recall, |measured| measured.recall);
            self.course.moments.push(Moment {
                seconds,
                loss,
                recall: Some(recall),
            });
        }
        let message = self.message(event, elapsed);
        self.bar.set_position((event.epoch * BAR_STEPS) as u64);
        if !self.printer.draws_progress()
            && (event.measured.is_some() || self.line.elapsed() > LINE_EVERY)
        {
            self.line = Instant::now();
            self.printer.note(format!(
                "epoch {:.1} of at most {}: {message}",
                event.epoch, self.recipe.epochs
            ));
        }
        self.bar.set_message(message);
        if interrupt::requested() || self.failed {
            Flow::Stop
        } else {
            Flow::Continue
        }
    }

    fn message(&mut self, event: &Event, elapsed: Duration) -> String {
        let first = *self.first_epoch.get_or_insert(event.epoch);
        let recall = event
            .measured
            .map_or(event.running_recall, |measured| measured.recall);
        let loss = self
            .course
            .moments
            .last()
            .map_or(event.loss, |moment| moment.loss);
        let rate = self.tokens as f64 / elapsed.as_secs_f64().max(1e-3);
        let done = event.epoch - first;
        let left = if done > 0.0 {
            let left =
                elapsed.mul_f64((f64::from(self.recipe.epochs) - event.epoch).max(0.0) / done);
            format!(", at most {} left", seconds::text(left))
        } else {
            String::new()
        };
        format!(
            "loss {loss:.3}, recall {:.1} %, {rate:.0} tokens/s{left}",
            100.0 * recall
        )
    }

    fn save(&mut self, embedder: &Embedder) -> anyhow::Result<()> {
        if embedder.progress().best != self.best {
            self.best = embedder.progress().best;
            self.course.kept_seconds = self.course.moments.last().map(|moment| moment.seconds);
        }
        if self.saved.elapsed().as_secs() < self.recipe.save_seconds {
            return Ok(());
        }
        let kept = embedder
            .save_state(&self.folder.state(), self.identity)
            .map_err(anyhow::Error::from)
            .and_then(|()| self.folder.keep(&self.course));
        self.saved = Instant::now();
        self.failed = kept.is_err();
        kept
    }
}

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
