//! Natural queries: text the base model writes itself (see [`super::writing`]).
//!
//! Candidate c starts from a seed word of the tokenizer's own vocabulary. The words are shuffled once under the purpose
//! `seed-words`; candidate c takes word c modulo their number, so words repeat only when all are used. Its sampling seed has
//! the purpose `query`, item c. The line is cut to exactly `query_length` tokens such that text and ids give each other.

use super::generate::{Queries, Workshop};
use super::writing::Writing;
use super::{GenerateError, words};
use crate::derive::{Purpose, derive, derive_seed};
use crate::model::ModelError;
use crate::random::Stream;
use crate::tokenizer::Tokenizer;

/// A query by text and by token ids.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Query {
    pub(super) text: String,
    pub(super) ids: Vec<u32>,
}

/// Queries written by the model from seed words.
pub(super) struct Natural {
    writing: Writing,
    words: Vec<String>,
}

impl Natural {
    pub(super) fn new(workshop: &Workshop<'_>, writing: Writing) -> Result<Self, GenerateError> {
        let mut words = words::words(workshop.tokenizer)?;
        let key = derive(workshop.owner, Purpose::SeedWords, workshop.scope, &[]);
        Stream::new(&key).shuffle(&mut words);
        Ok(Self { writing, words })
    }
}

impl Queries for Natural {
    fn next(
        &mut self,
        workshop: &mut Workshop<'_>,
        from: u64,
        wanted: usize,
    ) -> Result<Vec<Query>, GenerateError> {
        let (owner, scope) = (workshop.owner, workshop.scope);
        let topics: Vec<(&str, u64)> = (from..from + wanted as u64)
            .map(|candidate| {
                let word = &self.words[(candidate % self.words.len() as u64) as usize];
                (
                    word.as_str(),
                    derive_seed(owner, Purpose::Query, scope, candidate),
                )
            })
            .collect();
        let length = workshop.query_length;
        let mut queries = Vec::with_capacity(wanted);
        for line in self
            .writing
            .lines(workshop, &topics, length)?
            .into_iter()
            .flatten()
        {
            queries.extend(cut(workshop.tokenizer, &line, length)?);
        }
        Ok(queries)
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
