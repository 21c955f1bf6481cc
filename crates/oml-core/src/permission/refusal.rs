//! Why a permission is refused: one variant per reason, each with a code for machines.

use std::fmt;

use super::{MAX_GRANTS, ModelId, TextError};
use crate::signing::{Address, SigningError};

/// A signed part of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The permission.
    Permission,
    /// A grant by its number from 1, the issuer's first.
    Grant(usize),
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Permission => f.write_str("permission"),
            Self::Grant(number) => write!(f, "grant {number}"),
        }
    }
}

/// Why a permission does not count. Times are seconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The text is none of a token.
    #[error(transparent)]
    Text(#[from] TextError),
    /// What is known of issuers and revocations is too old.
    #[error("view: expected one at most {max_age} s old at {now}, got one of {as_of}")]
    StaleView {
        /// Up to when everything is known.
        as_of: u64,
        /// Oldest that is taken, in seconds.
        max_age: u64,
        /// The time now.
        now: u64,
    },
    /// What is known claims to be of the future.
    #[error("view: expected one of {now} or before, got one of {as_of}")]
    FutureView {
        /// Up to when everything is said to be known.
        as_of: u64,
        /// The time now.
        now: u64,
    },
    /// For another chain or contract.
    #[error("domain: expected the chain and contract of the authority, got others")]
    WrongDomain,
    /// For another model.
    #[error("model: expected {expected}, got {got}")]
    WrongModel {
        /// The model that is asked, or that of the grant above.
        expected: ModelId,
        /// The model named.
        got: ModelId,
    },
    /// For another host.
    #[error("{part} host: expected {expected}, got {got}")]
    WrongHost {
        /// Where.
        part: Part,
        /// The host that is asked.
        expected: Address,
        /// The host named.
        got: Address,
    },
    /// Times of which the last comes before the first.
    #[error("{part} times: expected an end at or after the beginning, got one before it")]
    ImpossibleTimes {
        /// Where.
        part: Part,
    },
    /// Signed in the future.
    #[error("permission: expected one issued at {now} or before, got {issued_at}")]
    NotYetValid {
        /// When it was signed.
        issued_at: u64,
        /// The time now.
        now: u64,
    },
    /// After its deadline.
    #[error("permission: expected a deadline of {now} or after, got {deadline}")]
    Expired {
        /// Its last second.
        deadline: u64,
        /// The time now.
        now: u64,
    },
    /// A grant that has not begun.
    #[error("grant {grant}: expected one that began at {now} or before, got {not_before}")]
    GrantNotYetValid {
        /// Its number.
        grant: usize,
        /// Its first second.
        not_before: u64,
        /// The time now.
        now: u64,
    },
    /// A grant that has ended.
    #[error("grant {grant}: expected one that ends at {now} or after, got {not_after}")]
    GrantExpired {
        /// Its number.
        grant: usize,
        /// Its last second.
        not_after: u64,
        /// The time now.
        now: u64,
    },
    /// The permission names an input, and no salt came with it.
    #[error("input: expected the salt of the input's hash, got none")]
    SaltMissing,
    /// The permission is for another input, or the salt is another.
    #[error("input: expected the one that the permission's salted hash names, got another")]
    WrongInput,
    /// The permission leaves the input open, and its grant does not allow that.
    #[error("input: expected a permission for one input, as its grant asks, got one for any")]
    AnyInput,
    /// Too many grants.
    #[error("grants: expected at most {MAX_GRANTS}, got {got}")]
    TooManyGrants {
        /// Number found.
        got: usize,
    },
    /// A part that is not under the grant before it.
    #[error(
        "{part}: expected the id of the grant above it, or none where the issuer signed, got another"
    )]
    BrokenChain {
        /// Where.
        part: Part,
    },
    /// A grant's scope is not the one that was signed.
    #[error("{part} scope: expected the one that the grant's hash names, got another")]
    ScopeHash {
        /// Where.
        part: Part,
    },
    /// Another licensee than the grant's.
    #[error("licensee: expected {expected} as in the grant above, got {got}")]
    WrongLicensee {
        /// The licensee above.
        expected: Address,
        /// The licensee named.
        got: Address,
    },
    /// A grant for hosts that the one above does not allow.
    #[error("host: expected {expected} as in the grant above, got {got}")]
    WiderHost {
        /// The host above.
        expected: Address,
        /// The host named.
        got: Address,
    },
    /// A grant of more calls than the one above.
    #[error("calls: expected at most {expected} as in the grant above, got {got}")]
    WiderCalls {
        /// Calls above.
        expected: u64,
        /// Calls named.
        got: u64,
    },
    /// A grant of more spending than the one above.
    #[error("spend: expected at most {expected} as in the grant above, got {got}")]
    WiderSpend {
        /// Spending above.
        expected: u128,
        /// Spending named.
        got: u128,
    },
    /// A grant or permission whose life is not within the grant above.
    #[error("times: expected {} to {} as in the grant above, got {} to {}", expected.0, expected.1, got.0, got.1)]
    WiderTime {
        /// First and last second above.
        expected: (u64, u64),
        /// First and last second named.
        got: (u64, u64),
    },
    /// A scope that allows more than the one above.
    #[error("scope {field}: expected no more than the grant above allows, got more")]
    WiderScope {
        /// What is wider.
        field: &'static str,
    },
    /// No calls are left, or there never were any.
    #[error("calls: expected at most {limit} under the grant, got one more")]
    OverCalls {
        /// Calls that the grant allows.
        limit: u64,
    },
    /// More was promised than the grant allows.
    #[error("spend: expected at most {limit} under the grant, got {got}")]
    OverSpend {
        /// What the grant allows.
        limit: u128,
        /// What is promised.
        got: u128,
    },
    /// Asked for a purpose that the grant does not name, or for none.
    #[error("purpose: expected one that the grant allows, got another or none")]
    WrongPurpose,
    /// Asked in a region that the grant does not name, or in none.
    #[error("region: expected one that the grant allows, got another or none")]
    WrongRegion,
    /// Asked of a version of the model that the grant does not name, or of none.
    #[error("model version: expected one that the grant allows, got another or none")]
    WrongModelVersion,
    /// Asked for more tokens than the grant allows, or for no number of them.
    #[error("max tokens: expected at most {limit} as the grant allows, got {}", got.map_or_else(|| "no limit".to_owned(), |got| got.to_string()))]
    TooManyTokens {
        /// What the grant allows.
        limit: u32,
        /// What is asked for.
        got: Option<u32>,
    },
    /// Bytes that are no signature.
    #[error("{part} {fault}")]
    BadSignature {
        /// Where.
        part: Part,
        /// The fault; a high s has a code of its own.
        fault: SigningError,
    },
    /// Signed by somebody else than the delegate of the grant above.
    #[error("{part} signer: expected the delegate {expected} of the grant above, got {got}")]
    WrongSigner {
        /// Where.
        part: Part,
        /// The delegate.
        expected: Address,
        /// Who signed.
        got: Address,
    },
    /// Signed by nobody who may sign for the model, or altered after it was signed.
    #[error("{part} signer: expected an issuer of the model, got {got}")]
    UnknownIssuer {
        /// Where.
        part: Part,
        /// Who signed.
        got: Address,
    },
    /// Signed before the issuer may sign.
    #[error("{part} issuer: expected a time of {from} or after, got {got}")]
    IssuerNotYet {
        /// Where.
        part: Part,
        /// When the issuer may sign.
        from: u64,
        /// When it was signed.
        got: u64,
    },
    /// The issuer's key was revoked.
    #[error(
        "{part} issuer: expected use before {revoked_at}, when the issuer's key was revoked, got {now}"
    )]
    IssuerRevoked {
        /// Where.
        part: Part,
        /// When the key was revoked.
        revoked_at: u64,
        /// The time now, or that of the signature where it is later.
        now: u64,
    },
    /// A grant that was revoked.
    #[error("grant {grant}: expected use before {at}, when it was revoked, got {now}")]
    GrantRevoked {
        /// Its number.
        grant: usize,
        /// When.
        at: u64,
        /// The time now.
        now: u64,
    },
    /// The permission was revoked.
    #[error("permission: expected use before {at}, when it was revoked, got {now}")]
    PermissionRevoked {
        /// When.
        at: u64,
        /// The time now.
        now: u64,
    },
}

impl Refusal {
    /// The reason as machines name it; stable.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Text(fault) => fault.code(),
            Self::StaleView { .. } => "stale_view",
            Self::FutureView { .. } => "future_view",
            Self::WrongDomain => "wrong_domain",
            Self::WrongModel { .. } => "wrong_model",
            Self::WrongHost { .. } => "wrong_host",
            Self::ImpossibleTimes { .. } => "impossible_times",
            Self::NotYetValid { .. } => "not_yet_valid",
            Self::Expired { .. } => "expired",
            Self::GrantNotYetValid { .. } => "grant_not_yet_valid",
            Self::GrantExpired { .. } => "grant_expired",
            Self::SaltMissing => "salt_missing",
            Self::WrongInput => "wrong_input",
            Self::AnyInput => "any_input",
            Self::TooManyGrants { .. } => "too_many_grants",
            Self::BrokenChain { .. } => "broken_chain",
            Self::ScopeHash { .. } => "scope_hash",
            Self::WrongLicensee { .. } => "wrong_licensee",
            Self::WiderHost { .. } => "wider_host",
            Self::WiderCalls { .. } => "wider_calls",
            Self::WiderSpend { .. } => "wider_spend",
            Self::WiderTime { .. } => "wider_time",
            Self::WiderScope { .. } => "wider_scope",
            Self::OverCalls { .. } => "over_calls",
            Self::OverSpend { .. } => "over_spend",
            Self::WrongPurpose => "wrong_purpose",
            Self::WrongRegion => "wrong_region",
            Self::WrongModelVersion => "wrong_model_version",
            Self::TooManyTokens { .. } => "too_many_tokens",
            Self::BadSignature {
                fault: SigningError::HighS,
                ..
            } => "malleable_signature",
            Self::BadSignature { .. } => "bad_signature",
            Self::WrongSigner { .. } => "wrong_signer",
            Self::UnknownIssuer { .. } => "unknown_issuer",
            Self::IssuerNotYet { .. } => "issuer_not_yet",
            Self::IssuerRevoked { .. } => "issuer_revoked",
            Self::GrantRevoked { .. } => "grant_revoked",
            Self::PermissionRevoked { .. } => "permission_revoked",
        }
    }
}
