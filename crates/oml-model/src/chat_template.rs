//! Chat templates: a conversation to the text that a chat model was trained on.
//!
//! Templates are Jinja programs that come with a model, so they are untrusted: their size, steps and output are
//! capped. Semantics are those of transformers: blocks are trimmed, `tojson` does not escape HTML, Python's methods
//! on texts and maps exist, `raise_exception` refuses a conversation, and `{% generation %}` marks are passed over.
//! `strftime_now` gives one fixed day, the one Llama 3 falls back to: a prompt must have the same tokens tomorrow.

mod bounded;

use std::io::{self, Write};

use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, Error, ErrorKind, Value, context};
use serde::Serialize;
use thiserror::Error;

/// Bytes of a template at most.
pub const MAX_TEMPLATE_BYTES: usize = 1 << 18;
/// Bytes of a rendered conversation at most.
pub const MAX_PROMPT_BYTES: usize = 1 << 22;
/// Steps of one rendering at most: about one for each instruction, and for each 64 bytes made.
const MAX_STEPS: u64 = 200_000;
const NAME: &str = "chat_template";
const OUTPUT_TOO_LARGE: &str = "output over its cap";

/// One turn of a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Message<'a> {
    /// `system`, `user` or `assistant`.
    pub role: &'a str,
    /// What is said.
    pub content: &'a str,
}

impl<'a> Message<'a> {
    /// A system prompt.
    pub const fn system(content: &'a str) -> Self {
        Self {
            role: "system",
            content,
        }
    }

    /// A user's turn.
    pub const fn user(content: &'a str) -> Self {
        Self {
            role: "user",
            content,
        }
    }

    /// The model's turn.
    pub const fn assistant(content: &'a str) -> Self {
        Self {
            role: "assistant",
            content,
        }
    }
}

/// Why a template cannot be used.
#[derive(Debug, Error)]
pub enum TemplateError {
    /// The template is too long.
    #[error("chat_template: expected at most {MAX_TEMPLATE_BYTES} bytes, got {got}")]
    TooLarge {
        /// Its length.
        got: usize,
    },
    /// The template is not Jinja.
    #[error("chat_template: {0}")]
    Syntax(#[source] Error),
    /// The template refuses the conversation.
    #[error("chat_template: refused: {0}")]
    Refused(String),
    /// The template fails on the conversation.
    #[error("chat_template: {0}")]
    Render(#[source] Error),
    /// The template takes too many steps.
    #[error("chat_template: expected at most {MAX_STEPS} steps")]
    TooManySteps,
    /// The template writes too much.
    #[error("chat_template: expected at most {MAX_PROMPT_BYTES} bytes of output")]
    OutputTooLarge,
}

/// A compiled chat template with the special tokens it may name.
pub struct ChatTemplate {
    environment: Environment<'static>,
    special_tokens: Vec<(String, String)>,
}

impl ChatTemplate {
    /// Compiles a template. `special_tokens` are variables such as `bos_token`.
    ///
    /// # Errors
    /// The template is too long or not Jinja.
    pub fn new(source: &str, special_tokens: Vec<(String, String)>) -> Result<Self, TemplateError> {
        if source.len() > MAX_TEMPLATE_BYTES {
            return Err(TemplateError::TooLarge { got: source.len() });
        }
        let mut environment = Environment::new();
        let syntax = SyntaxConfig::builder()
            .trim_blocks(true)
            .lstrip_blocks(true)
            .build();
        environment.set_syntax(syntax.map_err(TemplateError::Syntax)?);
        environment.set_fuel(Some(MAX_STEPS));
        bounded::install(&mut environment);
        environment.add_function("raise_exception", raise_exception);
        environment.add_function("strftime_now", strftime_now);
        environment.add_filter("tojson", to_json);
        environment
            .add_template_owned(NAME, without_generation_marks(source))
            .map_err(TemplateError::Syntax)?;
        Ok(Self {
            environment,
            special_tokens,
        })
    }

    /// The conversation as text; `answer_next` ends it where the assistant begins to speak.
    ///
    /// # Errors
    /// The template refuses or fails, or goes past a cap.
    pub fn render(
        &self,
        messages: &[Message<'_>],
        answer_next: bool,
    ) -> Result<String, TemplateError> {
        let template = self
            .environment
            .get_template(NAME)
            .map_err(TemplateError::Render)?;
        let tokens = self
            .special_tokens
            .iter()
            .map(|(name, token)| (name.as_str(), token.as_str()));
        let tokens = Value::from_pairs(tokens);
        let turn = |message: &Message<'_>| {
            Value::from_pairs([("role", message.role), ("content", message.content)])
        };
        let messages: Vec<Value> = messages.iter().map(turn).collect();
        let context = context! {
            messages,
            add_generation_prompt => answer_next,
            tools => (),
            documents => (),
            ..tokens
        };
        let mut output = Capped(Vec::new());
        template
            .render_captured_to(context, &mut output)
            .map_err(|error| match error.kind() {
                ErrorKind::OutOfFuel => TemplateError::TooManySteps,
                ErrorKind::WriteFailure => TemplateError::OutputTooLarge,
                ErrorKind::InvalidOperation if error.detail() == Some(OUTPUT_TOO_LARGE) => {
                    TemplateError::OutputTooLarge
                }
                ErrorKind::InvalidOperation => match error
                    .detail()
                    .and_then(|detail| detail.strip_prefix(RAISED))
                {
                    Some(reason) => TemplateError::Refused(reason.to_owned()),
                    None => TemplateError::Render(error),
                },
                _ => TemplateError::Render(error),
            })?;
        Ok(String::from_utf8_lossy(&output.0).into_owned())
    }
}

/// Keeps what is written, up to the cap.
struct Capped(Vec<u8>);

impl Write for Capped {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > MAX_PROMPT_BYTES {
            return Err(io::Error::other(OUTPUT_TOO_LARGE));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// `{% generation %}` and `{% endgeneration %}` only mark what is trained on.
fn without_generation_marks(source: &str) -> String {
    let mut kept = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(start) = rest.find("{%") {
        let Some(length) = rest[start..].find("%}") else {
            break;
        };
        let tag = &rest[start..start + length + 2];
        let word = tag[2..tag.len() - 2].trim_matches(['-', '+']).trim();
        kept.push_str(&rest[..start]);
        // an assignment in its place keeps the tag's trimming of white space
        if word == "generation" || word == "endgeneration" {
            kept.push_str(&tag.replacen(word, "set generation_mark = true", 1));
        } else {
            kept.push_str(tag);
        }
        rest = &rest[start + length + 2..];
    }
    kept.push_str(rest);
    kept
}

const RAISED: &str = "raised: ";

fn raise_exception(reason: String) -> Result<String, Error> {
    Err(Error::new(
        ErrorKind::InvalidOperation,
        format!("{RAISED}{reason}"),
    ))
}

/// 26 July 2024, midnight, in the format of C's `strftime`.
fn strftime_now(format: &str) -> Result<String, Error> {
    let mut text = String::new();
    let mut letters = format.chars();
    while let Some(letter) = letters.next() {
        if letter != '%' {
            text.push(letter);
            continue;
        }
        text.push_str(match letters.next() {
            Some('Y') => "2024",
            Some('y') => "24",
            Some('m') => "07",
            Some('d' | 'e') => "26",
            Some('B') => "July",
            Some('b') => "Jul",
            Some('A') => "Friday",
            Some('a') => "Fri",
            Some('j') => "208",
            Some('H' | 'M' | 'S') => "00",
            Some('%') => "%",
            other => {
                let reason = format!("strftime_now: %{} is not known", other.unwrap_or(' '));
                return Err(Error::new(ErrorKind::InvalidOperation, reason));
            }
        });
    }
    Ok(text)
}

/// Python's `json.dumps`: a space after comma and colon, nothing escaped for HTML.
fn to_json(value: &Value, indent: Option<usize>) -> Result<Value, Error> {
    let fail = |error: serde_json::Error| {
        if error.is_io() {
            return bounded::too_large();
        }
        Error::new(ErrorKind::InvalidOperation, "tojson: not JSON").with_source(error)
    };
    let mut bytes = Capped(Vec::new());
    match indent {
        Some(width) => {
            let spaces = vec![b' '; width.min(16)];
            let style = serde_json::ser::PrettyFormatter::with_indent(&spaces);
            value.serialize(&mut serde_json::Serializer::with_formatter(
                &mut bytes, style,
            ))
        }
        None => value.serialize(&mut serde_json::Serializer::with_formatter(
            &mut bytes, Spaced,
        )),
    }
    .map_err(fail)?;
    Ok(Value::from_safe_string(
        String::from_utf8_lossy(&bytes.0).into_owned(),
    ))
}

struct Spaced;

impl serde_json::ser::Formatter for Spaced {
    fn begin_array_value<W: ?Sized + Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> io::Result<()> {
        writer.write_all(if first { b"" } else { b", " })
    }

    fn begin_object_key<W: ?Sized + Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> io::Result<()> {
        writer.write_all(if first { b"" } else { b", " })
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(b": ")
    }
}
