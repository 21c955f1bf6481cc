//! Language models: checkpoint, tokenizer, decoder forward and backward, generation and training.

pub mod chat_template;
pub mod checkpoint;
pub mod config;
pub mod tokenizer;
