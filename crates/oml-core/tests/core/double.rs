//! A small language model and its tokenizer, complete and deterministic, behind the domain's two traits.
//!
//! The vocabulary holds made-up words at the start of a text, capitalised there, and inside it with a leading space, a
//! suffix, and some words already merged with that suffix, so that text and ids can disagree. The next token depends on
//! the last two.

use std::collections::HashMap;

use oml_core::model::{Continuation, LanguageModel, ModelError, Sampling, TokenScore};
use oml_core::tokenizer::Tokenizer;
use sha2::{Digest, Sha256};

pub(crate) const BOS: u32 = 0;
pub(crate) const EOS: u32 = 1;
pub(crate) const SUFFIX: &str = "ly";

pub(crate) struct Words {
    tokens: Vec<Option<String>>,
    ids: HashMap<String, u32>,
    longest: usize,
    pub(crate) chat: bool,
}

impl Words {
    pub(crate) fn new(words: usize) -> Self {
        let mut tokens = vec![None, None];
        tokens.extend([".", ",", "\n", " ", SUFFIX].map(|t| Some(t.to_owned())));
        for number in 0..words {
            let word = word(number);
            let (first, rest) = word.split_at(1);
            tokens.extend(
                [
                    format!(" {word}"),
                    word.clone(),
                    first.to_uppercase() + rest,
                ]
                .map(Some),
            );
            if number % 2 == 0 {
                tokens.push(Some(format!(" {word}{SUFFIX}")));
            }
        }
        let ids = (0..)
            .zip(&tokens)
            .filter_map(|(id, token)| Some((token.clone()?, id)))
            .collect();
        let longest = tokens.iter().flatten().map(String::len).max().unwrap_or(0);
        Self {
            tokens,
            ids,
            longest,
            chat: true,
        }
    }
}

fn word(number: usize) -> String {
    let (consonants, vowels) = (b"bdfgklmnprst", b"aeiou");
    let mut letters = vec![b'a' + (number / 3600 % 26) as u8];
    for place in [1, 60] {
        let syllable = number / place % 60;
        letters.extend([consonants[syllable / 5], vowels[syllable % 5]]);
    }
    String::from_utf8(letters).unwrap()
}

impl Tokenizer for Words {
    fn vocabulary_size(&self) -> usize {
        self.tokens.len()
    }

    fn encode(&self, text: &str, special: bool) -> Result<Vec<u32>, ModelError> {
        let mut ids: Vec<u32> = special.then_some(BOS).into_iter().collect();
        let mut rest = text;
        while !rest.is_empty() {
            let found = (1..=self.longest.min(rest.len())).rev().find_map(|length| {
                let id = *self.ids.get(rest.get(..length)?)?;
                Some((id, length))
            });
            let (id, length) =
                found.ok_or_else(|| ModelError(format!("cannot encode {rest:?}").into()))?;
            ids.push(id);
            rest = &rest[length..];
        }
        Ok(ids)
    }

    fn decode(&self, ids: &[u32]) -> Result<String, ModelError> {
        Ok(ids.iter().filter_map(|&id| self.token(id)).collect())
    }

    fn token(&self, id: u32) -> Option<String> {
        self.tokens.get(id as usize)?.clone()
    }

    fn chat_prompt(&self, user: &str) -> Result<Option<Vec<u32>>, ModelError> {
        let mark = Sha256::digest(user)[0];
        Ok(self.chat.then(|| vec![BOS, 2 + u32::from(mark % 4)]))
    }

    fn hash(&self) -> [u8; 32] {
        Sha256::digest(format!("{:?}", self.tokens)).into()
    }
}

pub(crate) struct Bigrams {
    logits: Vec<f32>,
    pub(crate) generated: usize,
}

impl Bigrams {
    pub(crate) fn new(tokenizer: &Words) -> Self {
        let logit = |id: u32| match tokenizer.token(id).as_deref() {
            None if id == EOS => -4.0,
            None => -30.0,
            Some("." | ",") => -3.0,
            Some("\n" | " ") => -6.0,
            Some(token) if token == SUFFIX || token.starts_with(' ') => 0.0,
            Some(_) => -12.0,
        };
        Self {
            logits: (0..tokenizer.vocabulary_size() as u32).map(logit).collect(),
            generated: 0,
        }
    }

    /// The model that has nothing to say.
    pub(crate) fn silent(tokenizer: &Words) -> Self {
        let mut model = Self::new(tokenizer);
        model.logits[EOS as usize] = 100.0;
        model
    }

    pub(crate) fn distribution(&self, context: &[u32], temperature: f32) -> Vec<f32> {
        let tail = |back: usize| {
            context
                .len()
                .checked_sub(back)
                .map_or(0, |i| u64::from(context[i]) + 1)
        };
        let state = mix(tail(1) * 1_000_003 + tail(2));
        let noise = |id: usize| (mix(state ^ (id as u64 + 1)) >> 40) as f32 / (1 << 24) as f32;
        // Cubing makes few tokens likely and many possible, as language does.
        let logits = self
            .logits
            .iter()
            .enumerate()
            .map(|(id, logit)| logit + 9.0 * noise(id).powi(3));
        let weights: Vec<f32> = logits.map(|logit| (logit / temperature).exp()).collect();
        let sum: f32 = weights.iter().sum();
        weights.iter().map(|weight| weight / sum).collect()
    }
}

pub(crate) fn arg_max(probabilities: &[f32]) -> u32 {
    let best = (0..probabilities.len())
        .rev()
        .max_by(|&a, &b| probabilities[a].total_cmp(&probabilities[b]));
    best.unwrap() as u32
}

fn mix(mut x: u64) -> u64 {
    for _ in 0..2 {
        x = (x ^ (x >> 31))
            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
            .wrapping_add(0x1234_5678_9abc_def1);
    }
    x ^ (x >> 29)
}

impl LanguageModel for Bigrams {
    fn vocabulary_size(&self) -> usize {
        self.logits.len()
    }

    fn score(&mut self, items: &[Continuation<'_>]) -> Result<Vec<Vec<TokenScore>>, ModelError> {
        let score = |context: &[u32], token: u32| {
            let probabilities = self.distribution(context, 1.0);
            let own = probabilities[token as usize];
            let rank = probabilities.iter().filter(|p| **p > own).count() as u32;
            TokenScore {
                log_probability: own.ln(),
                rank,
            }
        };
        let item = |item: &Continuation<'_>| {
            let mut context = item.context.to_vec();
            let mut scores = Vec::new();
            for &token in item.continuation {
                scores.push(score(&context, token));
                context.push(token);
            }
            scores
        };
        Ok(items.iter().map(item).collect())
    }

    fn next_distributions(
        &mut self,
        contexts: &[&[u32]],
        visit: &mut dyn FnMut(usize, &[f32]),
    ) -> Result<(), ModelError> {
        for (i, context) in contexts.iter().enumerate() {
            visit(i, &self.distribution(context, 1.0));
        }
        Ok(())
    }

    fn generate(
        &mut self,
        prompts: &[&[u32]],
        seeds: &[u64],
        sampling: &Sampling,
    ) -> Result<Vec<Vec<u32>>, ModelError> {
        let mut answers = Vec::new();
        for (prompt, &seed) in prompts.iter().zip(seeds) {
            let mut ids = prompt.to_vec();
            for step in 0..sampling.max_tokens as u64 {
                let next = if sampling.temperature == 0.0 {
                    arg_max(&self.distribution(&ids, 1.0))
                } else {
                    let mut point = (mix(seed ^ mix(step + 1)) >> 40) as f32 / (1 << 24) as f32;
                    let probabilities = self.distribution(&ids, sampling.temperature);
                    let drawn = probabilities.iter().position(|p| {
                        point -= p;
                        point < 0.0
                    });
                    drawn.unwrap_or(0) as u32
                };
                if sampling.stop.contains(&next) {
                    break;
                }
                ids.push(next);
                self.generated += 1;
            }
            answers.push(ids[prompt.len()..].to_vec());
        }
        Ok(answers)
    }
}
