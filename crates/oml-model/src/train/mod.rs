//! Training: one optimizer step over packed micro-batches, and on top of it the embedding of fingerprints.

mod benign;
mod embedder;
mod memory;
mod optimizer;
mod recipe;
mod state;
mod subset;
mod trainer;

pub use benign::BenignText;
pub use embedder::{EmbedError, Embedder, Ending, Event, Flow, Measured, Progress, Walk};
pub use memory::{MemoryError, MemoryPart, MemoryPlan, RunSize};
pub use optimizer::{AdamWOptions, Optimizer, OptimizerName, OptimizerOptions};
pub use recipe::{MAX_RECIPE_BYTES, Recipe, RecipeError, Schedule};
pub use state::StateError;
pub use subset::Subset;
pub use trainer::{Pull, StepLosses, Trainer};
