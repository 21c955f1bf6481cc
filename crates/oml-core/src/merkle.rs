//! The Merkle tree of OpenZeppelin's `StandardMerkleTree`: same layout, root and proofs, so a contract and a person
//! verify the same proof.
//!
//! `n` leaves (already hashed) are sorted ascending by their bytes and stored from the back of an array of `2n − 1`
//! hashes: sorted leaf `j` at position `2n − 2 − j`. Node `i` is `keccak256(min ‖ max)` of its children `2i + 1` and
//! `2i + 2`; position 0 is the root. A proof is the list of siblings from the leaf up. Sorted pairs need no left/right
//! flags; leaves are hashed twice by the caller, so that no inner node can pass for a leaf.
//! Source: OpenZeppelin `merkle-tree` 1.0 and `MerkleProof.sol`.

use sha3::{Digest, Keccak256};

/// A keccak-256 hash.
pub type Hash = [u8; 32];

/// Keccak-256 of the concatenation of `parts`.
#[must_use]
pub fn keccak256(parts: &[&[u8]]) -> Hash {
    let mut hasher = Keccak256::new();
    for part in parts {
        hasher.update(part);
    }
    hasher.finalize().into()
}

/// A tree over leaf hashes, in the order they were given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MerkleTree {
    nodes: Vec<Hash>,
    positions: Vec<usize>,
}

impl MerkleTree {
    /// Builds the tree.
    #[must_use]
    pub fn new(leaves: &[Hash]) -> Self {
        let size = (2 * leaves.len()).saturating_sub(1);
        let mut order: Vec<usize> = (0..leaves.len()).collect();
        order.sort_by_key(|&leaf| leaves[leaf]);

        let mut nodes = vec![[0; 32]; size];
        let mut positions = vec![0; leaves.len()];
        for (rank, &leaf) in order.iter().enumerate() {
            positions[leaf] = size - 1 - rank;
            nodes[size - 1 - rank] = leaves[leaf];
        }
        for i in (0..size - leaves.len()).rev() {
            nodes[i] = pair(&nodes[2 * i + 1], &nodes[2 * i + 2]);
        }
        Self { nodes, positions }
    }

    /// The root; zero for a tree without leaves, which no proof leads to.
    #[must_use]
    pub fn root(&self) -> Hash {
        self.nodes.first().copied().unwrap_or_default()
    }

    /// All nodes, root first, in OpenZeppelin's array layout.
    #[must_use]
    pub fn nodes(&self) -> &[Hash] {
        &self.nodes
    }

    /// The siblings from leaf `leaf` (in the order given to [`MerkleTree::new`]) to the root.
    #[must_use]
    pub fn proof(&self, leaf: usize) -> Option<Vec<Hash>> {
        let mut at = *self.positions.get(leaf)?;
        let mut proof = Vec::new();
        while at > 0 {
            let sibling = if at % 2 == 1 { at + 1 } else { at - 1 };
            proof.push(self.nodes[sibling]);
            at = (at - 1) / 2;
        }
        Some(proof)
    }
}

/// Whether `proof` leads from `leaf` to `root`.
#[must_use]
pub fn verify(root: &Hash, leaf: &Hash, proof: &[Hash]) -> bool {
    proof
        .iter()
        .fold(*leaf, |node, sibling| pair(&node, sibling))
        == *root
}

fn pair(a: &Hash, b: &Hash) -> Hash {
    if a <= b {
        keccak256(&[a, b])
    } else {
        keccak256(&[b, a])
    }
}
