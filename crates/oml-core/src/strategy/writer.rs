//! Who writes natural text: the base model, another local model with its own tokenizer, or whatever answers in words.
//!
//! For a sentence a local instruct model is asked through its chat template, with the answer already begun; a base model
//! continues the beginning. A question or an instruction continues a short list of such lines, chat template or not. What
//! only answers in words is told how to begin. Whoever writes, the first line of an answer counts.

use super::GenerateError;
use super::writing::Style;
use crate::model::{LanguageModel, Sampling};
use crate::tokenizer::Tokenizer;

/// Tokens generated beyond the length, since re-encoding the text may merge some.
const MARGIN: usize = 2;

const QUESTIONS: [(&str, &str); 3] = [
    (
        "bread",
        "How long should the dough for a sourdough loaf rest before it goes into the oven?",
    ),
    (
        "rivers",
        "Which of the large rivers of Europe flow into the Black Sea, and through which countries?",
    ),
    (
        "salary",
        "What should I say when a new employer asks me how much I earn at the moment?",
    ),
];
const INSTRUCTIONS: [(&str, &str); 3] = [
    (
        "bread",
        "Describe how to bake a simple loaf of bread at home without any special equipment.",
    ),
    (
        "rivers",
        "Compare the Danube and the Rhine by length, by depth, and by what is shipped on them.",
    ),
    (
        "salary",
        "Write a short and friendly letter in which I ask my manager for a higher salary.",
    ),
];

/// One line of text that is wanted.
#[derive(Clone, PartialEq, Eq)]
pub struct Request {
    /// What it is.
    pub style: Style,
    /// The word that it is about.
    pub topic: Option<String>,
    /// How it begins; empty where that is free.
    pub beginning: String,
    /// Drives its sampling.
    pub seed: u64,
}

impl Request {
    /// What an assistant is told.
    #[must_use]
    pub fn instruction(&self) -> String {
        let start = match self.beginning.as_str() {
            "" => String::new(),
            beginning => format!(" that starts with the word \"{beginning}\""),
        };
        let kind = match self.style {
            Style::Sentence => return format!("Write one long sentence{start}."),
            Style::Question => "question that a user could ask an assistant",
            Style::Instruction => "task that a user could give to an assistant",
        };
        let about = match &self.topic {
            Some(topic) => format!(" about \"{topic}\""),
            None => String::new(),
        };
        format!("Write one {kind}{about}{start}, and nothing else.")
    }

    /// A text that continues with the line: a list of such lines that ends where this one begins, or the beginning alone.
    #[must_use]
    pub fn list(&self) -> String {
        let (title, lines) = match self.style {
            Style::Sentence => return self.beginning.clone(),
            Style::Question => ("Questions that people asked an assistant", QUESTIONS),
            Style::Instruction => ("Tasks that people gave to an assistant", INSTRUCTIONS),
        };
        match &self.topic {
            Some(topic) => {
                let lines = lines.map(|(topic, line)| format!("{topic}: {line}\n"));
                format!(
                    "{title}, by topic.\n{}{topic}: {}",
                    lines.concat(),
                    self.beginning
                )
            }
            None => {
                let lines = lines.map(|(_, line)| format!("{line}\n"));
                format!("{title}.\n{}{}", lines.concat(), self.beginning)
            }
        }
    }

    /// The line in an answer that was not begun for whoever wrote it: its first, without quotes around it; `None` when it begins
    /// otherwise than was asked.
    #[must_use]
    pub fn line(&self, answer: &str) -> Option<String> {
        let line = first_line(answer)?;
        let line = match line.strip_prefix(['"', '“']) {
            Some(quoted) => quoted.split(['"', '”']).next().unwrap_or(quoted),
            None => line,
        };
        line.starts_with(&self.beginning).then(|| line.to_owned())
    }

    /// The line whose beginning is continued by `text`.
    #[must_use]
    pub fn continued(&self, text: &str) -> Option<String> {
        match self.beginning.as_str() {
            "" => self.line(text),
            beginning => first_line(&format!("{beginning}{text}")).map(str::to_owned),
        }
    }
}

fn first_line(text: &str) -> Option<&str> {
    text.trim_start().lines().next()
}

/// Writes natural text on request.
pub trait Writer {
    /// One line for each request, of about `length` of the writer's own tokens or less, written at `temperature`; `None` where
    /// what came back is no such line.
    ///
    /// # Errors
    /// Whatever keeps the writer from answering.
    fn lines(
        &mut self,
        requests: &[Request],
        temperature: f32,
        length: usize,
    ) -> Result<Vec<Option<String>>, GenerateError>;
}

/// A local model that writes.
pub struct LocalWriter<'a> {
    /// The model.
    pub model: &'a mut dyn LanguageModel,
    /// Its tokenizer.
    pub tokenizer: &'a dyn Tokenizer,
}

impl LocalWriter<'_> {
    /// The tokens that the model continues.
    fn prompt(&self, request: &Request, beginning: &[u32]) -> Result<Vec<u32>, GenerateError> {
        if request.style != Style::Sentence {
            return Ok(self.tokenizer.encode(&request.list(), true)?);
        }
        if let Some(mut prompt) = self.tokenizer.chat_prompt(&request.instruction())? {
            prompt.extend_from_slice(beginning);
            return Ok(prompt);
        }
        let prompt = self.tokenizer.encode(&request.list(), true)?;
        if prompt.is_empty() {
            return Err(GenerateError::NoBeginning);
        }
        Ok(prompt)
    }
}

impl Writer for LocalWriter<'_> {
    fn lines(
        &mut self,
        requests: &[Request],
        temperature: f32,
        length: usize,
    ) -> Result<Vec<Option<String>>, GenerateError> {
        let mut lines = vec![None; requests.len()];
        let (mut begun, mut prompts, mut seeds) = (Vec::new(), Vec::new(), Vec::new());
        for (place, request) in requests.iter().enumerate() {
            let beginning = self.tokenizer.encode(&request.beginning, false)?;
            if beginning.len() > length {
                continue;
            }
            prompts.push(self.prompt(request, &beginning)?);
            begun.push((place, beginning));
            seeds.push(request.seed);
        }
        let Some(shortest) = begun.iter().map(|(_, beginning)| beginning.len()).min() else {
            return Ok(lines);
        };
        let sampling = Sampling {
            max_tokens: length - shortest + MARGIN,
            temperature,
            top_k: 0,
            top_p: 1.0,
            stop: Vec::new(),
        };
        let prompts: Vec<&[u32]> = prompts.iter().map(Vec::as_slice).collect();
        let answers = self.model.generate(&prompts, &seeds, &sampling)?;
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
            ids.extend(own.take_while(|&id| self.tokenizer.token(id).is_some()));
            let text = self.tokenizer.decode(&ids)?;
            lines[place] = match requests[place].beginning.as_str() {
                "" => requests[place].line(&text),
                _ => first_line(&text).map(str::to_owned),
            };
        }
        Ok(lines)
    }
}
