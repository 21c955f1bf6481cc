//! The name of a model in permissions and receipts: 32 bytes, written as `0x` and 64 lower-case hexadecimal digits.

use std::fmt;
use std::str::FromStr;

use crate::manifest::{hex, parse_hash};
use crate::merkle::Hash;

/// Which model a permission is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ModelId(pub Hash);

/// Text that is no model id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("model id: expected 0x and 64 lower-case hexadecimal digits")]
pub struct ModelIdError;

impl ModelId {
    /// The id of a model whose manifest has this SHA-256.
    #[must_use]
    pub const fn of_digest(digest: Hash) -> Self {
        Self(digest)
    }
}

impl fmt::Display for ModelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "0x{}", hex(&self.0))
    }
}

impl FromStr for ModelId {
    type Err = ModelIdError;

    fn from_str(text: &str) -> Result<Self, ModelIdError> {
        let digits = text.strip_prefix("0x").and_then(parse_hash);
        digits.map(Self).ok_or(ModelIdError)
    }
}
