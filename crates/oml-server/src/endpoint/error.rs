//! Why an endpoint cannot be asked, or gives no answer.

use std::time::Duration;

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
    /// The key cannot be part of a header; nothing of it is quoted.
    #[error("endpoint key: expected visible ASCII characters")]
    Key,
    /// The request did not arrive, or its answer did not.
    #[error("endpoint: {0}")]
    Transport(#[from] ureq::Error),
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
    /// The answer is too long.
    #[error("endpoint: expected an answer of at most {limit} bytes, got more")]
    TooLarge {
        /// Most bytes of an answer.
        limit: usize,
    },
    /// The answer is not the JSON that the API promises, or the request is none.
    #[error("endpoint: expected JSON of the OpenAI API: {0}")]
    Json(#[from] serde_json::Error),
    /// The answer holds no text.
    #[error("endpoint: choices: expected at least one, got none")]
    NoChoice,
}

impl EndpointError {
    /// Whether the same request may succeed later.
    pub(super) fn may_pass(&self) -> bool {
        match self {
            Self::Status { status, .. } => matches!(status, 408 | 429 | 500 | 502..=504),
            Self::Transport(fault) => matches!(
                fault,
                ureq::Error::Io(_)
                    | ureq::Error::Timeout(_)
                    | ureq::Error::HostNotFound
                    | ureq::Error::ConnectionFailed
                    | ureq::Error::Protocol(_)
            ),
            _ => false,
        }
    }

    /// How long the endpoint asks to wait.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Status { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}

/// What an endpoint says about its refusal: the message of OpenAI's error object, or the text itself; without the key.
pub(super) fn message(answer: &[u8], key: Option<&str>) -> String {
    let text = serde_json::from_slice::<serde_json::Value>(answer)
        .ok()
        .and_then(|value| Some(value.get("error")?.get("message")?.as_str()?.to_owned()))
        .unwrap_or_else(|| String::from_utf8_lossy(answer).into_owned());
    let text = match key {
        Some(key) => text.replace(key, "…"),
        None => text,
    };
    let printable = |c: char| if c.is_control() { ' ' } else { c };
    text.chars().map(printable).take(SHOWN).collect()
}
