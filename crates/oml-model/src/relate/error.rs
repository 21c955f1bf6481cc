//! Why two checkpoints cannot be compared.

use std::path::PathBuf;

use thiserror::Error;

use crate::checkpoint::CheckpointError;

/// Why two checkpoints cannot be compared.
#[derive(Debug, Error)]
pub enum RelateError {
    /// A checkpoint could not be read.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// A model's layers have several feed-forward blocks.
    #[error("{}: num_local_experts: expected 1 feed-forward block per layer, got {got}", path.display())]
    Experts {
        /// The model.
        path: PathBuf,
        /// Its blocks per layer.
        got: usize,
    },
    /// One model's blocks have a gate and the other's have none.
    #[error(
        "{}: feed-forward blocks: expected {expected} as in {}, got {got}",
        path.display(),
        other.display()
    )]
    Gate {
        /// The suspect.
        path: PathBuf,
        /// The model.
        other: PathBuf,
        /// The model's kind of block.
        expected: &'static str,
        /// The suspect's.
        got: &'static str,
    },
    /// The streams have different widths, and too few tokens are shared to map one to the other.
    #[error(
        "{}: hidden_size: expected {expected} as in {}, or at least {least} tokens in common to compare other widths by, got {got} and \
         {tokens}",
        path.display(),
        other.display()
    )]
    Frame {
        /// The suspect.
        path: PathBuf,
        /// The model.
        other: PathBuf,
        /// The model's width.
        expected: usize,
        /// The suspect's.
        got: usize,
        /// Tokens that would do.
        least: usize,
        /// Tokens in common.
        tokens: usize,
    },
}
