//! Why an endpoint cannot be asked, or gives no answer.

use std::fmt;
use std::io;
use std::time::Duration;

use super::Api;
use super::secret::Secrets;

/// Characters of an endpoint's own words that are shown.
const SHOWN: usize = 200;

/// One way an endpoint can fail.
#[derive(Debug, thiserror::Error)]
pub enum EndpointError {
    /// The address cannot be used; it is not quoted, since it may hold a secret.
    #[error("endpoint URL: expected {expected}")]
    Url {
        /// What would do.
        expected: &'static str,
    },
    /// What is sent would be readable on the way.
    #[error("endpoint URL: expected https for a host other than this machine, got http")]
    PlainHttp,
    /// No API has this name.
    #[error("API: expected chat, completions, ollama-chat or ollama-generate")]
    Api,
    /// The key cannot be part of a header; nothing of it is quoted.
    #[error("endpoint key: expected visible ASCII characters")]
    Key,
    /// A header cannot be sent; nothing of it is quoted.
    #[error("header: expected {expected}")]
    Header {
        /// What would do.
        expected: &'static str,
    },
    /// The proxy's address cannot be used; nothing of it is quoted.
    #[error("proxy: expected http://host:port, with user:password@ before the host at most")]
    Proxy,
    /// The root certificates cannot be read.
    #[error("root certificates: expected at least one certificate in PEM, got {got}")]
    Roots {
        /// What is there.
        got: String,
    },
    /// The API has no place for a part of the question.
    #[error("question: {field}: expected none, since the API {api} has no place for it")]
    Unsupported {
        /// The API.
        api: Api,
        /// The part.
        field: &'static str,
    },
    /// The request did not arrive, or its answer did not.
    #[error("endpoint: {}", words(.0))]
    Transport(ureq::Error),
    /// The user asked to stop.
    #[error("endpoint: stopped while waiting")]
    Stopped,
    /// The endpoint wants the request to go elsewhere.
    #[error("endpoint: expected status 200, got the redirect {status}, which is not followed")]
    Redirect {
        /// HTTP status.
        status: u16,
    },
    /// The endpoint refused.
    #[error("endpoint: expected status 200, got {status}: {message}")]
    Status {
        /// HTTP status.
        status: u16,
        /// What the endpoint says about it, cut and printable.
        message: String,
        /// How long to wait, where it says so.
        retry_after: Option<Duration>,
    },
    /// The endpoint calls it a success, and answers with an error.
    #[error("endpoint: expected an answer, got an error with status 200: {message}")]
    Reported {
        /// What the endpoint says about it, cut and printable.
        message: String,
    },
    /// The answer is too long.
    #[error("endpoint: expected an answer of at most {limit} bytes, got more")]
    TooLarge {
        /// Most bytes of an answer.
        limit: usize,
    },
    /// The answer is not what the API promises.
    #[error("endpoint: expected JSON of the {} API: {fault}", .api.family())]
    Answer {
        /// The API.
        api: Api,
        /// What is wrong.
        fault: Form,
    },
    /// The answer holds no choice.
    #[error("endpoint: choices: expected at least one, got none")]
    NoChoice,
    /// The answer's choice holds no text.
    #[error("endpoint: text: expected one, got none")]
    NoText,
    /// A token's log probability is none.
    #[error("endpoint: log probability: expected at most 0, got {got}")]
    LogProbability {
        /// What is there.
        got: f64,
    },
    /// Tokens and their log probabilities do not match.
    #[error("endpoint: log probabilities: expected one for each of {expected} tokens, got {got}")]
    LogProbabilities {
        /// Tokens.
        expected: usize,
        /// Log probabilities.
        got: usize,
    },
    /// A logged request is not JSON of its API, or holds what this client never sends.
    #[error("request: expected JSON of the {} API as this client writes it: {got}", .api.family())]
    Request {
        /// The API.
        api: Api,
        /// What is wrong.
        got: String,
    },
    /// A request cannot be written.
    #[error("request: {0}")]
    Unwritable(serde_json::Error),
}

/// How bytes fail to be the JSON that is expected.
#[derive(Debug)]
pub enum Form {
    /// There are none.
    Empty,
    /// They are no text.
    Utf8,
    /// They are a page for people.
    Html,
    /// They are server-sent events.
    Events,
    /// They end in the middle.
    Ends,
    /// Another fault of JSON, or of the fields in it.
    Json(serde_json::Error),
}

impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("got nothing"),
            Self::Utf8 => f.write_str("got bytes that are no UTF-8"),
            Self::Html => f.write_str("got HTML"),
            Self::Events => f.write_str("got a stream of events"),
            Self::Ends => f.write_str("got its beginning"),
            Self::Json(fault) => write!(f, "{fault}"),
        }
    }
}

impl EndpointError {
    /// Whether the same request may succeed later.
    pub(super) fn may_pass(&self) -> bool {
        match self {
            // 520 to 524 and 529 are what content networks and overloaded endpoints say.
            Self::Status { status, .. } => {
                matches!(status, 408 | 429 | 500 | 502..=504 | 520..=524 | 529)
            }
            Self::Transport(ureq::Error::Io(fault)) => {
                // So comes what TLS finds wrong with the other side, which stays wrong.
                fault.kind() != io::ErrorKind::InvalidData
            }
            Self::Transport(fault) => matches!(
                fault,
                ureq::Error::Timeout(_)
                    | ureq::Error::HostNotFound
                    | ureq::Error::ConnectionFailed
                    | ureq::Error::Protocol(_)
            ),
            Self::Answer { fault, .. } => matches!(fault, Form::Ends),
            _ => false,
        }
    }

    /// How long the endpoint asks to wait.
    pub(super) const fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Status { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}

/// A fault of the way to the endpoint, without the URL that some of them quote.
pub(super) fn words(fault: &ureq::Error) -> String {
    match fault {
        ureq::Error::BadUri(_) => "bad URL".to_owned(),
        ureq::Error::RequireHttpsOnly(_) => "https is required".to_owned(),
        fault => printable(&fault.to_string()),
    }
}

/// What an endpoint says about its refusal: the message of OpenAI's or Ollama's error, the detail that FastAPI gives, or the text
/// itself; without secrets.
pub(super) fn message(answer: &[u8], secrets: &Secrets) -> String {
    let text = serde_json::from_slice::<serde_json::Value>(answer)
        .ok()
        .and_then(|value| said(value.get("error").or_else(|| value.get("detail"))?))
        .unwrap_or_else(|| String::from_utf8_lossy(answer).into_owned());
    printable(&secrets.hide(&text))
}

/// The message in an error object.
pub(super) fn said(error: &serde_json::Value) -> Option<String> {
    let text = error.as_str().or_else(|| error.get("message")?.as_str())?;
    Some(text.to_owned())
}

/// The beginning of a stranger's text, on one line.
pub(super) fn printable(text: &str) -> String {
    let printable = |c: char| if c.is_control() { ' ' } else { c };
    text.chars().map(printable).take(SHOWN).collect()
}
