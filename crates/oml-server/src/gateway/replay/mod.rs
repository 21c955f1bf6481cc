//! What was accepted: the set against which a permission is new, the budgets of grants, and the receipts.
//!
//! An admission is decided and on disk before anything of the answer leaves; a receipt is on disk before the end of the answer leaves.
//! So after a crash no permission counts twice, and whatever was answered in full has its receipt. A permission that was admitted
//! and not answered stays used: the gateway cannot know what its client got.
//!
//! Two stores keep this promise: one file ([`EmbeddedStore`]), or a PostgreSQL database that several gateways share
//! ([`PostgresStore`]). Both decide by the same [`GrantState`].

mod embedded;
mod grant_state;
mod postgres;
mod record;
mod usage;

use std::pin::Pin;

use oml_core::merkle::Hash;

pub use embedded::EmbeddedStore;
pub use grant_state::GrantState;
pub use postgres::PostgresStore;
pub use record::Record;
pub use usage::{Usage, UsageKey};

/// Seconds of one bucket: a bucket is dropped whole.
pub(crate) const BUCKET: u64 = 3600;
/// Seconds of a day, by which usage is summed.
pub(crate) const DAY: u64 = 86_400;

/// What is asked of the store before an answer: all of it happens, or nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admission {
    /// The permission's id.
    pub permission: Hash,
    /// Until when the permission could be shown again, in seconds since 1970; the same for the same id.
    pub expires: u64,
    /// When it was admitted.
    pub time: u64,
    /// The permission's number, where its grant counts upwards.
    pub sequence: Option<u128>,
    /// The grants that it uses, the one that it was signed under last.
    pub budgets: Vec<Budget>,
    /// What the payer has promised so far under the last grant.
    pub promised: u128,
    /// What this call costs, in the same unit.
    pub price: u128,
    /// The permission itself, in its compact form.
    pub token: String,
}

/// What a grant allows in all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// The grant's id.
    pub grant: Hash,
    /// Calls.
    pub max_calls: u64,
    /// Spending, in the smallest unit of the token.
    pub max_spend: u128,
    /// When the grant ends, in seconds since 1970.
    pub not_after: u64,
}

/// What the store says to an admission.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// It counts, and is on disk.
    Accepted,
    /// The permission was used before.
    Replayed,
    /// The number is not above the last one.
    OutOfSequence,
    /// A grant has no calls left.
    CallsSpent,
    /// A grant's spending would go past its limit.
    SpendSpent,
    /// The payer has promised less than its calls cost.
    Underpaid,
}

/// What is kept of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answered {
    /// The permission's id.
    pub permission: Hash,
    /// As in its [`Admission`].
    pub expires: u64,
    /// Whose usage it is.
    pub usage: UsageKey,
    /// Tokens of the prompt and of the answer.
    pub tokens: [u64; 2],
    /// What it cost.
    pub price: u128,
    /// The signed receipt, in its compact form.
    pub receipt: String,
}

/// A store that cannot do its work. Who asks must refuse.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// The file or the database fails.
    #[error("{store}: {reason}")]
    Failed {
        /// Which store.
        store: &'static str,
        /// Why, without any secret.
        reason: String,
    },
    /// The store was closed.
    #[error("the store of permissions is closed")]
    Closed,
    /// More waits for the store than it takes.
    #[error("the store of permissions is overloaded")]
    Overloaded,
    /// A stored value does not read.
    #[error("{store}: {table}: expected a stored value, got other bytes")]
    Damaged {
        /// Which store.
        store: &'static str,
        /// Where.
        table: &'static str,
    },
}

/// What a store promises for later.
pub type Promise<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

/// A durable set of used permissions with what belongs to them.
pub trait ReplayStore: Send + Sync {
    /// Decides an admission; it is on disk when this is ready.
    fn admit(&self, admission: Admission) -> Promise<'_, Decision>;

    /// Keeps a receipt; it is on disk when this is ready.
    fn keep(&self, answered: Answered) -> Promise<'_, ()>;

    /// What is kept of one permission.
    fn find(&self, permission: Hash, expires: u64) -> Promise<'_, Option<Record>>;

    /// All that is kept, oldest bucket first: for export, not for every call.
    fn records(&self) -> Promise<'_, Vec<Record>>;

    /// Sums by licensee, model and day.
    fn usage(&self) -> Promise<'_, Vec<(UsageKey, Usage)>>;

    /// Drops what expired more than `window` seconds before `now`.
    fn forget(&self, now: u64, window: u64) -> Promise<'_, ()>;
}
