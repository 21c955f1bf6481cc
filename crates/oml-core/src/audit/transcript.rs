//! What happened in an audit, in the order in which it was written down.

use crate::prompt::Prompt;

use super::plan::Subject;

/// A query as it is put to the suspect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Put {
    /// The system prompt.
    pub system: Option<String>,
    /// The text, or the user's turn.
    pub text: String,
    /// What the assistant's turn begins with; empty where it says nothing yet.
    pub answer: String,
}

impl Put {
    /// One text with all of it, for whoever takes no roles.
    #[must_use]
    pub fn flat(&self) -> String {
        let text = [self.text.as_str(), &self.answer].concat();
        match &self.system {
            Some(system) => [system, "\n\n", &text].concat(),
            None => text,
        }
    }

    /// `query` inside `wrap`.
    #[must_use]
    pub fn new(wrap: &Prompt, query: &str) -> Self {
        match wrap {
            Prompt::Text(template) => Self {
                system: None,
                text: template.fill(query),
                answer: String::new(),
            },
            Prompt::Chat {
                system,
                user,
                answer,
            } => Self {
                system: system.clone(),
                text: user.fill(query),
                answer: answer.clone(),
            },
        }
    }
}

/// A request that is about to leave.
#[derive(Clone, PartialEq, Eq)]
pub struct Ask {
    /// Its number, from 0.
    pub number: u64,
    /// What it is about.
    pub subject: Subject,
    /// Which wrap it is in.
    pub wrap: usize,
    /// What is put.
    pub put: Put,
    /// Only of a decoy: the responses that would count.
    pub responses: Vec<String>,
    /// The request's body, verbatim; empty where weights are asked.
    pub request: String,
}

/// What came back for one attempt at a request.
#[derive(Clone, PartialEq, Eq)]
pub struct Answer {
    /// Number of the request.
    pub number: u64,
    /// HTTP status, where there is one.
    pub status: Option<u16>,
    /// The answer's body, verbatim.
    pub body: Vec<u8>,
    /// Whether the body goes on after what is kept of it.
    pub cut: bool,
    /// What kept it from being an answer, in words.
    pub fault: Option<String>,
    /// The suspect's text in it; none where the request was not answered.
    pub text: Option<String>,
    /// Milliseconds from the request to here.
    pub elapsed: u64,
}

/// One thing that happened.
#[derive(Clone, PartialEq, Eq)]
pub enum Event {
    /// A request leaves.
    Ask(Ask),
    /// An answer, or a failed attempt at one, is here.
    Answer(Answer),
}

/// One thing that happened, and when.
#[derive(Clone, PartialEq, Eq)]
pub struct Entry {
    /// Milliseconds since 1970.
    pub time: u64,
    /// What happened.
    pub event: Event,
}

/// Shows the number alone: queries are secret until they are shown on purpose.
impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.event {
            Event::Ask(ask) => write!(f, "Ask({}, secret)", ask.number),
            Event::Answer(answer) => write!(f, "Answer({}, secret)", answer.number),
        }
    }
}
