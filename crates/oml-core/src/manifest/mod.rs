//! The files of the domain: the only serialised structs, each versioned, with size caps and one typed error per fault.
//!
//! Every format is JSON in UTF-8 and starts with `format` and `version`, which are judged before anything else. Unknown
//! fields, missing fields, repeated fields and anything after the object are faults. Lists and texts have caps that are
//! applied while reading, so that memory stays within a small multiple of the file's size.

pub mod bundle_archive;
pub mod bundle_file;
pub mod challenge_file;
pub mod claim_file;
pub mod controls_file;
mod envelope;
mod error;
mod field;
pub mod fingerprint_file;
pub mod grant_file;
pub mod instructions_file;
pub mod issuers_file;
pub mod locked_owner_file;
mod loose;
pub mod model_manifest;
pub mod observed_file;
pub mod oml1_file;
pub mod opening_file;
pub mod openings_file;
pub mod owner_file;
pub mod pairs_file;
pub mod partial_file;
pub mod perinucleus_file;
pub mod permission_file;
pub mod plain_file;
pub mod prompts_file;
pub mod queries_file;
pub mod receipt_file;
pub mod response_file;
pub mod revocations_file;
pub(crate) mod scope_json;
pub mod signature_file;
pub mod slice_file;
pub mod texts_file;
pub mod transcript_file;
pub mod usage_log;
mod word;

pub use error::FileError;

use data_encoding::HEXLOWER;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Lower-case hexadecimal of `bytes`.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    HEXLOWER.encode(bytes)
}

/// 32 bytes from 64 digits of lower-case hexadecimal.
#[must_use]
pub fn parse_hash(digits: &str) -> Option<[u8; 32]> {
    HEXLOWER.decode(digits.as_bytes()).ok()?.try_into().ok()
}

/// A JSON list with one item per line.
fn lines<T: Serialize>(
    file: &'static str,
    items: impl Iterator<Item = Result<T, FileError>>,
) -> Result<Vec<u8>, FileError> {
    let mut out = b"[".to_vec();
    let mut separator: &[u8] = b"\n";
    for item in items {
        out.extend_from_slice(separator);
        separator = b",\n";
        serde_json::to_writer(&mut out, &item?).map_err(|error| FileError::json(file, &error))?;
    }
    out.extend_from_slice(b"\n]\n");
    Ok(out)
}

/// What files call themselves. Nothing else that a file says it is gets shown.
const FORMATS: [&str; 22] = [
    "oml-owner",
    "oml-owner-locked",
    "oml-fingerprints",
    "oml-fingerprint-set",
    "oml-model",
    "oml-slice",
    "oml-transcript",
    "oml-opening",
    "oml-claim",
    "oml-controls",
    "oml-signature",
    "oml-challenge",
    "oml-response",
    "oml-usage",
    "oml-observed",
    "oml-partial",
    "oml-partial-set",
    "oml-grant",
    "oml-permission",
    "oml-receipt",
    "oml-issuers",
    "oml-revocations",
];

/// The kind of a file: what its first two fields say and how large it may be.
#[derive(Debug, Clone, Copy)]
struct Kind {
    format: &'static str,
    version: u32,
    max_bytes: usize,
}

impl Kind {
    /// Parses `bytes` after judging size, format and version.
    fn parse<T: DeserializeOwned>(self, bytes: &[u8]) -> Result<T, FileError> {
        #[derive(Deserialize)]
        struct Marker {
            format: field::Text<64>,
            version: u32,
        }
        self.judge_size(bytes.len())?;
        let Marker { format, version } = self.json(bytes)?;
        self.judge(&format.0, version)?;
        self.json(bytes)
    }

    fn judge(self, format: &str, version: u32) -> Result<(), FileError> {
        if format != self.format {
            return Err(FileError::Format {
                expected: self.format,
                got: FORMATS
                    .into_iter()
                    .find(|known| *known == format)
                    .unwrap_or("another"),
            });
        }
        if version != self.version {
            return Err(FileError::Version {
                file: self.format,
                expected: self.version,
                got: version,
            });
        }
        Ok(())
    }

    fn judge_size(self, got: usize) -> Result<(), FileError> {
        if got > self.max_bytes {
            return Err(FileError::TooLarge {
                file: self.format,
                limit: self.max_bytes,
                got,
            });
        }
        Ok(())
    }

    fn json<T: DeserializeOwned>(self, bytes: &[u8]) -> Result<T, FileError> {
        serde_json::from_slice(bytes).map_err(|error| FileError::json(self.format, &error))
    }
}
