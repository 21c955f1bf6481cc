//! How natural text is written: what kind of text it is, how it begins, and how it is kept inconspicuous.
//!
//! A text is begun with its seed word where it is a sentence, and with a usual first word of its kind where it is a question
//! or an instruction about that word; or with a token of the tokenizer; or with nothing. It continues at temperature T under
//! a sampling seed of its own (see [`super::writer`]).
//!
//! Sources: "Scalable Fingerprinting of Large Language Models" (arXiv 2502.07760), English queries; T = 0.5 as there. OML 1.0
//! (arXiv 2411.03887) for the first token.

use super::GenerateError;
use super::generate::Workshop;
use super::perplexity::Band;
use super::writer::{LocalWriter, Request, Writer as _};
use crate::fingerprint::SetError;

const QUESTION_WORDS: [&str; 8] = ["What", "How", "Why", "Which", "When", "Can", "Does", "Is"];
const COMMANDS: [&str; 8] = [
    "Write", "Explain", "Describe", "List", "Compare", "Give", "Suggest", "Tell",
];

/// What kind of text a natural query is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Style {
    /// The beginning of a sentence, as in a text that is to be continued.
    #[default]
    Sentence,
    /// A user's question.
    Question,
    /// A user's instruction.
    Instruction,
}

impl Style {
    const ALL: [Self; 3] = [Self::Sentence, Self::Question, Self::Instruction];

    /// The name on the command line and in files.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sentence => "sentence",
            Self::Question => "question",
            Self::Instruction => "instruction",
        }
    }

    /// The style of this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|style| style.name() == name)
    }
}

/// How a natural query begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FirstToken {
    /// With a seed word, or a usual first word for text about it.
    #[default]
    Word,
    /// With a token drawn uniformly from those that can begin a text and are letters.
    Tokenizer,
    /// With what the model begins with.
    None,
}

impl FirstToken {
    const ALL: [Self; 3] = [Self::Word, Self::Tokenizer, Self::None];

    /// The name on the command line and in files.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Word => "word",
            Self::Tokenizer => "tokenizer",
            Self::None => "none",
        }
    }

    /// The strategy of this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|first| first.name() == name)
    }
}

/// How natural text is written.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Writing {
    /// Temperature at which the model writes.
    pub temperature: f32,
    /// What it writes.
    pub style: Style,
    /// How that begins.
    pub first_token: FirstToken,
    /// Where its perplexity must lie among that of benign text; `None` where that does not matter.
    pub band: Option<Band>,
}

impl Default for Writing {
    fn default() -> Self {
        Self {
            temperature: 0.5,
            style: Style::default(),
            first_token: FirstToken::default(),
            band: None,
        }
    }
}

impl Writing {
    pub(super) fn validate(self) -> Result<(), SetError> {
        if let Some(band) = self.band {
            band.validate()?;
        }
        if self.temperature.is_finite() && self.temperature >= 0.0 {
            return Ok(());
        }
        Err(SetError::Field {
            field: "strategy temperature".into(),
            expected: "a number from 0".into(),
            got: self.temperature.to_string(),
        })
    }

    /// The request for a text about `word`.
    pub(super) fn about(self, word: &str, seed: u64) -> Request {
        let one_of = |starts: [&str; 8]| starts[(seed % 8) as usize].to_owned();
        Request {
            style: self.style,
            topic: Some(word.to_owned()),
            beginning: match self.style {
                Style::Sentence => capitalised(word),
                Style::Question => one_of(QUESTION_WORDS),
                Style::Instruction => one_of(COMMANDS),
            },
            seed,
        }
    }

    /// One line for each request, of about `length` tokens of the base model or less; none where the writer gave none.
    pub(super) fn lines(
        self,
        workshop: &mut Workshop<'_>,
        requests: &[Request],
        length: usize,
    ) -> Result<Vec<Option<String>>, GenerateError> {
        let lines = match &mut workshop.writer {
            // The tokens of another tokenizer may be shorter.
            Some(writer) => writer.lines(requests, self.temperature, 2 * length)?,
            None => LocalWriter {
                model: &mut *workshop.model,
                tokenizer: workshop.tokenizer,
            }
            .lines(requests, self.temperature, length)?,
        };
        if lines.len() != requests.len() {
            return Err(GenerateError::Answer {
                expected: requests.len(),
                got: lines.len(),
            });
        }
        Ok(lines)
    }
}

pub(super) fn capitalised(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map_or_else(String::new, |first| {
        first.to_uppercase().chain(letters).collect()
    })
}
