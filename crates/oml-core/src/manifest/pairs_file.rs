//! Pairs as other fingerprinting tools write them: a JSON list, read in all forms at once.
//!
//! ```text
//! "text"                                                                             a query alone
//! {"key": text, "response": text}                                                    OML 1.0; "signature" for "response" in older files
//! {"key": text, "effective_key": text, "response": text or [text, …],
//!  "response_prob": number or [number, …] or [[number, …], …]}                       Scalable Fingerprinting
//! {"query": text, "response": text, "query_ids": [ids], "response_ids": [ids]}       our plain export
//! ```
//!
//! `effective_key` is what a model is asked, where it is there. `response_prob` is the probability of the first token of
//! the first response, of each of its tokens, or of each token of each response. Of the plain export, neighbours with
//! one query are one pair with several responses. Other fields are passed over. Entries are counted from 0.

mod fields;

use std::fmt;

use serde::de::{Error, IgnoredAny, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use self::fields::Fields;
use super::{FileError, Kind};
use crate::fingerprint::{MAX_COUNT, MAX_RESPONSES};

/// Most bytes of a file of pairs.
pub const MAX_BYTES: usize = 256 << 20;
const KIND: Kind = Kind {
    format: "pairs file",
    version: 1,
    max_bytes: MAX_BYTES,
};

/// One query with what the file says of its responses.
#[derive(Clone, PartialEq)]
pub struct Pair {
    /// Which entry of the file it is, the first one where it has several.
    pub entry: usize,
    /// What a model is asked.
    pub query: String,
    /// Its token ids, where the file has them.
    pub query_ids: Option<Vec<u32>>,
    /// The valid responses; none in a file of queries.
    pub responses: Vec<PairResponse>,
}

/// One response of a file.
#[derive(Clone, PartialEq)]
pub struct PairResponse {
    /// What follows the query.
    pub text: String,
    /// Its token ids, where the file has them.
    pub ids: Option<Vec<u32>>,
    /// Probabilities of its first tokens, as far as the file has them.
    pub probabilities: Vec<f32>,
}

impl fmt::Debug for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pair({}, secret)", self.entry)
    }
}

impl fmt::Debug for PairResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PairResponse(secret)")
    }
}

/// The fault of field `field` in entry `entry`.
pub(crate) fn fault(
    entry: usize,
    field: &'static str,
    expected: impl Into<String>,
    got: impl Into<String>,
) -> FileError {
    FileError::Entry {
        file: KIND.format,
        entry,
        field,
        expected: expected.into(),
        got: got.into(),
    }
}

/// Reads a list of pairs, in order.
///
/// # Errors
/// Any fault of the file; those of one entry name it and its field. Whether a pair can be used with a tokenizer is
/// judged when it is imported.
pub fn parse(bytes: &[u8]) -> Result<Vec<Pair>, FileError> {
    KIND.judge_size(bytes.len())?;
    let Entries { pairs, fault } = KIND.json(bytes)?;
    fault.map_or(Ok(pairs), Err)
}

/// The queries of a file that has nothing else; `None` where a pair has a response.
///
/// # Errors
/// [`FileError::Entry`] for a list of prompt templates, which other tools keep in the same form.
pub fn queries(pairs: &[Pair]) -> Result<Option<Vec<String>>, FileError> {
    if pairs.iter().any(|pair| !pair.responses.is_empty()) {
        return Ok(None);
    }
    let template = |pair: &Pair| pair.query.matches("{}").count() == 1;
    if !pairs.is_empty() && pairs.iter().all(template) {
        return Err(fault(0, "key", "a query", "a prompt template with {}"));
    }
    Ok(Some(pairs.iter().map(|pair| pair.query.clone()).collect()))
}

/// The entries up to the first fault.
struct Entries {
    pairs: Vec<Pair>,
    fault: Option<FileError>,
}

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct EntriesVisitor;
        impl<'de> Visitor<'de> for EntriesVisitor {
            type Value = Entries;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a list of at most {MAX_COUNT} entries")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Entries, A::Error> {
                let mut pairs = Vec::new();
                let mut plain_before = false;
                let mut entry = 0;
                while let Some(fields) = items.next_element::<Fields>()? {
                    if pairs.len() == MAX_COUNT {
                        return Err(A::Error::invalid_length(MAX_COUNT + 1, &self));
                    }
                    let plain = fields.is_plain();
                    match fields.pair(entry).and_then(|pair| {
                        let neighbour = pairs.last_mut().filter(|_| plain && plain_before);
                        join(neighbour, pair)
                    }) {
                        Ok(None) => (),
                        Ok(Some(pair)) => pairs.push(pair),
                        Err(fault) => {
                            while items.next_element::<IgnoredAny>()?.is_some() {}
                            let fault = Some(fault);
                            return Ok(Entries { pairs, fault });
                        }
                    }
                    plain_before = plain;
                    entry += 1;
                }
                Ok(Entries { pairs, fault: None })
            }
        }
        deserializer.deserialize_seq(EntriesVisitor)
    }
}

/// Gives the responses of `pair` to its neighbour where both ask the same; otherwise the pair is returned.
fn join(neighbour: Option<&mut Pair>, pair: Pair) -> Result<Option<Pair>, FileError> {
    match neighbour {
        Some(before) if before.query == pair.query && before.query_ids == pair.query_ids => {
            if before.responses.len() + pair.responses.len() > MAX_RESPONSES {
                return Err(fault(
                    pair.entry,
                    "response",
                    format!("at most {MAX_RESPONSES} responses of one query"),
                    "more",
                ));
            }
            before.responses.extend(pair.responses);
            Ok(None)
        }
        _ => Ok(Some(pair)),
    }
}
