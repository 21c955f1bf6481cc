//! Slices of a set, one for each prover: a prover can check and open its own pairs, and learns nothing of the others.
//!
//! ```text
//! order     0 … n − 1, shuffled by derive(owner, "slices", root ‖ number of slices)
//! slice i   the i-th of the parts of that order, as even as they go (the first n mod parts have one more), sorted
//! ```
//!
//! So slices never overlap, together they are the set, and the same set and number give the same slices. Every pair has
//! its proof to the root of the whole set, which was published once. Inside a slice pairs are numbered from 0, since
//! their number in the set is only of use for the proof.

use crate::commitment::{Commitment, Opening};
use crate::derive::{Purpose, Scope, derive};
use crate::fingerprint::{Fingerprint, FingerprintSet, MAX_COUNT, SetError, bounded};
use crate::merkle::Hash;
use crate::random::Stream;
use crate::secret::OwnerSeed;

/// One part of a set, whose pairs are proved to belong to it.
#[derive(Debug, Clone, PartialEq)]
pub struct Slice {
    /// Which slice it is, from 0.
    pub part: usize,
    /// Number of slices.
    pub parts: usize,
    /// Merkle root of the whole set.
    pub root: Hash,
    /// Number of fingerprints in the whole set.
    pub count: usize,
    indices: Vec<usize>,
    proofs: Vec<Vec<Hash>>,
    set: FingerprintSet,
}

impl Slice {
    /// A slice whose pairs, numbered from 0 in `set`, have the numbers `indices` in the whole set.
    ///
    /// # Errors
    /// When the numbers do not rise, or a proof does not lead to the root.
    pub fn new(
        (part, parts): (usize, usize),
        (root, count): (Hash, usize),
        indices: Vec<usize>,
        proofs: Vec<Vec<Hash>>,
        set: FingerprintSet,
    ) -> Result<Self, SetError> {
        bounded("count", count, set.count(), MAX_COUNT)?;
        bounded("parts", parts, 1, count)?;
        bounded("part", part, 0, parts - 1)?;
        bounded("indices", indices.len(), set.count(), set.count())?;
        bounded("proofs", proofs.len(), set.count(), set.count())?;
        let rising = indices.is_sorted_by(|a, b| a < b);
        if !rising || indices.last().is_none_or(|last| *last >= count) {
            return Err(SetError::Field {
                field: "indices".into(),
                expected: format!("rising numbers below {count}"),
                got: "others".into(),
            });
        }
        let slice = Self {
            part,
            parts,
            root,
            count,
            indices,
            proofs,
            set,
        };
        for position in 0..slice.set.count() {
            let (opening, proof) = slice.open(position);
            if !opening.verify(&root, proof) {
                return Err(SetError::Field {
                    field: format!("proofs[{position}]"),
                    expected: "a path to the root".into(),
                    got: "another".into(),
                });
            }
        }
        Ok(slice)
    }

    /// The pairs, numbered from 0.
    #[must_use]
    pub const fn set(&self) -> &FingerprintSet {
        &self.set
    }

    /// The pairs' numbers in the whole set, rising.
    #[must_use]
    pub fn indices(&self) -> &[usize] {
        &self.indices
    }

    /// The pairs' proofs.
    #[must_use]
    pub fn proofs(&self) -> &[Vec<Hash>] {
        &self.proofs
    }

    /// The pair at `position` of this slice as evidence, with its proof.
    fn open(&self, position: usize) -> (Opening, &[Hash]) {
        let mut opening = Opening::from(&self.set.fingerprints()[position]);
        opening.index = self.indices[position] as u64;
        (opening, &self.proofs[position])
    }

    /// The pair with number `index` in the whole set as evidence, with its proof; `None` where this slice has it not.
    #[must_use]
    pub fn opening(&self, index: usize) -> Option<(Opening, &[Hash])> {
        let position = self.indices.binary_search(&index).ok()?;
        Some(self.open(position))
    }
}

/// Deals `set` into `parts` slices.
///
/// # Errors
/// When there are more slices than fingerprints.
pub fn deal(set: &FingerprintSet, owner: &OwnerSeed, parts: usize) -> Result<Vec<Slice>, SetError> {
    bounded("parts", parts, 1, set.count())?;
    let commitment = Commitment::new(set);
    let root = commitment.root();
    let header = set.header();
    let scope = Scope {
        model_digest: &header.model_digest,
        copy_id: &header.copy_id,
    };
    let item = [&root[..], &(parts as u64).to_be_bytes()].concat();
    let mut order: Vec<usize> = (0..set.count()).collect();
    Stream::new(&derive(owner, Purpose::Slices, scope, &item)).shuffle(&mut order);

    let (size, more) = (set.count() / parts, set.count() % parts);
    let mut rest = order.as_slice();
    (0..parts)
        .map(|part| {
            let (own, others) = rest.split_at(size + usize::from(part < more));
            rest = others;
            let mut indices = own.to_vec();
            indices.sort_unstable();
            let fingerprints = indices
                .iter()
                .enumerate()
                .map(|(position, &index)| Fingerprint {
                    index: position,
                    ..set.fingerprints()[index].clone()
                });
            let own = FingerprintSet::new(header.clone(), fingerprints.collect())?;
            let proofs = indices.iter().filter_map(|&index| commitment.proof(index));
            let proofs = proofs.collect();
            Slice::new((part, parts), (root, set.count()), indices, proofs, own)
        })
        .collect()
}
