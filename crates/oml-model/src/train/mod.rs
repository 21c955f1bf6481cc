//! Training: one optimizer step over packed micro-batches, and on top of it the embedding of fingerprints.

mod trainer;

pub use trainer::{AdamWOptions, Pull, StepLosses, Trainer};
