//! A grant: what a delegate may permit under an issuer's name, as typed data (EIP-712).
//!
//! ```text
//! Grant(bytes32 modelId,bytes32 parent,address licensee,address delegate,address host,uint64 maxCalls,uint128 maxSpend,
//!       bytes32 scopeHash,uint64 notBefore,uint64 notAfter,uint128 nonce)
//! parent     id of the grant that this one attenuates; zero where the issuer signed
//! delegate   who signs permissions and narrower grants under it
//! host       who may answer; zero is any host
//! id         the digest that is signed
//! ```

use std::sync::OnceLock;

use super::{ModelId, Refusal, Scope};
use crate::eip712::{Domain, Typed, address, text, uint, uint128};
use crate::merkle::Hash;
use crate::signing::{Address, Signature, SigningKey};

/// What names a grant: its digest.
pub type GrantId = Hash;

/// As many calls as anybody likes.
pub const UNLIMITED_CALLS: u64 = u64::MAX;
/// As much spending as anybody likes.
pub const UNLIMITED_SPEND: u128 = u128::MAX;

/// What is granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grant {
    /// The model.
    pub model: ModelId,
    /// The grant that this one attenuates, or [`super::NONE`].
    pub parent: GrantId,
    /// Who pays and answers for what is asked.
    pub licensee: Address,
    /// Who signs under the grant.
    pub delegate: Address,
    /// Who may answer, or [`Address::ZERO`] for any host.
    pub host: Address,
    /// Most calls under the grant and all below it, or [`UNLIMITED_CALLS`]; 0 is none.
    pub max_calls: u64,
    /// Most that may be promised under it, in the token's smallest unit, or [`UNLIMITED_SPEND`].
    pub max_spend: u128,
    /// Hash of the [`Scope`].
    pub scope_hash: Hash,
    /// First second of its life.
    pub not_before: u64,
    /// Last second of its life.
    pub not_after: u64,
    /// Makes two grants of the same contents two.
    pub nonce: u128,
}

impl Typed for Grant {
    const TYPE: &'static str = "Grant(bytes32 modelId,bytes32 parent,address licensee,address delegate,address host,\
         uint64 maxCalls,uint128 maxSpend,bytes32 scopeHash,uint64 notBefore,uint64 notAfter,uint128 nonce)";

    fn words(&self) -> Vec<Hash> {
        vec![
            self.model.0,
            self.parent,
            address(&self.licensee),
            address(&self.delegate),
            address(&self.host),
            uint(self.max_calls),
            uint128(self.max_spend),
            self.scope_hash,
            uint(self.not_before),
            uint(self.not_after),
            uint128(self.nonce),
        ]
    }

    fn type_hash() -> Hash {
        static KEPT: OnceLock<Hash> = OnceLock::new();
        *KEPT.get_or_init(|| text(Self::TYPE))
    }
}

impl Grant {
    /// The grant's id where signatures count in `domain`.
    #[must_use]
    pub fn id(&self, domain: &Domain) -> GrantId {
        domain.digest(self)
    }

    /// Whether `host` may answer under the grant.
    #[must_use]
    pub fn allows_host(&self, host: &Address) -> bool {
        self.host == Address::ZERO || self.host == *host
    }

    /// Refuses a grant that allows anything that `parent` does not, apart from its scope.
    ///
    /// # Errors
    /// The first thing that is wider, or another model's or licensee's.
    pub fn narrows(&self, parent: &Self) -> Result<(), Refusal> {
        if self.model != parent.model {
            return Err(Refusal::WrongModel {
                expected: parent.model,
                got: self.model,
            });
        }
        if self.licensee != parent.licensee {
            return Err(Refusal::WrongLicensee {
                expected: parent.licensee,
                got: self.licensee,
            });
        }
        if !parent.allows_host(&self.host) {
            return Err(Refusal::WiderHost {
                expected: parent.host,
                got: self.host,
            });
        }
        if self.max_calls > parent.max_calls {
            return Err(Refusal::WiderCalls {
                expected: parent.max_calls,
                got: self.max_calls,
            });
        }
        if self.max_spend > parent.max_spend {
            return Err(Refusal::WiderSpend {
                expected: parent.max_spend,
                got: self.max_spend,
            });
        }
        if self.not_before < parent.not_before || self.not_after > parent.not_after {
            return Err(Refusal::WiderTime {
                expected: (parent.not_before, parent.not_after),
                got: (self.not_before, self.not_after),
            });
        }
        Ok(())
    }
}

/// A grant with the scope that its hash names, and a signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedGrant {
    /// The grant.
    pub grant: Grant,
    /// Its scope.
    pub scope: Scope,
    /// The issuer's signature, or that of the delegate of the grant above.
    pub signature: Signature,
}

impl SignedGrant {
    /// Signs a grant, whose scope hash is set to that of `scope`.
    #[must_use]
    pub fn sign(domain: &Domain, mut grant: Grant, scope: Scope, key: &SigningKey) -> Self {
        grant.scope_hash = scope.hash();
        Self {
            signature: key.sign(&grant.id(domain)),
            grant,
            scope,
        }
    }
}
