//! What deployments put around a query before the model sees it: templates, system prompts, the assistant's first words.
//!
//! Fingerprints that are trained under many prompts survive others (prompt augmentation of the OML 1.0 guide). Two lists are built in:
//! [`training`] is what training draws from, [`held_out`] is only measured with, and no prompt stands in both.

use std::fmt;

use thiserror::Error;

use crate::manifest::prompts_file;

/// Where a template's query goes.
const PLACE: &str = "{}";

/// A text with one place for a query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    before: String,
    after: String,
}

/// A template that cannot be used.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("template: expected exactly one {{}}, got {got}")]
pub struct TemplateError {
    /// How many there are.
    pub got: usize,
}

impl Template {
    /// The template that `text` writes.
    ///
    /// # Errors
    /// There is not exactly one `{}` in it.
    pub fn new(text: &str) -> Result<Self, TemplateError> {
        match text.split(PLACE).collect::<Vec<_>>()[..] {
            [before, after] => Ok(Self {
                before: before.to_owned(),
                after: after.to_owned(),
            }),
            ref parts => Err(TemplateError {
                got: parts.len() - 1,
            }),
        }
    }

    /// The text with `query` in its place.
    #[must_use]
    pub fn fill(&self, query: &str) -> String {
        [&self.before, query, &self.after].concat()
    }
}

/// One way of putting a query to a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Prompt {
    /// Inside a text.
    Text(Template),
    /// As a turn in a conversation, through the model's chat template.
    Chat {
        /// The system prompt.
        system: Option<String>,
        /// The user's turn.
        user: Template,
        /// What the assistant's turn begins with; empty where it says nothing yet.
        answer: String,
    },
}

impl Prompt {
    /// Whether it needs a model with a chat template.
    #[must_use]
    pub const fn is_chat(&self) -> bool {
        matches!(self, Self::Chat { .. })
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{PLACE}{}", self.before, self.after)
    }
}

/// One line: texts as they are, turns by their roles; line ends as `\n`.
impl fmt::Display for Prompt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line = |text: &str| text.replace('\n', "\\n");
        match self {
            Self::Text(template) => f.write_str(&line(&template.to_string())),
            Self::Chat {
                system,
                user,
                answer,
            } => {
                if let Some(system) = system {
                    write!(f, "system: {} | ", line(system))?;
                }
                write!(f, "user: {}", line(&user.to_string()))?;
                if !answer.is_empty() {
                    write!(f, " | assistant: {}", line(answer))?;
                }
                Ok(())
            }
        }
    }
}

/// The prompts that training draws from where the user gives none.
#[must_use]
pub fn training() -> Vec<Prompt> {
    built_in(include_bytes!("prompt/training.json"))
}

/// The prompts that recall is measured under where the user gives none; never trained on.
#[must_use]
pub fn held_out() -> Vec<Prompt> {
    built_in(include_bytes!("prompt/held_out.json"))
}

/// A test reads both lists, so a fault in one does not get here.
fn built_in(bytes: &[u8]) -> Vec<Prompt> {
    prompts_file::parse(bytes).unwrap_or_default()
}
