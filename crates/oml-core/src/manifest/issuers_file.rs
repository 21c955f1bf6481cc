//! Who may sign permissions for which model, as whoever runs a host writes it down.
//!
//! ```text
//! {"format":"oml-issuers","version":1,"domain":{…}?,"max_age":seconds?,
//!  "issuers":[{"model":"0x…","address":"0x…","from":seconds since 1970?,"revoked_at":seconds since 1970?},…]}
//! ```
//!
//! Without `from` an issuer may always have signed. With `max_age` every issuer needs a revocation list that is not older
//! ([`crate::permission::FileAuthority`]).

use serde::{Deserialize, Serialize};

use super::field::{List, Text};
use super::word::{Account, DomainFile, Word};
use super::{FileError, Kind};
use crate::permission::{Issuer, Issuers, MAX_ISSUERS, ModelId, Tenure};

/// Most bytes of a file.
pub const MAX_BYTES: usize = 1 << 20;
const KIND: Kind = Kind {
    format: "oml-issuers",
    version: 1,
    max_bytes: MAX_BYTES,
};

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct IssuersFile {
    format: Text<64>,
    version: u32,
    #[serde(default, skip_serializing_if = "DomainFile::is_off_chain")]
    domain: DomainFile,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    max_age: Option<u64>,
    issuers: List<IssuerFile, MAX_ISSUERS>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct IssuerFile {
    model: Word,
    address: Account,
    #[serde(default)]
    from: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    revoked_at: Option<u64>,
}

/// The bytes of a file.
///
/// # Errors
/// When there are too many issuers.
pub fn render(issuers: &Issuers) -> Result<Vec<u8>, FileError> {
    let got = issuers.issuers.len();
    if got > MAX_ISSUERS {
        return Err(FileError::Field {
            file: KIND.format,
            field: "issuers",
            expected: format!("at most {MAX_ISSUERS}"),
            got: got.to_string(),
        });
    }
    let issuer = |issuer: &Issuer| IssuerFile {
        model: Word(issuer.model.0),
        address: Account(issuer.address),
        from: issuer.tenure.from,
        revoked_at: issuer.tenure.revoked_at,
    };
    let file = IssuersFile {
        format: Text(KIND.format.into()),
        version: KIND.version,
        domain: DomainFile::of(&issuers.domain),
        max_age: issuers.max_age,
        issuers: List(issuers.issuers.iter().map(issuer).collect()),
    };
    let json = |error| FileError::json(KIND.format, &error);
    let mut bytes = serde_json::to_vec_pretty(&file).map_err(json)?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// Reads a file.
///
/// # Errors
/// Any fault of the file.
pub fn parse(bytes: &[u8]) -> Result<Issuers, FileError> {
    let file: IssuersFile = KIND.parse(bytes)?;
    let issuer = |issuer: IssuerFile| Issuer {
        model: ModelId(issuer.model.0),
        address: issuer.address.0,
        tenure: Tenure {
            from: issuer.from,
            revoked_at: issuer.revoked_at,
        },
    };
    Ok(Issuers {
        domain: file.domain.domain(),
        max_age: file.max_age,
        issuers: file.issuers.0.into_iter().map(issuer).collect(),
    })
}
