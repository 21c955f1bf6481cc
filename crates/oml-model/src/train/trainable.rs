//! A model made ready for training: all of its weights, or adapters beside frozen ones.

use crate::{
    backend::{Cpu, Directions},
    checkpoint::Checkpoint,
    decoder::{AdapterSpec, Adapters, Decoder, LoadError, Mode, Weights},
    sampler::SequenceRandom,
    train::Trainer,
};

/// Loads a checkpoint for training.
///
/// # Errors
/// Whatever the checkpoint refuses.
pub fn trainable(
    mut backend: Cpu,
    checkpoint: &Checkpoint,
    adapters: Option<&AdapterSpec>,
    seed: u64,
) -> Result<Decoder<Cpu>, LoadError> {
    let Some(spec) = adapters else {
        let weights = Weights::load(&mut backend, checkpoint, Mode::Trainable)?;
        return Ok(Decoder::new(backend, checkpoint.config(), weights));
    };
    spec.check(checkpoint.config().family)?;
    let weights = Weights::load(&mut backend, checkpoint, Mode::Frozen(Directions::Both))?;
    let mut decoder = Decoder::new(backend, checkpoint.config(), weights);
    let mut random = SequenceRandom::new(seed ^ 0x6c6f_7261);
    let sizes = *decoder.sizes();
    let uniform = &mut || random.uniform() as f32;
    let adapters = Adapters::new(&mut decoder.backend, &sizes, spec, uniform);
    decoder.adapt(adapters);
    Ok(decoder)
}

impl Trainer<Cpu> {
    /// A tensor under its Hugging Face name where `values` are what is trained, adapters merged.
    ///
    /// # Errors
    /// Whatever the base checkpoint refuses.
    pub fn tensor(
        &self,
        values: &[f32],
        base: &Checkpoint,
        name: &str,
        out: &mut [f32],
    ) -> Result<(), LoadError> {
        match (&self.decoder.adapters, self.subset()) {
            (Some(adapters), _) => {
                base.read_f32(name, out)?;
                adapters.merge(values, name, out);
            }
            (None, Some(subset)) => {
                base.read_f32(name, out)?;
                subset.overlay(values, name, out);
            }
            (None, None) => match self.decoder.weights.map.get(name) {
                Some(entry) => out.copy_from_slice(&values[entry.range()]),
                None => base.read_f32(name, out)?,
            },
        }
        Ok(())
    }
}
