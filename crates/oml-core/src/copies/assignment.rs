//! Who holds what: every fingerprint's class and every copy's subset, as streams of the owner's seed.
//!
//! ```text
//! classes    stream of derive(owner, "copy-classes", scope, root): fingerprint i has the class of the i-th 16-bit word
//! copy j     stream of derive(owner, "copy-members", scope, root ‖ j as u64 big-endian):
//!            holds fingerprint i if and only if the i-th 16-bit word is below 2¹⁶ times the share of i's class
//! ```
//!
//! `scope` is the set's model digest and copy id, `root` its Merkle root; 16-bit words are read little-endian from the key
//! stream of [`crate::random`]. So nothing is stored, a copy's subset depends on no other copy and not on how many there are,
//! and the subsets belong to the committed set.

use std::fmt;

use zeroize::Zeroizing;

use super::{Bias, Copies, CopiesError};
use crate::commitment::Commitment;
use crate::derive::{Purpose, Scope, derive};
use crate::fingerprint::FingerprintSet;
use crate::merkle::Hash;
use crate::random::Stream;
use crate::secret::OwnerSeed;

/// The secret classes of a set's fingerprints, and the way to every copy's subset.
pub struct Assignment<'a> {
    owner: &'a OwnerSeed,
    scope: Scope<'a>,
    root: Hash,
    copies: Copies,
    classes: Zeroizing<Vec<u8>>,
}

/// Which fingerprints one copy holds, in the order of their indices; secret.
pub struct Members(Zeroizing<Vec<bool>>);

impl<'a> Assignment<'a> {
    /// The assignment of `count` fingerprints under `root`.
    ///
    /// # Errors
    /// [`CopiesError::Count`] for a number of copies out of range.
    pub fn new(
        owner: &'a OwnerSeed,
        scope: Scope<'a>,
        root: Hash,
        copies: Copies,
        count: usize,
    ) -> Result<Self, CopiesError> {
        copies.validate()?;
        let mut words = Words::new(Stream::new(&derive(
            owner,
            Purpose::CopyClasses,
            scope,
            &root,
        )));
        let class = |_| copies.bias.class(words.next()) as u8;
        Ok(Self {
            owner,
            scope,
            root,
            copies,
            classes: Zeroizing::new((0..count).map(class).collect()),
        })
    }

    /// The assignment of a set that was made for copies.
    ///
    /// # Errors
    /// [`CopiesError::None`] for any other set.
    pub fn of_set(set: &'a FingerprintSet, owner: &'a OwnerSeed) -> Result<Self, CopiesError> {
        let header = set.header();
        let scope = Scope {
            model_digest: &header.model_digest,
            copy_id: &header.copy_id,
        };
        let root = Commitment::new(set).root();
        let copies = header.copies.ok_or(CopiesError::None)?;
        Self::new(owner, scope, root, copies, set.count())
    }

    /// Number and bias of the copies.
    #[must_use]
    pub const fn copies(&self) -> Copies {
        self.copies
    }

    /// How likely a copy holds each fingerprint.
    #[must_use]
    pub const fn bias(&self) -> Bias {
        self.copies.bias
    }

    /// The class of each fingerprint, in order: a position in the bias's shares.
    pub(super) fn classes(&self) -> &[u8] {
        &self.classes
    }

    /// The subset of copy `copy`, numbered from 1.
    ///
    /// # Errors
    /// [`CopiesError::Copy`] for a copy that there is not.
    pub fn members(&self, copy: u32) -> Result<Members, CopiesError> {
        if copy == 0 || copy > self.copies.count {
            return Err(CopiesError::Copy {
                count: self.copies.count,
                got: copy,
            });
        }
        let item = [&self.root[..], &u64::from(copy).to_be_bytes()].concat();
        let key = derive(self.owner, Purpose::CopyMembers, self.scope, &item);
        let mut words = Words::new(Stream::new(&key));
        let shares = self.copies.bias.shares();
        let holds = |class: &u8| u32::from(words.next()) < shares[usize::from(*class)].members;
        Ok(Members(Zeroizing::new(
            self.classes.iter().map(holds).collect(),
        )))
    }
}

impl Members {
    /// Whether the copy holds each fingerprint, in the order of their indices.
    #[must_use]
    pub fn as_slice(&self) -> &[bool] {
        &self.0
    }

    /// Number of fingerprints that the copy holds.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.iter().filter(|held| **held).count()
    }
}

impl fmt::Debug for Assignment<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Assignment(secret)")
    }
}

impl fmt::Debug for Members {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Members(secret)")
    }
}

/// A stream cut into 16-bit words.
struct Words {
    stream: Stream,
    rest: u64,
    left: u32,
}

impl Words {
    const fn new(stream: Stream) -> Self {
        Self {
            stream,
            rest: 0,
            left: 0,
        }
    }

    fn next(&mut self) -> u16 {
        if self.left == 0 {
            self.rest = self.stream.next_u64();
            self.left = 4;
        }
        let word = self.rest as u16;
        self.rest >>= 16;
        self.left -= 1;
        word
    }
}
