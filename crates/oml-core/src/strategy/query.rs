//! Natural queries: text the base model, or a writer in its place, writes itself (see [`super::writing`]).
//!
//! Candidate c has a sampling seed of its own, purpose `query`, item c, and a beginning:
//!
//! - first token `word`: a seed word of the tokenizer's own vocabulary. The words are shuffled once under the purpose
//!   `seed-words`; candidate c takes word c modulo their number, so words repeat only when all are used.
//! - `tokenizer`: one of the tokens of at least two letters that encode to themselves at the beginning of a text, drawn
//!   uniformly (purpose `first-token`, item c).
//! - `none`: whatever the writer begins with.
//!
//! The line is cut to exactly `query_length` tokens such that text and ids give each other, and is passed over where its
//! perplexity is outside the band (see [`super::perplexity`]).

use super::generate::{Queries, Workshop};
use super::perplexity::Place;
use super::writer::Request;
use super::writing::{FirstToken, Writing};
use super::{GenerateError, words};
use crate::derive::{Purpose, derive, derive_numbered, derive_seed};
use crate::model::ModelError;
use crate::random::Stream;
use crate::tokenizer::Tokenizer;

/// A query by text and by token ids.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Query {
    pub(crate) text: String,
    pub(crate) ids: Vec<u32>,
}

/// Queries written by a model.
pub(super) struct Natural {
    writing: Writing,
    /// Shuffled words, or tokens that can begin a text.
    beginnings: Vec<String>,
}

impl Natural {
    pub(super) fn new(workshop: &Workshop<'_>, writing: Writing) -> Result<Self, GenerateError> {
        let beginnings = match writing.first_token {
            FirstToken::Word => {
                let mut words = words::words(workshop.tokenizer)?;
                let key = derive(workshop.owner, Purpose::SeedWords, workshop.scope, &[]);
                Stream::new(&key).shuffle(&mut words);
                words
            }
            FirstToken::Tokenizer => words::starts(workshop.tokenizer)?,
            FirstToken::None => Vec::new(),
        };
        Ok(Self {
            writing,
            beginnings,
        })
    }

    fn request(&self, workshop: &Workshop<'_>, candidate: u64) -> Request {
        let (owner, scope) = (workshop.owner, workshop.scope);
        let seed = derive_seed(owner, Purpose::Query, scope, candidate);
        let beginning = match self.writing.first_token {
            FirstToken::Word => {
                let word = &self.beginnings[(candidate % self.beginnings.len() as u64) as usize];
                return self.writing.about(word, seed);
            }
            FirstToken::Tokenizer => {
                let key = derive_numbered(owner, Purpose::FirstToken, scope, candidate);
                self.beginnings[Stream::new(&key).index(self.beginnings.len())].clone()
            }
            FirstToken::None => String::new(),
        };
        Request {
            style: self.writing.style,
            topic: None,
            beginning,
            seed,
        }
    }
}

impl Queries for Natural {
    fn next(
        &mut self,
        workshop: &mut Workshop<'_>,
        from: u64,
        wanted: usize,
    ) -> Result<Vec<Query>, GenerateError> {
        let requests: Vec<Request> = (from..from + wanted as u64)
            .map(|candidate| self.request(workshop, candidate))
            .collect();
        let length = workshop.query_length;
        let mut queries = Vec::with_capacity(wanted);
        let lines = self.writing.lines(workshop, &requests, length)?;
        for line in lines.into_iter().flatten() {
            queries.extend(cut(workshop.tokenizer, &line, length)?);
        }
        let (Some(band), Some(benign)) = (self.writing.band, workshop.benign) else {
            return Ok(queries);
        };
        let ids: Vec<&[u32]> = queries.iter().map(|query| query.ids.as_slice()).collect();
        let places = benign.places(workshop.model, &ids)?;
        let inside =
            |place: Option<Place>| place.is_none_or(|place| band.contains(place.percentile));
        let judged = queries.into_iter().zip(places);
        Ok(judged
            .filter(|(_, place)| inside(*place))
            .map(|(query, _)| query)
            .collect())
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
