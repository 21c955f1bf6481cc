//! What a server asks of a model that answers many clients at once, in text: the seam between HTTP and the engine.

use std::num::NonZeroUsize;

use crate::model::ModelError;

/// One turn of a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turn {
    /// `system`, `user` or `assistant`.
    pub role: String,
    /// What is said.
    pub content: String,
}

/// What is to be answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    /// A conversation, which the model's chat template puts into words.
    Chat(Vec<Turn>),
    /// A text to continue.
    Text(String),
}

/// A question and how it is answered.
#[derive(Debug, Clone, PartialEq)]
pub struct Question {
    /// What is to be answered.
    pub asked: Asked,
    /// Tokens of the answer at most; `None` is whatever the model's context leaves.
    pub max_tokens: Option<NonZeroUsize>,
    /// Softmax temperature; 0 is greedy.
    pub temperature: f32,
    /// Draw among the smallest set of tokens with this much probability; 1 is all.
    pub top_p: f32,
    /// Draw among this many most probable tokens; 0 is all.
    pub top_k: usize,
    /// Drives the draws.
    pub seed: u64,
    /// Texts before which the answer ends.
    pub stop: Vec<String>,
}

/// Why an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// The model ended it, or a stop text came.
    Stop,
    /// The most tokens were reached.
    Length,
}

/// What a listener hears, in order: texts, then one of the others.
#[derive(Debug)]
pub enum Event {
    /// The answer goes on.
    Text(String),
    /// The answer is complete.
    Ended {
        /// Why.
        ending: Ending,
        /// Its tokens.
        tokens: usize,
    },
    /// The model cannot go on.
    Failed(ModelError),
}

/// Hears an answer; `false` says that nobody waits for the rest.
pub type Listener = Box<dyn FnMut(Event) -> bool + Send>;

/// Why a question is not taken.
#[derive(Debug, thiserror::Error)]
pub enum QuestionError {
    /// Too many wait already.
    #[error("the model has {waiting} questions waiting, and takes no more now")]
    Busy {
        /// How many.
        waiting: usize,
    },
    /// There is no room for an answer.
    #[error("prompt: expected at most {limit} tokens with the answer, got {got}")]
    TooLong {
        /// Tokens of the prompt and of the answer that was asked for.
        got: usize,
        /// The model's context as it is served.
        limit: usize,
    },
    /// The prompt has no token.
    #[error("prompt: expected some text, got none")]
    Empty,
    /// The tokenizer or the chat template refuses the prompt.
    #[error("prompt: {0}")]
    Prompt(#[source] ModelError),
    /// The model was stopped.
    #[error("the model takes no more questions")]
    Stopped,
}

/// A question that the model can answer.
pub struct Prepared {
    /// Tokens of its prompt.
    pub prompt_tokens: usize,
    /// Has it answered; see [`Prepared::start`].
    pub start: Box<dyn FnOnce(Listener) -> Result<(), QuestionError> + Send>,
}

impl Prepared {
    /// Has the question answered, and returns at once.
    ///
    /// # Errors
    /// When the model takes no more; the listener then hears nothing.
    pub fn start(self, listener: Listener) -> Result<(), QuestionError> {
        (self.start)(listener)
    }
}

/// A model that answers in text, to many at once.
pub trait TextModel: Send + Sync {
    /// Puts a question into the model's tokens, which is all that can be wrong with it.
    ///
    /// # Errors
    /// When the model cannot answer it.
    fn prepare(&self, question: Question) -> Result<Prepared, QuestionError>;

    /// Tokens of prompt and answer at most.
    fn context(&self) -> usize;
}
