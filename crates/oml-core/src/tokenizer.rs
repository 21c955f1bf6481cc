//! What the domain asks of a tokenizer: text to token ids and back.

use crate::model::ModelError;

/// The map between text and the token ids of one model.
pub trait Tokenizer {
    /// Number of token ids.
    fn vocabulary_size(&self) -> usize;

    /// Token ids of `text`; with `special`, the tokenizer adds BOS and the like as it does by default.
    ///
    /// # Errors
    /// Text that the tokenizer cannot represent.
    fn encode(&self, text: &str, special: bool) -> Result<Vec<u32>, ModelError>;

    /// Text of `ids`; special tokens are skipped.
    ///
    /// # Errors
    /// Ids outside the vocabulary.
    fn decode(&self, ids: &[u32]) -> Result<String, ModelError>;

    /// Text of one token as it stands inside a sentence (`" how"`); `None` for special and unused ids.
    fn token(&self, id: u32) -> Option<String>;

    /// Token ids of the chat template around one user message, ready for the assistant's answer; `None` when the
    /// tokenizer has no chat template.
    ///
    /// # Errors
    /// A chat template that cannot be rendered.
    fn chat_prompt(&self, user: &str) -> Result<Option<Vec<u32>>, ModelError>;

    /// SHA-256 over the bytes of the canonical `tokenizer.json`.
    fn hash(&self) -> [u8; 32];
}
