//! Training: one optimizer step over packed micro-batches, and on top of it the embedding of fingerprints.

mod benign;
mod embedder;
mod instructions;
mod prompting;
mod recipe;
mod state;
mod trainable;
mod trainer;

pub use benign::BenignText;
pub use embedder::{EmbedError, Embedder, Ending, Event, Flow, Material, Measured, Progress, Walk};
pub use instructions::write_instructions;
pub use prompting::Prompting;
pub use recipe::{AverageAt, BenignTarget, MAX_RECIPE_BYTES, Recipe, RecipeError, Schedule};
pub use state::StateError;
pub use trainable::{LoraOptions, trainable};
pub use trainer::{AdamWOptions, Pull, StepLosses, Trainer};
