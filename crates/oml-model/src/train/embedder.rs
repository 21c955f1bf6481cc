//! Embedding fingerprints: epochs over the set with benign text mixed in, measured as they go, the best state kept.

mod items;
mod step;
mod walk;

pub use walk::Walk;

use std::path::Path;

use oml_core::fingerprint::FingerprintSet;
use oml_kernels::Floats;
use thiserror::Error;

pub(super) use items::predictions;
use items::{Items, ensure_readable, followers};
use step::Draw;

use super::recipe::{AverageAt, BenignTarget};
use super::{BenignText, Prompting, Recipe, RecipeError, Subset, Trainer, trainable};
use crate::{
    backend::{Backend, Cpu, Directions, RowLoss, Teacher, Weight},
    causal::{CausalModel, RequestError},
    checkpoint::{Checkpoint, CheckpointError, write_adapter},
    decoder::{Adapters, Batch, LoadError, TrainingSequence, groups},
    engine::Engine,
    sampler::SequenceRandom,
    tokenizer::TokenizerError,
};

/// Why embedding could not begin or go on.
#[derive(Debug, Error)]
pub enum EmbedError {
    /// The recipe cannot be followed.
    #[error(transparent)]
    Recipe(#[from] RecipeError),
    /// The model could not be loaded.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// A fingerprint does not fit the model.
    #[error("fingerprint {index}: {source}")]
    Fingerprint {
        /// Its index in the set.
        index: u64,
        /// What does not fit.
        source: RequestError,
    },
    /// What training needs was freed.
    #[error("the run is finished: it cannot be trained further")]
    Finished,
    /// A loss or a gradient is no longer a number.
    #[error(
        "training diverged after step {step}: expected finite losses and gradients; a lower learning rate may help"
    )]
    Diverged {
        /// Steps done before.
        step: u32,
    },
    /// A benign sequence does not fit the model.
    #[error("benign text: {source}")]
    Benign {
        /// What does not fit.
        source: RequestError,
    },
    /// The recipe wants prompts around the queries, and none was given that this model's tokenizer can render.
    #[error("prompts: expected at least one that this tokenizer can render, got none")]
    NoPrompts,
    /// With its longest prompt or padding, the longest query does not fit the model.
    #[error("prompts: expected at most {limit} tokens with query and response, got {got}")]
    Prompt {
        /// Tokens of the longest.
        got: usize,
        /// What the model reads.
        limit: usize,
    },
    /// A query cannot be put into a prompt.
    #[error("prompts: {0}")]
    Prompting(#[from] TokenizerError),
    /// The recipe wants steps of fine-tuning, and there is nothing to take them on.
    #[error("instructions: expected at least one sequence for persist_steps, got none")]
    NoInstructions,
    /// There is no benign text though the recipe wants some.
    #[error("benign text: expected at least 8 sequences, got {got}")]
    TooLittleBenignText {
        /// Sequences there are.
        got: usize,
    },
}

/// A measured state of the model.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Measured {
    /// Share of the fingerprints that come back.
    pub recall: f64,
    /// The same inside prompts out of those that are trained with, one for each fingerprint; `None` where the recipe has none.
    pub prompted: Option<f64>,
    /// Mean `KL(base ‖ model)` per token on held-out benign text, in nats.
    pub divergence: f64,
}

impl Measured {
    /// Whether this state is to be preferred: more recall up to the targets, then less divergence.
    fn beats(&self, other: &Self, recipe: &Recipe) -> bool {
        let score = |measured: &Self| {
            let prompted = measured.prompted.unwrap_or_default();
            measured.recall.min(recipe.target_recall) + prompted.min(recipe.target_prompted_recall)
        };
        let (own, its) = (score(self), score(other));
        own > its || (own == its && self.divergence < other.divergence)
    }
}

/// What a run reports while it goes on.
#[derive(Clone, Copy, Debug)]
pub struct Event {
    /// Epochs done, with the share of the present one.
    pub epoch: f64,
    /// Steps done.
    pub step: u32,
    /// Mean loss per fingerprint token of the last step, in nats.
    pub loss: f64,
    /// Divergence from the base on the step's benign text, in nats per token.
    pub benign_loss: f64,
    /// Share of fingerprints that came back when they were last trained.
    pub running_recall: f64,
    /// Tokens trained since the last event.
    pub tokens: usize,
    /// Set after an evaluation.
    pub measured: Option<Measured>,
}

/// What the caller wants after an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// Go on.
    Continue,
    /// Stop at once; the state can be saved and resumed.
    Stop,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The target was reached and settled.
    Target,
    /// All epochs are done.
    Epochs,
    /// The caller stopped it.
    Stopped,
}

/// What must survive besides parameters and moments.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Progress {
    /// Epochs done.
    pub epoch: u32,
    /// Items of the epoch under way, in order; empty before its first step.
    pub order: Vec<usize>,
    /// Steps done of the epoch under way.
    pub steps: usize,
    /// Each training item's loss when it was last trained.
    pub losses: Vec<f32>,
    /// Whether each item came back then.
    pub hits: Vec<bool>,
    /// Epoch in which the target was first measured.
    pub reached: Option<u32>,
    /// The best state's measures.
    pub best: Option<Measured>,
}

/// What a run works with.
pub struct Material<'a> {
    /// The fingerprints.
    pub set: &'a FingerprintSet,
    /// What the model shall go on saying as before; may be empty where the recipe draws none.
    pub benign: &'a BenignText,
    /// Prompts around the queries, where the recipe augments.
    pub prompting: Option<Prompting>,
    /// What a fine-tuning would train on, where the recipe trains for persistence.
    pub instructions: Vec<TrainingSequence>,
}

/// A run of embedding.
pub struct Embedder {
    trainer: Trainer<Cpu>,
    recipe: Recipe,
    items: Items,
    benign: Vec<TrainingSequence>,
    held_out: Vec<TrainingSequence>,
    instructions: Vec<TrainingSequence>,
    hidden: Floats,
    head: Option<Weight>,
    progress: Progress,
    best: Option<Vec<f32>>,
    finished: bool,
}

impl Embedder {
    /// Loads the model and prepares the run. `base` gives the benign text's hidden states and is dropped before training memory is taken.
    ///
    /// # Errors
    /// A recipe that cannot be followed, a model that cannot be loaded, a fingerprint that does not fit it, or too little benign text.
    pub fn new(
        engine: &Engine,
        checkpoint: &Checkpoint,
        base: Option<CausalModel>,
        material: Material<'_>,
        recipe: &Recipe,
    ) -> Result<Self, EmbedError> {
        recipe.validate()?;
        let Material {
            set,
            benign,
            prompting,
            instructions,
        } = material;
        if recipe.persist_steps > 0 && instructions.is_empty() {
            return Err(EmbedError::NoInstructions);
        }
        let limit = checkpoint.config().longest_sequence();
        let items = Items::new(set, checkpoint.config(), recipe, prompting)?;
        let mut backend = engine.cpu();
        let mixing = recipe.kl_weight > 0.0 && recipe.benign_batch > 0;
        let (mut sequences, mut hidden, mut head) = (Vec::new(), backend.buffer(0), None);
        if let (true, Some(mut base)) = (mixing, base) {
            if benign.sequences.len() < 8 {
                return Err(EmbedError::TooLittleBenignText {
                    got: benign.sequences.len(),
                });
            }
            ensure_readable(benign, limit, checkpoint.config().vocab_size)?;
            let states = benign.hidden_states(&mut base);
            hidden = backend.buffer(states.len());
            backend.upload(&states, &mut hidden, 0);
            sequences = followers(benign);
            head = Some(teacher_head(&mut backend, checkpoint)?);
        }
        let layers = checkpoint.config().num_hidden_layers;
        let adapters = recipe.adapters(layers)?;
        let mut decoder = trainable(backend, checkpoint, adapters.as_ref(), recipe.seed)?;
        decoder.checkpoints = recipe.gradient_checkpointing;
        let subset = match &decoder.adapters {
            Some(_) => None,
            None => Subset::choose(recipe, &decoder.weights.map, checkpoint.config())?,
        };
        let mut trainer = Trainer::new(decoder, recipe.optimizer(), recipe.micro_batch_tokens);
        if let Some(subset) = subset {
            trainer.restrict(subset);
        }
        if recipe.mask_share > 0.0 {
            let views: Vec<&TrainingSequence> = items.plain().iter().collect();
            if !trainer.mask(recipe.mask_share, &views).are_finite() {
                return Err(EmbedError::Diverged { step: 0 });
            }
        }
        if recipe.needs_base() {
            trainer.remember_base();
        }
        let progress = Progress {
            losses: vec![f32::INFINITY; items.len()],
            hits: vec![false; items.len()],
            ..Progress::default()
        };
        let held_out = sequences.split_off(sequences.len() - sequences.len() / 8);
        if recipe.benign_target == BenignTarget::Text {
            sequences = predictions(&benign.sequences[..sequences.len()]);
        }
        Ok(Self {
            trainer,
            recipe: recipe.clone(),
            items,
            benign: sequences,
            held_out,
            instructions,
            hidden,
            head,
            progress,
            best: None,
            finished: false,
        })
    }

    /// Where the run stands.
    pub fn progress(&self) -> &Progress {
        &self.progress
    }

    /// The recipe of the run.
    pub fn recipe(&self) -> &Recipe {
        &self.recipe
    }

    /// The trainer inside.
    pub fn trainer(&self) -> &Trainer<Cpu> {
        &self.trainer
    }

    /// Parameters of the best state so far.
    pub fn best(&self) -> Option<&[f32]> {
        self.best.as_deref()
    }

    pub(super) fn trainer_mut(&mut self) -> &mut Trainer<Cpu> {
        &mut self.trainer
    }

    /// Steps of an epoch at most.
    pub(super) fn steps_per_epoch(&self) -> usize {
        self.items.len().div_ceil(self.recipe.batch_size).max(1)
    }

    /// Takes over where a saved run stood.
    pub(super) fn go_on_from(&mut self, progress: Progress, best: Option<Vec<f32>>) {
        self.progress = progress;
        self.best = best;
    }

    /// Trains until the target is reached and settled, the epochs are done, or the caller stops it.
    ///
    /// `saved` is called after each step and at the end of each epoch, when everything that must survive is consistent.
    ///
    /// # Errors
    /// The run is finished, or training diverged. The state is then that before the step, or holds numbers that no state is saved with.
    pub fn run(
        &mut self,
        control: &mut dyn FnMut(&Event) -> Flow,
        saved: &mut dyn FnMut(&Self),
    ) -> Result<Ending, EmbedError> {
        if self.finished {
            return Err(EmbedError::Finished);
        }
        loop {
            if self.is_settled() {
                return Ok(Ending::Target);
            }
            if self.progress.epoch >= self.recipe.epochs {
                return Ok(Ending::Epochs);
            }
            if self.epoch(control, saved)? == Flow::Stop {
                return Ok(Ending::Stopped);
            }
            self.progress.epoch += 1;
            let epoch = self.progress.epoch;
            let due = match self.progress.reached {
                Some(_) => epoch.is_multiple_of(self.recipe.full_pass_every) || self.is_settled(),
                None => {
                    let (running, prompted) = self.items.recall(&self.progress.hits);
                    epoch.is_multiple_of(self.recipe.evaluate_every)
                        || self.recipe.is_reached(running, prompted)
                }
            };
            let mut flow = Flow::Continue;
            if self.recipe.average > 0.0 && self.recipe.average_at == AverageAt::Epoch {
                self.trainer.blend(self.recipe.average);
            }
            if due || epoch == self.recipe.epochs {
                self.enter_average();
                let measured = self.evaluate()?;
                let is_number = measured.divergence.is_finite()
                    && !self.progress.losses.iter().any(|loss| loss.is_nan());
                if !is_number {
                    return Err(self.diverged());
                }
                if self
                    .progress
                    .best
                    .is_none_or(|best| measured.beats(&best, &self.recipe))
                {
                    self.progress.best = Some(measured);
                    let parameters = self.trainer.parameters();
                    match &mut self.best {
                        Some(best) => best.copy_from_slice(parameters),
                        None => self.best = Some(parameters.to_vec()),
                    }
                }
                self.leave_average();
                if self.recipe.is_reached(measured.recall, measured.prompted) {
                    self.progress.reached.get_or_insert(epoch);
                }
                let event = self.event(0.0, [0.0; 2], 0, Some(measured));
                flow = control(&event);
            }
            saved(self);
            if flow == Flow::Stop && !self.is_settled() {
                return Ok(Ending::Stopped);
            }
        }
    }

    /// Whether the target was reached long enough ago.
    fn is_settled(&self) -> bool {
        let settled = |reached: u32| reached.saturating_add(self.recipe.settle_epochs);
        self.progress
            .reached
            .is_some_and(|reached| self.progress.epoch >= settled(reached))
    }

    fn diverged(&self) -> EmbedError {
        EmbedError::Diverged {
            step: self.trainer.steps(),
        }
    }

    fn event(
        &self,
        share: f64,
        [loss, benign_loss]: [f64; 2],
        tokens: usize,
        measured: Option<Measured>,
    ) -> Event {
        Event {
            epoch: f64::from(self.progress.epoch) + share,
            step: self.trainer.steps(),
            loss,
            benign_loss,
            running_recall: self.running_recall(),
            tokens,
            measured,
        }
    }

    /// One pass over the fingerprints that are not learned yet, from where it stands.
    fn epoch(
        &mut self,
        control: &mut dyn FnMut(&Event) -> Flow,
        saved: &mut dyn FnMut(&Self),
    ) -> Result<Flow, EmbedError> {
        let (epoch, size) = (self.progress.epoch, self.recipe.batch_size);
        if self.progress.steps == 0 {
            let full = epoch.is_multiple_of(self.recipe.full_pass_every);
            let open = |i: &usize| {
                full || self.progress.losses[*i] > self.recipe.skip_loss || !self.progress.hits[*i]
            };
            let mut order: Vec<usize> = (0..self.items.len()).filter(open).collect();
            shuffle(&mut order, &mut self.random(0));
            self.progress.order = order;
        }
        // While it settles, the model is held to the benign text at least half as often as in a full pass.
        let least = if self.progress.reached.is_some() {
            self.items.len().div_ceil(2 * size)
        } else {
            1
        };
        let steps = self.progress.order.len().div_ceil(size).max(least);
        while self.progress.steps < steps {
            let step = self.progress.steps;
            let chosen: Vec<usize> = self
                .progress
                .order
                .iter()
                .skip(step * size)
                .take(size)
                .copied()
                .collect();
            let mut random = self.random(step as u64 + 1);
            let draws = if self.benign.is_empty() {
                0
            } else {
                self.recipe.benign_batch
            };
            let benign: Vec<usize> = (0..draws)
                .map(|_| (random.next_u64() % self.benign.len() as u64) as usize)
                .collect();
            if chosen.is_empty() && benign.is_empty() {
                self.progress.steps += 1;
                continue;
            }
            let share = (step + 1) as f64 / steps as f64;
            let progress = (f64::from(epoch) + share) / f64::from(self.recipe.epochs);
            let draw = Draw {
                chosen: &chosen,
                benign: &benign,
                random,
            };
            let event = self.step(draw, progress as f32, share)?;
            if control(&event) == Flow::Stop {
                return Ok(Flow::Stop);
            }
            saved(self);
        }
        self.progress.order.clear();
        self.progress.steps = 0;
        Ok(Flow::Continue)
    }

    /// The random stream of one place in the run.
    fn random(&self, place: u64) -> SequenceRandom {
        let mut random = SequenceRandom::new(self.recipe.seed);
        for part in [u64::from(self.progress.epoch), place] {
            random = SequenceRandom::new(random.next_u64() ^ part);
        }
        random
    }

    /// Share of fingerprints of which a response came back when it was last trained.
    fn running_recall(&self) -> f64 {
        self.items.recall(&self.progress.hits).0
    }

    /// Recall over the whole set and divergence on held-out benign text, in one forward pass each.
    ///
    /// # Errors
    /// A query that cannot be put into a prompt.
    pub fn evaluate(&mut self) -> Result<Measured, EmbedError> {
        let items: Vec<TrainingSequence> = (0..self.items.len())
            .map(|i| {
                // The same prompt in every evaluation.
                let place = self.recipe.seed ^ 0x7072_6f6d_7074 ^ (i as u64) << 20;
                self.items.sequence(i, &mut SequenceRandom::new(place))
            })
            .collect::<Result<_, _>>()?;
        for (i, rows) in self
            .losses(&items, false)
            .chunk_by(|a, b| a.0 == b.0)
            .enumerate()
        {
            let (loss, hit) = summary(rows.iter().map(|(_, row)| row));
            self.progress.hits[i] = hit;
            self.progress.losses[i] = (loss / rows.len() as f64) as f32;
        }
        let held_out = std::mem::take(&mut self.held_out);
        let rows = self.losses(&held_out, true);
        self.held_out = held_out;
        let total: f64 = rows.iter().map(|(_, row)| f64::from(row.loss)).sum();
        let (recall, prompted) = self.items.recall(&self.progress.hits);
        Ok(Measured {
            recall,
            prompted,
            divergence: total / rows.len().max(1) as f64,
        })
    }

    /// Each sequence's number and result for each of its objectives.
    fn losses(&mut self, sequences: &[TrainingSequence], follow: bool) -> Vec<(usize, RowLoss)> {
        let mut losses = Vec::new();
        for group in groups(
            sequences.iter().map(|s| s.ids.len()),
            self.recipe.micro_batch_tokens,
        ) {
            let views: Vec<&TrainingSequence> = sequences[group.clone()].iter().collect();
            let teacher = self.head.as_ref().filter(|_| follow).map(|head| Teacher {
                hidden: &self.hidden,
                head,
            });
            let rows = self
                .trainer
                .decoder
                .losses(&Batch::training(&views), teacher);
            let owners = group.flat_map(|i| std::iter::repeat_n(i, sequences[i].objectives.len()));
            losses.extend(owners.zip(rows));
        }
        losses
    }

    /// Writes the adapters of the best state (or of the present one, as [`Embedder::tensor`]) as PEFT reads them, into the new folder `out`;
    /// `false` where the weights themselves are trained.
    ///
    /// # Errors
    /// As [`write_adapter`].
    pub fn write_adapter(&self, out: &Path, base: &str) -> Result<bool, CheckpointError> {
        let Some(Adapters { spec, map, .. }) = &self.trainer.decoder.adapters else {
            return Ok(false);
        };
        let values = self.best.as_deref().unwrap_or(self.trainer.parameters());
        write_adapter(out, spec, map, values, base)?;
        Ok(true)
    }

    /// Frees what training alone needs.
    fn finish(&mut self) {
        self.trainer.finish();
        self.finished = true;
    }

    /// Whether the run is finished and does not train any more.
    pub fn is_finished(&self) -> bool {
        self.finished
    }

    /// A tensor of the best state (or of the present one where there is none, as after [`Embedder::interpolate`]) under its Hugging Face name, adapters merged.
    ///
    /// # Errors
    /// Whatever the base checkpoint refuses.
    pub fn tensor(&self, base: &Checkpoint, name: &str, out: &mut [f32]) -> Result<(), LoadError> {
        let values = self.best.as_deref().unwrap_or(self.trainer.parameters());
        self.trainer.tensor(values, base, name, out)
    }
}

/// Summed loss, and whether every token came back.
fn summary<'a>(rows: impl Iterator<Item = &'a RowLoss>) -> (f64, bool) {
    rows.fold((0.0, true), |(loss, hit), row| {
        (loss + f64::from(row.loss), hit && row.hit)
    })
}

fn shuffle(items: &mut [usize], random: &mut SequenceRandom) {
    for i in (1..items.len()).rev() {
        items.swap(i, (random.next_u64() % (i as u64 + 1)) as usize);
    }
}

/// The base model's head, frozen.
fn teacher_head(backend: &mut Cpu, checkpoint: &Checkpoint) -> Result<Weight, LoadError> {
    let config = checkpoint.config();
    let (outputs, inputs) = (config.vocab_size, config.hidden_size);
    let mut values = vec![0.0; outputs * inputs];
    checkpoint.read_f32(&config.head_tensor(), &mut values)?;
    Ok(backend.weight_frozen(&values, outputs, inputs, Directions::Forward))
}
