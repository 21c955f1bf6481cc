//! The gateway.

mod replay;

pub use replay::{
    Admission, Answered, Budget, Decision, EmbeddedStore, GrantState, PostgresStore, Promise,
    Record, ReplayStore, StoreError, Usage, UsageKey,
};
