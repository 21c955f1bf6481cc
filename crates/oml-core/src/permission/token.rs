//! A permission with everything that is needed to verify it: what a caller sends along with a request.
//!
//! ```text
//! text        "oml1." ‖ base64url(domain ‖ grants ‖ permission ‖ signature (65)); see wire.rs
//! permission  model (32) ‖ grant (32) ‖ licensee (20) ‖ host (20) ‖ input hash (32) ‖ nonce (16) ‖ cumulative (16) ‖ issued at (8) ‖
//!             deadline (8)
//! ```

use super::wire::{self, Reader, TextError};
use super::{Chain, ModelId, NONE, Permission, PermissionId, SignedGrant};
use crate::eip712::Domain;
use crate::signing::{Signature, SigningKey};

const PREFIX: &str = "oml1.";

/// A signed permission and the grants above it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// Where the signatures count.
    pub domain: Domain,
    /// The issuer's grant first; none where the issuer signed the permission.
    pub grants: Vec<SignedGrant>,
    /// The permission.
    pub permission: Permission,
    /// Signature of the permission.
    pub signature: Signature,
}

impl Token {
    /// Signs a permission under a chain of grants, whose innermost grant it then names.
    #[must_use]
    pub fn sign_under(chain: &Chain, mut permission: Permission, key: &SigningKey) -> Self {
        let innermost = chain.grants.last();
        permission.grant = innermost.map_or(NONE, |signed| signed.grant.id(&chain.domain));
        Self::sign(chain.domain, chain.grants.clone(), permission, key)
    }

    /// Signs a permission as an issuer.
    #[must_use]
    pub fn sign_as_issuer(domain: Domain, mut permission: Permission, key: &SigningKey) -> Self {
        permission.grant = NONE;
        Self::sign(domain, Vec::new(), permission, key)
    }

    fn sign(
        domain: Domain,
        grants: Vec<SignedGrant>,
        permission: Permission,
        key: &SigningKey,
    ) -> Self {
        Self {
            domain,
            grants,
            signature: key.sign(&permission.id(&domain)),
            permission,
        }
    }

    /// The permission's id.
    #[must_use]
    pub fn id(&self) -> PermissionId {
        self.permission.id(&self.domain)
    }

    /// The compact text.
    ///
    /// # Errors
    /// When there are too many grants, or the text is too long.
    pub fn to_text(&self) -> Result<String, TextError> {
        let mut bytes = Vec::new();
        wire::write_domain(&self.domain, &mut bytes);
        wire::write_grants(&self.grants, &mut bytes)?;
        let permission = &self.permission;
        bytes.extend_from_slice(&permission.model.0);
        bytes.extend_from_slice(&permission.grant);
        bytes.extend_from_slice(&permission.licensee.0);
        bytes.extend_from_slice(&permission.host.0);
        bytes.extend_from_slice(&permission.input_hash);
        bytes.extend_from_slice(&permission.nonce.to_be_bytes());
        bytes.extend_from_slice(&permission.cumulative.to_be_bytes());
        bytes.extend_from_slice(&permission.issued_at.to_be_bytes());
        bytes.extend_from_slice(&permission.deadline.to_be_bytes());
        bytes.extend_from_slice(&self.signature.0);
        wire::encode(PREFIX, &bytes)
    }

    /// Reads the compact text.
    ///
    /// # Errors
    /// Any fault of the text; signatures are not looked at.
    pub fn from_text(text: &str) -> Result<Self, TextError> {
        let bytes = wire::decode(PREFIX, text)?;
        let mut reader = Reader::new(&bytes);
        let token = Self {
            domain: reader.domain()?,
            grants: reader.grants(0)?,
            permission: Permission {
                model: ModelId(reader.array("model")?),
                grant: reader.array("grant")?,
                licensee: reader.address("licensee")?,
                host: reader.address("host")?,
                input_hash: reader.array("input hash")?,
                nonce: reader.u128("nonce")?,
                cumulative: reader.u128("cumulative")?,
                issued_at: reader.u64("issued at")?,
                deadline: reader.u64("deadline")?,
            },
            signature: reader.signature()?,
        };
        reader.end()?;
        Ok(token)
    }
}
