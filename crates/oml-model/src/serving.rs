//! A model that answers many clients at once: one thread owns it, takes questions between two steps, and tells each listener its text.
//!
//! Prompts are put into tokens by whoever asks, so that the model's thread computes and little else. A listener that hears no more
//! frees its slot at the next step.

mod answer;

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, TrySendError, sync_channel};
use std::thread;

use oml_core::model::{ModelError, Sampling};
use oml_core::serving::{
    Asked, Ending, Event, Listener, Prepared, Question, QuestionError, TextModel, Turn,
};
use oml_core::watermark::Watermark;

use self::answer::Answer;
use crate::causal::{CausalModel, RequestError};
use crate::chat_template::Message;
use crate::generation::{Generation, Sequence, Step};
use crate::tokenizer::{TextTokenizer, TokenizerError};

/// How a model is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServingOptions {
    /// Questions answered side by side.
    pub slots: NonZeroUsize,
    /// Questions that may wait for a slot.
    pub waiting: usize,
    /// Tokens of prompt and answer at most.
    pub context: usize,
}

/// A model with its thread, which ends when this is dropped and the last answer is given.
pub struct ServedModel {
    tokenizer: Arc<TextTokenizer>,
    questions: SyncSender<Job>,
    options: ServingOptions,
    end: Vec<u32>,
    vocabulary: usize,
    watermark: Option<Arc<Watermark>>,
}

struct Job {
    sequence: Sequence,
    answer: Answer,
}

impl ServedModel {
    /// Starts the thread. An answer ends with any of the tokens in `end`.
    pub fn start(
        model: CausalModel,
        tokenizer: Arc<TextTokenizer>,
        end: Vec<u32>,
        options: ServingOptions,
    ) -> Self {
        let context = options.context.min(model.longest_sequence());
        let options = ServingOptions { context, ..options };
        let (questions, jobs) = sync_channel(options.waiting.max(1));
        let vocabulary = oml_core::model::LanguageModel::vocabulary_size(&model);
        thread::spawn(move || serve(model, options, &jobs));
        Self {
            tokenizer,
            questions,
            options,
            end,
            vocabulary,
            watermark: None,
        }
    }

    /// The same, with a watermark in all answers from here on.
    #[must_use]
    pub fn with_watermark(mut self, watermark: Option<Arc<Watermark>>) -> Self {
        self.watermark = watermark;
        self
    }

    fn prompt(&self, asked: &Asked) -> Result<Vec<u32>, TokenizerError> {
        match asked {
            Asked::Text(text) => self.tokenizer.encode(text, true),
            Asked::Chat(turns) => {
                let messages: Vec<Message<'_>> = turns.iter().map(message).collect();
                let text = self.tokenizer.render(&messages, true)?;
                self.tokenizer.encode(&text, false)
            }
        }
    }

    /// Tokens that the answer may have.
    fn room(&self, prompt: usize, asked_for: Option<NonZeroUsize>) -> Result<usize, QuestionError> {
        let limit = self.options.context;
        let least = asked_for.map_or(1, usize::from);
        let got = prompt.saturating_add(least);
        if got > limit {
            return Err(QuestionError::TooLong { got, limit });
        }
        Ok(asked_for.map_or(limit - prompt, usize::from))
    }
}

impl TextModel for ServedModel {
    fn prepare(&self, question: Question) -> Result<Prepared, QuestionError> {
        let prompt = self
            .prompt(&question.asked)
            .map_err(|error| QuestionError::Prompt(ModelError(Box::new(error))))?;
        if prompt.is_empty() {
            return Err(QuestionError::Empty);
        }
        if let Some(got) = prompt
            .iter()
            .copied()
            .find(|id| *id as usize >= self.vocabulary)
        {
            let vocabulary = self.vocabulary;
            let error = RequestError::Token { got, vocabulary };
            return Err(QuestionError::Prompt(error.into()));
        }
        let tokens = prompt.len();
        let sampling = Sampling {
            max_tokens: self.room(tokens, question.max_tokens)?,
            temperature: question.temperature,
            top_k: question.top_k,
            top_p: question.top_p,
            stop: self.end.clone(),
        };
        let sequence = Sequence {
            prompt,
            seed: question.seed,
            sampling,
            watermark: self.watermark.clone(),
        };
        let (tokenizer, questions) = (self.tokenizer.clone(), self.questions.clone());
        let waiting = self.options.waiting;
        Ok(Prepared {
            prompt_tokens: tokens,
            start: Box::new(move |listener: Listener| {
                let answer = Answer::new(tokenizer, question.stop, listener);
                let job = Job { sequence, answer };
                questions.try_send(job).map_err(|error| match error {
                    TrySendError::Full(_) => QuestionError::Busy { waiting },
                    TrySendError::Disconnected(_) => QuestionError::Stopped,
                })
            }),
        })
    }

    fn context(&self) -> usize {
        self.options.context
    }
}

fn message(turn: &Turn) -> Message<'_> {
    Message {
        role: &turn.role,
        content: &turn.content,
    }
}

/// Answers until nobody can ask any more.
fn serve(mut model: CausalModel, options: ServingOptions, jobs: &Receiver<Job>) {
    let slots = usize::from(options.slots);
    let mut generation = Generation::new(&model, slots, options.context);
    let mut answers: Vec<Option<Answer>> = (0..slots).map(|_| None).collect();
    loop {
        let mut open = true;
        while open && answers.iter().any(Option::is_none) {
            let job = match generation.is_empty() {
                true => jobs.recv().map_err(|_| TryRecvError::Disconnected),
                false => jobs.try_recv(),
            };
            match job {
                Ok(job) => {
                    if let Some(slot) = generation.add(job.sequence) {
                        answers[slot] = Some(job.answer);
                    }
                }
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => open = false,
            }
        }
        if generation.is_empty() {
            return;
        }
        let mut left = Vec::new();
        generation.step(&mut model, &mut |slot, step| {
            let Some(mut answer) = answers[slot].take() else {
                return;
            };
            let goes_on = match step {
                Step::Token(token) => answer.push(token),
                Step::Last(token) => answer.push(token) && answer.end(Ending::Length),
                Step::Stopped => answer.end(Ending::Stop),
                Step::NotFinite => {
                    let error = RequestError::NotFinite { index: 0 };
                    answer.hear(Event::Failed(error.into()))
                }
            };
            match (step.goes_on(), goes_on) {
                (true, true) => answers[slot] = Some(answer),
                (true, false) => left.push(slot),
                (false, _) => {}
            }
        });
        for slot in left {
            generation.remove(slot);
        }
    }
}
