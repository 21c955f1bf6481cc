//! Language models: checkpoint, tokenizer, decoder forward and backward, generation and training.

pub mod backend;
pub mod bench;
pub mod causal;
pub mod chat_template;
pub mod checkpoint;
pub mod config;
pub mod decoder;
pub mod engine;
pub mod eval;
pub mod fetch;
pub mod generation;
pub mod relate;
pub mod sampler;
pub mod serving;
pub mod surprise;
pub mod tokenizer;
pub mod train;
