//! What goes to an endpoint and comes back, as JSON. Fields that are not needed are passed over.

use serde::{Deserialize, Serialize};

use super::EndpointError;

/// What both kinds of request have.
#[derive(Serialize)]
pub(super) struct Common<'a> {
    pub(super) model: &'a str,
    pub(super) max_tokens: usize,
    pub(super) temperature: f32,
    pub(super) seed: u64,
    pub(super) stream: bool,
}

/// The body of a chat request with one message.
pub(super) fn chat(common: &Common<'_>, content: &str) -> Result<Vec<u8>, EndpointError> {
    #[derive(Serialize)]
    struct Message<'a> {
        role: &'a str,
        content: &'a str,
    }
    #[derive(Serialize)]
    struct Chat<'a> {
        #[serde(flatten)]
        common: &'a Common<'a>,
        messages: [Message<'a>; 1],
    }
    let message = Message {
        role: "user",
        content,
    };
    Ok(serde_json::to_vec(&Chat {
        common,
        messages: [message],
    })?)
}

/// The body of a request to continue `prompt` to the end of its line.
pub(super) fn completion(common: &Common<'_>, prompt: &str) -> Result<Vec<u8>, EndpointError> {
    #[derive(Serialize)]
    struct Completion<'a> {
        #[serde(flatten)]
        common: &'a Common<'a>,
        prompt: &'a str,
        stop: [&'a str; 1],
    }
    Ok(serde_json::to_vec(&Completion {
        common,
        prompt,
        stop: ["\n"],
    })?)
}

#[derive(Deserialize)]
struct Answer<T> {
    choices: Vec<T>,
}

/// The text of an answer to a chat request; empty where the model said nothing.
pub(super) fn chat_text(answer: &[u8]) -> Result<String, EndpointError> {
    #[derive(Deserialize)]
    struct Message {
        content: Option<String>,
    }
    #[derive(Deserialize)]
    struct Choice {
        message: Message,
    }
    let answer: Answer<Choice> = serde_json::from_slice(answer)?;
    let first = answer.choices.into_iter().next();
    let choice = first.ok_or(EndpointError::NoChoice)?;
    Ok(choice.message.content.unwrap_or_default())
}

/// The text of an answer to a request to continue.
pub(super) fn completion_text(answer: &[u8]) -> Result<String, EndpointError> {
    #[derive(Deserialize)]
    struct Choice {
        text: String,
    }
    let answer: Answer<Choice> = serde_json::from_slice(answer)?;
    let first = answer.choices.into_iter().next();
    Ok(first.ok_or(EndpointError::NoChoice)?.text)
}
