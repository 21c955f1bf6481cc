//! The order of an audit: fingerprints shuffled, each among its decoys.
//!
//! ```text
//! order    the fingerprints' positions, shuffled by the stream of the terms' seed
//! block    one fingerprint and `decoys` decoys, shuffled by the same stream; blocks follow one another
//! ```
//!
//! The seed stands in the terms, so the judge sees that nobody chose the order after an answer. Since every block has its fingerprint, an
//! audit may stop after any of them and has asked as many decoys for each fingerprint.

use crate::random::Stream;
use crate::secret::DerivedKey;

/// What one query is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subject {
    /// The fingerprint with this number in the whole set.
    Fingerprint(u64),
    /// The decoy with this number.
    Decoy(u64),
}

/// The whole order for the fingerprints with the numbers `indices`; decoys are numbered in the order in which they come.
#[must_use]
pub fn plan(seed: &[u8; 32], indices: &[u64], decoys: usize) -> Vec<Subject> {
    let mut stream = Stream::new(&DerivedKey::new(*seed));
    let mut order = indices.to_vec();
    stream.shuffle(&mut order);
    let mut plan = Vec::with_capacity(order.len() * (decoys + 1));
    for index in order {
        let begin = plan.len();
        let asked = (begin / (decoys + 1) * decoys) as u64;
        plan.push(Subject::Fingerprint(index));
        plan.extend((0..decoys as u64).map(|decoy| Subject::Decoy(asked + decoy)));
        stream.shuffle(&mut plan[begin..]);
    }
    plan
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_block_has_its_fingerprint_and_decoys() {
        let indices: Vec<u64> = (10..60).collect();
        let plan = plan(&[7; 32], &indices, 2);
        assert_eq!(plan.len(), 150);
        let mut seen = Vec::new();
        let mut decoys = Vec::new();
        for block in plan.chunks(3) {
            let before = seen.len();
            for subject in block {
                match subject {
                    Subject::Fingerprint(index) => seen.push(*index),
                    Subject::Decoy(number) => decoys.push(*number),
                }
            }
            assert_eq!(seen.len(), before + 1);
        }
        assert_ne!(seen, indices);
        seen.sort_unstable();
        decoys.sort_unstable();
        assert_eq!(seen, indices);
        assert_eq!(decoys, (0..100).collect::<Vec<_>>());
    }

    #[test]
    fn the_seed_decides() {
        let indices: Vec<u64> = (0..50).collect();
        assert_eq!(plan(&[1; 32], &indices, 1), plan(&[1; 32], &indices, 1));
        assert_ne!(plan(&[1; 32], &indices, 1), plan(&[2; 32], &indices, 1));
        assert!(plan(&[1; 32], &[], 1).is_empty());
        assert_eq!(plan(&[1; 32], &[4], 0), [Subject::Fingerprint(4)]);
    }
}
