//! A pair that its owner shows as evidence: everything that its leaf commits to, and the way from the leaf to the root.
//!
//! ```text
//! {"format":"oml-opening","version":1,"index":number in the set,"salt":hex,"query":text,"responses":[text, …],"proof":[hex, …]}
//! ```
//!
//! The root is not in the file: it must come from where it was published.

use serde::{Deserialize, Serialize};

use super::field::{Hex, List, Text};
use super::slice_file::MAX_PROOF;
use super::{FileError, Kind};
use crate::commitment::Opening;
use crate::fingerprint::{MAX_RESPONSES, MAX_TEXT_BYTES};
use crate::merkle::Hash;
use crate::secret::Salt;

/// Most bytes of an opening: all texts at their longest, escaped.
pub const MAX_BYTES: usize = 32 << 20;
const KIND: Kind = Kind {
    format: "oml-opening",
    version: 1,
    max_bytes: MAX_BYTES,
};

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct OpeningFile {
    format: Text<64>,
    version: u32,
    index: u64,
    salt: Hex<32>,
    query: Text<MAX_TEXT_BYTES>,
    responses: List<Text<MAX_TEXT_BYTES>, MAX_RESPONSES>,
    proof: List<Hex<32>, MAX_PROOF>,
}

/// The bytes of an opening.
///
/// # Errors
/// [`FileError::Json`], which a correct serialiser never gives.
pub fn render(opening: &Opening, proof: &[Hash]) -> Result<Vec<u8>, FileError> {
    let file = OpeningFile {
        format: Text(KIND.format.into()),
        version: KIND.version,
        index: opening.index,
        salt: Hex(*opening.salt.expose()),
        query: Text(opening.query.clone()),
        responses: List(opening.responses.iter().cloned().map(Text).collect()),
        proof: List(proof.iter().copied().map(Hex).collect()),
    };
    let json = |error| FileError::json(KIND.format, &error);
    let mut bytes = serde_json::to_vec(&file).map_err(json)?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// Reads an opening and its proof; whether the proof leads to a root is for [`Opening::verify`] to say.
///
/// # Errors
/// Any fault of the file.
pub fn parse(bytes: &[u8]) -> Result<(Opening, Vec<Hash>), FileError> {
    let file: OpeningFile = KIND.parse(bytes)?;
    let opening = Opening {
        index: file.index,
        salt: Salt::new(file.salt.0),
        query: file.query.0,
        responses: file.responses.0.into_iter().map(|text| text.0).collect(),
    };
    Ok((
        opening,
        file.proof.0.into_iter().map(|hash| hash.0).collect(),
    ))
}
