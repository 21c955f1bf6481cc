//! A scope as JSON: inside grant files in any spelling, and canonical (RFC 8785) where it is hashed.
//!
//! ```text
//! {"any_input":true,"calls_per_minute":number,"max_tokens":number,"model_versions":[text,…],"purposes":[text,…],"regions":[text,…],
//!  "replay":"sequence"}
//! ```
//!
//! Every field may be missing, and is where it says what a missing one does: false, no limit, no limit, `"set"`. Texts are
//! printable ASCII, so their escapes are the same in every writer.

use serde::{Deserialize, Serialize};

use super::field::{List, Text};
use crate::permission::{MAX_SCOPE_BYTES, Replay, Scope, ScopeError};

/// Caps are those of [`Scope::validate`], which names what is wrong; these only bound what is read.
const WORDS: usize = 64;
const WORD_BYTES: usize = 256;

type Words = List<Text<WORD_BYTES>, WORDS>;

// In the order of their names, as RFC 8785 has them.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ScopeFile {
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    any_input: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    calls_per_minute: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    max_tokens: Option<u32>,
    #[serde(default = "empty", skip_serializing_if = "is_empty")]
    model_versions: Words,
    #[serde(default = "empty", skip_serializing_if = "is_empty")]
    purposes: Words,
    #[serde(default = "empty", skip_serializing_if = "is_empty")]
    regions: Words,
    #[serde(default, skip_serializing_if = "ReplayFile::is_set")]
    replay: ReplayFile,
}

#[derive(Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum ReplayFile {
    #[default]
    Set,
    Sequence,
}

impl ReplayFile {
    fn is_set(&self) -> bool {
        *self == Self::Set
    }
}

const fn empty() -> Words {
    List(Vec::new())
}

const fn is_empty(words: &Words) -> bool {
    words.0.is_empty()
}

impl ScopeFile {
    pub(super) fn of(scope: &Scope) -> Self {
        let words = |list: &[String]| List(list.iter().cloned().map(Text).collect());
        Self {
            any_input: scope.any_input,
            calls_per_minute: scope.calls_per_minute,
            max_tokens: scope.max_tokens,
            model_versions: words(&scope.model_versions),
            purposes: words(&scope.purposes),
            regions: words(&scope.regions),
            replay: match scope.replay {
                Replay::Set => ReplayFile::Set,
                Replay::Sequence => ReplayFile::Sequence,
            },
        }
    }

    /// # Errors
    /// As [`Scope::validate`].
    pub(super) fn scope(self) -> Result<Scope, ScopeError> {
        let words = |list: Words| list.0.into_iter().map(|word| word.0).collect();
        let scope = Scope {
            purposes: words(self.purposes),
            regions: words(self.regions),
            model_versions: words(self.model_versions),
            max_tokens: self.max_tokens,
            calls_per_minute: self.calls_per_minute,
            any_input: self.any_input,
            replay: match self.replay {
                ReplayFile::Set => Replay::Set,
                ReplayFile::Sequence => Replay::Sequence,
            },
        };
        scope.validate()?;
        Ok(scope)
    }
}

/// Canonical JSON of a scope.
pub(crate) fn render(scope: &Scope) -> Vec<u8> {
    // Writing texts and numbers to memory does not fail.
    serde_json::to_vec(&ScopeFile::of(scope)).unwrap_or_default()
}

/// Reads canonical JSON of a scope.
///
/// # Errors
/// When it is none, too large, or spelt in another way.
pub(crate) fn parse(bytes: &[u8]) -> Result<Scope, ScopeError> {
    if bytes.len() > MAX_SCOPE_BYTES {
        return Err(ScopeError::TooLarge { got: bytes.len() });
    }
    let file: ScopeFile = serde_json::from_slice(bytes).map_err(|_| ScopeError::Json)?;
    let scope = file.scope()?;
    if render(&scope) != bytes {
        return Err(ScopeError::Json);
    }
    Ok(scope)
}
