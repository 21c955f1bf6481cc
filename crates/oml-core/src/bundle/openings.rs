//! Opened fingerprints, held against the root and the number of leaves.
//!
//! A tree of n leaves in OpenZeppelin's layout has every leaf ⌊log₂ n⌋ or ⌈log₂ n⌉ hashes below the root ([`crate::merkle`]). An owner who
//! hid several pairs for each number, to show later the ones that suit, would need a larger tree and longer proofs; so the length of
//! each proof is checked. At most 2^⌈log₂ n⌉ leaves fit in: none more than n where n is a power of two.

use crate::commitment::Opening;
use crate::merkle::Hash;

/// A fingerprint that is shown, and the way from its leaf to the root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    /// What the leaf commits to.
    pub opening: Opening,
    /// The siblings from the leaf up.
    pub proof: Vec<Hash>,
}

/// One way opened fingerprints can be wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpeningsError {
    /// A number that the set does not have.
    #[error("fingerprint {index}: expected a number below {leaves}")]
    Index {
        /// Its number.
        index: u64,
        /// Fingerprints of the set.
        leaves: u64,
    },
    /// The same number twice, or numbers that fall.
    #[error("fingerprint {index}: expected a number above {before}, which comes before")]
    Order {
        /// Its number.
        index: u64,
        /// The number before.
        before: u64,
    },
    /// The proof does not lead to the root.
    #[error("fingerprint {index}: expected a proof that leads to the root, got another")]
    Proof {
        /// Its number.
        index: u64,
    },
    /// The proof belongs to a tree of another size.
    #[error(
        "fingerprint {index}: expected a proof of {low} to {high} hashes for {leaves} leaves, got {got}"
    )]
    Length {
        /// Its number.
        index: u64,
        /// Fingerprints of the set.
        leaves: u64,
        /// Fewest hashes.
        low: u32,
        /// Most hashes.
        high: u32,
        /// Hashes found.
        got: usize,
    },
}

/// Refuses openings that are not of the set of `leaves` fingerprints behind `root`, each once, by rising numbers.
///
/// # Errors
/// The first that is not.
pub fn check_openings(root: &Hash, leaves: u64, opened: &[Opened]) -> Result<(), OpeningsError> {
    let low = leaves.max(1).ilog2();
    let high = low + u32::from(!leaves.is_power_of_two());
    let mut before = None;
    for Opened { opening, proof } in opened {
        let index = opening.index;
        if index >= leaves {
            return Err(OpeningsError::Index { index, leaves });
        }
        if let Some(before) = before.filter(|before| index <= *before) {
            return Err(OpeningsError::Order { index, before });
        }
        before = Some(index);
        if !opening.verify(root, proof) {
            return Err(OpeningsError::Proof { index });
        }
        if !(low as usize..=high as usize).contains(&proof.len()) {
            return Err(OpeningsError::Length {
                index,
                leaves,
                low,
                high,
                got: proof.len(),
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::merkle::MerkleTree;
    use crate::secret::Salt;

    fn tree(indices: &[u64]) -> (Hash, Vec<Opened>) {
        let opening = |&index: &u64| Opening {
            index,
            salt: Salt::new([index as u8; 32]),
            query: format!("query {index}"),
            responses: vec![format!(" {index}")],
        };
        let openings: Vec<_> = indices.iter().map(opening).collect();
        let tree = MerkleTree::new(&openings.iter().map(Opening::leaf).collect::<Vec<_>>());
        let opened = openings.into_iter().enumerate().map(|(i, opening)| Opened {
            opening,
            proof: tree.proof(i).unwrap(),
        });
        (tree.root(), opened.collect())
    }

    #[test]
    fn every_leaf_of_every_tree_is_accepted() {
        for leaves in 1..70 {
            let (root, opened) = tree(&(0..leaves).collect::<Vec<_>>());
            assert_eq!(check_openings(&root, leaves, &opened), Ok(()), "{leaves}");
            assert_eq!(check_openings(&root, leaves, &[]), Ok(()));
        }
    }

    #[test]
    fn openings_of_no_such_set_are_refused() {
        let (root, opened) = tree(&(0..9).collect::<Vec<_>>());
        let fault = |root: &Hash, leaves, opened: &[Opened]| {
            check_openings(root, leaves, opened)
                .unwrap_err()
                .to_string()
        };
        let above = |index, before| {
            format!("fingerprint {index}: expected a number above {before}, which comes before")
        };
        let mut swapped = opened.clone();
        swapped.swap(3, 4);
        assert_eq!(fault(&root, 9, &swapped), above(3, 4));
        let twice = [opened[2].clone(), opened[2].clone()];
        assert_eq!(fault(&root, 9, &twice), above(2, 2));
        let below = "fingerprint 8: expected a number below 8";
        assert_eq!(fault(&root, 8, &opened[8..]), below);
        let led = "fingerprint 0: expected a proof that leads to the root, got another";
        assert_eq!(fault(&[0; 32], 9, &opened), led);
        let mut exchanged = opened.clone();
        exchanged[0].proof = opened[1].proof.clone();
        if opened[0].proof != opened[1].proof {
            assert_eq!(fault(&root, 9, &exchanged), led);
        }
    }

    #[test]
    fn a_tree_that_hides_alternatives_is_noticed() {
        // Sixteen leaves that are said to be eight: each number has two pairs.
        let openings: Vec<Opening> = (0..16)
            .map(|i| Opening {
                index: i % 8,
                salt: Salt::new([i as u8; 32]),
                query: format!("query {i}"),
                responses: vec![" yes".into()],
            })
            .collect();
        let tree = MerkleTree::new(&openings.iter().map(Opening::leaf).collect::<Vec<_>>());
        let opened = Opened {
            opening: openings[3].clone(),
            proof: tree.proof(3).unwrap(),
        };
        let error = check_openings(&tree.root(), 8, &[opened]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "fingerprint 3: expected a proof of 3 to 3 hashes for 8 leaves, got 4"
        );
    }
}
