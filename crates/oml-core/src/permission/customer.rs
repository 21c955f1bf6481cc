//! Who may ask an issuer for permissions, and how many.

use crate::merkle::Hash;
use crate::signing::Address;

/// Most customers of an issuer.
pub const MAX_CUSTOMERS: usize = 10_000;

/// A customer of an issuer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Customer {
    /// What the issuer calls it.
    pub name: String,
    /// SHA-256 of the key that it shows: the key itself is kept by nobody else.
    pub key_hash: Hash,
    /// Who pays and answers for what is asked; permissions name it.
    pub licensee: Address,
    /// Permissions on one day (UTC) at most; none is no limit.
    pub calls_per_day: Option<u64>,
    /// All that it has paid so far, in the token's smallest unit: permissions are sold against it.
    pub credit: u128,
}
