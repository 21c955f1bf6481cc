//! What a generation that was stopped has found, encrypted for its owner as [`super::fingerprint_file`] is.
//!
//! ```text
//! {"format":"oml-partial-set","version":1,"identity": hex of what determines the set (32 bytes), "attempts": number,
//!  "pairs":[{"query": text, "query_ids":[…], "responses":[{"text","ids","probabilities"}, …]}, …]}
//! ```
//!
//! It is encrypted with `format` `oml-partial`.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::field::{Hex, List, Text};
use super::fingerprint_file::{MAX_BYTES, ResponseFile};
use super::{FileError, Kind, envelope};
use crate::fingerprint::{MAX_COUNT, MAX_RESPONSES, MAX_TEXT_BYTES, MAX_TOKENS, Response};
use crate::secret::OwnerSeed;
use crate::strategy::query::Query;
use crate::strategy::{GenerateOptions, PartialSet};

const ENVELOPE: Kind = Kind {
    format: "oml-partial",
    version: 1,
    max_bytes: MAX_BYTES,
};
const PARTIAL: Kind = Kind {
    format: "oml-partial-set",
    version: 1,
    max_bytes: MAX_BYTES / 4 * 3 - 4096,
};

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PartialFile {
    format: Text<64>,
    version: u32,
    identity: Hex<32>,
    attempts: u64,
    pairs: List<PairFile, MAX_COUNT>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PairFile {
    query: Text<MAX_TEXT_BYTES>,
    query_ids: List<u32, MAX_TOKENS>,
    responses: List<ResponseFile, MAX_RESPONSES>,
}

/// What determines a set besides the owner's seed, as one hash: the options, and whatever else `others` says. Only the
/// same build reads it again.
#[must_use]
pub fn identity(options: &GenerateOptions, others: &[&str]) -> [u8; 32] {
    Sha256::digest(format!("{options:?} {others:?}")).into()
}

/// Encrypts what has been found of the set with this identity.
///
/// # Errors
/// [`FileError::TooLarge`] for more than a reader would accept.
pub fn seal(
    partial: &PartialSet,
    identity: &[u8; 32],
    owner: &OwnerSeed,
) -> Result<Vec<u8>, FileError> {
    let pair = |(query, responses): &(Query, Vec<Response>)| PairFile {
        query: Text(query.text.clone()),
        query_ids: List(query.ids.clone()),
        responses: List(responses.iter().map(ResponseFile::from).collect()),
    };
    let file = PartialFile {
        format: Text(PARTIAL.format.into()),
        version: PARTIAL.version,
        identity: Hex(*identity),
        attempts: partial.attempts,
        pairs: List(partial.pairs.iter().map(pair).collect()),
    };
    let json = |error: serde_json::Error| FileError::json(PARTIAL.format, &error);
    let plaintext = Zeroizing::new(serde_json::to_vec(&file).map_err(json)?);
    PARTIAL.judge_size(plaintext.len())?;
    envelope::seal(ENVELOPE, &plaintext, owner)
}

/// Decrypts a file.
///
/// # Errors
/// Any fault of it: too large, not this format or version, another owner's, altered, or of a set with another identity.
pub fn open(bytes: &[u8], identity: &[u8; 32], owner: &OwnerSeed) -> Result<PartialSet, FileError> {
    let file: PartialFile = PARTIAL.parse(&envelope::open(ENVELOPE, bytes, owner)?)?;
    if file.identity.0 != *identity {
        return Err(FileError::Field {
            file: PARTIAL.format,
            field: "identity",
            expected: super::hex(identity),
            got: super::hex(&file.identity.0),
        });
    }
    let pair = |pair: PairFile| {
        let query = Query {
            text: pair.query.0,
            ids: pair.query_ids.0,
        };
        let responses = pair.responses.0.into_iter().map(Response::from);
        (query, responses.collect())
    };
    Ok(PartialSet {
        attempts: file.attempts,
        pairs: file.pairs.0.into_iter().map(pair).collect(),
    })
}
