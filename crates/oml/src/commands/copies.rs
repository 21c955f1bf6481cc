//! Licensees' copies: the flag that names one, and the part of a set that it holds.

use std::path::Path;

use anyhow::Context as _;
use clap::Args;
use oml_core::copies::{Assignment, CopiesError};
use oml_core::fingerprint::FingerprintSet;
use oml_core::secret::OwnerSeed;

use crate::error::WithHint as _;

/// The licensee's copy that a command is about.
#[derive(Debug, Clone, Args)]
pub(crate) struct CopyArgs {
    /// Only the fingerprints of this licensee's copy, from 1 (sets made with `oml generate --copies`)
    #[arg(long, value_name = "ID", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) copy: Option<u32>,
}

/// The part of the set in `path` that copy `copy` holds.
///
/// # Errors
/// When the set has no such copy.
pub(super) fn part(
    set: &FingerprintSet,
    owner: &OwnerSeed,
    copy: u32,
    path: &Path,
) -> anyhow::Result<FingerprintSet> {
    let members = assignment(set, owner, path)?.members(copy);
    let missing = matches!(members, Err(CopiesError::Copy { .. }));
    let members = members.with_context(|| format!("cannot use {}", path.display()));
    let members = if missing {
        members.hint(
            "Make the set again with a larger --copies: it stays the same, and so does every earlier copy.",
        )?
    } else {
        members?
    };
    set.of_copy(&members)
        .with_context(|| format!("{}: copy {copy}", path.display()))
}

/// Who holds what of the set in `path`.
///
/// # Errors
/// When the set was not made for copies.
pub(super) fn assignment<'a>(
    set: &'a FingerprintSet,
    owner: &'a OwnerSeed,
    path: &Path,
) -> anyhow::Result<Assignment<'a>> {
    let found =
        Assignment::of_set(set, owner).with_context(|| format!("cannot use {}", path.display()));
    if set.header().copies.is_none() {
        return found.hint("Make a set for licensees with `oml generate --copies N`.");
    }
    found
}
