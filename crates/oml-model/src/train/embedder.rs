//! Embedding fingerprints: epochs over the set with benign text mixed in, measured as they go, the best state kept.

mod items;
mod walk;

pub use walk::Walk;

use oml_core::fingerprint::FingerprintSet;
use oml_kernels::Floats;
use thiserror::Error;

use items::{ensure_readable, followers, items};

use super::{BenignText, Pull, Recipe, RecipeError, Subset, Trainer};
use crate::{
    backend::{Backend, Cpu, Directions, Objective, RowLoss, Teacher, Weight},
    causal::{CausalModel, RequestError, longest_sequence},
    checkpoint::Checkpoint,
    decoder::{
        AdapterSpec, Adapters, Batch, Decoder, LoadError, Mode, TrainingSequence, Weights, groups,
    },
    engine::Engine,
    sampler::SequenceRandom,
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
    /// Mean `KL(base ‖ model)` per token on held-out benign text, in nats.
    pub divergence: f64,
}

impl Measured {
    /// Whether this state is to be preferred: more recall up to the target, then less divergence.
    fn beats(&self, other: &Self, target: f64) -> bool {
        let (own, its) = (self.recall.min(target), other.recall.min(target));
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

/// A run of embedding.
pub struct Embedder {
    trainer: Trainer<Cpu>,
    recipe: Recipe,
    items: Vec<TrainingSequence>,
    /// The fingerprint of each item (one has several where it has alternative responses).
    owners: Vec<usize>,
    count: usize,
    benign: Vec<TrainingSequence>,
    held_out: Vec<TrainingSequence>,
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
        set: &FingerprintSet,
        base: Option<CausalModel>,
        benign: &BenignText,
        recipe: &Recipe,
    ) -> Result<Self, EmbedError> {
        recipe.validate()?;
        let limit = longest_sequence(checkpoint.config());
        let (items, owners) = items(set, limit, checkpoint.config().vocab_size)?;
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
        let held_out = sequences.split_off(sequences.len() - sequences.len() / 8);
        let decoder = if recipe.lora_rank > 0 {
            let weights = Weights::load(&mut backend, checkpoint, Mode::Frozen(Directions::Both))?;
            let mut decoder = Decoder::new(backend, checkpoint.config(), weights);
            let spec = AdapterSpec {
                rank: recipe.lora_rank,
                alpha: recipe.lora_alpha,
                target_modules: recipe.target_modules.clone(),
                layers: recipe.adapted_layers(checkpoint.config().num_hidden_layers)?,
                use_dora: recipe.use_dora,
            };
            let mut random = SequenceRandom::new(recipe.seed ^ 0x6c6f_7261);
            let sizes = *decoder.sizes();
            let uniform = &mut || random.uniform() as f32;
            let adapters = Adapters::new(&mut decoder.backend, &sizes, &spec, uniform);
            decoder.adapt(adapters);
            decoder
        } else {
            let weights = Weights::load(&mut backend, checkpoint, Mode::Trainable)?;
            Decoder::new(backend, checkpoint.config(), weights)
        };
        let layers = checkpoint.config().num_hidden_layers;
        let subset = match &decoder.adapters {
            Some(_) => None,
            None => Subset::choose(recipe, &decoder.weights.map, layers)?,
        };
        let mut trainer = Trainer::new(decoder, recipe.optimizer(), recipe.micro_batch_tokens);
        if let Some(subset) = subset {
            trainer.restrict(subset);
        }
        if recipe.mask_share > 0.0 {
            let views: Vec<&TrainingSequence> = items.iter().collect();
            if !trainer.mask(recipe.mask_share, &views).are_finite() {
                return Err(EmbedError::Diverged { step: 0 });
            }
        }
        if recipe.distance > 0.0 || recipe.average > 0.0 {
            trainer.remember_base();
        }
        let progress = Progress {
            losses: vec![f32::INFINITY; items.len()],
            hits: vec![false; items.len()],
            ..Progress::default()
        };
        let count = set.count();
        Ok(Self {
            trainer,
            recipe: recipe.clone(),
            items,
            owners,
            count,
            benign: sequences,
            held_out,
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
                    epoch.is_multiple_of(self.recipe.evaluate_every)
                        || self.running_recall() >= self.recipe.target_recall
                }
            };
            let mut flow = Flow::Continue;
            if due || epoch == self.recipe.epochs {
                let measured = self.evaluate();
                let is_number = measured.divergence.is_finite()
                    && !self.progress.losses.iter().any(|loss| loss.is_nan());
                if !is_number {
                    return Err(self.diverged());
                }
                if self
                    .progress
                    .best
                    .is_none_or(|best| measured.beats(&best, self.recipe.target_recall))
                {
                    self.progress.best = Some(measured);
                    let parameters = self.trainer.parameters();
                    match &mut self.best {
                        Some(best) => best.copy_from_slice(parameters),
                        None => self.best = Some(parameters.to_vec()),
                    }
                }
                if measured.recall >= self.recipe.target_recall {
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
            let event = self.step(&chosen, &benign, progress as f32, share)?;
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

    fn step(
        &mut self,
        chosen: &[usize],
        benign: &[usize],
        progress: f32,
        share: f64,
    ) -> Result<Event, EmbedError> {
        let rows: usize = chosen.iter().map(|i| self.items[*i].objectives.len()).sum();
        let benign_rows: usize = benign
            .iter()
            .map(|i| self.benign[*i].objectives.len())
            .sum();
        let weighted = |item: &TrainingSequence, factor: f32| {
            let mut item = item.clone();
            for (_, objective) in &mut item.objectives {
                let (Objective::Token { weight, .. } | Objective::Teacher { weight, .. }) =
                    objective;
                *weight = factor;
            }
            item
        };
        // A small batch of stragglers weighs as much per fingerprint as a full one.
        let whole = (self.recipe.batch_size * rows).max(1) as f32 / chosen.len().max(1) as f32;
        let benign_factor = self.recipe.kl_weight / benign_rows.max(1) as f32;
        let sequences: Vec<TrainingSequence> = chosen
            .iter()
            .map(|i| weighted(&self.items[*i], 1.0 / whole))
            .chain(
                benign
                    .iter()
                    .map(|i| weighted(&self.benign[*i], benign_factor)),
            )
            .collect();
        let views: Vec<&TrainingSequence> = sequences.iter().collect();
        let rate = self.recipe.learning_rate_at(self.trainer.steps(), progress);
        let pull = Pull {
            distance: self.recipe.distance,
            average: self.recipe.average,
        };
        let teacher = self.head.as_ref().map(|head| Teacher {
            hidden: &self.hidden,
            head,
        });
        let losses = self.trainer.step(&views, teacher, rate, pull);
        if !losses.are_finite() {
            return Err(self.diverged());
        }
        self.progress.steps += 1;

        let mut results = losses.rows.iter();
        let mut total = 0.0;
        for i in chosen {
            let (loss, hit) = summary(results.by_ref().take(self.items[*i].objectives.len()));
            total += loss;
            self.progress.losses[*i] = (loss / self.items[*i].objectives.len() as f64) as f32;
            self.progress.hits[*i] = hit;
        }
        let benign_total: f64 = results.map(|r| f64::from(r.loss)).sum();
        let tokens = sequences.iter().map(|s| s.ids.len()).sum();
        let means = [
            total / rows.max(1) as f64,
            benign_total / benign_rows.max(1) as f64,
        ];
        Ok(self.event(share, means, tokens, None))
    }

    /// Share of fingerprints of which a response came back when it was last trained.
    fn running_recall(&self) -> f64 {
        recall(&self.owners, &self.progress.hits, self.count)
    }

    /// Recall over the whole set and divergence on held-out benign text, in one forward pass each.
    pub fn evaluate(&mut self) -> Measured {
        let mut hits = vec![false; self.items.len()];
        for group in groups(
            self.items.iter().map(|i| i.ids.len()),
            self.recipe.micro_batch_tokens,
        ) {
            let views: Vec<&TrainingSequence> = self.items[group.clone()].iter().collect();
            let rows = self.trainer.decoder.losses(&Batch::training(&views), None);
            let mut rows = rows.iter();
            for i in group {
                let (loss, hit) = summary(rows.by_ref().take(self.items[i].objectives.len()));
                hits[i] = hit;
                self.progress.hits[i] = hit;
                self.progress.losses[i] = (loss / self.items[i].objectives.len() as f64) as f32;
            }
        }
        let (mut total, mut count) = (0.0, 0);
        for group in groups(
            self.held_out.iter().map(|i| i.ids.len()),
            self.recipe.micro_batch_tokens,
        ) {
            let views: Vec<&TrainingSequence> = self.held_out[group].iter().collect();
            let teacher = self.head.as_ref().map(|head| Teacher {
                hidden: &self.hidden,
                head,
            });
            for row in self
                .trainer
                .decoder
                .losses(&Batch::training(&views), teacher)
            {
                total += f64::from(row.loss);
                count += 1;
            }
        }
        Measured {
            recall: recall(&self.owners, &hits, self.count),
            divergence: total / f64::from(count.max(1)),
        }
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
        let decoder = &self.trainer.decoder;
        let values = self.best.as_deref().unwrap_or(self.trainer.parameters());
        match &decoder.adapters {
            None => {
                if let Some(subset) = self.trainer.subset() {
                    base.read_f32(name, out)?;
                    subset.overlay(values, name, out);
                } else if let Some(entry) = decoder.weights.map.get(name) {
                    out.copy_from_slice(&values[entry.range()]);
                } else {
                    base.read_f32(name, out)?;
                }
            }
            Some(adapters) => {
                base.read_f32(name, out)?;
                adapters.merge(values, name, out);
            }
        }
        Ok(())
    }
}

fn recall(owners: &[usize], hits: &[bool], count: usize) -> f64 {
    let mut back = vec![false; count];
    for (owner, hit) in owners.iter().zip(hits) {
        back[*owner] |= hit;
    }
    back.iter().filter(|b| **b).count() as f64 / count.max(1) as f64
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
    let name = if config.tie_word_embeddings {
        "model.embed_tokens.weight"
    } else {
        "lm_head.weight"
    };
    let mut values = vec![0.0; outputs * inputs];
    checkpoint.read_f32(name, &mut values)?;
    Ok(backend.weight_frozen(&values, outputs, inputs, Directions::Forward))
}
