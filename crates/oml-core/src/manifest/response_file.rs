//! An owner's answer to a challenge.
//!
//! ```text
//! {"format":"oml-response","version":1,"challenge":hex,"time":seconds since 1970,"signature":hex}      the first line
//! {"format":"oml-opening",…}                                      one line for each fingerprint, by rising numbers
//! challenge   SHA-256 of the challenge's file; the signature's message holds it, the root, and the SHA-256 of the lines after the first
//! ```

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::field::{Hex, Text};
use super::{FileError, Kind, openings_file};
use crate::bundle::Opened;
use crate::merkle::Hash;
use crate::signing::Signature;

/// Most bytes of an answer.
pub const MAX_BYTES: usize = openings_file::MAX_BYTES;
const KIND: Kind = Kind {
    format: "oml-response",
    version: 1,
    max_bytes: MAX_BYTES,
};

/// An answer as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// SHA-256 of the challenge's file.
    pub challenge: Hash,
    /// When, in seconds since 1970.
    pub time: u64,
    /// The opened fingerprints.
    pub opened: Vec<Opened>,
    /// SHA-256 of their lines.
    pub openings: Hash,
    /// The owner's signature.
    pub signature: Signature,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Head {
    format: Text<64>,
    version: u32,
    challenge: Hex<32>,
    time: u64,
    signature: Hex<65>,
}

/// The lines of the opened fingerprints and their SHA-256, which is signed.
///
/// # Errors
/// [`FileError::Json`], which a correct serialiser never gives.
pub fn render_openings(opened: &[Opened]) -> Result<(Vec<u8>, Hash), FileError> {
    let lines = openings_file::render(opened)?;
    let hash = Sha256::digest(&lines).into();
    Ok((lines, hash))
}

/// The bytes of an answer whose lines of openings are `lines`.
///
/// # Errors
/// As [`render_openings`].
pub fn render(
    challenge: &Hash,
    time: u64,
    signature: &Signature,
    lines: &[u8],
) -> Result<Vec<u8>, FileError> {
    let head = Head {
        format: Text(KIND.format.into()),
        version: KIND.version,
        challenge: Hex(*challenge),
        time,
        signature: Hex(signature.0),
    };
    let json = |error| FileError::json(KIND.format, &error);
    let mut bytes = serde_json::to_vec(&head).map_err(json)?;
    bytes.push(b'\n');
    bytes.extend_from_slice(lines);
    Ok(bytes)
}

/// Reads an answer.
///
/// # Errors
/// Any fault of the file, with the line.
pub fn parse(bytes: &[u8]) -> Result<Response, FileError> {
    KIND.judge_size(bytes.len())?;
    let end = bytes.iter().position(|byte| *byte == b'\n');
    let (head, lines) = bytes.split_at(end.map_or(bytes.len(), |end| end + 1));
    let head: Head = KIND.parse(head)?;
    Ok(Response {
        challenge: head.challenge.0,
        time: head.time,
        opened: openings_file::parse(lines)?,
        openings: Sha256::digest(lines).into(),
        signature: Signature(head.signature.0),
    })
}
