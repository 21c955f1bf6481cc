//! Gradients at other weights than those that are trained: the trainer leaves its place, computes there, and comes back.

use super::{Trainer, trained};
use crate::{backend::Backend, decoder::TrainingSequence};

impl<B: Backend> Trainer<B> {
    /// Keeps the present weights, to come back to.
    pub(in crate::train) fn leave(&mut self) {
        let length = self.decoder.backend.length(self.parameters());
        let kept = self.kept.take();
        let mut kept = kept.unwrap_or_else(|| self.decoder.backend.buffer(length));
        let (backend, parameters) = trained(&mut self.decoder, &mut self.values);
        backend.copy(parameters, length, &mut kept);
        self.kept = Some(kept);
    }

    /// Goes back to the weights that were left.
    pub(in crate::train) fn come_back(&mut self) {
        let (backend, parameters) = trained(&mut self.decoder, &mut self.values);
        if let Some(kept) = &self.kept {
            backend.copy(kept, backend.length(kept), parameters);
        }
        self.publish_all();
    }

    /// `θ ← (1 − share)·θ + share·θ₀`.
    ///
    /// # Panics
    /// If [`Trainer::remember_base`] was not called.
    pub(in crate::train) fn blend(&mut self, share: f32) {
        let (backend, parameters) = trained(&mut self.decoder, &mut self.values);
        let Some(base) = &self.base else {
            panic!("averaging needs the base");
        };
        backend.mix(1.0 - share, parameters, share, base);
        self.publish_all();
    }

    /// One step of fine-tuning on these sequences, as somebody else would take it: against the gradient, so far that the root mean
    /// square of the weights' changes is `distance`. Nothing where there is no gradient.
    pub(in crate::train) fn stray(&mut self, sequences: &[&TrainingSequence], distance: f32) {
        self.accumulate(sequences, None, false);
        let (backend, parameters, gradients) = self.chosen_gradients();
        let squares = backend.sum_of_squares(gradients);
        let count = backend.length(gradients) as f64;
        let factor = f64::from(distance) * (count / squares).sqrt();
        if factor.is_finite() {
            backend.mix(1.0, parameters, -factor as f32, gradients);
        }
        self.publish_all();
    }
}
