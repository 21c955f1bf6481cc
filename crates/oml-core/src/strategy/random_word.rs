//! Random words for query and response: the strategy of the first instructional-fingerprint papers, kept for comparison.
//!
//! Candidate c draws words uniformly from the vocabulary's word list (purpose `random-words`, item c), joined by spaces
//! and cut to `query_length` tokens. The response is as many more words as `response_length` (purpose `response`, item
//! the query's bytes), each of which must be one token. Such queries are unnatural: a perplexity filter finds them.
//!
//! Source: OML 1.0 (arXiv 2411.03887), "random_word".

use super::generate::{Queries, Responses, Workshop};
use super::perinucleus::{Draft, following, scored};
use super::query::{Query, cut};
use super::{GenerateError, words};
use crate::derive::{Purpose, derive, derive_numbered};
use crate::fingerprint::Response;
use crate::random::Stream;

/// Queries and responses of random words.
#[derive(Clone)]
pub(super) struct RandomWords(Vec<String>);

impl RandomWords {
    pub(super) fn new(workshop: &Workshop<'_>) -> Result<Self, GenerateError> {
        Ok(Self(words::words(workshop.tokenizer)?))
    }
}

impl Queries for RandomWords {
    fn next(
        &mut self,
        workshop: &mut Workshop<'_>,
        from: u64,
        wanted: usize,
    ) -> Result<Vec<Query>, GenerateError> {
        let mut queries = Vec::with_capacity(wanted);
        for candidate in from..from + wanted as u64 {
            let key = derive_numbered(
                workshop.owner,
                Purpose::RandomWords,
                workshop.scope,
                candidate,
            );
            let text = draw(&mut Stream::new(&key), &self.0, workshop.query_length).join(" ");
            queries.extend(cut(workshop.tokenizer, &text, workshop.query_length)?);
        }
        Ok(queries)
    }
}

impl Responses for RandomWords {
    fn of(
        &mut self,
        workshop: &mut Workshop<'_>,
        queries: &[Query],
    ) -> Result<Vec<Option<Vec<Response>>>, GenerateError> {
        let mut chosen = Vec::with_capacity(queries.len());
        for query in queries {
            let key = derive(
                workshop.owner,
                Purpose::Response,
                workshop.scope,
                query.text.as_bytes(),
            );
            let drawn = draw(&mut Stream::new(&key), &self.0, workshop.response_length).join(" ");
            let ids = following(workshop.tokenizer, query, &drawn)?;
            chosen.push(vec![Draft::unscored(ids)]);
        }
        scored(workshop, queries, chosen)
    }
}

fn draw<'a>(stream: &mut Stream, words: &'a [String], count: usize) -> Vec<&'a str> {
    (0..count)
        .map(|_| words[stream.index(words.len())].as_str())
        .collect()
}
