//! Queries inside prompts, as token ids.

use oml_core::prompt::Prompt;

use super::{TextTokenizer, TokenizerError};
use crate::chat_template::{Message, TemplateError};

impl TextTokenizer {
    /// Whether conversations can be rendered.
    pub fn has_chat_template(&self) -> bool {
        self.template.is_some()
    }

    /// Whether a query can be put into a prompt: conversations need a chat template.
    pub fn takes(&self, prompt: &Prompt) -> bool {
        self.has_chat_template() || !prompt.is_chat()
    }

    /// The ids of `query` inside `prompt`, ready for the model's answer.
    ///
    /// A chat template that refuses system prompts gets them at the start of the user's turn.
    ///
    /// # Errors
    /// The prompt is a conversation and there is no chat template, or it refuses the conversation; a text without ids.
    pub fn prompted(&self, prompt: &Prompt, query: &str) -> Result<Vec<u32>, TokenizerError> {
        let (system, user, answer) = match prompt {
            Prompt::Text(template) => return self.beginning(&template.fill(query)),
            Prompt::Chat {
                system,
                user,
                answer,
            } => (system, user.fill(query), answer),
        };
        let text = match system {
            None => self.render(&[Message::user(&user)], true)?,
            Some(system) => {
                match self.render(&[Message::system(system), Message::user(&user)], true) {
                    Err(TokenizerError::Template(TemplateError::Refused(_))) => {
                        self.render(&[Message::user(&format!("{system}\n\n{user}"))], true)?
                    }
                    rendered => rendered?,
                }
            }
        };
        self.encode(&(text + answer), false)
    }

    /// The ids of a text that goes on: with what the tokenizer puts before it, without what it puts after it.
    fn beginning(&self, text: &str) -> Result<Vec<u32>, TokenizerError> {
        let (bare, whole) = (self.encode(text, false)?, self.encode(text, true)?);
        Ok(if whole.ends_with(&bare) { whole } else { bare })
    }

    /// Whether an id stands for no text, such as BOS.
    pub fn is_special(&self, id: u32) -> bool {
        self.special.binary_search(&id).is_ok()
    }
}
