//! Training: one optimizer step over packed micro-batches, and on top of it the embedding of fingerprints.

mod benign;
mod embedder;
mod instructions;
mod memory;
mod optimizer;
mod prompting;
mod recipe;
mod state;
mod subset;
mod trainable;
mod trainer;

pub use benign::BenignText;
pub use embedder::{EmbedError, Embedder, Ending, Event, Flow, Material, Measured, Progress, Walk};
pub use instructions::write_instructions;
pub use memory::{MemoryError, MemoryPart, MemoryPlan, RunSize};
pub use optimizer::{AdamWOptions, Optimizer, OptimizerName, OptimizerOptions};
pub use prompting::Prompting;
pub use recipe::{AverageAt, BenignTarget, MAX_RECIPE_BYTES, Recipe, RecipeError, Schedule};
pub use state::StateError;
pub use subset::Subset;
pub use trainable::trainable;
pub use trainer::{Pull, StepLosses, Trainer};
