//! What a grant allows: purposes, regions, versions, lengths, rates, inputs, and how replay is told.
//!
//! ```text
//! hash   keccak256 of the scope as canonical JSON (RFC 8785), what allows everything left out:
//!        {"any_input":true,"calls_per_minute":60,"max_tokens":256,"model_versions":["…"],"purposes":["…"],"regions":["…"],"replay":"sequence"}
//! ```
//!
//! An empty list and a missing number are no limit. Lists rise and hold each word once, so a scope has one spelling and one hash.

use super::Refusal;
use crate::manifest::scope_json;
use crate::merkle::{Hash, keccak256};

/// Most words in a list.
pub(crate) const MAX_WORDS: usize = 16;
/// Most bytes of a word.
pub(crate) const MAX_WORD_BYTES: usize = 64;
/// Most bytes of a scope as canonical JSON.
pub const MAX_SCOPE_BYTES: usize = 2048;

/// How it is told that a permission was used before.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Replay {
    /// Every used permission is kept until it is too old.
    #[default]
    Set,
    /// Nonces rise, so only the last is kept.
    Sequence,
}

/// What a grant allows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scope {
    /// What the answers may be used for.
    pub purposes: Vec<String>,
    /// Where hosts may stand.
    pub regions: Vec<String>,
    /// Versions of the model that may answer.
    pub model_versions: Vec<String>,
    /// Most tokens of an answer.
    pub max_tokens: Option<u32>,
    /// Most calls in a minute.
    pub calls_per_minute: Option<u32>,
    /// Permissions may leave the input open.
    pub any_input: bool,
    /// How replay is told.
    pub replay: Replay,
}

/// A scope that has no hash.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScopeError {
    /// Too many words in a list.
    #[error("scope {field}: expected at most {MAX_WORDS} words, got {got}")]
    Words {
        /// The list.
        field: &'static str,
        /// Words found.
        got: usize,
    },
    /// A word that is empty, too long, or holds anything but printable ASCII.
    #[error("scope {field}[{index}]: expected 1 to {MAX_WORD_BYTES} characters of printable ASCII")]
    Word {
        /// The list.
        field: &'static str,
        /// Place in the list, from 0.
        index: usize,
    },
    /// Words that do not rise.
    #[error(
        "scope {field}[{index}]: expected a word after the one before it, got the same or an earlier one"
    )]
    Order {
        /// The list.
        field: &'static str,
        /// Place in the list, from 0.
        index: usize,
    },
    /// More bytes than a scope may have.
    #[error("scope: expected at most {MAX_SCOPE_BYTES} bytes, got {got}")]
    TooLarge {
        /// Bytes found.
        got: usize,
    },
    /// No JSON of a scope, or another spelling of it.
    #[error("scope: expected canonical JSON of a scope, got other bytes")]
    Json,
}

impl Scope {
    /// Sorts the lists and leaves out what they repeat.
    #[must_use]
    pub fn sorted(mut self) -> Self {
        for list in [
            &mut self.purposes,
            &mut self.regions,
            &mut self.model_versions,
        ] {
            list.sort_unstable();
            list.dedup();
        }
        self
    }

    /// Refuses a scope that no reader takes.
    ///
    /// # Errors
    /// The first fault.
    pub fn validate(&self) -> Result<(), ScopeError> {
        for (field, list) in self.lists() {
            let got = list.len();
            if got > MAX_WORDS {
                return Err(ScopeError::Words { field, got });
            }
            for (index, word) in list.iter().enumerate() {
                let printable = word.bytes().all(|byte| matches!(byte, b' '..=b'~'));
                if word.is_empty() || word.len() > MAX_WORD_BYTES || !printable {
                    return Err(ScopeError::Word { field, index });
                }
                if index > 0 && list[index - 1] >= *word {
                    return Err(ScopeError::Order { field, index });
                }
            }
        }
        let got = self.canonical().len();
        if got > MAX_SCOPE_BYTES {
            return Err(ScopeError::TooLarge { got });
        }
        Ok(())
    }

    /// The scope as canonical JSON.
    #[must_use]
    pub fn canonical(&self) -> Vec<u8> {
        scope_json::render(self)
    }

    /// What a grant says of its scope.
    #[must_use]
    pub fn hash(&self) -> Hash {
        keccak256(&[&self.canonical()])
    }

    /// Refuses a scope that allows anything that `parent` does not.
    ///
    /// # Errors
    /// [`Refusal::WiderScope`] with the first field that is wider.
    pub fn narrows(&self, parent: &Self) -> Result<(), Refusal> {
        for ((field, own), (_, above)) in self.lists().into_iter().zip(parent.lists()) {
            let within =
                above.is_empty() || !own.is_empty() && own.iter().all(|word| above.contains(word));
            if !within {
                return Err(Refusal::WiderScope { field });
            }
        }
        let numbers = [
            ("max_tokens", self.max_tokens, parent.max_tokens),
            (
                "calls_per_minute",
                self.calls_per_minute,
                parent.calls_per_minute,
            ),
        ];
        for (field, own, above) in numbers {
            if above.is_some_and(|above| own.is_none_or(|own| own > above)) {
                return Err(Refusal::WiderScope { field });
            }
        }
        if self.any_input && !parent.any_input {
            return Err(Refusal::WiderScope { field: "any_input" });
        }
        if self.replay != parent.replay {
            return Err(Refusal::WiderScope { field: "replay" });
        }
        Ok(())
    }

    fn lists(&self) -> [(&'static str, &[String]); 3] {
        [
            ("purposes", &self.purposes),
            ("regions", &self.regions),
            ("model_versions", &self.model_versions),
        ]
    }
}
