//! A judge's challenge: which fingerprints of the whole set the owner has to open, chosen when the claim is on the table.
//!
//! ```text
//! key      SHA-256("oml.challenge.v1" ‖ SHA-256 of the claim's statement ‖ the judge's seed (32 bytes))
//! indices  the first `count` of 0..leaves, shuffled by the ChaCha20 stream of the key; then rising
//! ```
//!
//! The indices are drawn over all leaves and not only over those that the claim opens: whoever saw opened pairs and does not hold the
//! set cannot answer, and an owner whose other leaves are of another kind is found out. An owner who can answer `count` of them opens
//! them to the judge, so they are spent.

use sha2::{Digest, Sha256};

use crate::fingerprint::MAX_COUNT;
use crate::merkle::Hash;
use crate::random::Stream;
use crate::secret::DerivedKey;

const DOMAIN: &[u8] = b"oml.challenge.v1";
/// Most leaves that are asked for.
pub const MAX_CHALLENGED: u64 = 4096;

/// What a judge asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Challenge {
    /// SHA-256 of the claim's statement.
    pub claim: Hash,
    /// Merkle root of the set.
    pub root: Hash,
    /// Number of fingerprints in the set.
    pub leaves: u64,
    /// Number of fingerprints to open.
    pub count: u64,
    /// What the judge drew.
    pub seed: [u8; 32],
    /// When, in seconds since 1970.
    pub time: u64,
}

/// A challenge that cannot be met.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: expected 1 to {most}, got {got}")]
pub struct ChallengeError {
    /// Which number.
    pub field: &'static str,
    /// The most it may be.
    pub most: u64,
    /// What it is.
    pub got: u64,
}

impl Challenge {
    /// Refuses a challenge that cannot be met.
    ///
    /// # Errors
    /// The field, what it may be, and what it is.
    pub fn validate(&self) -> Result<(), ChallengeError> {
        let within = |field, got: u64, most: u64| {
            if (1..=most).contains(&got) {
                return Ok(());
            }
            Err(ChallengeError { field, most, got })
        };
        within("leaves", self.leaves, MAX_COUNT as u64)?;
        within("count", self.count, self.leaves.min(MAX_CHALLENGED))
    }

    /// The numbers of the fingerprints to open, rising.
    #[must_use]
    pub fn indices(&self) -> Vec<u64> {
        let key = Sha256::new()
            .chain_update(DOMAIN)
            .chain_update(self.claim)
            .chain_update(self.seed)
            .finalize();
        let mut all: Vec<u64> = (0..self.leaves).collect();
        Stream::new(&DerivedKey::new(key.into())).shuffle(&mut all);
        all.truncate(usize::try_from(self.count).unwrap_or(usize::MAX));
        all.sort_unstable();
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn challenge() -> Challenge {
        Challenge {
            claim: [1; 32],
            root: [2; 32],
            leaves: 1000,
            count: 20,
            seed: [3; 32],
            time: 5,
        }
    }

    #[test]
    fn indices_are_drawn_over_all_leaves_by_seed_and_claim() {
        let indices = challenge().indices();
        assert_eq!(indices.len(), 20);
        assert!(indices.is_sorted_by(|a, b| a < b));
        assert!(
            indices.iter().any(|i| *i < 500) && indices.iter().any(|i| (500..1000).contains(i))
        );
        assert_eq!(indices, challenge().indices());
        let others = [
            Challenge {
                seed: [4; 32],
                ..challenge()
            },
            Challenge {
                claim: [4; 32],
                ..challenge()
            },
        ];
        assert!(others.iter().all(|other| other.indices() != indices));
        let whole = Challenge {
            leaves: 20,
            ..challenge()
        };
        assert_eq!(whole.indices(), (0..20).collect::<Vec<_>>());
    }

    #[test]
    fn impossible_numbers_are_refused() {
        for (leaves, count, fault) in [
            (0, 1, "leaves: expected 1 to 262144, got 0"),
            (
                1 << 40,
                1,
                "leaves: expected 1 to 262144, got 1099511627776",
            ),
            (10, 0, "count: expected 1 to 10, got 0"),
            (10, 11, "count: expected 1 to 10, got 11"),
            (10_000, 5000, "count: expected 1 to 4096, got 5000"),
        ] {
            let wrong = Challenge {
                leaves,
                count,
                ..challenge()
            };
            assert_eq!(wrong.validate().unwrap_err().to_string(), fault);
        }
        assert_eq!(challenge().validate(), Ok(()));
    }
}
