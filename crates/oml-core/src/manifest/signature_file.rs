//! The owner's signature under a claim: `{"format":"oml-signature","version":1,"owner":"0x…","signature":"130 hexadecimal digits"}`.
//!
//! What is signed is [`crate::bundle::ClaimMessage`]. The file has one spelling, since nothing else says what its bytes are.

use serde::{Deserialize, Serialize};

use super::field::{Hex, Text};
use super::{FileError, Kind};
use crate::signing::{Address, Signature};

const KIND: Kind = Kind {
    format: "oml-signature",
    version: 1,
    max_bytes: 4096,
};

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SignatureFile {
    format: Text<64>,
    version: u32,
    owner: Text<64>,
    signature: Hex<65>,
}

/// The bytes of the file.
///
/// # Errors
/// [`FileError::Json`], which a correct serialiser never gives.
pub fn render(owner: &Address, signature: &Signature) -> Result<Vec<u8>, FileError> {
    let file = SignatureFile {
        format: Text(KIND.format.into()),
        version: KIND.version,
        owner: Text(owner.to_string()),
        signature: Hex(signature.0),
    };
    let json = |error| FileError::json(KIND.format, &error);
    let mut bytes = serde_json::to_vec(&file).map_err(json)?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// Reads the file.
///
/// # Errors
/// Any fault of the file, another spelling of the same among them.
pub fn parse(bytes: &[u8]) -> Result<(Address, Signature), FileError> {
    let file: SignatureFile = KIND.parse(bytes)?;
    let fault = |field, expected: &str| FileError::Field {
        file: KIND.format,
        field,
        expected: expected.into(),
        got: "another".into(),
    };
    let owner = file
        .owner
        .0
        .parse()
        .map_err(|_| fault("owner", "an address"))?;
    let signature = Signature(file.signature.0);
    if render(&owner, &signature)? != bytes {
        return Err(fault("spelling", "the one that is written"));
    }
    Ok((owner, signature))
}
