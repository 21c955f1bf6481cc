//! Who may sign for a model, and what was revoked: a file, a ledger, or whatever else knows.

use super::ModelId;
use crate::eip712::Domain;
use crate::merkle::Hash;
use crate::signing::Address;

/// From when until when somebody may sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tenure {
    /// First second, since 1970.
    pub from: u64,
    /// The second from which nothing that the key signed counts any more.
    pub revoked_at: Option<u64>,
}

/// How old what is known may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct View {
    /// Everything that happened before is known, in seconds since 1970.
    pub as_of: u64,
    /// Age in seconds at which nothing is trusted any more; none is never.
    pub max_age: Option<u64>,
}

/// What a verifier asks about keys and revocations.
pub trait Authority: Send + Sync {
    /// Where signatures count.
    fn domain(&self) -> Domain;

    /// When `signer` may sign for `model` as its issuer; none where it never may.
    fn issuer(&self, model: &ModelId, signer: &Address) -> Option<Tenure>;

    /// The second from which the grant or permission of `model` with this id no longer counts.
    fn revoked_at(&self, model: &ModelId, id: &Hash) -> Option<u64>;

    /// What is known of `model` at the second `now`.
    fn view(&self, model: &ModelId, now: u64) -> View;
}
