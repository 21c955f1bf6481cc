//! Bytes and text of tokens, chains of grants and receipts: fixed fields, big-endian, with one spelling.
//!
//! ```text
//! text    prefix ‖ base64url without padding (RFC 4648, §5) of the bytes; at most 8,192 characters, no white space
//! domain  flags (1 byte: 1 chain id, 2 contract) ‖ [chain id (8)] ‖ [contract (20)]
//! grants  number (1 byte, at most 4) ‖ each, outermost first:
//!         model (32) ‖ parent (32) ‖ licensee (20) ‖ delegate (20) ‖ host (20) ‖ max calls (8) ‖ max spend (16) ‖ not before (8) ‖
//!         not after (8) ‖ nonce (16) ‖ length of the scope (2) ‖ scope, canonical JSON ‖ signature (65)
//! ```
//!
//! A scope stands for its hash. What is left at the end is refused, and so is text that its own reading would not be written as.

use data_encoding::BASE64URL_NOPAD;

use super::{Grant, MAX_GRANTS, MAX_SCOPE_BYTES, ModelId, ScopeError, SignedGrant};
use crate::eip712::Domain;
use crate::manifest::scope_json;
use crate::signing::{Address, Signature};

/// Most characters of a token, a chain or a receipt.
pub const MAX_TEXT_BYTES: usize = 8192;
const CHAIN_ID: u8 = 1;
const CONTRACT: u8 = 2;

/// Text that is no token, chain of grants or receipt.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TextError {
    /// Longer than any such text.
    #[error("text: expected at most {MAX_TEXT_BYTES} characters, got {got}")]
    TooLong {
        /// Characters found.
        got: usize,
    },
    /// Another kind of text, or another version of it.
    #[error("text: expected {expected:?} at its beginning, got another")]
    Prefix {
        /// What such a text begins with.
        expected: &'static str,
    },
    /// Characters that are not base64url, padding, or bits that no writer leaves.
    #[error("text: expected base64url without padding, got other characters or bits")]
    Encoding,
    /// The bytes end too early.
    #[error("text: expected more bytes at {field}, got the end")]
    Truncated {
        /// The field that is cut.
        field: &'static str,
    },
    /// Bytes after the last field.
    #[error("text: expected its end after the last field, got {got} more bytes")]
    Trailing {
        /// Bytes left.
        got: usize,
    },
    /// Bits that mean nothing.
    #[error("domain: expected flags 0 to 3, got {got}")]
    Domain {
        /// The byte found.
        got: u8,
    },
    /// Too many grants, or none where one is needed.
    #[error("grants: expected {least} to {MAX_GRANTS}, got {got}")]
    Grants {
        /// Fewest.
        least: usize,
        /// Number found.
        got: usize,
    },
    /// A scope that is none.
    #[error("grant {grant}: {source}")]
    Scope {
        /// Number of the grant, from 1, outermost first.
        grant: usize,
        /// The fault.
        source: ScopeError,
    },
}

impl TextError {
    /// The fault as machines name it.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::TooLong { .. } => "text_too_long",
            Self::Prefix { .. } => "text_prefix",
            Self::Encoding => "text_encoding",
            Self::Truncated { .. } => "text_truncated",
            Self::Trailing { .. } => "text_trailing",
            Self::Domain { .. } => "text_domain",
            Self::Grants { .. } => "text_grants",
            Self::Scope { .. } => "text_scope",
        }
    }
}

/// The text of a few bytes.
pub(crate) fn encode_short(prefix: &'static str, bytes: &[u8]) -> String {
    let mut text = prefix.to_owned();
    BASE64URL_NOPAD.encode_append(bytes, &mut text);
    text
}

/// The text of `bytes`.
///
/// # Errors
/// [`TextError::TooLong`].
pub(crate) fn encode(prefix: &'static str, bytes: &[u8]) -> Result<String, TextError> {
    let text = encode_short(prefix, bytes);
    if text.len() > MAX_TEXT_BYTES {
        return Err(TextError::TooLong { got: text.len() });
    }
    Ok(text)
}

/// The bytes of a text.
///
/// # Errors
/// When it is too long, of another kind, or not base64url with one spelling.
pub(crate) fn decode(prefix: &'static str, text: &str) -> Result<Vec<u8>, TextError> {
    if text.len() > MAX_TEXT_BYTES {
        return Err(TextError::TooLong { got: text.len() });
    }
    let body = text
        .strip_prefix(prefix)
        .ok_or(TextError::Prefix { expected: prefix })?;
    // The specification checks trailing bits, so no two texts give the same bytes.
    BASE64URL_NOPAD
        .decode(body.as_bytes())
        .map_err(|_| TextError::Encoding)
}

pub(crate) fn write_domain(domain: &Domain, out: &mut Vec<u8>) {
    let chain_id = domain.chain_id.map_or(0, |_| CHAIN_ID);
    let contract = domain.verifying_contract.map_or(0, |_| CONTRACT);
    out.push(chain_id | contract);
    if let Some(chain_id) = domain.chain_id {
        out.extend_from_slice(&chain_id.to_be_bytes());
    }
    if let Some(contract) = &domain.verifying_contract {
        out.extend_from_slice(&contract.0);
    }
}

pub(crate) fn write_grants(grants: &[SignedGrant], out: &mut Vec<u8>) -> Result<(), TextError> {
    let number = u8::try_from(grants.len()).ok();
    let number = number.filter(|_| grants.len() <= MAX_GRANTS);
    out.push(number.ok_or(TextError::Grants {
        least: 0,
        got: grants.len(),
    })?);
    for (place, signed) in grants.iter().enumerate() {
        let scope = signed.scope.canonical();
        let length = u16::try_from(scope.len()).ok();
        let length = length.filter(|_| scope.len() <= MAX_SCOPE_BYTES);
        let length = length.ok_or(TextError::Scope {
            grant: place + 1,
            source: ScopeError::TooLarge { got: scope.len() },
        })?;
        let grant = &signed.grant;
        out.extend_from_slice(&grant.model.0);
        out.extend_from_slice(&grant.parent);
        for address in [&grant.licensee, &grant.delegate, &grant.host] {
            out.extend_from_slice(&address.0);
        }
        out.extend_from_slice(&grant.max_calls.to_be_bytes());
        out.extend_from_slice(&grant.max_spend.to_be_bytes());
        out.extend_from_slice(&grant.not_before.to_be_bytes());
        out.extend_from_slice(&grant.not_after.to_be_bytes());
        out.extend_from_slice(&grant.nonce.to_be_bytes());
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(&scope);
        out.extend_from_slice(&signed.signature.0);
    }
    Ok(())
}

/// What is left of the bytes.
pub(crate) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(crate) fn array<const N: usize>(
        &mut self,
        field: &'static str,
    ) -> Result<[u8; N], TextError> {
        let (own, rest) = self
            .0
            .split_first_chunk()
            .ok_or(TextError::Truncated { field })?;
        self.0 = rest;
        Ok(*own)
    }

    fn slice(&mut self, length: usize, field: &'static str) -> Result<&'a [u8], TextError> {
        let (own, rest) = self
            .0
            .split_at_checked(length)
            .ok_or(TextError::Truncated { field })?;
        self.0 = rest;
        Ok(own)
    }

    pub(crate) fn address(&mut self, field: &'static str) -> Result<Address, TextError> {
        self.array(field).map(Address)
    }

    pub(crate) fn u64(&mut self, field: &'static str) -> Result<u64, TextError> {
        self.array(field).map(u64::from_be_bytes)
    }

    pub(crate) fn u128(&mut self, field: &'static str) -> Result<u128, TextError> {
        self.array(field).map(u128::from_be_bytes)
    }

    pub(crate) fn signature(&mut self) -> Result<Signature, TextError> {
        self.array("signature").map(Signature)
    }

    pub(crate) fn domain(&mut self) -> Result<Domain, TextError> {
        let [flags] = self.array("domain")?;
        if flags > CHAIN_ID | CONTRACT {
            return Err(TextError::Domain { got: flags });
        }
        let mut domain = Domain::OFF_CHAIN;
        if flags & CHAIN_ID != 0 {
            domain.chain_id = Some(self.u64("chain id")?);
        }
        if flags & CONTRACT != 0 {
            domain.verifying_contract = Some(self.address("contract")?);
        }
        Ok(domain)
    }

    pub(crate) fn grants(&mut self, least: usize) -> Result<Vec<SignedGrant>, TextError> {
        let [number] = self.array("number of grants")?;
        let got = usize::from(number);
        if got < least || got > MAX_GRANTS {
            return Err(TextError::Grants { least, got });
        }
        (1..=got).map(|number| self.grant(number)).collect()
    }

    fn grant(&mut self, number: usize) -> Result<SignedGrant, TextError> {
        let mut grant = Grant {
            model: ModelId(self.array("model")?),
            parent: self.array("parent")?,
            licensee: self.address("licensee")?,
            delegate: self.address("delegate")?,
            host: self.address("host")?,
            max_calls: self.u64("max calls")?,
            max_spend: self.u128("max spend")?,
            scope_hash: [0; 32],
            not_before: self.u64("not before")?,
            not_after: self.u64("not after")?,
            nonce: self.u128("nonce")?,
        };
        let length = u16::from_be_bytes(self.array("length of the scope")?);
        let scope = self.slice(usize::from(length), "scope")?;
        let scope = scope_json::parse(scope).map_err(|source| TextError::Scope {
            grant: number,
            source,
        })?;
        grant.scope_hash = scope.hash();
        Ok(SignedGrant {
            grant,
            scope,
            signature: self.signature()?,
        })
    }

    /// Refuses what is left.
    pub(crate) const fn end(self) -> Result<(), TextError> {
        match self.0.len() {
            0 => Ok(()),
            got => Err(TextError::Trailing { got }),
        }
    }
}
