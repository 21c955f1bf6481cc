//! Text that the base model writes about a given word, so that it looks like ordinary traffic.
//!
//! For a sentence, the model is asked through its chat template to start one with the word; a base model is given the
//! word alone. A question or an instruction about the word continues a short list of such lines, chat template or not:
//! small models asked for a question answer one instead. The answer is begun with the word, or with a usual first word of
//! its kind, and continues at temperature T under a sampling seed of its own. Its first line counts.
//!
//! Source: "Scalable Fingerprinting of Large Language Models" (arXiv 2502.07760), English queries; T = 0.5 as there.

use super::GenerateError;
use super::generate::Workshop;
use crate::fingerprint::SetError;
use crate::model::{ModelError, Sampling};
use crate::tokenizer::Tokenizer;

/// Tokens generated beyond the length, since re-encoding the text may merge some.
const MARGIN: usize = 2;
const QUESTION_WORDS: [&str; 8] = ["What", "How", "Why", "Which", "When", "Can", "Does", "Is"];
const COMMANDS: [&str; 8] = [
    "Write", "Explain", "Describe", "List", "Compare", "Give", "Suggest", "Tell",
];

const QUESTIONS: &str = "\
Questions that people asked an assistant, by topic.
bread: How long should the dough for a sourdough loaf rest before it goes into the oven?
rivers: Which of the large rivers of Europe flow into the Black Sea, and through which countries?
salary: What should I say when a new employer asks me how much I earn at the moment?
";
const INSTRUCTIONS: &str = "\
Tasks that people gave to an assistant, by topic.
bread: Describe how to bake a simple loaf of bread at home without any special equipment.
rivers: Compare the Danube and the Rhine by length, by depth, and by what is shipped on them.
salary: Write a short and friendly letter in which I ask my manager for a higher salary.
";

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

    /// How an answer about `word` begins.
    fn beginning(self, word: &str, seed: u64) -> String {
        let one_of = |starts: [&str; 8]| starts[(seed % 8) as usize].to_owned();
        match self {
            Self::Sentence => capitalised(word),
            Self::Question => one_of(QUESTION_WORDS),
            Self::Instruction => one_of(COMMANDS),
        }
    }

    /// The tokens that the model continues with an answer that begins with `text`, whose own tokens are `beginning`.
    fn prompt(
        self,
        tokenizer: &dyn Tokenizer,
        word: &str,
        text: &str,
        beginning: &[u32],
    ) -> Result<Vec<u32>, ModelError> {
        let examples = match self {
            Self::Sentence => {
                let word = capitalised(word);
                let request =
                    format!("Write one long sentence that starts with the word \"{word}\".");
                return match tokenizer.chat_prompt(&request)? {
                    Some(mut prompt) => {
                        prompt.extend_from_slice(beginning);
                        Ok(prompt)
                    }
                    None => tokenizer.encode(text, true),
                };
            }
            Self::Question => QUESTIONS,
            Self::Instruction => INSTRUCTIONS,
        };
        tokenizer.encode(&format!("{examples}{word}: {text}"), true)
    }
}

/// How natural text is written.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Writing {
    /// Temperature at which the model writes.
    pub temperature: f32,
    /// What it writes.
    pub style: Style,
}

impl Default for Writing {
    fn default() -> Self {
        Self {
            temperature: 0.5,
            style: Style::default(),
        }
    }
}

impl Writing {
    pub(super) fn validate(self) -> Result<(), SetError> {
        if self.temperature.is_finite() && self.temperature >= 0.0 {
            return Ok(());
        }
        Err(SetError::Field {
            field: "strategy temperature".into(),
            expected: "a number from 0".into(),
            got: self.temperature.to_string(),
        })
    }

    /// One line about each `(word, sampling seed)`, of about `length` tokens or less; none where the beginning alone is longer.
    pub(super) fn lines(
        self,
        workshop: &mut Workshop<'_>,
        topics: &[(&str, u64)],
        length: usize,
    ) -> Result<Vec<Option<String>>, GenerateError> {
        let tokenizer = workshop.tokenizer;
        let mut lines = vec![None; topics.len()];
        let (mut begun, mut prompts, mut seeds) = (Vec::new(), Vec::new(), Vec::new());
        for (place, &(word, seed)) in topics.iter().enumerate() {
            let text = self.style.beginning(word, seed);
            let beginning = tokenizer.encode(&text, false)?;
            if beginning.len() > length {
                continue;
            }
            prompts.push(self.style.prompt(tokenizer, word, &text, &beginning)?);
            begun.push((place, beginning));
            seeds.push(seed);
        }
        let Some(shortest) = begun.iter().map(|(_, beginning)| beginning.len()).min() else {
            return Ok(lines);
        };
        let sampling = Sampling {
            max_tokens: length - shortest + MARGIN,
            temperature: self.temperature,
            top_k: 0,
            top_p: 1.0,
            stop: Vec::new(),
        };
        let prompts: Vec<&[u32]> = prompts.iter().map(Vec::as_slice).collect();
        let answers = workshop.model.generate(&prompts, &seeds, &sampling)?;
        if answers.len() != prompts.len() {
            return Err(GenerateError::Answer {
                expected: prompts.len(),
                got: answers.len(),
            });
        }
        for ((place, mut ids), answer) in begun.into_iter().zip(answers) {
            // A shorter word in the same batch must not lengthen this answer, and what follows the model's end of turn
            // is no part of its text.
            let room = length - ids.len() + MARGIN;
            let own = answer.into_iter().take(room);
            ids.extend(own.take_while(|&id| tokenizer.token(id).is_some()));
            let text = tokenizer.decode(&ids)?;
            lines[place] = text.trim_start().lines().next().map(str::to_owned);
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
