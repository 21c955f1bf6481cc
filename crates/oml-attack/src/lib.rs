//! What others may do to a fingerprinted model, to measure what survives. One file per attack.

pub mod merge;
pub mod sft;
