//! An issuer's list of grants and permissions that no longer count, as typed data (EIP-712).
//!
//! ```text
//! RevocationList(bytes32 modelId,uint64 issuedAt,bytes32[] ids,uint64[] times)
//! ids rise, each once; times[i] is the second from which ids[i] no longer counts
//! ```
//!
//! A list replaces the one before it and holds everything that it held. Its time says up to when whoever has it knows all revocations.

use super::ModelId;
use crate::eip712::{Domain, Typed, array, uint};
use crate::merkle::Hash;
use crate::signing::{Address, Signature, SigningError, SigningKey};

/// Most entries of a list.
pub const MAX_ENTRIES: usize = 1 << 16;

/// One thing that no longer counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Revocation {
    /// Id of a grant or permission.
    pub id: Hash,
    /// The second from which it no longer counts.
    pub at: u64,
}

/// What an issuer has revoked for one model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RevocationList {
    /// The model.
    pub model: ModelId,
    /// When the list was made, in seconds since 1970.
    pub issued_at: u64,
    entries: Vec<Revocation>,
}

impl Typed for RevocationList {
    const TYPE: &'static str =
        "RevocationList(bytes32 modelId,uint64 issuedAt,bytes32[] ids,uint64[] times)";

    fn words(&self) -> Vec<Hash> {
        let ids: Vec<_> = self.entries.iter().map(|entry| entry.id).collect();
        let times: Vec<_> = self.entries.iter().map(|entry| uint(entry.at)).collect();
        vec![
            self.model.0,
            uint(self.issued_at),
            array(&ids),
            array(&times),
        ]
    }
}

impl RevocationList {
    /// A list with nothing in it.
    #[must_use]
    pub const fn new(model: ModelId, issued_at: u64) -> Self {
        Self {
            model,
            issued_at,
            entries: Vec::new(),
        }
    }

    /// Takes entries as they are, if their ids rise and they are not too many.
    #[must_use]
    pub fn from_entries(model: ModelId, issued_at: u64, entries: Vec<Revocation>) -> Option<Self> {
        let rising = entries.windows(2).all(|pair| pair[0].id < pair[1].id);
        (rising && entries.len() <= MAX_ENTRIES).then_some(Self {
            model,
            issued_at,
            entries,
        })
    }

    /// What no longer counts, by rising ids.
    #[must_use]
    pub fn entries(&self) -> &[Revocation] {
        &self.entries
    }

    /// Adds an entry. One that is there already keeps the earlier time. False where the list is full.
    pub fn revoke(&mut self, id: Hash, at: u64) -> bool {
        match self.entries.binary_search_by_key(&id, |entry| entry.id) {
            Ok(place) => {
                let entry = &mut self.entries[place];
                entry.at = entry.at.min(at);
                true
            }
            Err(_) if self.entries.len() >= MAX_ENTRIES => false,
            Err(place) => {
                self.entries.insert(place, Revocation { id, at });
                true
            }
        }
    }
}

/// A list with its signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedRevocations {
    /// Where the signature counts.
    pub domain: Domain,
    /// The list.
    pub list: RevocationList,
    /// The issuer's signature.
    pub signature: Signature,
}

impl SignedRevocations {
    /// Signs a list.
    #[must_use]
    pub fn sign(domain: Domain, list: RevocationList, key: &SigningKey) -> Self {
        Self {
            domain,
            signature: key.sign(&domain.digest(&list)),
            list,
        }
    }

    /// Who signed.
    ///
    /// # Errors
    /// When the signature is none.
    pub fn signer(&self) -> Result<Address, SigningError> {
        self.signature.recover(&self.domain.digest(&self.list))
    }
}
