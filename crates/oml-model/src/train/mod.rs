//! Training: one optimizer step over packed micro-batches, and on top of it the embedding of fingerprints.

mod benign;
mod embedder;
mod recipe;
mod state;
mod trainer;

pub use benign::BenignText;
pub use embedder::{EmbedError, Embedder, Ending, Event, Flow, Measured, Progress, Walk};
pub use recipe::{MAX_RECIPE_BYTES, Recipe, RecipeError, Schedule};
pub use state::StateError;
pub use trainer::{AdamWOptions, Pull, StepLosses, Trainer};
