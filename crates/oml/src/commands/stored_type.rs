//! `--dtype`: how the weights of a model that is written are stored.

use clap::ValueEnum;
use oml_model::checkpoint::DType;

/// Types that weights are written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum StoredType {
    F32,
    Bf16,
    F16,
}

impl From<StoredType> for DType {
    fn from(stored: StoredType) -> Self {
        match stored {
            StoredType::F32 => Self::F32,
            StoredType::Bf16 => Self::BF16,
            StoredType::F16 => Self::F16,
        }
    }
}
