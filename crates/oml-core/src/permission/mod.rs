//! Permissions: who may ask which model, on which host, what and how often, signed so that a host checks it without asking anybody.
//!
//! ```text
//! issuer ──Grant──▶ licensee's delegate ──Grant, narrower──▶ another delegate ──Permission──▶ host: verify, count, answer
//! issuer ──────────────────────────────Permission──────────────────────────────────────────▶ host
//! ```
//!
//! A [`Token`] is a permission with the grants that lead from the issuer to whoever signed it. [`Token::verify`] holds it against what is
//! asked ([`Call`]) and against who may sign and what was revoked ([`Authority`]). Any doubt is a [`Refusal`], each with its code. Replay,
//! budgets and rates need a store and are counted by whoever answers. Everything signed is typed data (EIP-712), so that a contract
//! can check the same bytes in a dispute.

mod authority;
mod chain;
mod customer;
mod file_authority;
mod grant;
mod grant_cache;
mod input;
mod model_id;
#[allow(
    clippy::module_inception,
    reason = "the permission itself, beside what surrounds it"
)]
mod permission;
mod refusal;
mod revocations;
mod scope;
mod token;
mod verify;
pub(crate) mod wire;

pub use authority::{Authority, Tenure, View};
pub use chain::{Chain, MAX_GRANTS};
pub use customer::{Customer, MAX_CUSTOMERS};
pub use file_authority::{AuthorityError, FileAuthority, Issuer, Issuers, MAX_ISSUERS};
pub use grant::{Grant, GrantId, SignedGrant, UNLIMITED_CALLS, UNLIMITED_SPEND};
pub use grant_cache::GrantCache;
pub use input::{InputError, canonical, input_hash, input_of, input_of_request};
pub use model_id::{ModelId, ModelIdError};
pub use permission::{Permission, PermissionId};
pub use refusal::{Part, Refusal};
pub use revocations::{MAX_ENTRIES, Revocation, RevocationList, SignedRevocations};
pub use scope::{MAX_SCOPE_BYTES, Replay, Scope, ScopeError};
pub use token::Token;
pub use verify::{Call, Input, Verified, VerifiedGrant};
pub use wire::{MAX_TEXT_BYTES, TextError};

pub use crate::secret::InputSalt;

use crate::merkle::Hash;

/// The word that names nothing: no parent, no grant, any input.
pub const NONE: Hash = [0; 32];
