//! What a report is made from: one file per kind of input, told apart by what is in it.

mod audit;
mod check;
mod claim;
mod embedding;
mod field;
mod findings;
mod time;

use std::path::Path;

use anyhow::{Context as _, anyhow, bail, ensure};
use oml_core::manifest::bundle_archive;
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};

use super::{Dossier, Step};
use crate::error::WithHint as _;
use crate::files;
use crate::report::data::{Fact, Headline};

/// Most bytes of an output that is read.
const MAX_BYTES: usize = 64 << 20;
/// Where a tar archive names its format, and how.
const MAGIC_AT: usize = 257;
const MAGIC: &[u8] = b"ustar";
const HINT: &str = "Name what `oml audit` or `oml check` printed with --json, a bundle made by `oml claim make`, or the folder that \
                    `oml embed` wrote.";

/// The report on what lies in `path`.
///
/// # Errors
/// When it is nothing of which there is a report, or says what cannot be.
pub(super) fn read(path: &Path) -> anyhow::Result<Dossier> {
    if path.is_dir() {
        return embedding::read(path);
    }
    let bytes = files::read(path, bundle_archive::MAX_BYTES)?;
    let read = if bytes.get(MAGIC_AT..MAGIC_AT + MAGIC.len()) == Some(MAGIC) {
        claim::read(path, &bytes)
    } else {
        of(&bytes)
    };
    read.with_context(|| format!("cannot read {}", path.display()))
}

/// The report on an output.
///
/// # Errors
/// As [`read`].
pub(super) fn of(bytes: &[u8]) -> anyhow::Result<Dossier> {
    /// Fields that only one kind of output has.
    #[derive(Deserialize)]
    struct Marker {
        transcript_head: Option<IgnoredAny>,
        log10_p_value: Option<IgnoredAny>,
        hits_needed: Option<IgnoredAny>,
        fingerprints: Option<IgnoredAny>,
        format: Option<String>,
    }
    ensure!(
        bytes.len() <= MAX_BYTES,
        "expected at most {MAX_BYTES} bytes, got {}",
        bytes.len()
    );
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Err(anyhow!("expected a result, got an empty file")).hint(HINT);
    }
    let marker: Marker = match parse(bytes) {
        Ok(marker) => marker,
        Err(error) => return Err(error).hint(HINT),
    };
    match marker {
        Marker {
            transcript_head: Some(_),
            ..
        } => audit::read(bytes),
        Marker {
            fingerprints: Some(_),
            log10_p_value: Some(_),
            ..
        }
        | Marker {
            fingerprints: Some(_),
            hits_needed: Some(_),
            ..
        } => check::read(bytes),
        Marker {
            format: Some(format),
            ..
        } if format == "oml-model" => embedding::of(bytes, None),
        _ => Err(anyhow!(
            "expected the output of `oml audit` or `oml check`, or a model’s manifest, got other JSON"
        ))
        .hint(HINT),
    }
}

/// JSON of one type and nothing after it; a fault names its field.
///
/// # Errors
/// When it is anything else.
fn parse<T: DeserializeOwned>(bytes: &[u8]) -> anyhow::Result<T> {
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let value = match serde_path_to_error::deserialize(&mut json) {
        Ok(value) => value,
        Err(error) if error.path().iter().next().is_none() => {
            return Err(error.into_inner().into());
        }
        Err(error) => bail!("{}: {}", error.path(), error.inner()),
    };
    json.end()?;
    Ok(value)
}

/// Program and version.
fn made_by() -> String {
    format!("Written by oml {}.", env!("CARGO_PKG_VERSION"))
}

fn headline(value: String, label: &str, basis: String) -> Headline {
    Headline {
        value,
        label: label.to_owned(),
        basis,
    }
}

fn fact(name: &str, value: String, basis: &str) -> Fact {
    Fact {
        name: name.to_owned(),
        value,
        basis: basis.to_owned(),
    }
}

fn step(text: String, command: Option<String>) -> Step {
    Step { text, command }
}
