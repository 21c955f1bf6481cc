//! A question as the body of a request, and a logged body as the question again.
//!
//! ```text
//! chat             {"model","messages":[{"role":"system"|"user"|"assistant","content"}],"max_tokens","temperature","seed","stream":false,"logprobs":true,"top_logprobs":5}
//! completions      {"model","prompt","max_tokens","temperature","seed","stream":false,"stop":["\n"],"logprobs":5}
//! ollama-chat      {"model","messages","stream":false,"options":{"num_predict","temperature","seed"},"logprobs":true,"top_logprobs":5}
//! ollama-generate  {"model","prompt","raw":true,"stream":false,"options":{"num_predict","temperature","seed"},"logprobs":true,"top_logprobs":5}
//! ```
//!
//! Log probabilities are asked for where they are wanted, `stop` by the writer of natural queries alone. A chat that ends in the
//! assistant's own words is continued by the servers that have this (llama.cpp, Ollama, and others).
//!
//! A logged request counts only if it is, byte by byte, what this client writes for the question that is read from it. So it can
//! hold nothing that steers an answer behind the reader's back: no `logit_bias`, no grammar, no second spelling of a field.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::{Api, EndpointError};

/// Alternatives that are asked for at each token.
const ALTERNATIVES: u8 = 5;
/// Servers differ in how many bits of a seed they take.
const SEED_MASK: u64 = 0x7fff_ffff;

/// What an audit asks, at temperature 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Question<'a> {
    /// What the assistant is told before; where the API has roles.
    pub system: Option<&'a str>,
    /// What the user says, or the text to be continued.
    pub text: &'a str,
    /// First words of the answer, put into the assistant's mouth; where the API has roles. May be empty.
    pub answer: &'a str,
    /// Most tokens of the answer.
    pub max_tokens: u32,
    /// Whether log probabilities are asked for.
    pub log_probabilities: bool,
    /// Drives sampling where an endpoint samples nevertheless; its low 31 bits are sent.
    pub seed: u64,
}

/// A question as a logged request says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prompt {
    /// The model that was asked for.
    pub model: String,
    /// What the assistant was told before.
    pub system: Option<String>,
    /// What the user said, or the text to be continued.
    pub text: String,
    /// First words of the answer, put into the assistant's mouth.
    pub answer: String,
    /// Most tokens of the answer.
    pub max_tokens: u32,
    /// Whether log probabilities were asked for.
    pub log_probabilities: bool,
    /// The seed as it was sent.
    pub seed: u64,
}

impl Prompt {
    /// The question that was asked.
    #[must_use]
    pub fn question(&self) -> Question<'_> {
        Question {
            system: self.system.as_deref(),
            text: &self.text,
            answer: &self.answer,
            max_tokens: self.max_tokens,
            log_probabilities: self.log_probabilities,
            seed: self.seed,
        }
    }
}

/// How an answer is made, besides what is asked.
#[derive(Debug, Clone, Copy)]
pub(super) struct Manner {
    pub(super) temperature: f32,
    pub(super) to_line_end: bool,
}

impl Manner {
    pub(super) const AUDIT: Self = Self {
        temperature: 0.0,
        to_line_end: false,
    };
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Message<'a> {
    #[serde(borrow)]
    role: Cow<'a, str>,
    #[serde(borrow)]
    content: Cow<'a, str>,
}

/// The body of each kind of request, fields in the order in which they are sent.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Body<'a> {
    #[serde(borrow)]
    model: Cow<'a, str>,
    #[serde(borrow, default, skip_serializing_if = "Vec::is_empty")]
    messages: Vec<Message<'a>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    prompt: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    raw: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    max_tokens: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    temperature: Option<f32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    seed: Option<u64>,
    stream: bool,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    stop: Option<[Cow<'a, str>; 1]>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    options: Option<Options<'a>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    logprobs: Option<Wanted>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    top_logprobs: Option<u8>,
}

/// Ollama's place for what is sampled how.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Options<'a> {
    num_predict: u32,
    temperature: f32,
    seed: u64,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    stop: Option<[Cow<'a, str>; 1]>,
}

/// OpenAI's completions want a number where its chat and Ollama want a yes.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Wanted {
    Yes(bool),
    Number(u8),
}

/// The body of the request that asks `question`.
///
/// # Errors
/// [`EndpointError::Unsupported`] for a part of the question that the API has no place for.
pub(super) fn render(
    api: Api,
    model: &str,
    question: &Question<'_>,
    manner: Manner,
) -> Result<Vec<u8>, EndpointError> {
    let unsupported = |field| EndpointError::Unsupported { api, field };
    let seed = question.seed & SEED_MASK;
    let stop = manner.to_line_end.then_some([Cow::Borrowed("\n")]);
    let mut body = Body {
        model: model.into(),
        messages: Vec::new(),
        prompt: None,
        raw: None,
        max_tokens: None,
        temperature: None,
        seed: None,
        stream: false,
        stop: None,
        options: None,
        logprobs: question.log_probabilities.then_some(Wanted::Yes(true)),
        top_logprobs: question.log_probabilities.then_some(ALTERNATIVES),
    };
    if api.has_roles() {
        let answer = Some(question.answer).filter(|answer| !answer.is_empty());
        let messages = [
            ("system", question.system),
            ("user", Some(question.text)),
            ("assistant", answer),
        ];
        let message = |(role, content): (&'static str, Option<_>)| {
            let (role, content) = (Cow::Borrowed(role), Cow::Borrowed(content?));
            Some(Message { role, content })
        };
        body.messages = messages.into_iter().filter_map(message).collect();
    } else {
        if question.system.is_some() {
            return Err(unsupported("system"));
        }
        if !question.answer.is_empty() {
            return Err(unsupported("answer"));
        }
        body.prompt = Some(question.text.into());
    }
    match api {
        Api::Chat | Api::Completions => {
            body.max_tokens = Some(question.max_tokens);
            body.temperature = Some(manner.temperature);
            body.seed = Some(seed);
            body.stop = stop;
        }
        Api::OllamaChat | Api::OllamaGenerate => {
            body.options = Some(Options {
                num_predict: question.max_tokens,
                temperature: manner.temperature,
                seed,
                stop,
            });
        }
    }
    match api {
        Api::Completions => {
            let wanted = body.top_logprobs.take();
            body.logprobs = wanted.map(Wanted::Number);
        }
        Api::OllamaGenerate => body.raw = Some(true),
        Api::Chat | Api::OllamaChat => {}
    }
    serde_json::to_vec(&body).map_err(EndpointError::Unwritable)
}

/// Reads the question of a logged request.
///
/// # Errors
/// [`EndpointError::Request`] for anything but the bytes that this client sends for a question.
pub fn read_prompt(api: Api, body: &[u8]) -> Result<Prompt, EndpointError> {
    let fault = |got: String| EndpointError::Request { api, got };
    let parsed: Body<'_> =
        serde_json::from_slice(body).map_err(|error| fault(error.to_string()))?;
    let mut prompt = Prompt {
        model: parsed.model.into_owned(),
        system: None,
        text: parsed.prompt.unwrap_or_default().into_owned(),
        answer: String::new(),
        max_tokens: parsed.max_tokens.unwrap_or_default(),
        log_probabilities: parsed.logprobs.is_some(),
        seed: parsed.seed.unwrap_or_default(),
    };
    if let Some(options) = parsed.options {
        (prompt.max_tokens, prompt.seed) = (options.num_predict, options.seed);
    }
    for message in parsed.messages {
        let content = message.content.into_owned();
        match message.role.as_ref() {
            "system" => prompt.system = Some(content),
            "user" => prompt.text = content,
            _ => prompt.answer = content,
        }
    }
    // Whatever was passed over or read loosely above shows here.
    let written = render(api, &prompt.model, &prompt.question(), Manner::AUDIT)?;
    if written != body {
        return Err(fault("got other bytes for the same question".to_owned()));
    }
    Ok(prompt)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Question<'_> = Question {
        system: None,
        text: "Say \"é\"\n",
        answer: "",
        max_tokens: 8,
        log_probabilities: false,
        seed: 1 << 40 | 7,
    };
    const FULL: Question<'_> = Question {
        system: Some("Be brief."),
        answer: "Yes, ",
        log_probabilities: true,
        ..PLAIN
    };

    fn body(api: Api, question: &Question<'_>) -> String {
        String::from_utf8(render(api, "m", question, Manner::AUDIT).unwrap()).unwrap()
    }

    #[test]
    fn bodies_are_those_of_their_api() {
        assert_eq!(
            body(Api::Chat, &PLAIN),
            r#"{"model":"m","messages":[{"role":"user","content":"Say \"é\"\n"}],"max_tokens":8,"temperature":0.0,"seed":7,"stream":false}"#
        );
        assert_eq!(
            body(Api::Chat, &FULL),
            r#"{"model":"m","messages":[{"role":"system","content":"Be brief."},{"role":"user","content":"Say \"é\"\n"},{"role":"assistant","content":"Yes, "}],"max_tokens":8,"temperature":0.0,"seed":7,"stream":false,"logprobs":true,"top_logprobs":5}"#
        );
        assert_eq!(
            body(Api::OllamaChat, &FULL),
            r#"{"model":"m","messages":[{"role":"system","content":"Be brief."},{"role":"user","content":"Say \"é\"\n"},{"role":"assistant","content":"Yes, "}],"stream":false,"options":{"num_predict":8,"temperature":0.0,"seed":7},"logprobs":true,"top_logprobs":5}"#
        );
        let scored = Question {
            log_probabilities: true,
            ..PLAIN
        };
        assert_eq!(
            body(Api::Completions, &scored),
            r#"{"model":"m","prompt":"Say \"é\"\n","max_tokens":8,"temperature":0.0,"seed":7,"stream":false,"logprobs":5}"#
        );
        assert_eq!(
            body(Api::OllamaGenerate, &scored),
            r#"{"model":"m","prompt":"Say \"é\"\n","raw":true,"stream":false,"options":{"num_predict":8,"temperature":0.0,"seed":7},"logprobs":true,"top_logprobs":5}"#
        );
    }

    #[test]
    fn what_an_api_has_no_place_for_is_refused() {
        for api in [Api::Completions, Api::OllamaGenerate] {
            let system = Question {
                system: Some(""),
                ..PLAIN
            };
            let answer = Question {
                answer: "Yes",
                ..PLAIN
            };
            for (question, field) in [(system, "system"), (answer, "answer")] {
                let error = render(api, "m", &question, Manner::AUDIT).unwrap_err();
                assert_eq!(
                    error.to_string(),
                    format!(
                        "question: {field}: expected none, since the API {api} has no place for it"
                    )
                );
            }
        }
    }

    #[test]
    fn a_request_is_read_back() {
        for api in Api::ALL {
            for question in [PLAIN, FULL] {
                let question = match api.has_roles() {
                    true => question,
                    false => Question {
                        system: None,
                        answer: "",
                        ..question
                    },
                };
                let body = body(api, &question);
                let prompt = read_prompt(api, body.as_bytes()).unwrap();
                assert_eq!(prompt.model, "m");
                let sent = Question {
                    seed: 7,
                    ..question
                };
                assert_eq!(prompt.question(), sent);
                for other in Api::ALL.into_iter().filter(|&other| other != api) {
                    assert!(read_prompt(other, body.as_bytes()).is_err());
                }
            }
        }
    }

    #[test]
    fn a_request_that_holds_more_than_a_question_is_refused() {
        let good = body(Api::Chat, &PLAIN);
        let user = r#"{"role":"user","content":"Say \"é\"\n"}"#;
        let cases = [
            good.replace("\"stream\"", "\"logit_bias\":{\"5\":100},\"stream\""),
            good.replace("0.0", "1.0"),
            good.replace("0.0", "0"),
            good.replace("\"seed\":7", "\"seed\":4294967296"),
            good.replace("\"stream\":false", "\"stream\":true"),
            good.replace("\"stream\":false", "\"stream\":false,\"stop\":[\"\\n\"]"),
            good.replace("\"max_tokens\":8", "\"max_tokens\":8,\"max_tokens\":9"),
            good.replace("\"max_tokens\":8,", ""),
            good.replace("user", "tool"),
            good.replace("é", "\\u00e9"),
            good.replace(user, &format!("{user},{user}")),
            good.replace(user, ""),
            good.replace(",", ", "),
            format!("{good} "),
            format!("{good}{good}"),
            "[".repeat(100_000),
            String::new(),
        ];
        for bad in cases {
            assert!(
                matches!(
                    read_prompt(Api::Chat, bad.as_bytes()),
                    Err(EndpointError::Request { .. })
                ),
                "{bad}"
            );
        }
    }

    #[test]
    fn the_writer_s_requests_are_no_audit_s() {
        let manner = Manner {
            temperature: 0.0,
            to_line_end: true,
        };
        for api in Api::ALL {
            let body = render(api, "m", &PLAIN, manner).unwrap();
            assert!(read_prompt(api, &body).is_err());
        }
    }
}
