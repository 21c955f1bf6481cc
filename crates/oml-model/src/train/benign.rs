//! Benign text: what the model shall go on saying as before.
//!
//! It is sampled from the base model itself (so the product ships no third-party text), or cut from a text that the user gives.
//! The base model's hidden states on it are computed once; with the base model's head they give its whole distribution at every position,
//! which the trained model is held to: `KL(base ‖ model)`.

use oml_core::model::{LanguageModel, ModelError, Sampling};

use crate::{
    causal::CausalModel,
    decoder::{Batch, TrainingSequence, groups},
    sampler::SequenceRandom,
    train::embedder::predictions,
};

/// Tokens of one packed batch while hidden states are computed.
const BATCH_TOKENS: usize = 2048;

/// Benign sequences, all of one length.
#[derive(Clone, Debug, PartialEq)]
pub struct BenignText {
    /// The sequences.
    pub sequences: Vec<Vec<u32>>,
}

impl BenignText {
    /// Samples `count` sequences of `length` tokens from a model at temperature 1, each begun by a token out of `starts`.
    ///
    /// # Errors
    /// Whatever keeps the model from generating.
    pub fn sample(
        model: &mut CausalModel,
        starts: &[u32],
        count: usize,
        length: usize,
        seed: u64,
        progress: &mut dyn FnMut(usize),
    ) -> Result<Self, ModelError> {
        const PART: usize = 256;
        let mut random = SequenceRandom::new(seed);
        let sampling = Sampling {
            max_tokens: length - 1,
            temperature: 1.0,
            top_k: 0,
            top_p: 1.0,
            stop: Vec::new(),
        };
        let mut sequences = Vec::with_capacity(count);
        while sequences.len() < count && !starts.is_empty() {
            let part = PART.min(count - sequences.len());
            let prompts: Vec<[u32; 1]> = (0..part)
                .map(|_| [starts[(random.next_u64() % starts.len() as u64) as usize]])
                .collect();
            let seeds: Vec<u64> = (0..part).map(|_| random.next_u64()).collect();
            let views: Vec<&[u32]> = prompts.iter().map(|p| &p[..]).collect();
            let answers = model.generate(&views, &seeds, &sampling)?;
            sequences.extend(
                prompts
                    .iter()
                    .zip(answers)
                    .map(|(p, a)| [&p[..], &a[..]].concat()),
            );
            progress(sequences.len());
        }
        Ok(Self { sequences })
    }

    /// Cuts at most `count` sequences of `length` tokens from a text's tokens, spread evenly over it.
    pub fn cut(ids: &[u32], count: usize, length: usize) -> Self {
        let pieces: Vec<&[u32]> = ids.chunks_exact(length).collect();
        let wanted = count.min(pieces.len());
        let sequences = (0..wanted)
            .map(|i| pieces[i * pieces.len() / wanted].to_vec())
            .collect();
        Self { sequences }
    }

    /// The sequences as text to be predicted token by token.
    pub fn predictions(&self) -> Vec<TrainingSequence> {
        predictions(&self.sequences)
    }

    /// The model's hidden states after its last norm at every position but the last of every sequence, `[rows, H]`.
    pub fn hidden_states(&self, model: &mut CausalModel) -> Vec<f32> {
        let mut hidden = Vec::new();
        for group in groups(self.sequences.iter().map(Vec::len), BATCH_TOKENS) {
            let batch = Batch::new(
                self.sequences[group]
                    .iter()
                    .map(|s| (&s[..], (0..s.len() - 1).collect())),
            );
            hidden.extend(model.decoder().hidden_rows(&batch));
        }
        hidden
    }
}
