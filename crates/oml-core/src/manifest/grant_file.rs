//! Grants as a delegate keeps them: the issuer's first, each under the one before it.
//!
//! ```text
//! {"format":"oml-grant","version":1,"domain":{"chain_id":number?,"verifying_contract":"0x…"?}?,"grants":[grant,…]}
//! grant  {"model":"0x…","parent":"0x…","licensee":"0x…","delegate":"0x…","host":"0x…"?,"max_calls":text,"max_spend":text,
//!         "not_before":seconds since 1970,"not_after":seconds,"nonce":text,"scope":{…},"scope_hash":"0x…","signature":hex}
//! ```
//!
//! Without `domain` signatures count off-chain; without `host` any host may answer. `max_calls`, `max_spend` and `nonce` are decimal
//! text, the first two also `unlimited`. The same grants are shorter as compact text ([`crate::permission::Chain`]).

use serde::{Deserialize, Serialize};

use super::field::{Hex, List, Text};
use super::scope_json::ScopeFile;
use super::word::{Account, Decimal, DomainFile, Limit, Word};
use super::{FileError, Kind};
use crate::permission::{Chain, Grant, MAX_GRANTS, ModelId, SignedGrant};
use crate::signing::{Address, Signature};

/// Most bytes of a file.
pub const MAX_BYTES: usize = 1 << 16;
const KIND: Kind = Kind {
    format: "oml-grant",
    version: 1,
    max_bytes: MAX_BYTES,
};

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct GrantFile {
    format: Text<64>,
    version: u32,
    #[serde(default, skip_serializing_if = "DomainFile::is_off_chain")]
    domain: DomainFile,
    grants: List<SignedGrantFile, MAX_GRANTS>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SignedGrantFile {
    model: Word,
    parent: Word,
    licensee: Account,
    delegate: Account,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    host: Option<Account>,
    max_calls: Limit<{ u64::MAX as u128 }>,
    max_spend: Limit<{ u128::MAX }>,
    not_before: u64,
    not_after: u64,
    nonce: Decimal,
    scope: ScopeFile,
    scope_hash: Word,
    signature: Hex<65>,
}

impl SignedGrantFile {
    pub(super) fn of(signed: &SignedGrant) -> Self {
        let grant = &signed.grant;
        Self {
            model: Word(grant.model.0),
            parent: Word(grant.parent),
            licensee: Account(grant.licensee),
            delegate: Account(grant.delegate),
            host: (grant.host != Address::ZERO).then_some(Account(grant.host)),
            max_calls: Limit(grant.max_calls.into()),
            max_spend: Limit(grant.max_spend),
            not_before: grant.not_before,
            not_after: grant.not_after,
            nonce: Decimal(grant.nonce),
            scope: ScopeFile::of(&signed.scope),
            scope_hash: Word(grant.scope_hash),
            signature: Hex(signed.signature.0),
        }
    }

    /// The grant with number `entry` in a file of kind `file`.
    pub(super) fn grant(self, file: &'static str, entry: usize) -> Result<SignedGrant, FileError> {
        let fault = |field, expected: String| FileError::Entry {
            file,
            entry,
            field,
            expected,
            got: "another".into(),
        };
        let scope = self.scope.scope();
        let scope = scope.map_err(|error| fault("scope", format!("a scope ({error})")))?;
        let max_calls = self.max_calls.0.try_into();
        Ok(SignedGrant {
            grant: Grant {
                model: ModelId(self.model.0),
                parent: self.parent.0,
                licensee: self.licensee.0,
                delegate: self.delegate.0,
                host: self.host.map_or(Address::ZERO, |host| host.0),
                max_calls: max_calls
                    .map_err(|_| fault("max_calls", "a number of 64 bits".to_owned()))?,
                max_spend: self.max_spend.0,
                scope_hash: self.scope_hash.0,
                not_before: self.not_before,
                not_after: self.not_after,
                nonce: self.nonce.0,
            },
            scope,
            signature: Signature(self.signature.0),
        })
    }
}

/// The bytes of a file.
///
/// # Errors
/// When there are no grants or too many.
pub fn render(chain: &Chain) -> Result<Vec<u8>, FileError> {
    judge_number(chain.grants.len())?;
    let file = GrantFile {
        format: Text(KIND.format.into()),
        version: KIND.version,
        domain: DomainFile::of(&chain.domain),
        grants: List(chain.grants.iter().map(SignedGrantFile::of).collect()),
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
pub fn parse(bytes: &[u8]) -> Result<Chain, FileError> {
    let file: GrantFile = KIND.parse(bytes)?;
    judge_number(file.grants.0.len())?;
    let grants = file.grants.0.into_iter().enumerate();
    let grants = grants.map(|(entry, grant)| grant.grant(KIND.format, entry));
    Ok(Chain {
        domain: file.domain.domain(),
        grants: grants.collect::<Result<_, _>>()?,
    })
}

fn judge_number(got: usize) -> Result<(), FileError> {
    if (1..=MAX_GRANTS).contains(&got) {
        return Ok(());
    }
    Err(FileError::Field {
        file: KIND.format,
        field: "grants",
        expected: format!("1 to {MAX_GRANTS}"),
        got: got.to_string(),
    })
}
