//! A request of OpenAI's API, read once: what is asked, how, and the JSON that goes on.
//!
//! What goes to an upstream is written again from what was read here, so that both see the same request, whatever keys were there twice.

use std::num::NonZeroUsize;

use axum::http::StatusCode;
use oml_core::permission::input_of;
use oml_core::serving::{Asked, Question, Turn};
use serde_json::{Map, Value};

use super::fault::Fault;

/// Values, fields and lists in a request at most.
const MAX_VALUES: usize = 65_536;
const MAX_STOPS: usize = 16;
const MAX_NAME: usize = 256;

/// What goes on to an upstream. Servers have names of their own for the length of an answer and more; what is not here does not pass.
const PASSED_ON: [&str; 32] = [
    "best_of",
    "echo",
    "frequency_penalty",
    "logit_bias",
    "logprobs",
    "max_completion_tokens",
    "max_tokens",
    "messages",
    "metadata",
    "min_p",
    "model",
    "n",
    "parallel_tool_calls",
    "presence_penalty",
    "prompt",
    "reasoning_effort",
    "repetition_penalty",
    "response_format",
    "seed",
    "service_tier",
    "stop",
    "store",
    "stream",
    "stream_options",
    "suffix",
    "temperature",
    "tool_choice",
    "tools",
    "top_k",
    "top_logprobs",
    "top_p",
    "user",
];

/// Which API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Route {
    /// `/v1/chat/completions`.
    Chat,
    /// `/v1/completions`.
    Text,
}

impl Route {
    /// The path.
    #[must_use]
    pub const fn path(self) -> &'static str {
        match self {
            Self::Chat => "/v1/chat/completions",
            Self::Text => "/v1/completions",
        }
    }

    const fn input(self) -> &'static str {
        match self {
            Self::Chat => "messages",
            Self::Text => "prompt",
        }
    }
}

/// A request that was read.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// Which API it is for.
    pub route: Route,
    /// Its fields.
    pub fields: Map<String, Value>,
    /// The name of the model that is asked; empty where none is named.
    pub model: String,
    /// Whether the answer comes piece by piece.
    pub stream: bool,
    /// Tokens of the answer at most.
    pub max_tokens: Option<u32>,
}

impl Request {
    /// Reads a body.
    ///
    /// # Errors
    /// A body that is not JSON, not an object, or asks for more than one answer, naming the field.
    pub fn read(route: Route, body: &[u8]) -> Result<Self, Fault> {
        let marks = body
            .iter()
            .filter(|b| matches!(b, b',' | b'[' | b'{' | b':'));
        if marks.count() > MAX_VALUES {
            let message = format!("body: expected at most {MAX_VALUES} values, got more");
            return Err(Fault::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                "too_many_values",
                message,
            ));
        }
        let value = serde_json::from_slice(body).map_err(|error| {
            let message = format!("body: expected JSON: {error}");
            Fault::new(StatusCode::BAD_REQUEST, "invalid_json", message)
        })?;
        let Value::Object(fields) = value else {
            let message = "body: expected an object";
            return Err(Fault::new(StatusCode::BAD_REQUEST, "invalid_json", message));
        };
        let model = match fields.get("model") {
            None | Some(Value::Null) => String::new(),
            Some(Value::String(name)) if name.len() <= MAX_NAME => name.clone(),
            Some(_) => return Err(expected("model", "a text of at most 256 bytes")),
        };
        let other = match route {
            Route::Chat => "prompt",
            Route::Text => "messages",
        };
        if fields.contains_key(other) {
            return Err(Fault::field(
                "unsupported_parameter",
                other,
                format!("{other}: expected only {} here", route.input()),
            ));
        }
        let max_tokens = match route {
            Route::Chat => ["max_completion_tokens", "max_tokens"].as_slice(),
            Route::Text => &["max_tokens"],
        };
        let named = max_tokens.iter().filter_map(|name| {
            let value = fields.get(*name).filter(|value| !value.is_null())?;
            let count = value.as_u64().and_then(|count| u32::try_from(count).ok());
            let count = count.filter(|count| *count > 0);
            Some(count.ok_or_else(|| expected(name, "a whole number above 0")))
        });
        let named = named.collect::<Result<Vec<u32>, _>>()?;
        if named.windows(2).any(|pair| pair[0] != pair[1]) {
            return Err(expected("max_tokens", "the same as max_completion_tokens"));
        }
        let max_tokens = named.first().copied();
        let stream = bool_field(&fields, "stream")?.unwrap_or(false);
        let request = Self {
            route,
            model,
            stream,
            max_tokens,
            fields,
        };
        for name in ["n", "best_of"] {
            if request
                .fields
                .get(name)
                .is_some_and(|n| !n.is_null() && *n != 1)
            {
                return Err(Fault::field(
                    "unsupported_parameter",
                    name,
                    format!("{name}: expected 1: a permission and a receipt are for one answer"),
                ));
            }
        }
        let field = route.input();
        match request.input_value() {
            None => return Err(expected(field, "it to be there")),
            Some(Value::Array(prompts)) if route == Route::Text => {
                let several = prompts.len() > 1 && !prompts[0].is_number();
                if several {
                    return Err(expected(
                        field,
                        "one prompt: a permission and a receipt are for one answer",
                    ));
                }
            }
            Some(_) => {}
        }
        Ok(request)
    }

    fn input_value(&self) -> Option<&Value> {
        self.fields.get(self.route.input()).filter(|v| !v.is_null())
    }

    /// The canonical bytes of what is asked.
    ///
    /// # Errors
    /// A number that has no one spelling, or too many lists inside each other.
    pub fn canonical_input(&self) -> Result<Vec<u8>, Fault> {
        let value = self.input_value().unwrap_or(&Value::Null);
        Ok(input_of(self.route.input(), value)?)
    }

    /// Limits the tokens of the answer.
    pub fn limit(&mut self, tokens: u32) {
        self.max_tokens = Some(tokens);
        let name = match self.fields.contains_key("max_completion_tokens") {
            true => "max_completion_tokens",
            false => "max_tokens",
        };
        self.fields.insert(name.to_owned(), tokens.into());
    }

    /// The request as an upstream gets it.
    ///
    /// # Errors
    /// A field that is not known to leave the permission's terms as they are.
    pub fn passed_on(&self) -> Result<&Map<String, Value>, Fault> {
        match self
            .fields
            .keys()
            .find(|name| !PASSED_ON.contains(&name.as_str()))
        {
            None => Ok(&self.fields),
            Some(name) => Err(Fault::field(
                "unsupported_parameter",
                name.as_str(),
                "this server passes on only what OpenAI's API has",
            )),
        }
    }

    /// The request as a question to a model of ours.
    ///
    /// # Errors
    /// A field of another form, or one that our engine does not do.
    pub fn question(&self) -> Result<Question, Fault> {
        for name in [
            "tools",
            "functions",
            "response_format",
            "logit_bias",
            "audio",
            "suffix",
            "echo",
            "logprobs",
            "top_logprobs",
            "frequency_penalty",
            "presence_penalty",
            "min_p",
            "repetition_penalty",
            "modalities",
            "prediction",
        ] {
            let value = self.fields.get(name).unwrap_or(&Value::Null);
            let idle = match value {
                Value::Null | Value::Bool(false) => true,
                Value::Number(number) => {
                    let plain = if name == "repetition_penalty" {
                        1.0
                    } else {
                        0.0
                    };
                    number.as_f64() == Some(plain)
                }
                Value::Array(items) => items.is_empty(),
                Value::Object(map) => map.is_empty() || map.get("type") == Some(&"text".into()),
                Value::String(_) | Value::Bool(true) => false,
            };
            if !idle {
                return Err(Fault::field(
                    "unsupported_parameter",
                    name,
                    format!("{name}: this server does not do that"),
                ));
            }
        }
        let number = |name: &str, default: f64, low: f64, high: f64| match self.fields.get(name) {
            None | Some(Value::Null) => Ok(default),
            Some(value) => value
                .as_f64()
                .filter(|x| (low..=high).contains(x))
                .ok_or_else(|| expected(name, &format!("a number from {low} to {high}"))),
        };
        Ok(Question {
            asked: self.asked()?,
            max_tokens: self
                .max_tokens
                .and_then(|count| NonZeroUsize::new(count as usize)),
            temperature: number("temperature", 1.0, 0.0, 2.0)? as f32,
            top_p: number("top_p", 1.0, 0.0, 1.0)? as f32,
            top_k: number("top_k", 0.0, -1.0, 1e9)?.max(0.0) as usize,
            seed: match self.fields.get("seed") {
                None | Some(Value::Null) => random_seed()?,
                Some(value) => value
                    .as_u64()
                    .or_else(|| value.as_i64().map(|n| n as u64))
                    .ok_or_else(|| expected("seed", "a whole number"))?,
            },
            stop: self.stops()?,
        })
    }

    fn stops(&self) -> Result<Vec<String>, Fault> {
        let wrong = || expected("stop", "a text or a list of at most 16 texts");
        match self.fields.get("stop") {
            None | Some(Value::Null) => Ok(Vec::new()),
            Some(Value::String(stop)) => Ok(vec![stop.clone()]),
            Some(Value::Array(stops)) if stops.len() <= MAX_STOPS => stops
                .iter()
                .map(|stop| stop.as_str().map(str::to_owned).ok_or_else(wrong))
                .collect(),
            Some(_) => Err(wrong()),
        }
    }

    fn asked(&self) -> Result<Asked, Fault> {
        let value = self.input_value().unwrap_or(&Value::Null);
        match (self.route, value) {
            (Route::Text, Value::String(text)) => Ok(Asked::Text(text.clone())),
            (Route::Text, Value::Array(texts)) => match texts.as_slice() {
                [Value::String(text)] => Ok(Asked::Text(text.clone())),
                _ => Err(expected("prompt", "one text")),
            },
            (Route::Chat, Value::Array(turns)) if !turns.is_empty() => {
                let turns = turns.iter().enumerate();
                let turns = turns.map(|(i, turn)| read_turn(i, turn));
                Ok(Asked::Chat(turns.collect::<Result<_, _>>()?))
            }
            (Route::Text, _) => Err(expected("prompt", "one text")),
            (Route::Chat, _) => Err(expected("messages", "a list of at least one message")),
        }
    }
}

fn read_turn(index: usize, turn: &Value) -> Result<Turn, Fault> {
    let role = turn["role"]
        .as_str()
        .filter(|role| matches!(*role, "system" | "developer" | "user" | "assistant"));
    let role = role.ok_or_else(|| {
        let field = format!("messages[{index}].role");
        expected(&field, "system, developer, user or assistant")
    })?;
    let content = match &turn["content"] {
        Value::String(text) => Some(text.clone()),
        Value::Array(parts) => parts
            .iter()
            .map(|part| match part["type"].as_str() {
                Some("text") => part["text"].as_str(),
                _ => None,
            })
            .collect::<Option<String>>(),
        _ => None,
    };
    let content = content.ok_or_else(|| {
        let field = format!("messages[{index}].content");
        expected(&field, "a text or a list of parts of type text")
    })?;
    Ok(Turn {
        // What newer clients call the system's turn; templates know the old name.
        role: if role == "developer" { "system" } else { role }.to_owned(),
        content,
    })
}

fn bool_field(fields: &Map<String, Value>, name: &str) -> Result<Option<bool>, Fault> {
    match fields.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Bool(value)) => Ok(Some(*value)),
        Some(_) => Err(expected(name, "true or false")),
    }
}

fn random_seed() -> Result<u64, Fault> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).map_err(|_| {
        let message = "the machine gives no random numbers";
        Fault::new(StatusCode::SERVICE_UNAVAILABLE, "no_randomness", message)
    })?;
    Ok(u64::from_le_bytes(bytes))
}

fn expected(field: &str, what: &str) -> Fault {
    Fault::field("invalid_value", field, format!("{field}: expected {what}"))
}
