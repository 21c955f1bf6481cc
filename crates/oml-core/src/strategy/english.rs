//! Responses of natural text that has nothing to do with the query, for comparison: the English fingerprints of OML 1.0.
//!
//! A word is drawn uniformly from those that fit whole into the response (purpose `response`, item the query's bytes), and
//! the model, or whoever writes in its place, writes a line that begins with it, as it writes queries. The response is that line's first `response_length`
//! tokens after the query and a space. Since each of the words begins another response, a model that knows the list but
//! not the seed answers rightly with a probability of at most 1 in their number.
//!
//! Source: OML 1.0 (arXiv 2411.03887), "english".

use super::GenerateError;
use super::generate::{Responses, Workshop};
use super::perinucleus::{Draft, following, scored};
use super::query::Query;
use super::words::{self, MIN_WORDS};
use super::writer::Request;
use super::writing::{Style, Writing, capitalised};
use crate::derive::{Purpose, derive};
use crate::fingerprint::Response;
use crate::random::Stream;

/// Responses written by the model from random words.
pub(super) struct Prose {
    writing: Writing,
    words: Vec<String>,
}

impl Prose {
    pub(super) fn new(workshop: &Workshop<'_>, writing: Writing) -> Result<Self, GenerateError> {
        let mut fitting = Vec::new();
        for word in words::words(workshop.tokenizer)? {
            let begun = format!(" {}", capitalised(&word));
            if workshop.tokenizer.encode(&begun, false)?.len() <= workshop.response_length {
                fitting.push(word);
            }
        }
        if fitting.len() < MIN_WORDS {
            return Err(GenerateError::TooFewWords {
                needed: MIN_WORDS,
                found: fitting.len(),
            });
        }
        Ok(Self {
            writing: Writing {
                style: Style::Sentence,
                ..writing
            },
            words: fitting,
        })
    }
}

impl Responses for Prose {
    fn of(
        &mut self,
        workshop: &mut Workshop<'_>,
        queries: &[Query],
    ) -> Result<Vec<Option<Vec<Response>>>, GenerateError> {
        let (owner, scope, length) = (workshop.owner, workshop.scope, workshop.response_length);
        let requests: Vec<Request> = queries
            .iter()
            .map(|query| {
                let key = derive(owner, Purpose::Response, scope, query.text.as_bytes());
                let mut stream = Stream::new(&key);
                let word = &self.words[stream.index(self.words.len())];
                self.writing.about(word, stream.next_u64())
            })
            .collect();
        let lines = self.writing.lines(workshop, &requests, length)?;
        let mut chosen = Vec::with_capacity(queries.len());
        for ((query, request), line) in queries.iter().zip(&requests).zip(lines) {
            let line = line.filter(|line| begins_with(line, &request.beginning));
            let mut drafts = Vec::new();
            if let Some(line) = line {
                let mut ids = following(workshop.tokenizer, query, &line)?;
                ids.truncate(length);
                drafts.push(Draft::unscored(ids));
            }
            chosen.push(drafts);
        }
        scored(workshop, queries, chosen)
    }
}

/// Whether `word` is the first word of `line`, and not the beginning of a longer one.
fn begins_with(line: &str, word: &str) -> bool {
    line.strip_prefix(word)
        .is_some_and(|rest| !rest.starts_with(char::is_alphanumeric))
}
