//! A model that is only read: scoring, next-token distributions and generation over token ids.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use oml_core::model::{Continuation, LanguageModel, ModelError, Sampling, TokenScore};
use oml_core::watermark::Watermark;
use oml_kernels::{Isa, exp_scaled, log_sum_exp};
use thiserror::Error;

use crate::{
    backend::{Cpu, Directions},
    checkpoint::Checkpoint,
    decoder::{Batch, Cache, Decoder, LoadError, Mode, Weights, groups},
    engine::Engine,
    generation::{Generation, Sequence, Step},
};

/// Tokens of one packed batch.
const BATCH_TOKENS: usize = 2048;
/// Sequences generated side by side: at most this many, and as many as this memory for their keys and values allows, but 16 in any case.
const SLOTS: usize = 256;
const CACHE_BYTES: usize = 512 << 20;
const LEAST_SLOTS: usize = 16;
/// Distributions held at once.
const DISTRIBUTIONS: usize = 64;

/// A request that the model cannot answer.
#[derive(Debug, Error)]
pub enum RequestError {
    /// A token that the model does not have.
    #[error("token id {got}: expected below the vocabulary size {vocabulary}")]
    Token {
        /// The token.
        got: u32,
        /// Rows of the embedding.
        vocabulary: usize,
    },
    /// A sequence that is empty where one token is needed.
    #[error("sequence {index}: expected at least one token, got none")]
    Empty {
        /// Which of the request's sequences.
        index: usize,
    },
    /// A sequence longer than the model was made for.
    #[error("sequence {index}: {got} tokens, the model takes at most {limit}")]
    TooLong {
        /// Which of the request's sequences.
        index: usize,
        /// Its tokens, those to be generated included.
        got: usize,
        /// [`ModelConfig::longest_sequence`](crate::config::ModelConfig::longest_sequence).
        limit: usize,
    },
    /// Two models whose distributions are over different tokens.
    #[error("expected a model with a vocabulary of {expected} tokens, got {got}")]
    Vocabulary {
        /// Of the base.
        expected: usize,
        /// Of the model.
        got: usize,
    },
    /// The model computes NaN or infinity, from which nothing follows.
    #[error("sequence {index}: expected finite logits, got NaN or infinity")]
    NotFinite {
        /// Which of the request's sequences.
        index: usize,
    },
}

impl RequestError {
    /// The same where `skipped` sequences of the request go before those that were asked for.
    fn after(mut self, skipped: usize) -> Self {
        match &mut self {
            Self::Empty { index } | Self::TooLong { index, .. } | Self::NotFinite { index } => {
                *index += skipped;
            }
            Self::Token { .. } | Self::Vocabulary { .. } => {}
        }
        self
    }
}

impl From<RequestError> for ModelError {
    fn from(error: RequestError) -> Self {
        ModelError(Box::new(error))
    }
}

/// A frozen decoder on the CPU.
pub struct CausalModel {
    decoder: Decoder<Cpu>,
    limit: usize,
}

impl CausalModel {
    /// Loads a checkpoint for reading.
    ///
    /// # Errors
    /// Whatever the checkpoint refuses.
    pub fn load(engine: &Engine, checkpoint: &Checkpoint) -> Result<Self, LoadError> {
        let mut backend = engine.cpu();
        let weights = Weights::load(&mut backend, checkpoint, Mode::Frozen(Directions::Forward))?;
        let decoder = Decoder::new(backend, checkpoint.config(), weights);
        Ok(Self {
            decoder,
            limit: checkpoint.config().longest_sequence(),
        })
    }

    /// The decoder inside.
    pub fn decoder(&mut self) -> &mut Decoder<Cpu> {
        &mut self.decoder
    }

    /// Longest sequence the model reads, in tokens.
    pub fn longest_sequence(&self) -> usize {
        self.limit
    }

    pub(crate) fn cache(&self, slots: usize, capacity: usize) -> Cache<Cpu> {
        Cache::new(&self.decoder.backend, self.decoder.sizes(), slots, capacity)
    }

    pub(crate) fn isa(&self) -> Isa {
        self.decoder.backend.isa()
    }

    pub(crate) fn check(
        &self,
        index: usize,
        ids: impl Iterator<Item = u32>,
        extra: usize,
    ) -> Result<(), RequestError> {
        let vocabulary = self.decoder.sizes().vocabulary;
        let mut length = extra;
        for id in ids {
            if id as usize >= vocabulary {
                return Err(RequestError::Token {
                    got: id,
                    vocabulary,
                });
            }
            length += 1;
        }
        if length == extra {
            return Err(RequestError::Empty { index });
        }
        if length > self.limit {
            return Err(RequestError::TooLong {
                index,
                got: length,
                limit: self.limit,
            });
        }
        Ok(())
    }

    /// Calls `visit(i, p, logits)` for the row at `picked[i][p]` of every sequence, from any thread.
    ///
    /// # Errors
    /// If a sequence is empty, too long, or has unknown tokens, or a logit is not finite; `visit` never sees such a row.
    pub fn visit_logits(
        &mut self,
        sequences: &[(Vec<u32>, Vec<usize>)],
        visit: &(dyn Fn(usize, usize, &[f32]) + Sync),
    ) -> Result<(), RequestError> {
        for (i, (ids, _)) in sequences.iter().enumerate() {
            self.check(i, ids.iter().copied(), 0)?;
        }
        let faults = Faults::default();
        for group in groups(sequences.iter().map(|(ids, _)| ids.len()), BATCH_TOKENS) {
            let start = group.start;
            let part = &sequences[group];
            let batch = Batch::new(part.iter().map(|(ids, picked)| (&ids[..], picked.clone())));
            let rows: Vec<(usize, usize)> = part
                .iter()
                .enumerate()
                .flat_map(|(i, (_, picked))| (0..picked.len()).map(move |p| (start + i, p)))
                .collect();
            self.decoder.logits(&batch, &|row, logits| {
                let (i, p) = rows[row];
                if are_finite(logits) {
                    visit(i, p, logits);
                } else {
                    faults.add(i);
                }
            });
            faults.first()?;
        }
        Ok(())
    }

    /// As [`LanguageModel::generate`], with a watermark in every answer.
    ///
    /// # Errors
    /// As there.
    pub fn generate_marked(
        &mut self,
        prompts: &[&[u32]],
        seeds: &[u64],
        sampling: &Sampling,
        watermark: Option<&Arc<Watermark>>,
    ) -> Result<Vec<Vec<u32>>, ModelError> {
        for (i, prompt) in prompts.iter().enumerate() {
            self.check(i, prompt.iter().copied(), sampling.max_tokens)?;
        }
        let longest = prompts.iter().map(|p| p.len()).max().unwrap_or(0);
        let mut answers = vec![Vec::new(); prompts.len()];
        if sampling.max_tokens == 0 || prompts.is_empty() {
            return Ok(answers);
        }
        let capacity = longest + sampling.max_tokens;
        let each = capacity * Cache::<Cpu>::bytes_per_token(self.decoder.sizes());
        let slots = (CACHE_BYTES / each)
            .clamp(LEAST_SLOTS, SLOTS)
            .min(prompts.len());
        let mut generation = Generation::new(self, slots, capacity);
        let mut asked = vec![0; slots];
        let mut waiting = (0..prompts.len()).peekable();
        let faults = Faults::default();
        loop {
            while let Some(i) = waiting.peek().copied() {
                let added = generation.add(Sequence {
                    prompt: prompts[i].to_vec(),
                    seed: seeds.get(i).copied().unwrap_or(i as u64),
                    sampling: sampling.clone(),
                    watermark: watermark.cloned(),
                });
                let Some(slot) = added else { break };
                asked[slot] = i;
                waiting.next();
            }
            if generation.is_empty() {
                return Ok(answers);
            }
            generation.step(self, &mut |slot, step| match step {
                Step::Token(token) | Step::Last(token) => answers[asked[slot]].push(token),
                Step::Stopped => {}
                Step::NotFinite => faults.add(asked[slot]),
            });
            faults.first()?;
        }
    }
}

/// The first of a request's sequences whose logits are not finite.
struct Faults(AtomicUsize);

impl Default for Faults {
    fn default() -> Self {
        Self(AtomicUsize::new(usize::MAX))
    }
}

impl Faults {
    fn add(&self, index: usize) {
        self.0.fetch_min(index, Ordering::Relaxed);
    }

    fn first(&self) -> Result<(), RequestError> {
        match self.0.load(Ordering::Relaxed) {
            usize::MAX => Ok(()),
            index => Err(RequestError::NotFinite { index }),
        }
    }
}

pub(crate) fn are_finite(values: &[f32]) -> bool {
    // no early exit, so that it vectorises
    values.iter().fold(true, |all, v| all & v.is_finite())
}

/// Log-probability and rank of `id` under `logits`; `None` where its log-probability is not finite.
pub fn token_score(isa: Isa, logits: &[f32], id: u32) -> Option<TokenScore> {
    let own = logits[id as usize];
    let log_probability = own - log_sum_exp(isa, logits);
    if !log_probability.is_finite() {
        return None;
    }
    let (before, after) = logits.split_at(id as usize);
    // a logit that is not below counts against, NaN too
    let below = |v: &&f32| **v < own;
    let not_above = |v: &&f32| **v <= own;
    let rank =
        logits.len() - before.iter().filter(below).count() - after.iter().filter(not_above).count();
    Some(TokenScore {
        log_probability,
        rank: rank as u32,
    })
}

impl LanguageModel for CausalModel {
    fn vocabulary_size(&self) -> usize {
        self.decoder.sizes().vocabulary
    }

    fn score(&mut self, items: &[Continuation<'_>]) -> Result<Vec<Vec<TokenScore>>, ModelError> {
        let mut sequences = Vec::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            let (context, continuation) = (item.context, item.continuation);
            if context.is_empty() || continuation.is_empty() {
                return Err(RequestError::Empty { index }.into());
            }
            self.check(index, context.iter().chain(continuation).copied(), 0)?;
            let read = continuation.len() - 1;
            let ids: Vec<u32> = context
                .iter()
                .chain(&continuation[..read])
                .copied()
                .collect();
            sequences.push((ids, (context.len() - 1..context.len() + read).collect()));
        }
        let isa = self.isa();
        let blank = TokenScore {
            log_probability: f32::NAN,
            rank: u32::MAX,
        };
        let scores: Vec<Mutex<Vec<TokenScore>>> = items
            .iter()
            .map(|i| Mutex::new(vec![blank; i.continuation.len()]))
            .collect();
        let faults = Faults::default();
        self.visit_logits(&sequences, &|i, p, logits| match token_score(
            isa,
            logits,
            items[i].continuation[p],
        ) {
            Some(score) => scores[i].lock().unwrap_or_else(|e| e.into_inner())[p] = score,
            None => faults.add(i),
        })?;
        faults.first()?;
        Ok(scores
            .into_iter()
            .map(|s| s.into_inner().unwrap_or_else(|e| e.into_inner()))
            .collect())
    }

    fn next_distributions(
        &mut self,
        contexts: &[&[u32]],
        visit: &mut dyn FnMut(usize, &[f32]),
    ) -> Result<(), ModelError> {
        let isa = self.isa();
        for (block, contexts) in contexts.chunks(DISTRIBUTIONS).enumerate() {
            let sequences: Vec<(Vec<u32>, Vec<usize>)> = contexts
                .iter()
                .map(|c| (c.to_vec(), vec![c.len().saturating_sub(1)]))
                .collect();
            let rows: Vec<Mutex<Vec<f32>>> = contexts.iter().map(|_| Mutex::default()).collect();
            self.visit_logits(&sequences, &|i, _, logits| {
                let mut row = vec![0.0; logits.len()];
                exp_scaled(isa, logits, log_sum_exp(isa, logits), 1.0, &mut row);
                *rows[i].lock().unwrap_or_else(|e| e.into_inner()) = row;
            })
            .map_err(|error| error.after(block * DISTRIBUTIONS))?;
            for (i, row) in rows.into_iter().enumerate() {
                visit(
                    block * DISTRIBUTIONS + i,
                    &row.into_inner().unwrap_or_else(|e| e.into_inner()),
                );
            }
        }
        Ok(())
    }

    fn generate(
        &mut self,
        prompts: &[&[u32]],
        seeds: &[u64],
        sampling: &Sampling,
    ) -> Result<Vec<Vec<u32>>, ModelError> {
        self.generate_marked(prompts, seeds, sampling, None)
    }
}
