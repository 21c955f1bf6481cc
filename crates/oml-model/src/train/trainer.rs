//! One optimizer step: gradients accumulated over packed micro-batches, clipped, and applied by the optimizer.

mod detour;

use super::{
    optimizer::{Optimizer, OptimizerOptions},
    subset::{Subset, largest},
};
use crate::{
    backend::{Backend, Objective, RowLoss, Teacher},
    decoder::{Batch, Decoder, TrainingSequence, groups},
};

/// What draws the weights back towards the base in every step.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Pull {
    /// Decoupled L2-SP penalty: `θ ← θ − lr·distance·(θ − θ₀)`.
    pub distance: f32,
    /// Weight averaging: `θ ← (1 − average)·θ + average·θ₀`.
    pub average: f32,
}

impl Pull {
    /// Whether the base is needed.
    pub fn is_active(self) -> bool {
        self.distance > 0.0 || self.average > 0.0
    }
}

/// The losses of one step.
#[derive(Clone, Debug, Default)]
pub struct StepLosses {
    /// Weighted sum over all objectives.
    pub loss: f64,
    /// Each objective's result, sequence by sequence.
    pub rows: Vec<RowLoss>,
    /// Norm of all gradients together before clipping, where it was asked for.
    pub gradient_norm: Option<f64>,
}

impl StepLosses {
    /// Whether loss and gradient are numbers.
    pub fn are_finite(&self) -> bool {
        self.loss.is_finite() && self.gradient_norm.is_none_or(f64::is_finite)
    }
}

/// A decoder with gradients and optimizer state. Trains the adapters where there are any, else a subset of the weights or all.
pub struct Trainer<B: Backend> {
    /// The model.
    pub decoder: Decoder<B>,
    optimizer: Optimizer<B>,
    micro_batch: usize,
    gradients: B::Buffer,
    /// The part of the weights that is trained, where these are not all, with its values side by side.
    subset: Option<Subset>,
    values: Option<B::Buffer>,
    /// Gradients of the elements of a mask.
    masked: Option<B::Buffer>,
    base: Option<B::Buffer>,
    /// The weights that were left for others.
    kept: Option<B::Buffer>,
    steps: u32,
}

impl<B: Backend> Trainer<B> {
    /// A trainer in whose micro-batches at most `micro_batch` tokens lie side by side.
    pub fn new(
        decoder: Decoder<B>,
        options: impl Into<OptimizerOptions>,
        micro_batch: usize,
    ) -> Self {
        let adapters = decoder.adapters.as_ref();
        let map = adapters.map_or(&decoder.weights.map, |a| &a.map);
        Self {
            optimizer: Optimizer::new(&decoder.backend, options.into(), map),
            gradients: decoder.backend.buffer(map.length()),
            decoder,
            micro_batch,
            subset: None,
            values: None,
            masked: None,
            base: None,
            kept: None,
            steps: 0,
        }
    }

    /// Trains these weights alone from now on.
    pub(super) fn restrict(&mut self, subset: Subset) {
        let backend = &mut self.decoder.backend;
        let options = *self.optimizer.options();
        self.optimizer = Optimizer::new(backend, options, &subset.optimized());
        self.gradients = backend.buffer(subset.map().length());
        let mut values = backend.buffer(subset.length());
        let mut part = Vec::new();
        for (place, range) in subset.runs(0, subset.length()) {
            part.resize(range.len(), 0.0);
            backend.download(&self.decoder.weights.flat, place, &mut part);
            backend.upload(&part, &mut values, range.start);
        }
        self.decoder.trained = Some(subset.trained());
        self.masked = subset.mask().map(|mask| backend.buffer(mask.len()));
        (self.subset, self.values) = (Some(subset), Some(values));
    }

    /// Keeps of a restricted trainer's elements the share with the largest gradients on these sequences.
    pub(super) fn mask(&mut self, share: f64, sequences: &[&TrainingSequence]) -> StepLosses {
        let losses = self.accumulate(sequences, None, false);
        let backend = &mut self.decoder.backend;
        let mut gradients = vec![0.0; backend.length(&self.gradients)];
        backend.download(&self.gradients, 0, &mut gradients);
        self.keep_mask(largest(&gradients, share));
        losses
    }

    /// Keeps these of a restricted trainer's elements, before its first step.
    pub(super) fn keep_mask(&mut self, mask: Vec<usize>) {
        if let Some(mut subset) = self.subset.take() {
            subset.set_mask(mask);
            self.restrict(subset);
            if self.base.is_some() {
                self.remember_base();
            }
        }
    }

    /// The part of the weights that is trained, where these are not all.
    pub fn subset(&self) -> Option<&Subset> {
        self.subset.as_ref()
    }

    /// Remembers the present weights as the base that [`Pull`] draws to.
    pub fn remember_base(&mut self) {
        let length = self.decoder.backend.length(self.parameters());
        let mut base = self.decoder.backend.buffer(length);
        let (backend, parameters) = trained(&mut self.decoder, &mut self.values);
        backend.copy(parameters, length, &mut base);
        self.base = Some(base);
    }

    /// Steps taken so far.
    pub fn steps(&self) -> u32 {
        self.steps
    }

    /// What is trained, flat: adapters, the values of a subset, or all weights.
    pub fn parameters(&self) -> &B::Buffer {
        match (&self.decoder.adapters, &self.values) {
            (Some(adapters), _) => &adapters.flat,
            (None, Some(values)) => values,
            (None, None) => &self.decoder.weights.flat,
        }
    }

    /// The optimizer.
    pub fn optimizer(&self) -> &Optimizer<B> {
        &self.optimizer
    }

    pub(super) fn optimizer_mut(&mut self) -> &mut Optimizer<B> {
        &mut self.optimizer
    }

    /// Gradients of the last step, flat: of adapters, of the tensors of a subset, or of all weights.
    pub fn gradients(&self) -> &B::Buffer {
        &self.gradients
    }

    /// Puts numbers in place of the parameters' from an element on.
    pub(super) fn put(&mut self, start: usize, values: &[f32]) {
        let (backend, parameters) = trained(&mut self.decoder, &mut self.values);
        backend.upload(values, parameters, start);
        self.publish(start, values.len());
    }

    fn publish_all(&mut self) {
        let count = self.decoder.backend.length(self.parameters());
        self.publish(0, count);
    }

    /// Puts trained values of a subset where the model reads them.
    fn publish(&mut self, start: usize, count: usize) {
        const PART: usize = 1 << 16;
        let (Some(subset), Some(values)) = (&self.subset, &self.values) else {
            return;
        };
        let Decoder {
            backend, weights, ..
        } = &mut self.decoder;
        let mut part = vec![0.0; PART.min(count)];
        let end = start + count;
        for start in (start..end).step_by(PART) {
            let part = &mut part[..PART.min(end - start)];
            backend.download(values, start, part);
            for (place, range) in subset.runs(start, part.len()) {
                let run = &part[range.start - start..range.end - start];
                backend.upload(run, &mut weights.flat, place);
            }
        }
    }

    /// Goes on counting steps from here.
    pub(super) fn set_steps(&mut self, steps: u32) {
        self.steps = steps;
    }

    /// Frees gradients, optimizer state, base and working memory of training; steps are no longer possible.
    pub(super) fn finish(&mut self) {
        let backend = &self.decoder.backend;
        (self.gradients, self.masked) = (backend.buffer(0), None);
        (self.base, self.kept) = (None, None);
        self.optimizer.finish(backend);
        self.decoder.forget_training();
    }

    /// Losses and gradients of all sequences together; the gradients stay in [`Trainer::gradients`], with `add` added to those there.
    pub fn accumulate(
        &mut self,
        sequences: &[&TrainingSequence],
        teacher: Option<Teacher<'_, B>>,
        add: bool,
    ) -> StepLosses {
        let mut losses = StepLosses::default();
        for (i, group) in groups(sequences.iter().map(|s| s.ids.len()), self.micro_batch)
            .into_iter()
            .enumerate()
        {
            let batch = Batch::training(&sequences[group]);
            let teacher = teacher.as_ref().map(|t| Teacher {
                hidden: t.hidden,
                head: t.head,
            });
            let rows = self.decoder.losses_and_gradients(
                &batch,
                teacher,
                &mut self.gradients,
                add || i > 0,
            );
            for (row, objective) in rows.iter().zip(&batch.objectives) {
                let (Objective::Token { weight, .. } | Objective::Teacher { weight, .. }) =
                    objective;
                losses.loss += f64::from(row.loss) * f64::from(*weight);
            }
            losses.rows.extend(rows);
        }
        losses
    }

    /// One step: gradients of all sequences together, clipped, then the optimizer's step with this learning rate and pull. Where the loss
    /// or the gradients' norm is not finite, parameters and optimizer stay as they are.
    ///
    /// # Panics
    /// If a pull is asked for and [`Trainer::remember_base`] was not called.
    pub fn step(
        &mut self,
        sequences: &[&TrainingSequence],
        teacher: Option<Teacher<'_, B>>,
        learning_rate: f32,
        pull: Pull,
    ) -> StepLosses {
        let losses = self.accumulate(sequences, teacher, false);
        self.update(losses, learning_rate, pull)
    }

    /// The second half of [`Trainer::step`]: what [`Trainer::accumulate`] has left is clipped and applied.
    ///
    /// # Panics
    /// As [`Trainer::step`].
    pub fn update(&mut self, mut losses: StepLosses, learning_rate: f32, pull: Pull) -> StepLosses {
        let limit = self.optimizer.options().adamw.max_grad_norm;
        let (backend, _, gradients) = self.chosen_gradients();
        let mut gradient_scale = 1.0;
        if let Some(limit) = limit {
            let norm = backend.sum_of_squares(gradients).sqrt();
            losses.gradient_norm = Some(norm);
            gradient_scale = (f64::from(limit) / (norm + 1e-6)).min(1.0) as f32;
        }
        if !losses.are_finite() {
            return losses;
        }
        self.steps = self.steps.saturating_add(1);
        assert!(
            self.base.is_some() || !pull.is_active(),
            "a pull needs the base"
        );
        let base = self.base.as_ref().filter(|_| pull.is_active());
        let (backend, parameters) = trained(&mut self.decoder, &mut self.values);
        let gradients = self.masked.as_ref().unwrap_or(&self.gradients);
        self.optimizer.step(
            backend,
            self.steps,
            (learning_rate, gradient_scale),
            pull,
            parameters,
            gradients,
            base,
        );
        self.publish_all();
        losses
    }

    /// The device, what is trained, and the gradients of that: with a mask those of its elements.
    fn chosen_gradients(&mut self) -> (&mut B, &mut B::Buffer, &B::Buffer) {
        let (backend, parameters) = trained(&mut self.decoder, &mut self.values);
        let mask = self.subset.as_ref().and_then(Subset::mask);
        let gradients = match (mask, &mut self.masked) {
            (Some(mask), Some(masked)) => {
                backend.gather(&self.gradients, mask, 1, masked);
                &*masked
            }
            _ => &self.gradients,
        };
        (backend, parameters, gradients)
    }
}

/// The device, and on it what is trained.
fn trained<'a, B: Backend>(
    decoder: &'a mut Decoder<B>,
    values: &'a mut Option<B::Buffer>,
) -> (&'a mut B, &'a mut B::Buffer) {
    let Decoder {
        backend,
        weights,
        adapters,
        ..
    } = decoder;
    let buffer = match (adapters, values) {
        (Some(adapters), _) => &mut adapters.flat,
        (None, Some(values)) => values,
        (None, None) => &mut weights.flat,
    };
    (backend, buffer)
}
