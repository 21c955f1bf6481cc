//! A permission: one call, as typed data (EIP-712).
//!
//! ```text
//! Permission(bytes32 modelId,bytes32 grantId,address licensee,address host,bytes32 inputHash,uint128 nonce,uint128 cumulative,
//!            uint64 issuedAt,uint64 deadline)
//! grantId     the grant that it is signed under; zero where the issuer signed
//! inputHash   salted hash of the input (input.rs); zero is any input
//! nonce       16 random bytes, or under a scope whose replay is a sequence a number that rises with every call
//! cumulative  what the licensee has promised under the grant so far, this call among it, in the token's smallest unit
//! id          the digest that is signed
//! ```

use std::sync::OnceLock;

use super::ModelId;
use crate::eip712::{Domain, Typed, address, text, uint, uint128};
use crate::merkle::Hash;
use crate::signing::Address;

/// What names a permission: its digest.
pub type PermissionId = Hash;

/// What is permitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Permission {
    /// The model.
    pub model: ModelId,
    /// The grant that it is signed under, or [`super::NONE`].
    pub grant: Hash,
    /// Who pays and answers for what is asked.
    pub licensee: Address,
    /// Who may answer.
    pub host: Address,
    /// Salted hash of the input, or [`super::NONE`] for any.
    pub input_hash: Hash,
    /// What tells this permission from others of the same contents.
    pub nonce: u128,
    /// What the licensee has promised under the grant, with this call.
    pub cumulative: u128,
    /// When it was signed, in seconds since 1970.
    pub issued_at: u64,
    /// Last second at which it may be used.
    pub deadline: u64,
}

impl Typed for Permission {
    const TYPE: &'static str = "Permission(bytes32 modelId,bytes32 grantId,address licensee,address host,bytes32 inputHash,\
         uint128 nonce,uint128 cumulative,uint64 issuedAt,uint64 deadline)";

    fn words(&self) -> Vec<Hash> {
        vec![
            self.model.0,
            self.grant,
            address(&self.licensee),
            address(&self.host),
            self.input_hash,
            uint128(self.nonce),
            uint128(self.cumulative),
            uint(self.issued_at),
            uint(self.deadline),
        ]
    }

    fn type_hash() -> Hash {
        static KEPT: OnceLock<Hash> = OnceLock::new();
        *KEPT.get_or_init(|| text(Self::TYPE))
    }
}

impl Permission {
    /// The permission's id where signatures count in `domain`.
    #[must_use]
    pub fn id(&self, domain: &Domain) -> PermissionId {
        domain.digest(self)
    }
}
