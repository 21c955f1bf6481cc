//! A model made ready for training: all of its weights, or adapters beside frozen ones.

use crate::{
    backend::{Cpu, Directions},
    checkpoint::Checkpoint,
    decoder::{AdapterSpec, Adapters, Decoder, LoadError, Mode, Weights},
    sampler::SequenceRandom,
};

/// The low-rank adapters of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct LoraOptions {
    /// Their rank; 0 trains all weights.
    pub rank: usize,
    /// Numerator of their scale.
    pub alpha: f32,
    /// The maps that get one, in PEFT's names.
    pub target_modules: Vec<String>,
}

/// Loads a checkpoint for training.
///
/// # Errors
/// Whatever the checkpoint refuses.
pub fn trainable(
    mut backend: Cpu,
    checkpoint: &Checkpoint,
    lora: &LoraOptions,
    seed: u64,
) -> Result<Decoder<Cpu>, LoadError> {
    if lora.rank == 0 {
        let weights = Weights::load(&mut backend, checkpoint, Mode::Trainable)?;
        return Ok(Decoder::new(backend, checkpoint.config(), weights));
    }
    let weights = Weights::load(&mut backend, checkpoint, Mode::Frozen(Directions::Both))?;
    let mut decoder = Decoder::new(backend, checkpoint.config(), weights);
    let spec = AdapterSpec {
        rank: lora.rank,
        alpha: lora.alpha,
        target_modules: lora.target_modules.clone(),
    };
    spec.check(checkpoint.config().family)?;
    let mut random = SequenceRandom::new(seed ^ 0x6c6f_7261);
    let sizes = *decoder.sizes();
    decoder.adapters = Some(Adapters::new(
        &mut decoder.backend,
        &sizes,
        &spec,
        &mut || random.uniform() as f32,
    ));
    Ok(decoder)
}

impl Decoder<Cpu> {
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
        match &self.adapters {
            None => match self.weights.map.get(name) {
                Some(entry) => out.copy_from_slice(&values[entry.range()]),
                None => base.read_f32(name, out)?,
            },
            Some(adapters) => {
                base.read_f32(name, out)?;
                adapters.merge(values, name, out);
            }
        }
        Ok(())
    }
}
