//! The receipt of an answer.
//!
//! ```text
//! {"format":"oml-receipt","version":1,"domain":{…}?,"model":"0x…","host":"0x…","input_hash":"0x…","output_hash":"0x…",
//!  "permission_id":"0x…","issued_at":seconds since 1970,"signature":hex}
//! ```
//!
//! The same receipt is shorter as compact text ([`crate::receipt::SignedReceipt`]).

use serde::{Deserialize, Serialize};

use super::field::{Hex, Text};
use super::word::{Account, DomainFile, Word};
use super::{FileError, Kind};
use crate::permission::ModelId;
use crate::receipt::{InferenceReceipt, SignedReceipt};
use crate::signing::Signature;

/// Most bytes of a file.
pub const MAX_BYTES: usize = 4096;
const KIND: Kind = Kind {
    format: "oml-receipt",
    version: 1,
    max_bytes: MAX_BYTES,
};

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ReceiptFile {
    format: Text<64>,
    version: u32,
    #[serde(default, skip_serializing_if = "DomainFile::is_off_chain")]
    domain: DomainFile,
    model: Word,
    host: Account,
    input_hash: Word,
    output_hash: Word,
    permission_id: Word,
    issued_at: u64,
    signature: Hex<65>,
}

/// The bytes of a file.
///
/// # Errors
/// [`FileError::Json`], which a correct serialiser never gives.
pub fn render(signed: &SignedReceipt) -> Result<Vec<u8>, FileError> {
    let receipt = &signed.receipt;
    let file = ReceiptFile {
        format: Text(KIND.format.into()),
        version: KIND.version,
        domain: DomainFile::of(&signed.domain),
        model: Word(receipt.model.0),
        host: Account(receipt.host),
        input_hash: Word(receipt.input_hash),
        output_hash: Word(receipt.output_hash),
        permission_id: Word(receipt.permission_id),
        issued_at: receipt.issued_at,
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
pub fn parse(bytes: &[u8]) -> Result<SignedReceipt, FileError> {
    let file: ReceiptFile = KIND.parse(bytes)?;
    Ok(SignedReceipt {
        domain: file.domain.domain(),
        receipt: InferenceReceipt {
            model: ModelId(file.model.0),
            host: file.host.0,
            input_hash: file.input_hash.0,
            output_hash: file.output_hash.0,
            permission_id: file.permission_id.0,
            issued_at: file.issued_at,
        },
        signature: Signature(file.signature.0),
    })
}
