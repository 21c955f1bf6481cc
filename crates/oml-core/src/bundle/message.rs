//! What the owner signs, as typed data (EIP-712) in the domain without chain and contract.
//!
//! ```text
//! Claim(bytes32 root,bytes32 statement,uint64 leaves,uint64 time)
//! Response(bytes32 root,bytes32 challenge,bytes32 openings,uint64 time)
//! ```

use crate::eip712::{Typed, uint};
use crate::merkle::Hash;

/// The signed part of a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClaimMessage {
    /// Merkle root of the set.
    pub root: Hash,
    /// SHA-256 of the statement, which holds the SHA-256 of everything else in the bundle.
    pub statement: Hash,
    /// Number of fingerprints in the set.
    pub leaves: u64,
    /// When the claim was made, in seconds since 1970.
    pub time: u64,
}

/// The signed part of an answer to a judge's challenge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResponseMessage {
    /// Merkle root of the set.
    pub root: Hash,
    /// SHA-256 of the challenge.
    pub challenge: Hash,
    /// SHA-256 of the openings.
    pub openings: Hash,
    /// When it was answered, in seconds since 1970.
    pub time: u64,
}

impl Typed for ClaimMessage {
    const TYPE: &'static str = "Claim(bytes32 root,bytes32 statement,uint64 leaves,uint64 time)";

    fn words(&self) -> Vec<Hash> {
        vec![
            self.root,
            self.statement,
            uint(self.leaves),
            uint(self.time),
        ]
    }
}

impl Typed for ResponseMessage {
    const TYPE: &'static str =
        "Response(bytes32 root,bytes32 challenge,bytes32 openings,uint64 time)";

    fn words(&self) -> Vec<Hash> {
        vec![self.root, self.challenge, self.openings, uint(self.time)]
    }
}
