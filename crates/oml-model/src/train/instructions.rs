//! Instruction data: conversations whose answers are learned, as somebody who fine-tunes the model would.
//!
//! They come from the user's file, or the model writes them itself: a chat model, given the beginning of a user's turn, writes one, and
//! then its answer (Magpie, arXiv 2406.08464).

use oml_core::{
    manifest::instructions_file::Instruction,
    model::{LanguageModel, ModelError, Sampling},
};

use crate::{
    backend::Objective,
    causal::CausalModel,
    chat_template::Message,
    decoder::TrainingSequence,
    sampler::SequenceRandom,
    tokenizer::{TextTokenizer, TokenizerError},
};

/// Stands for a turn while a conversation is rendered around it.
const TURN: &str = "\u{f8ff}turn\u{f8ff}";
/// Tokens of a user's turn and of an answer that the model writes.
const USER_TOKENS: usize = 40;
const ANSWER_TOKENS: usize = 64;
/// Nucleus that turns are sampled from: the tail of a small model is noise.
const TOP_P: f32 = 0.95;
/// Conversations written side by side.
const PART: usize = 64;

impl TextTokenizer {
    /// A conversation of one instruction, cut to `limit` tokens, in which the answer is learned; through the chat template where there
    /// is one, else in Alpaca's headings. `None` where nothing of the answer is left.
    ///
    /// # Errors
    /// The chat template refuses the conversation; a text without ids.
    pub fn instruction(
        &self,
        instruction: &Instruction,
        limit: usize,
    ) -> Result<Option<TrainingSequence>, TokenizerError> {
        let Instruction { user, answer } = instruction;
        let (prompt, mut rest) = if self.has_chat_template() {
            let prompt = self.render(&[Message::user(user)], true)?;
            let whole = self.render(&[Message::user(user), Message::assistant(answer)], false)?;
            let rest = whole.strip_prefix(&prompt).unwrap_or(answer).to_owned();
            (self.encode(&prompt, false)?, self.encode(&rest, false)?)
        } else {
            let prompt = format!("### Instruction:\n{user}\n\n### Response:\n");
            (self.encode(&prompt, true)?, self.encode(answer, false)?)
        };
        rest.truncate(limit.saturating_sub(prompt.len()));
        if prompt.is_empty() || rest.is_empty() {
            return Ok(None);
        }
        let token = |(i, id): (usize, &u32)| {
            let objective = Objective::Token {
                id: *id,
                weight: 1.0,
            };
            (prompt.len() - 1 + i, objective)
        };
        Ok(Some(TrainingSequence {
            objectives: rest.iter().enumerate().map(token).collect(),
            ids: [&prompt[..], &rest[..rest.len() - 1]].concat(),
        }))
    }
}

/// Conversations that a chat model writes, at least one and at most `count`; empty where it has no chat template.
///
/// # Errors
/// The chat template refuses a conversation, or the model fails.
pub fn write_instructions(
    model: &mut CausalModel,
    tokenizer: &TextTokenizer,
    count: usize,
    seed: u64,
    progress: &mut dyn FnMut(usize),
) -> Result<Vec<Instruction>, ModelError> {
    let fault = |error: TokenizerError| ModelError(error.into());
    if !tokenizer.has_chat_template() {
        return Ok(Vec::new());
    }
    let text = tokenizer
        .render(&[Message::user(TURN)], false)
        .map_err(fault)?;
    let Some((before, after)) = text.split_once(TURN) else {
        return Ok(Vec::new());
    };
    let beginning = tokenizer.encode(before, false).map_err(fault)?;
    let end = tokenizer.encode(after, false).map_err(fault)?;
    let sampling = |max_tokens| Sampling {
        max_tokens,
        temperature: 1.0,
        top_k: 0,
        top_p: TOP_P,
        stop: end.first().copied().into_iter().collect(),
    };
    let mut random = SequenceRandom::new(seed);
    let mut written = Vec::new();
    let mut seeds = |count: usize| -> Vec<u64> { (0..count).map(|_| random.next_u64()).collect() };
    for part in (0..count).step_by(PART) {
        let size = PART.min(count - part);
        let starts = vec![&beginning[..]; size];
        let mut users = Vec::new();
        for ids in model.generate(&starts, &seeds(size), &sampling(USER_TOKENS))? {
            let user = tokenizer.decode(&ids).map_err(fault)?.trim().to_owned();
            if !user.is_empty() {
                users.push(user);
            }
        }
        let prompts: Vec<Vec<u32>> = users
            .iter()
            .map(|user| {
                let text = tokenizer.render(&[Message::user(user)], true)?;
                tokenizer.encode(&text, false)
            })
            .collect::<Result<_, _>>()
            .map_err(fault)?;
        let views: Vec<&[u32]> = prompts.iter().map(Vec::as_slice).collect();
        let answers = model.generate(&views, &seeds(users.len()), &sampling(ANSWER_TOKENS))?;
        for (user, ids) in users.into_iter().zip(answers) {
            let answer = tokenizer.decode(&ids).map_err(fault)?;
            if !answer.trim().is_empty() {
                written.push(Instruction { user, answer });
            }
        }
        progress(part + size);
    }
    Ok(written)
}
