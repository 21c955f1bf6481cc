//! Reading and writing of checkpoints, tokenizers and chat templates, with good and with hostile files.

#![allow(clippy::unwrap_used, reason = "tests")]

mod adapted;
mod chat_template;
mod folders;
mod gguf;
mod safetensors;
mod smollm2;
mod support;
mod tokenizer;
mod write;
