//! An issuer's signed list of grants and permissions that no longer count.
//!
//! ```text
//! {"format":"oml-revocations","version":1,"domain":{…}?,"model":"0x…","issued_at":seconds since 1970,
//!  "entries":[{"id":"0x…","at":seconds since 1970},…],"signature":hex}
//! ```
//!
//! Ids rise, each once.

use serde::{Deserialize, Serialize};

use super::field::{Hex, List, Text};
use super::word::{DomainFile, Word};
use super::{FileError, Kind};
use crate::permission::{MAX_ENTRIES, ModelId, Revocation, RevocationList, SignedRevocations};
use crate::signing::Signature;

/// Most bytes of a file.
pub const MAX_BYTES: usize = 8 << 20;
const KIND: Kind = Kind {
    format: "oml-revocations",
    version: 1,
    max_bytes: MAX_BYTES,
};

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RevocationsFile {
    format: Text<64>,
    version: u32,
    #[serde(default, skip_serializing_if = "DomainFile::is_off_chain")]
    domain: DomainFile,
    model: Word,
    issued_at: u64,
    entries: List<RevocationFile, MAX_ENTRIES>,
    signature: Hex<65>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RevocationFile {
    id: Word,
    at: u64,
}

/// The bytes of a file.
///
/// # Errors
/// [`FileError::Json`], which a correct serialiser never gives.
pub fn render(signed: &SignedRevocations) -> Result<Vec<u8>, FileError> {
    let entry = |entry: &Revocation| RevocationFile {
        id: Word(entry.id),
        at: entry.at,
    };
    let file = RevocationsFile {
        format: Text(KIND.format.into()),
        version: KIND.version,
        domain: DomainFile::of(&signed.domain),
        model: Word(signed.list.model.0),
        issued_at: signed.list.issued_at,
        entries: List(signed.list.entries().iter().map(entry).collect()),
        signature: Hex(signed.signature.0),
    };
    let json = |error| FileError::json(KIND.format, &error);
    let mut bytes = serde_json::to_vec(&file).map_err(json)?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// Reads a file; the signature is not looked at.
///
/// # Errors
/// Any fault of the file.
pub fn parse(bytes: &[u8]) -> Result<SignedRevocations, FileError> {
    let file: RevocationsFile = KIND.parse(bytes)?;
    let entry = |entry: RevocationFile| Revocation {
        id: entry.id.0,
        at: entry.at,
    };
    let entries = file.entries.0.into_iter().map(entry).collect();
    let list = RevocationList::from_entries(ModelId(file.model.0), file.issued_at, entries);
    Ok(SignedRevocations {
        domain: file.domain.domain(),
        list: list.ok_or_else(|| FileError::Field {
            file: KIND.format,
            field: "entries",
            expected: "ids that rise, each once".into(),
            got: "others".into(),
        })?,
        signature: Signature(file.signature.0),
    })
}
