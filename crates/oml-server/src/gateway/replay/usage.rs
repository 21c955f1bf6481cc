//! Sums of what was used, which are kept when the records they came from are dropped.
//!
//! ```text
//! key    day since 1970 (4) ‖ model (32) ‖ licensee (20)
//! value  calls (8) ‖ prompt tokens (8) ‖ answer tokens (8) ‖ spent (16), big-endian
//! ```

use oml_core::merkle::Hash;
use oml_core::signing::Address;

/// Whose usage, of what, when.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UsageKey {
    /// Days since 1970-01-01, UTC.
    pub day: u32,
    /// The model's id.
    pub model: Hash,
    /// The licensee's address.
    pub licensee: [u8; 20],
}

/// How much.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Answers with a receipt.
    pub calls: u64,
    /// Tokens of their prompts.
    pub prompt_tokens: u64,
    /// Tokens of the answers.
    pub completion_tokens: u64,
    /// What they cost, in the smallest unit of the token.
    pub spent: u128,
}

impl UsageKey {
    /// Bytes of a stored key.
    pub const BYTES: usize = 56;

    /// The licensee.
    #[must_use]
    pub fn licensee(&self) -> Address {
        Address(self.licensee)
    }

    /// The stored form, in the order of days.
    #[must_use]
    pub fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[..4].copy_from_slice(&self.day.to_be_bytes());
        bytes[4..36].copy_from_slice(&self.model);
        bytes[36..].copy_from_slice(&self.licensee);
        bytes
    }

    /// Reads the stored form.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; Self::BYTES]) -> Self {
        Self {
            day: u32::from_be_bytes(std::array::from_fn(|i| bytes[i])),
            model: std::array::from_fn(|i| bytes[4 + i]),
            licensee: std::array::from_fn(|i| bytes[36 + i]),
        }
    }
}

impl Usage {
    /// Bytes of a stored sum.
    pub const BYTES: usize = 40;

    /// Adds one answer.
    pub fn add(&mut self, tokens: [u64; 2], price: u128) {
        self.calls = self.calls.saturating_add(1);
        self.prompt_tokens = self.prompt_tokens.saturating_add(tokens[0]);
        self.completion_tokens = self.completion_tokens.saturating_add(tokens[1]);
        self.spent = self.spent.saturating_add(price);
    }

    /// The stored form.
    #[must_use]
    pub fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[..8].copy_from_slice(&self.calls.to_be_bytes());
        bytes[8..16].copy_from_slice(&self.prompt_tokens.to_be_bytes());
        bytes[16..24].copy_from_slice(&self.completion_tokens.to_be_bytes());
        bytes[24..].copy_from_slice(&self.spent.to_be_bytes());
        bytes
    }

    /// Reads the stored form.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; Self::BYTES]) -> Self {
        let number = |at: usize| u64::from_be_bytes(std::array::from_fn(|i| bytes[at + i]));
        Self {
            calls: number(0),
            prompt_tokens: number(8),
            completion_tokens: number(16),
            spent: u128::from_be_bytes(std::array::from_fn(|i| bytes[24 + i])),
        }
    }
}
