//! The plain export: what other tools read, a JSON list with one object per (query, response), unencrypted.
//!
//! `[{"query": text, "response": text, "query_ids": [ids], "response_ids": [ids]}, …]`, one object per line.

use serde::Serialize;

use super::{FileError, lines};
use crate::fingerprint::{Fingerprint, FingerprintSet, Response};

#[derive(Serialize)]
struct Pair<'a> {
    query: &'a str,
    response: &'a str,
    query_ids: &'a [u32],
    response_ids: &'a [u32],
}

/// Every query with each of its valid responses, in order.
///
/// # Errors
/// [`FileError::Json`], which a correct serialiser never gives.
pub fn render(set: &FingerprintSet) -> Result<Vec<u8>, FileError> {
    lines("plain export", set.fingerprints().iter().flat_map(pairs))
}

fn pairs(fingerprint: &Fingerprint) -> impl Iterator<Item = Result<Pair<'_>, FileError>> {
    let responses = fingerprint.responses.iter();
    responses.map(|response| Ok(pair(fingerprint, response)))
}

fn pair<'a>(fingerprint: &'a Fingerprint, response: &'a Response) -> Pair<'a> {
    Pair {
        query: &fingerprint.query,
        response: &response.text,
        query_ids: &fingerprint.query_ids,
        response_ids: &response.ids,
    }
}
