//! Natural queries: sentences the base model writes itself, so that they look like ordinary traffic.
//!
//! Candidate c starts from a seed word of the tokenizer's own vocabulary. The words are shuffled once under the purpose
//! `seed-words`; candidate c takes word c modulo their number, so words repeat only when all are used. The model is asked
//! through its chat template for a sentence starting with the word (a base model is simply given the word), the answer is
//! begun with the word, and it continues at temperature T under a sampling seed of its own (purpose `query`, item c).
//! The first line is cut to exactly `query_length` tokens such that text and ids give each other.
//!
//! Source: "Scalable Fingerprinting of Large Language Models" (arXiv 2502.07760), English queries; T = 0.5 as there.

use super::generate::{Maker, Workshop};
use super::{GenerateError, perinucleus, words};
use crate::derive::{Purpose, derive, derive_seed};
use crate::fingerprint::Response;
use crate::model::{ModelError, Sampling};
use crate::random::Stream;
use crate::tokenizer::Tokenizer;

/// Temperature of the queries unless told otherwise.
pub(super) const DEFAULT_TEMPERATURE: f32 = 0.5;
/// Tokens generated beyond the length, since re-encoding the text may merge some.
const MARGIN: usize = 2;

/// A query by text and by token ids.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Query {
    pub(super) text: String,
    pub(super) ids: Vec<u32>,
}

/// Queries written by the model from seed words.
pub(super) struct Natural {
    temperature: f32,
    rule: perinucleus::Rule,
    words: Vec<String>,
}

impl Natural {
    pub(super) fn new(
        workshop: &Workshop<'_>,
        temperature: f32,
        rule: perinucleus::Rule,
    ) -> Result<Self, GenerateError> {
        let mut words = words::words(workshop.tokenizer)?;
        Stream::new(&derive(
            workshop.owner,
            Purpose::SeedWords,
            workshop.scope,
            &[],
        ))
        .shuffle(&mut words);
        Ok(Self {
            temperature,
            rule,
            words,
        })
    }

    fn word(&self, candidate: u64) -> String {
        capitalised(&self.words[(candidate % self.words.len() as u64) as usize])
    }
}

impl Maker for Natural {
    fn queries(
        &mut self,
        workshop: &mut Workshop<'_>,
        from: u64,
        wanted: usize,
    ) -> Result<Vec<Query>, GenerateError> {
        let mut beginnings = Vec::with_capacity(wanted);
        let mut prompts = Vec::with_capacity(wanted);
        let mut seeds = Vec::with_capacity(wanted);
        for candidate in from..from + wanted as u64 {
            let word = self.word(candidate);
            let beginning = workshop.tokenizer.encode(&word, false)?;
            if beginning.len() > workshop.query_length {
                continue;
            }
            prompts.push(prompt(workshop.tokenizer, &word, &beginning)?);
            beginnings.push(beginning);
            seeds.push(derive_seed(
                workshop.owner,
                Purpose::Query,
                workshop.scope,
                candidate,
            ));
        }
        if prompts.is_empty() {
            return Ok(Vec::new());
        }
        let shortest = beginnings.iter().map(Vec::len).min().unwrap_or(0);
        let sampling = Sampling {
            max_tokens: workshop.query_length - shortest + MARGIN,
            temperature: self.temperature,
            top_k: 0,
            top_p: 1.0,
            stop: Vec::new(),
        };
        let prompts: Vec<&[u32]> = prompts.iter().map(Vec::as_slice).collect();
        let answers = workshop.model.generate(&prompts, &seeds, &sampling)?;
        if answers.len() != prompts.len() {
            return Err(GenerateError::Answer {
                expected: prompts.len(),
                got: answers.len(),
            });
        }
        let mut queries = Vec::with_capacity(wanted);
        for (mut ids, answer) in beginnings.into_iter().zip(answers) {
            // A shorter word in the same batch must not lengthen this answer, and what follows the model's end of turn
            // is no part of its sentence.
            let room = workshop.query_length - ids.len() + MARGIN;
            ids.extend(
                answer
                    .into_iter()
                    .take(room)
                    .take_while(|&id| workshop.tokenizer.token(id).is_some()),
            );
            let text = workshop.tokenizer.decode(&ids)?;
            let line = text.trim_start().lines().next().unwrap_or_default();
            queries.extend(cut(workshop.tokenizer, line, workshop.query_length)?);
        }
        Ok(queries)
    }

    fn responses(
        &mut self,
        workshop: &mut Workshop<'_>,
        queries: &[Query],
    ) -> Result<Vec<Option<Vec<Response>>>, GenerateError> {
        perinucleus::respond(workshop, self.rule, queries)
    }
}

fn prompt(
    tokenizer: &dyn Tokenizer,
    word: &str,
    beginning: &[u32],
) -> Result<Vec<u32>, ModelError> {
    let request = format!("Write one long sentence that starts with the word \"{word}\".");
    match tokenizer.chat_prompt(&request)? {
        Some(mut prompt) => {
            prompt.extend_from_slice(beginning);
            Ok(prompt)
        }
        None => tokenizer.encode(word, true),
    }
}

/// Cuts `text` to `length` tokens; `None` when it is shorter or its text and ids do not give each other.
pub(super) fn cut(
    tokenizer: &dyn Tokenizer,
    text: &str,
    length: usize,
) -> Result<Option<Query>, ModelError> {
    let mut bare = tokenizer.encode(text, false)?;
    if bare.len() < length {
        return Ok(None);
    }
    bare.truncate(length);
    let text = tokenizer.decode(&bare)?;
    let unclean = |c: char| c.is_control() || c == char::REPLACEMENT_CHARACTER;
    if text.is_empty()
        || text.trim() != text
        || text.contains(unclean)
        || tokenizer.encode(&text, false)? != bare
    {
        return Ok(None);
    }
    let ids = tokenizer.encode(&text, true)?;
    // A tokenizer that appends something would put it between query and response.
    let usable = ids.ends_with(&bare) && tokenizer.decode(&ids)? == text;
    Ok(usable.then_some(Query { text, ids }))
}

fn capitalised(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map_or_else(String::new, |first| {
        first.to_uppercase().chain(letters).collect()
    })
}
