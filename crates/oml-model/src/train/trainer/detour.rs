//! Gradients at other weights than those that are trained: the trainer leaves its place, computes there, and comes back.

use super::{Trainer, trained};
use crate::{
    backend::Backend,
    decoder::{Decoder, TrainingSequence},
};

impl<B: Backend> Trainer<B> {
    /// Keeps the present weights, to come back to.
    pub(in crate::train) fn leave(&mut self) {
        let length = self.decoder.backend.length(trained(&self.decoder));
        let mut kept = match self.kept.take() {
            Some(kept) => kept,
            None => self.decoder.backend.buffer(length),
        };
        self.with_trained(|backend, flat| backend.copy(flat, length, &mut kept));
        self.kept = Some(kept);
    }

    /// Goes back to the weights that were left.
    pub(in crate::train) fn come_back(&mut self) {
        if let Some(kept) = self.kept.take() {
            let length = self.decoder.backend.length(&kept);
            self.with_trained(|backend, flat| backend.copy(&kept, length, flat));
            self.kept = Some(kept);
        }
    }

    /// `θ ← (1 − share)·θ + share·θ₀`.
    ///
    /// # Panics
    /// If [`Trainer::remember_base`] was not called.
    pub(in crate::train) fn blend(&mut self, share: f32) {
        let Some(base) = self.base.take() else {
            panic!("averaging needs the base");
        };
        self.with_trained(|backend, flat| backend.mix(1.0 - share, flat, share, &base));
        self.base = Some(base);
    }

    /// One step of fine-tuning on these sequences, as somebody else would take it: against the gradient, so far that the root mean
    /// square of the weights' changes is `distance`. Nothing where there is no gradient.
    pub(in crate::train) fn stray(&mut self, sequences: &[&TrainingSequence], distance: f32) {
        self.accumulate(sequences, None, false);
        let squares = self.decoder.backend.sum_of_squares(&self.gradients);
        let count = self.decoder.backend.length(&self.gradients) as f64;
        let factor = f64::from(distance) * (count / squares).sqrt();
        if factor.is_finite() {
            let gradients = std::mem::replace(&mut self.gradients, self.decoder.backend.buffer(0));
            self.with_trained(|backend, flat| backend.mix(1.0, flat, -factor as f32, &gradients));
            self.gradients = gradients;
        }
    }

    fn with_trained(&mut self, work: impl FnOnce(&mut B, &mut B::Buffer)) {
        let Decoder {
            backend,
            weights,
            adapters,
            ..
        } = &mut self.decoder;
        work(
            backend,
            adapters.as_mut().map_or(&mut weights.flat, |a| &mut a.flat),
        );
    }
}
