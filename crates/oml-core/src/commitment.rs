//! The public commitment to a secret fingerprint set: one leaf per fingerprint in a Merkle tree.
//!
//! ```text
//! value = abi.encode(bytes32 domain, uint256 version, uint256 index, bytes32 salt, bytes32 query, bytes32[] responses)
//! leaf  = keccak256(keccak256(value))
//! domain = keccak256("oml.fingerprint.v1")    version = 1
//! query  = keccak256(UTF-8 bytes of the query)    responses[j] = keccak256(UTF-8 bytes of response j)
//! ```
//!
//! The value is ABI-encoded as Solidity does (Contract ABI Specification, "Formal Specification of the Encoding"), which
//! is `StandardMerkleTree`'s leaf form with types `[bytes32, uint256, uint256, bytes32, bytes32, bytes32[]]`. What is
//! committed to is text, since text is what anybody can send to an endpoint. The salt hides a leaf whose texts could be
//! guessed; opening a leaf shows the [`Opening`] and its proof.

use std::fmt;

use crate::fingerprint::{Fingerprint, FingerprintSet};
use crate::merkle::{self, Hash, MerkleTree, keccak256};
use crate::secret::Salt;

/// What separates these leaves from any other use of the same hash.
pub const DOMAIN: &str = "oml.fingerprint.v1";
/// Version of the leaf's form.
pub const VERSION: u64 = 1;

/// Everything a leaf commits to: what the owner shows when the fingerprint is used as evidence.
#[derive(Clone, PartialEq, Eq)]
pub struct Opening {
    /// Position in the set.
    pub index: u64,
    /// Blinding value.
    pub salt: Salt,
    /// Text of the query.
    pub query: String,
    /// Texts of the valid responses, in order.
    pub responses: Vec<String>,
}

impl fmt::Debug for Opening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Opening({}, secret)", self.index)
    }
}

impl From<&Fingerprint> for Opening {
    fn from(fingerprint: &Fingerprint) -> Self {
        Self {
            index: fingerprint.index as u64,
            salt: fingerprint.salt.clone(),
            query: fingerprint.query.clone(),
            responses: fingerprint
                .responses
                .iter()
                .map(|r| r.text.clone())
                .collect(),
        }
    }
}

impl Opening {
    /// The leaf of this opening.
    #[must_use]
    pub fn leaf(&self) -> Hash {
        const HEAD_WORDS: u64 = 6;
        let mut words: Vec<Hash> = vec![
            keccak256(&[DOMAIN.as_bytes()]),
            uint256(VERSION),
            uint256(self.index),
            *self.salt.expose(),
            keccak256(&[self.query.as_bytes()]),
            uint256(HEAD_WORDS * 32),
            uint256(self.responses.len() as u64),
        ];
        words.extend(
            self.responses
                .iter()
                .map(|response| keccak256(&[response.as_bytes()])),
        );
        keccak256(&[&keccak256(&[words.as_flattened()])])
    }

    /// Whether this opening is part of the set behind `root`.
    #[must_use]
    pub fn verify(&self, root: &Hash, proof: &[Hash]) -> bool {
        merkle::verify(root, &self.leaf(), proof)
    }
}

/// The tree over a set's leaves, which gives the root and the proofs.
#[derive(Debug, Clone)]
pub struct Commitment(MerkleTree);

impl Commitment {
    /// Commits to `set`.
    #[must_use]
    pub fn new(set: &FingerprintSet) -> Self {
        let leaves: Vec<Hash> = set
            .fingerprints()
            .iter()
            .map(|f| Opening::from(f).leaf())
            .collect();
        Self(MerkleTree::new(&leaves))
    }

    /// The public root.
    #[must_use]
    pub fn root(&self) -> Hash {
        self.0.root()
    }

    /// The proof of fingerprint `index`.
    #[must_use]
    pub fn proof(&self, index: usize) -> Option<Vec<Hash>> {
        self.0.proof(index)
    }
}

fn uint256(value: u64) -> Hash {
    let mut word = [0; 32];
    word[24..].copy_from_slice(&value.to_be_bytes());
    word
}
