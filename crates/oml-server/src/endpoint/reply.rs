//! What an answer says, read from its bytes. Fields that are not needed are passed over.
//!
//! ```text
//! chat             {"model","choices":[{"message":{"content"},"finish_reason","logprobs":{"content":[SCORE]}}]}
//! completions      {"model","choices":[{"text","finish_reason","logprobs":{"tokens","token_logprobs","top_logprobs"}}]}
//! ollama-chat      {"model","message":{"content"},"done_reason","logprobs":[SCORE]}
//! ollama-generate  {"model","response","done_reason","logprobs":[SCORE]}
//! SCORE            {"token","logprob","top_logprobs":[{"token","logprob"}]}
//! ```
//!
//! Completions may score as chats do, which llama.cpp's server does. The content of a message is a text, or a list of parts whose
//! texts are joined. The declared content type is not looked at: the bytes alone decide, so that who reads a log later comes to
//! the same result.
//!
//! Source: OpenAI API reference, "Create chat completion" and "Create completion"; Ollama API.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::{Error as _, IgnoredAny};

use super::error::{Form, printable, said};
use super::transport::MAX_ANSWER_BYTES;
use super::{Api, EndpointError};

/// How server-sent events begin.
const EVENTS: [&str; 5] = ["data:", "event:", "id:", "retry:", ":"];

/// What an endpoint answered.
#[derive(Debug, Clone, PartialEq)]
pub struct Reply {
    /// The text, unchanged; an endpoint may repeat the question before it.
    pub text: String,
    /// Its tokens, where the endpoint scores them.
    pub tokens: Option<Vec<TokenLogProbability>>,
    /// The model that the endpoint says it is.
    pub model: Option<String>,
    /// Why the text ends.
    pub finish_reason: Option<String>,
}

/// A token of an answer as the endpoint scores it.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenLogProbability {
    /// The token's text.
    pub text: String,
    /// Its natural log probability, where it has one.
    pub log_probability: Option<f64>,
    /// The likeliest tokens at its place with theirs, likeliest first.
    pub alternatives: Vec<(String, f64)>,
}

impl Reply {
    /// The text without a repetition of `prompt` at its beginning.
    #[must_use]
    pub fn without_echo(&self, prompt: &str) -> &str {
        self.text.strip_prefix(prompt).unwrap_or(&self.text)
    }
}

#[derive(Deserialize)]
struct Answer<T> {
    model: Option<String>,
    choices: Option<Vec<T>>,
    error: Option<serde_json::Value>,
}

#[derive(Deserialize)]
struct ChatChoice {
    message: Message,
    finish_reason: Option<String>,
    logprobs: Option<Scores>,
}

#[derive(Deserialize)]
struct TextChoice {
    text: Option<String>,
    finish_reason: Option<String>,
    logprobs: Option<Scores>,
}

#[derive(Deserialize)]
struct OllamaAnswer {
    model: Option<String>,
    message: Option<Message>,
    response: Option<String>,
    done_reason: Option<String>,
    logprobs: Option<Vec<Score>>,
    error: Option<serde_json::Value>,
}

#[derive(Deserialize)]
struct Message {
    content: Option<Content>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Content {
    Text(String),
    Parts(Vec<Part>),
}

#[derive(Deserialize)]
struct Part {
    text: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Scores {
    Chat {
        content: Vec<Score>,
    },
    Text {
        tokens: Vec<String>,
        token_logprobs: Vec<Option<f64>>,
        top_logprobs: Option<Vec<Option<BTreeMap<String, f64>>>>,
    },
    Unknown(IgnoredAny),
}

#[derive(Deserialize)]
struct Score {
    token: String,
    logprob: Option<f64>,
    #[serde(default)]
    top_logprobs: Option<Vec<Alternative>>,
}

#[derive(Deserialize)]
struct Alternative {
    token: String,
    logprob: f64,
}

/// Reads an answer.
///
/// # Errors
/// [`EndpointError`] of the answer's own kinds: [`EndpointError::Answer`] where it is no JSON of the API, others where a part of
/// it is missing or none.
pub fn read_reply(api: Api, body: &[u8]) -> Result<Reply, EndpointError> {
    let reply = match api {
        Api::Chat => {
            let (model, choice) = choice::<ChatChoice>(parse(api, body)?, api)?;
            let content = choice.message.content;
            Reply {
                text: content
                    .and_then(Content::text)
                    .ok_or(EndpointError::NoText)?,
                tokens: scores(choice.logprobs)?,
                model,
                finish_reason: choice.finish_reason,
            }
        }
        Api::Completions => {
            let (model, choice) = choice::<TextChoice>(parse(api, body)?, api)?;
            Reply {
                text: choice.text.ok_or(EndpointError::NoText)?,
                tokens: scores(choice.logprobs)?,
                model,
                finish_reason: choice.finish_reason,
            }
        }
        Api::OllamaChat | Api::OllamaGenerate => {
            let answer: OllamaAnswer = parse(api, body)?;
            if let Some(error) = answer.error {
                return Err(reported(&error));
            }
            let text = match api {
                Api::OllamaChat => answer.message.and_then(|message| message.content?.text()),
                _ => answer.response,
            };
            Reply {
                text: text.ok_or(EndpointError::NoText)?,
                tokens: answer.logprobs.map(score).transpose()?,
                model: answer.model,
                finish_reason: answer.done_reason,
            }
        }
    };
    Ok(reply)
}

fn parse<'a, T: Deserialize<'a>>(api: Api, body: &'a [u8]) -> Result<T, EndpointError> {
    if body.len() > MAX_ANSWER_BYTES {
        return Err(EndpointError::TooLarge {
            limit: MAX_ANSWER_BYTES,
        });
    }
    let fault = |fault| EndpointError::Answer { api, fault };
    let text = str::from_utf8(body).map_err(|_| fault(Form::Utf8))?;
    let start = text.trim_start();
    if start.is_empty() {
        return Err(fault(Form::Empty));
    }
    if start.starts_with('<') {
        return Err(fault(Form::Html));
    }
    if EVENTS.iter().any(|event| start.starts_with(event)) {
        return Err(fault(Form::Events));
    }
    // A list would be taken for the fields in their order.
    if start.starts_with('[') {
        let error = serde_json::Error::custom("expected an object, got a list");
        return Err(fault(Form::Json(error)));
    }
    serde_json::from_str(text).map_err(|error| {
        fault(match error.is_eof() {
            true => Form::Ends,
            false => Form::Json(error),
        })
    })
}

/// The model and the first choice of an answer of OpenAI's APIs.
fn choice<T>(answer: Answer<T>, api: Api) -> Result<(Option<String>, T), EndpointError> {
    let choices = match (answer.choices, answer.error) {
        (Some(choices), _) => choices,
        (None, Some(error)) => return Err(reported(&error)),
        (None, None) => {
            let fault = Form::Json(serde_json::Error::missing_field("choices"));
            return Err(EndpointError::Answer { api, fault });
        }
    };
    let first = choices.into_iter().next().ok_or(EndpointError::NoChoice)?;
    Ok((answer.model, first))
}

fn reported(error: &serde_json::Value) -> EndpointError {
    let text = said(error).unwrap_or_else(|| error.to_string());
    EndpointError::Reported {
        message: printable(&text),
    }
}

impl Content {
    /// The text, if there is any.
    fn text(self) -> Option<String> {
        match self {
            Self::Text(text) => Some(text),
            Self::Parts(parts) => {
                let texts: Vec<_> = parts.into_iter().filter_map(|part| part.text).collect();
                (!texts.is_empty()).then(|| texts.concat())
            }
        }
    }
}

fn scores(scores: Option<Scores>) -> Result<Option<Vec<TokenLogProbability>>, EndpointError> {
    match scores {
        Some(Scores::Chat { content }) => score(content).map(Some),
        Some(Scores::Text {
            tokens,
            token_logprobs,
            top_logprobs,
        }) => {
            let alternatives = top_logprobs.unwrap_or_else(|| vec![None; tokens.len()]);
            for got in [token_logprobs.len(), alternatives.len()] {
                if got != tokens.len() {
                    let expected = tokens.len();
                    return Err(EndpointError::LogProbabilities { expected, got });
                }
            }
            let scored = tokens.into_iter().zip(token_logprobs).zip(alternatives);
            scored
                .map(|((token, log_probability), alternatives)| {
                    let alternatives = alternatives.unwrap_or_default();
                    judged(token, log_probability, alternatives.into_iter().collect())
                })
                .collect::<Result<_, _>>()
                .map(Some)
        }
        Some(Scores::Unknown(_)) | None => Ok(None),
    }
}

fn score(scores: Vec<Score>) -> Result<Vec<TokenLogProbability>, EndpointError> {
    let token = |score: Score| {
        let alternatives = score.top_logprobs.unwrap_or_default().into_iter();
        let alternatives = alternatives.map(|other| (other.token, other.logprob));
        judged(score.token, score.logprob, alternatives.collect())
    };
    scores.into_iter().map(token).collect()
}

/// A token whose log probabilities are some.
fn judged(
    text: String,
    log_probability: Option<f64>,
    mut alternatives: Vec<(String, f64)>,
) -> Result<TokenLogProbability, EndpointError> {
    let others = alternatives.iter().map(|&(_, got)| got);
    for got in log_probability.into_iter().chain(others) {
        // Rounding may lift a certainty above zero.
        if got > 1e-3 {
            return Err(EndpointError::LogProbability { got });
        }
    }
    alternatives.sort_by(|a, b| b.1.total_cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    Ok(TokenLogProbability {
        text,
        log_probability,
        alternatives,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(api: Api, body: &str) -> Result<String, String> {
        let reply = read_reply(api, body.as_bytes());
        reply
            .map(|reply| reply.text)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn a_whole_answer_of_each_api_is_read() {
        let score = r#"{"token":"a","logprob":-0.5,"bytes":[97],"top_logprobs":[{"token":"b","logprob":-1.5},{"token":"a","logprob":-0.5}]}"#;
        let bodies = [
            (
                Api::Chat,
                format!(
                    r#"{{"id":1,"model":"m","choices":[{{"index":0,"message":{{"role":"assistant","content":"a"}},"finish_reason":"stop","logprobs":{{"content":[{score}],"refusal":null}}}}],"usage":{{}}}}"#
                ),
            ),
            (
                Api::Completions,
                r#"{"model":"m","choices":[{"text":"a","finish_reason":"stop","logprobs":{"tokens":["a"],"token_logprobs":[-0.5],"top_logprobs":[{"b":-1.5,"a":-0.5}],"text_offset":[0]}}]}"#.to_owned(),
            ),
            (
                Api::Completions,
                format!(
                    r#"{{"model":"m","choices":[{{"text":"a","finish_reason":"stop","logprobs":{{"content":[{score}]}}}}]}}"#
                ),
            ),
            (
                Api::OllamaChat,
                format!(
                    r#"{{"model":"m","message":{{"role":"assistant","content":"a"}},"done":true,"done_reason":"stop","logprobs":[{score}]}}"#
                ),
            ),
            (
                Api::OllamaGenerate,
                format!(
                    r#"{{"model":"m","response":"a","done":true,"done_reason":"stop","logprobs":[{score}]}}"#
                ),
            ),
        ];
        let expected = Reply {
            text: "a".to_owned(),
            tokens: Some(vec![TokenLogProbability {
                text: "a".to_owned(),
                log_probability: Some(-0.5),
                alternatives: vec![("a".to_owned(), -0.5), ("b".to_owned(), -1.5)],
            }]),
            model: Some("m".to_owned()),
            finish_reason: Some("stop".to_owned()),
        };
        for (api, body) in bodies {
            assert_eq!(read_reply(api, body.as_bytes()).unwrap(), expected, "{api}");
        }
    }

    #[test]
    fn parts_are_joined_and_what_is_not_scored_is_none() {
        let body = r#"{"choices":[{"message":{"content":[{"type":"text","text":"a "},{"type":"image_url"},{"type":"text","text":"b"}]},"logprobs":{"content":null}}]}"#;
        let reply = read_reply(Api::Chat, body.as_bytes()).unwrap();
        assert_eq!((reply.text.as_str(), reply.tokens), ("a b", None));
        let body = r#"{"choices":[{"text":"","logprobs":{"tokens":["a","b"],"token_logprobs":[null,-1]}}]}"#;
        let tokens = read_reply(Api::Completions, body.as_bytes())
            .unwrap()
            .tokens
            .unwrap();
        let scores: Vec<_> = tokens.iter().map(|token| token.log_probability).collect();
        assert_eq!(scores, [None, Some(-1.0)]);
    }

    #[test]
    fn an_echo_is_kept_and_can_be_taken_off() {
        let body = r#"{"choices":[{"text":"a b c"}]}"#;
        let reply = read_reply(Api::Completions, body.as_bytes()).unwrap();
        assert_eq!(reply.text, "a b c");
        assert_eq!(reply.without_echo("a b"), " c");
        assert_eq!(reply.without_echo("b"), "a b c");
    }

    #[test]
    fn each_fault_is_named() {
        let json = "endpoint: expected JSON of the OpenAI API: ";
        let table = [
            (Api::Chat, "", "got nothing"),
            (Api::Chat, " \r\n", "got nothing"),
            (Api::Chat, "<!doctype html><p>Sign in", "got HTML"),
            (
                Api::Completions,
                "data: {\"choices\":[]}\n\ndata: [DONE]\n",
                "got a stream of events",
            ),
            (Api::Chat, ": keep-alive\n\n", "got a stream of events"),
            (Api::Chat, "{\"choices\":[{\"mess", "got its beginning"),
            (Api::Chat, "[[]]", "expected an object, got a list"),
            (Api::Chat, "{}", "missing field `choices`"),
        ];
        for (api, body, fault) in table {
            assert_eq!(text(api, body).unwrap_err(), format!("{json}{fault}"));
        }
        let error = read_reply(Api::OllamaChat, b"{\"response\":\"\xff\"}").unwrap_err();
        assert_eq!(
            error.to_string(),
            "endpoint: expected JSON of the Ollama API: got bytes that are no UTF-8"
        );
        for api in Api::ALL {
            // What is not needed is passed over at any depth, what is needed is read to a limit.
            let ends = text(api, &format!("{{\"x\":{}", "[".repeat(100_000)));
            assert!(ends.unwrap_err().ends_with("got its beginning"));
            let error = text(api, &format!("{{\"error\":{}", "[".repeat(100_000)));
            let error = error.unwrap_err();
            assert!(error.contains("recursion limit"), "{error}");
        }
        let long = " ".repeat(MAX_ANSWER_BYTES + 1);
        assert_eq!(
            text(Api::Chat, &long).unwrap_err(),
            "endpoint: expected an answer of at most 1048576 bytes, got more"
        );
    }

    #[test]
    fn answers_without_a_text_are_refused() {
        let chat = [
            r#"{"choices":[{"message":{"content":null,"refusal":"no"}}]}"#,
            r#"{"choices":[{"message":{}}]}"#,
            r#"{"choices":[{"message":{"content":[]}}]}"#,
            r#"{"choices":[{"message":{"content":[{"type":"image_url"}]}}]}"#,
        ];
        for body in chat {
            assert_eq!(
                text(Api::Chat, body).unwrap_err(),
                "endpoint: text: expected one, got none"
            );
        }
        for (api, body) in [
            (Api::Completions, r#"{"choices":[{"text":null}]}"#),
            (Api::OllamaChat, r#"{"response":"a"}"#),
            (Api::OllamaGenerate, r#"{"message":{"content":"a"}}"#),
        ] {
            assert!(
                matches!(read_reply(api, body.as_bytes()), Err(EndpointError::NoText)),
                "{api}"
            );
        }
        assert_eq!(
            text(Api::Chat, r#"{"choices":[]}"#).unwrap_err(),
            "endpoint: choices: expected at least one, got none"
        );
    }

    #[test]
    fn an_error_that_is_called_a_success_is_one() {
        let said = "endpoint: expected an answer, got an error with status 200: ";
        for (api, body) in [
            (Api::Chat, r#"{"error":{"message":"no\nmodel","code":404}}"#),
            (Api::OllamaGenerate, r#"{"error":"no model"}"#),
        ] {
            assert_eq!(text(api, body).unwrap_err(), format!("{said}no model"));
        }
    }

    #[test]
    fn log_probabilities_are_judged() {
        let body = |tokens: &str, scores: &str| {
            format!(
                r#"{{"choices":[{{"text":"","logprobs":{{"tokens":{tokens},"token_logprobs":{scores},"top_logprobs":null}}}}]}}"#
            )
        };
        assert_eq!(
            text(Api::Completions, &body(r#"["a"]"#, "[0.5]")).unwrap_err(),
            "endpoint: log probability: expected at most 0, got 0.5"
        );
        assert_eq!(
            text(Api::Completions, &body(r#"["a","b"]"#, "[-1]")).unwrap_err(),
            "endpoint: log probabilities: expected one for each of 2 tokens, got 1"
        );
    }
}
