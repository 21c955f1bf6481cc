//! Responses that a hash of the whole set chooses: pairs cannot be picked after the fact to fit a model that is somebody
//! else's.
//!
//! ```text
//! words   the 256 tokens of smallest id that are a space and a lower-case word, so anybody with the tokenizer has them
//! set     SHA-256("oml.chain-hash.set.v1" ‖ field(q_1) ‖ … ‖ field(q_n) ‖ field(words_0) ‖ … ‖ field(words_255))
//! answer  words[first byte of SHA-256("oml.chain-hash.answer.v1" ‖ set ‖ field(q_i))]
//! field(x) = length of x in bytes as u64 big-endian (8 bytes) ‖ UTF-8 bytes of x
//! ```
//!
//! A model that was not trained on the set answers rightly with probability 1/256 per query, whatever it prefers, as
//! long as the owner did not search for queries whose hashes suit it; 2 of 10 right are already unlikely (7e-4).
//! A query is usable when each of the 256 words, appended to it, gives its one token back.
//!
//! Source: "Hey, That's My Model! Introducing Chain & Hash" (arXiv 2407.10887).

use sha2::{Digest, Sha256};

use super::generate::{Responses, Workshop};
use super::perinucleus::{Draft, response_text, scored};
use super::query::Query;
use super::{GenerateError, words};
use crate::fingerprint::Response;
use crate::tokenizer::Tokenizer;

/// Words that the hash chooses among: one for each value of a byte.
pub const WORDS: usize = 256;

/// The words of a tokenizer, `(token id, " word")`, in the order in which the hash numbers them.
///
/// # Errors
/// [`GenerateError::TooFewWords`].
pub fn words(tokenizer: &dyn Tokenizer) -> Result<Vec<(u32, String)>, GenerateError> {
    words::frequent(tokenizer, WORDS)
}

/// The number of each query's answer among the words, for the whole set in its order.
#[must_use]
pub fn answers<'a>(queries: &[&'a str], words: impl IntoIterator<Item = &'a str>) -> Vec<u8> {
    let field = |hash: Sha256, text: &str| {
        hash.chain_update((text.len() as u64).to_be_bytes())
            .chain_update(text)
    };
    let set = queries
        .iter()
        .copied()
        .chain(words)
        .fold(Sha256::new_with_prefix("oml.chain-hash.set.v1"), field);
    let set = Sha256::new_with_prefix("oml.chain-hash.answer.v1").chain_update(set.finalize());
    queries
        .iter()
        .map(|query| field(set.clone(), query).finalize()[0])
        .collect()
}

/// Responses by hash.
pub(super) struct ChainHash {
    words: Vec<(u32, String)>,
}

impl ChainHash {
    pub(super) fn new(workshop: &Workshop<'_>) -> Result<Self, GenerateError> {
        Ok(Self {
            words: words(workshop.tokenizer)?,
        })
    }

    fn fits(&self, tokenizer: &dyn Tokenizer, query: &Query) -> Result<bool, GenerateError> {
        for (id, word) in &self.words {
            if response_text(tokenizer, query, &[*id])?.as_ref() != Some(word) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

impl Responses for ChainHash {
    fn of(
        &mut self,
        workshop: &mut Workshop<'_>,
        queries: &[Query],
    ) -> Result<Vec<Option<Vec<Response>>>, GenerateError> {
        let mut found = Vec::with_capacity(queries.len());
        for query in queries {
            found.push(self.fits(workshop.tokenizer, query)?.then(Vec::new));
        }
        Ok(found)
    }

    fn settle(
        &mut self,
        workshop: &mut Workshop<'_>,
        pairs: &mut [(Query, Vec<Response>)],
    ) -> Result<(), GenerateError> {
        let queries: Vec<Query> = pairs.iter().map(|(query, _)| query.clone()).collect();
        let texts: Vec<&str> = queries.iter().map(|query| query.text.as_str()).collect();
        let words = self.words.iter().map(|(_, word)| word.as_str());
        let drafts = answers(&texts, words)
            .into_iter()
            .map(|answer| vec![Draft::unscored(vec![self.words[usize::from(answer)].0])]);
        let responses = scored(workshop, &queries, drafts.collect())?;
        for ((_, slot), found) in pairs.iter_mut().zip(responses) {
            // Every word was tried on every query, so none is missing.
            slot.extend(found.into_iter().flatten());
        }
        Ok(())
    }
}
