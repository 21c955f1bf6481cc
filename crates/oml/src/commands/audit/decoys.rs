//! Where decoys come from: benign text, or a set of fingerprints that were never trained in.

use std::path::Path;

use anyhow::{Context as _, anyhow};
use oml_core::audit::{Decoy, from_text};
use oml_core::manifest::{FileError, fingerprint_file};

use crate::cli::OwnerArgs;
use crate::commands::asked::Asked;
use crate::commands::workbench;
use crate::error::WithHint as _;
use crate::eval::Text;
use crate::files;

/// Decoys, and where they come from in words.
pub(super) struct Decoys {
    pub(super) list: Vec<Decoy>,
    pub(super) basis: String,
}

/// `count` decoys from `path`, or from the built-in text.
///
/// # Errors
/// When the file cannot be used, or holds too little.
pub(super) fn read(
    path: Option<&Path>,
    owner: &OwnerArgs,
    asked: &Asked,
    count: usize,
    seed: &[u8; 32],
) -> anyhow::Result<Decoys> {
    if count == 0 {
        return Ok(Decoys {
            list: Vec::new(),
            basis: "none".into(),
        });
    }
    if let Some(path) = path {
        let bytes = files::read(path, fingerprint_file::MAX_BYTES)?;
        // A file that calls itself something is one of ours.
        if bytes.starts_with(b"{\"format\"") {
            return untrained(path, &bytes, owner, asked, count);
        }
    }
    let text = Text::named(path)?;
    let list = from_text(&text.text, asked.set(), count, seed);
    let list = list
        .with_context(|| format!("cannot use {}", text.name))
        .hint("Name a longer text with --decoys-from FILE, or ask fewer --decoys.")?;
    Ok(Decoys {
        list,
        basis: format!(
            "pieces of {} as long as queries, each with the responses of a fingerprint drawn at random",
            text.name
        ),
    })
}

/// Fingerprints of another set, with their own responses.
fn untrained(
    path: &Path,
    bytes: &[u8],
    owner: &OwnerArgs,
    asked: &Asked,
    count: usize,
) -> anyhow::Result<Decoys> {
    let owner = workbench::owner(&workbench::owner_path(owner)?)?;
    let set: Result<_, FileError> = fingerprint_file::open(bytes, &owner);
    let set = set.with_context(|| format!("cannot read {}", path.display()))?;
    let shared = set.fingerprints().iter().any(|decoy| {
        let mut real = asked.set().fingerprints().iter();
        real.any(|fingerprint| fingerprint.query == decoy.query)
    });
    if shared {
        let same: anyhow::Result<()> = Err(anyhow!(
            "{}: expected queries that were never trained in, got some of the set that is asked",
            path.display()
        ));
        same.hint("Make a set for this with `oml generate --copy-id decoys`.")?;
    }
    if set.count() < count {
        let few: anyhow::Result<()> = Err(anyhow!(
            "{}: expected at least {count} fingerprints, got {}",
            path.display(),
            set.count()
        ));
        few.hint("Make a larger set, or ask fewer with --max-queries or --decoys.")?;
    }
    let decoys = set
        .fingerprints()
        .iter()
        .take(count)
        .map(|fingerprint| Decoy {
            query: fingerprint.query.clone(),
            responses: fingerprint
                .responses
                .iter()
                .map(|r| r.text.clone())
                .collect(),
        });
    Ok(Decoys {
        list: decoys.collect(),
        basis: format!(
            "fingerprints of a {} set that was never trained in, with their own responses",
            set.header().strategy.name()
        ),
    })
}
