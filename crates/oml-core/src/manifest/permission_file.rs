//! A permission with the grants above it.
//!
//! ```text
//! {"format":"oml-permission","version":1,"domain":{…}?,"grants":[as in grant_file.rs],"permission":{"model":"0x…","grant":"0x…",
//!  "licensee":"0x…","host":"0x…","input_hash":"0x…","nonce":text,"cumulative":text,"issued_at":seconds since 1970,"deadline":seconds},
//!  "signature":hex}
//! ```
//!
//! The same permission is shorter as compact text ([`crate::permission::Token`]), which is what a request carries.

use serde::{Deserialize, Serialize};

use super::field::{Hex, List, Text};
use super::grant_file::SignedGrantFile;
use super::word::{Account, Decimal, DomainFile, Word};
use super::{FileError, Kind};
use crate::permission::{MAX_GRANTS, ModelId, Permission, Token};
use crate::signing::Signature;

/// Most bytes of a file.
pub const MAX_BYTES: usize = 1 << 16;
const KIND: Kind = Kind {
    format: "oml-permission",
    version: 1,
    max_bytes: MAX_BYTES,
};

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TokenFile {
    format: Text<64>,
    version: u32,
    #[serde(default, skip_serializing_if = "DomainFile::is_off_chain")]
    domain: DomainFile,
    grants: List<SignedGrantFile, MAX_GRANTS>,
    permission: PermissionFile,
    signature: Hex<65>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PermissionFile {
    model: Word,
    grant: Word,
    licensee: Account,
    host: Account,
    input_hash: Word,
    nonce: Decimal,
    cumulative: Decimal,
    issued_at: u64,
    deadline: u64,
}

/// The bytes of a file.
///
/// # Errors
/// When there are too many grants.
pub fn render(token: &Token) -> Result<Vec<u8>, FileError> {
    let got = token.grants.len();
    if got > MAX_GRANTS {
        return Err(FileError::Field {
            file: KIND.format,
            field: "grants",
            expected: format!("at most {MAX_GRANTS}"),
            got: got.to_string(),
        });
    }
    let permission = &token.permission;
    let file = TokenFile {
        format: Text(KIND.format.into()),
        version: KIND.version,
        domain: DomainFile::of(&token.domain),
        grants: List(token.grants.iter().map(SignedGrantFile::of).collect()),
        permission: PermissionFile {
            model: Word(permission.model.0),
            grant: Word(permission.grant),
            licensee: Account(permission.licensee),
            host: Account(permission.host),
            input_hash: Word(permission.input_hash),
            nonce: Decimal(permission.nonce),
            cumulative: Decimal(permission.cumulative),
            issued_at: permission.issued_at,
            deadline: permission.deadline,
        },
        signature: Hex(token.signature.0),
    };
    let json = |error| FileError::json(KIND.format, &error);
    let mut bytes = serde_json::to_vec(&file).map_err(json)?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// Reads a file; signatures are not looked at.
///
/// # Errors
/// Any fault of the file.
pub fn parse(bytes: &[u8]) -> Result<Token, FileError> {
    let file: TokenFile = KIND.parse(bytes)?;
    let grants = file.grants.0.into_iter().enumerate();
    let grants = grants.map(|(entry, grant)| grant.grant(KIND.format, entry));
    let permission = file.permission;
    Ok(Token {
        domain: file.domain.domain(),
        grants: grants.collect::<Result<_, _>>()?,
        permission: Permission {
            model: ModelId(permission.model.0),
            grant: permission.grant.0,
            licensee: permission.licensee.0,
            host: permission.host.0,
            input_hash: permission.input_hash.0,
            nonce: permission.nonce.0,
            cumulative: permission.cumulative.0,
            issued_at: permission.issued_at,
            deadline: permission.deadline,
        },
        signature: Signature(file.signature.0),
    })
}
