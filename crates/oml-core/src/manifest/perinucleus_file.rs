//! The fingerprints file of the Scalable Fingerprinting reference implementation, unencrypted.
//!
//! ```text
//! [{"key": text, "effective_key": text, "response": text, "response_prob": number}, …]          one response of one token
//!                                        "response": text, "response_prob": [number, …]         one response, per token
//!                                        "response": [text, …], "response_prob": [[number, …], …]     several responses
//! ```
//!
//! Both keys are the query: the reference keeps a longer text as `key`, and asks `effective_key`.
//! Source: "Scalable Fingerprinting of Large Language Models" (arXiv 2502.07760), reference implementation.

use serde::Serialize;

use super::{FileError, lines};
use crate::fingerprint::{Fingerprint, FingerprintSet};

#[derive(Serialize)]
struct Pair<'a> {
    key: &'a str,
    effective_key: &'a str,
    response: Texts<'a>,
    response_prob: Probabilities<'a>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Texts<'a> {
    One(&'a str),
    Several(Vec<&'a str>),
}

#[derive(Serialize)]
#[serde(untagged)]
enum Probabilities<'a> {
    OneToken(f32),
    OneResponse(&'a [f32]),
    Several(Vec<&'a [f32]>),
}

/// Every query with its responses and their probabilities, in order, one object per line.
///
/// # Errors
/// [`FileError::Json`], which a correct serialiser never gives.
pub fn render(set: &FingerprintSet) -> Result<Vec<u8>, FileError> {
    let pairs = set.fingerprints().iter().map(pair).map(Ok);
    lines("perinucleus export", pairs)
}

fn pair(fingerprint: &Fingerprint) -> Pair<'_> {
    let (response, response_prob) = match fingerprint.responses.as_slice() {
        [response] => (
            Texts::One(&response.text),
            match response.probabilities.as_slice() {
                [probability] => Probabilities::OneToken(*probability),
                several => Probabilities::OneResponse(several),
            },
        ),
        several => (
            Texts::Several(several.iter().map(|r| r.text.as_str()).collect()),
            Probabilities::Several(several.iter().map(|r| r.probabilities.as_slice()).collect()),
        ),
    };
    Pair {
        key: &fingerprint.query,
        effective_key: &fingerprint.query,
        response,
        response_prob,
    }
}
