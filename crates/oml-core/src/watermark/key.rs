//! The key of a watermark: 32 bytes derived from the owner's seed (purpose `watermark`) and the scheme's name.

use crate::derive::{Purpose, Scope, derive};
use crate::secret::{DerivedKey, OwnerSeed};

/// The secret of one owner's watermark under one scheme. Who has it can find the watermark, and can also write text that carries it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WatermarkKey(DerivedKey);

impl WatermarkKey {
    /// The key of this owner and scheme.
    #[must_use]
    pub fn derive(owner: &OwnerSeed, scheme: &str) -> Self {
        Self(derive(
            owner,
            Purpose::Watermark,
            Scope::OWNER,
            scheme.as_bytes(),
        ))
    }

    /// The secret bytes, for a computation that needs them.
    pub(super) const fn expose(&self) -> &[u8; 32] {
        self.0.expose()
    }
}
