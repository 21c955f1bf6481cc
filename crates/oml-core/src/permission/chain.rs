//! Grants from the issuer's to the innermost: what a delegate holds, and needs to sign under.
//!
//! ```text
//! text   "omlg1." ‖ base64url(domain ‖ grants), at least one; see wire.rs
//! ```

use super::wire::{self, Reader, TextError};
use super::{GrantId, NONE, Part, Refusal, SignedGrant};
use crate::eip712::{Domain, digest_under};
use crate::merkle::Hash;

/// Most grants from an issuer to a permission.
pub const MAX_GRANTS: usize = 4;
const PREFIX: &str = "omlg1.";

/// Grants, each under the one before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    /// Where the signatures count.
    pub domain: Domain,
    /// The issuer's grant first.
    pub grants: Vec<SignedGrant>,
}

impl Chain {
    /// The compact text.
    ///
    /// # Errors
    /// When there are no grants or too many, or the text is too long.
    pub fn to_text(&self) -> Result<String, TextError> {
        if self.grants.is_empty() {
            return Err(TextError::Grants { least: 1, got: 0 });
        }
        let mut bytes = Vec::new();
        wire::write_domain(&self.domain, &mut bytes);
        wire::write_grants(&self.grants, &mut bytes)?;
        wire::encode(PREFIX, &bytes)
    }

    /// Reads the compact text.
    ///
    /// # Errors
    /// Any fault of the text; signatures are not looked at.
    pub fn from_text(text: &str) -> Result<Self, TextError> {
        let bytes = wire::decode(PREFIX, text)?;
        let mut reader = Reader::new(&bytes);
        let chain = Self {
            domain: reader.domain()?,
            grants: reader.grants(1)?,
        };
        reader.end()?;
        Ok(chain)
    }

    /// The grants' ids, if each lies within the one above it.
    ///
    /// # Errors
    /// The first grant that is not under the one before it, or allows more.
    pub fn check(&self) -> Result<Vec<GrantId>, Refusal> {
        check(&self.domain.separator(), &self.grants)
    }
}

/// As [`Chain::check`], for grants of any number, under the separator of their domain.
pub(super) fn check(separator: &Hash, grants: &[SignedGrant]) -> Result<Vec<GrantId>, Refusal> {
    if grants.len() > MAX_GRANTS {
        return Err(Refusal::TooManyGrants { got: grants.len() });
    }
    let mut ids = Vec::with_capacity(grants.len());
    let mut above: Option<&SignedGrant> = None;
    for (place, signed) in grants.iter().enumerate() {
        let part = Part::Grant(place + 1);
        let SignedGrant { grant, scope, .. } = signed;
        let parent = ids.last().copied().unwrap_or(NONE);
        if grant.parent != parent {
            return Err(Refusal::BrokenChain { part });
        }
        if scope.hash() != grant.scope_hash {
            return Err(Refusal::ScopeHash { part });
        }
        if grant.not_before > grant.not_after {
            return Err(Refusal::ImpossibleTimes { part });
        }
        if let Some(above) = above {
            grant.narrows(&above.grant)?;
            scope.narrows(&above.scope)?;
        }
        ids.push(digest_under(separator, grant));
        above = Some(signed);
    }
    Ok(ids)
}
