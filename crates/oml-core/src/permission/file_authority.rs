//! An authority of files: who issues for which model, and the issuers' signed revocation lists.
//!
//! Where the issuers' file bounds the age of what is known, every issuer of a model that may still sign needs a list that is young enough:
//! the view of a model is as old as the oldest of their newest lists. So nobody can hide a revocation by withholding a list.

use std::collections::BTreeMap;

use super::{Authority, ModelId, SignedRevocations, Tenure, View};
use crate::eip712::Domain;
use crate::merkle::Hash;
use crate::signing::{Address, SigningError};

/// Most issuers in a file.
pub const MAX_ISSUERS: usize = 4096;

/// Somebody who may sign for a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Issuer {
    /// The model.
    pub model: ModelId,
    /// The key's address.
    pub address: Address,
    /// When.
    pub tenure: Tenure,
}

/// What the issuers' file says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issuers {
    /// Where signatures count.
    pub domain: Domain,
    /// Oldest revocation lists that are taken, in seconds; none where lists may be of any age, or missing.
    pub max_age: Option<u64>,
    /// Who may sign, each once per model.
    pub issuers: Vec<Issuer>,
}

/// Issuers or lists that make no authority.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AuthorityError {
    /// The same issuer twice for a model.
    #[error("issuers[{index}]: expected each issuer of a model once, got {address} again")]
    Repeated {
        /// Place in the file, from 0.
        index: usize,
        /// The issuer.
        address: Address,
    },
    /// A list for another chain or contract.
    #[error(
        "revocation list {index}: expected the chain and contract of the issuers' file, got others"
    )]
    Domain {
        /// Place among the lists, from 0.
        index: usize,
    },
    /// A signature that is none.
    #[error("revocation list {index}: {source}")]
    Signature {
        /// Place among the lists, from 0.
        index: usize,
        /// The fault.
        source: SigningError,
    },
    /// A list that no issuer of its model signed while it was one.
    #[error(
        "revocation list {index}: expected a signature of an issuer of its model at its time, got one of {signer}"
    )]
    Foreign {
        /// Place among the lists, from 0.
        index: usize,
        /// Who signed.
        signer: Address,
    },
}

/// What is known of one issuer.
#[derive(Debug, Clone, Copy)]
struct Known {
    address: Address,
    tenure: Tenure,
    /// Time of its newest list.
    list: Option<u64>,
}

/// Issuers and revocations as files say.
#[derive(Debug, Clone)]
pub struct FileAuthority {
    domain: Domain,
    max_age: Option<u64>,
    issuers: BTreeMap<ModelId, Vec<Known>>,
    revoked: BTreeMap<(ModelId, Hash), u64>,
}

impl FileAuthority {
    /// Takes issuers and their lists; of several lists everything in any of them is revoked, at the earliest time.
    ///
    /// # Errors
    /// When an issuer is named twice, or a list is not one of an issuer.
    pub fn new(issuers: &Issuers, lists: &[SignedRevocations]) -> Result<Self, AuthorityError> {
        let mut authority = Self {
            domain: issuers.domain,
            max_age: issuers.max_age,
            issuers: BTreeMap::new(),
            revoked: BTreeMap::new(),
        };
        for (index, issuer) in issuers.issuers.iter().enumerate() {
            let address = issuer.address;
            let known = authority.issuers.entry(issuer.model).or_default();
            if known.iter().any(|known| known.address == address) {
                return Err(AuthorityError::Repeated { index, address });
            }
            known.push(Known {
                address,
                tenure: issuer.tenure,
                list: None,
            });
        }
        for (index, list) in lists.iter().enumerate() {
            authority.add(index, list)?;
        }
        Ok(authority)
    }

    fn add(&mut self, index: usize, signed: &SignedRevocations) -> Result<(), AuthorityError> {
        if signed.domain != self.domain {
            return Err(AuthorityError::Domain { index });
        }
        let signer = signed.signer();
        let signer = signer.map_err(|source| AuthorityError::Signature { index, source })?;
        let list = &signed.list;
        let at = list.issued_at;
        let in_office = |known: &&mut Known| {
            let Tenure { from, revoked_at } = known.tenure;
            known.address == signer && from <= at && revoked_at.is_none_or(|end| at < end)
        };
        let mut issuers = self.issuers.get_mut(&list.model).into_iter().flatten();
        let known = issuers
            .find(in_office)
            .ok_or(AuthorityError::Foreign { index, signer })?;
        known.list = known.list.max(Some(at));
        for entry in list.entries() {
            let known = self.revoked.entry((list.model, entry.id));
            let earliest = known.or_insert(entry.at);
            *earliest = entry.at.min(*earliest);
        }
        Ok(())
    }
}

impl Authority for FileAuthority {
    fn domain(&self) -> Domain {
        self.domain
    }

    fn issuer(&self, model: &ModelId, signer: &Address) -> Option<Tenure> {
        let issuers = self.issuers.get(model)?;
        let known = issuers.iter().find(|known| known.address == *signer)?;
        Some(known.tenure)
    }

    fn revoked_at(&self, model: &ModelId, id: &Hash) -> Option<u64> {
        self.revoked.get(&(*model, *id)).copied()
    }

    fn view(&self, model: &ModelId, now: u64) -> View {
        let issuers = self.issuers.get(model).into_iter().flatten();
        // Nothing that a revoked key signed counts any more, so its lists no longer matter.
        let in_office = issuers.filter(|known| known.tenure.revoked_at.is_none_or(|end| now < end));
        let oldest = in_office.map(|known| known.list.unwrap_or(0)).min();
        View {
            as_of: oldest.unwrap_or(now),
            max_age: self.max_age,
        }
    }
}
