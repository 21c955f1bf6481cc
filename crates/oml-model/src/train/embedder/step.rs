//! One step of embedding: what it trains on, and at which weights the gradient is taken.

use super::{EmbedError, Embedder, Event, summary};
use crate::{
    backend::{Objective, Teacher},
    decoder::TrainingSequence,
    sampler::SequenceRandom,
    train::{Pull, StepLosses, recipe::AverageAt},
};

/// Where a step's gradient is taken.
#[derive(Clone, Copy, PartialEq)]
enum Place {
    /// At the weights that are trained.
    Own,
    /// At those averaged with the base.
    Averaged,
    /// The fingerprints' at those merged with this share of the base (pseudo-merge), the benign text's at the own.
    Merged(f32),
    /// The fingerprints' where a few steps of fine-tuning lead (first-order meta-learning, arXiv 1803.02999), the benign text's at the own.
    FineTuned,
}

/// What one step trains on.
pub(super) struct Draw<'a> {
    pub(super) chosen: &'a [usize],
    pub(super) benign: &'a [usize],
    /// Decides prompts, and the place of the gradient.
    pub(super) random: SequenceRandom,
}

impl Embedder {
    pub(super) fn step(
        &mut self,
        mut draw: Draw<'_>,
        progress: f32,
        share: f64,
    ) -> Result<Event, EmbedError> {
        let rows: usize = draw.chosen.iter().map(|i| self.items.rows(*i)).sum();
        let benign_rows: usize = draw
            .benign
            .iter()
            .map(|i| self.benign[*i].objectives.len())
            .sum();
        // A small batch of stragglers weighs as much per fingerprint as a full one.
        let whole = (self.recipe.batch_size * rows).max(1) as f32 / draw.chosen.len().max(1) as f32;
        let benign_factor = self.recipe.kl_weight / benign_rows.max(1) as f32;
        let mut sequences = Vec::with_capacity(draw.chosen.len() + draw.benign.len());
        for i in draw.chosen {
            let sequence = self.items.sequence(*i, &mut draw.random)?;
            sequences.push(weighted(sequence, 1.0 / whole));
        }
        sequences.extend(
            draw.benign
                .iter()
                .map(|i| weighted(self.benign[*i].clone(), benign_factor)),
        );
        let place = self.place(&mut draw.random);
        let losses = self.gradients(&sequences, draw.chosen.len(), place, &mut draw.random);
        let rate = self.recipe.learning_rate_at(self.trainer.steps(), progress);
        let every_step = self.recipe.average_at == AverageAt::Step;
        let pull = Pull {
            distance: self.recipe.distance,
            average: if every_step { self.recipe.average } else { 0.0 },
        };
        let losses = self.trainer.update(losses, rate, pull);
        if !losses.are_finite() {
            return Err(self.diverged());
        }
        self.progress.steps += 1;

        let mut results = losses.rows.iter();
        let mut total = 0.0;
        for i in draw.chosen {
            let (loss, hit) = summary(results.by_ref().take(self.items.rows(*i)));
            total += loss;
            self.progress.losses[*i] = (loss / self.items.rows(*i) as f64) as f32;
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

    fn place(&self, random: &mut SequenceRandom) -> Place {
        let recipe = &self.recipe;
        let step = self.trainer.steps();
        if recipe.average > 0.0 && recipe.average_at == AverageAt::Gradient {
            Place::Averaged
        } else if recipe.persist_steps > 0 && step.is_multiple_of(recipe.persist_every) {
            Place::FineTuned
        } else if recipe.merge_share > 0.0 {
            Place::Merged(recipe.merge_share * random.uniform() as f32)
        } else {
            Place::Own
        }
    }

    /// Losses and gradients of fingerprints (the first `count` sequences) and benign text, each where it belongs.
    fn gradients(
        &mut self,
        sequences: &[TrainingSequence],
        count: usize,
        place: Place,
        random: &mut SequenceRandom,
    ) -> StepLosses {
        let views: Vec<&TrainingSequence> = sequences.iter().collect();
        if matches!(place, Place::Own | Place::Averaged) || count == 0 {
            self.enter_average();
            let losses = self.accumulate(&views, false);
            self.leave_average();
            return losses;
        }
        self.trainer.leave();
        match place {
            Place::Merged(share) => self.trainer.blend(share),
            _ => {
                for _ in 0..self.recipe.persist_steps {
                    let mut draw = || random.next_u64() as usize % self.instructions.len();
                    let views: Vec<&TrainingSequence> = (0..self.recipe.persist_batch)
                        .map(|_| &self.instructions[draw()])
                        .collect();
                    self.trainer.stray(&views, self.recipe.persist_distance);
                }
            }
        }
        let mut losses = self.accumulate(&views[..count], false);
        self.trainer.come_back();
        if count < views.len() {
            let benign = self.accumulate(&views[count..], true);
            losses.loss += benign.loss;
            losses.rows.extend(benign.rows);
        }
        losses
    }

    fn accumulate(&mut self, views: &[&TrainingSequence], add: bool) -> StepLosses {
        let teacher = self.head.as_ref().map(|head| Teacher {
            hidden: &self.hidden,
            head,
        });
        self.trainer.accumulate(views, teacher, add)
    }

    /// Goes to the weights averaged with the base, where the recipe takes gradients there and its result is there.
    pub(super) fn enter_average(&mut self) {
        if self.averages() {
            self.trainer.leave();
            self.trainer.blend(self.recipe.average);
        }
    }

    /// Comes back from there.
    pub(super) fn leave_average(&mut self) {
        if self.averages() {
            self.trainer.come_back();
        }
    }

    fn averages(&self) -> bool {
        self.recipe.average > 0.0 && self.recipe.average_at == AverageAt::Gradient
    }
}

fn weighted(mut item: TrainingSequence, factor: f32) -> TrainingSequence {
    for (_, objective) in &mut item.objectives {
        let (Objective::Token { weight, .. } | Objective::Teacher { weight, .. }) = objective;
        *weight = factor;
    }
    item
}
