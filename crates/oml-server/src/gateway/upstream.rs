//! Answers of a server behind this one: vLLM, llama.cpp, TGI, Ollama or whatever speaks OpenAI's API.
//!
//! A request is written anew from what the gate read, with no header of the client's. Redirects are not followed, no proxy of the
//! environment is used, and of the answer only status, type and body go back. The end of the answer waits for the receipt: of a whole
//! answer all of it, of a stream the last piece.

use std::time::Duration;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::{Bytes, BytesMut};
use reqwest::redirect::Policy;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::answer::{error_event, event, event_stream, headers, receipt_comment};
use super::call::Call;
use super::fault::Fault;
use super::request::{Request, Route};
use super::sse::SseReader;

/// Bytes of an answer at most, whole or in pieces.
const MAX_ANSWER_BYTES: usize = 64 << 20;
const PIECES: usize = 64;
const CONNECT: Duration = Duration::from_secs(10);

/// Where answers come from.
#[derive(Debug, Clone)]
pub struct Upstream {
    client: reqwest::Client,
    base: String,
    key: Option<HeaderValue>,
}

/// Why an upstream cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamError {
    /// The address is none.
    #[error(
        "upstream: expected http:// or https:// with a host, and no query, user or fragment; got {got}"
    )]
    Url {
        /// The address.
        got: String,
    },
    /// The key does not fit a header.
    #[error("upstream key: expected printable ASCII")]
    Key,
    /// The client cannot be made.
    #[error("upstream: {0}")]
    Client(String),
}

impl Upstream {
    /// An upstream at `url`, with or without `/v1` at its end; `patience` is how long it may say nothing.
    ///
    /// # Errors
    /// When the address or the key is none.
    pub fn new(url: &str, key: Option<&str>, patience: Duration) -> Result<Self, UpstreamError> {
        let parsed = reqwest::Url::parse(url).ok().filter(|url| {
            matches!(url.scheme(), "http" | "https")
                && url.has_host()
                && url.query().is_none()
                && url.fragment().is_none()
                && url.username().is_empty()
                && url.password().is_none()
        });
        let parsed = parsed.ok_or_else(|| UpstreamError::Url {
            got: url.to_owned(),
        })?;
        let base = parsed.as_str().trim_end_matches('/');
        let base = base.strip_suffix("/v1").unwrap_or(base).to_owned();
        let key = key
            .map(|key| {
                let mut value = HeaderValue::from_str(&format!("Bearer {key}"))
                    .map_err(|_| UpstreamError::Key)?;
                value.set_sensitive(true);
                Ok(value)
            })
            .transpose()?;
        // There may be one already; any will do.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder()
            .redirect(Policy::none())
            .no_proxy()
            .connect_timeout(CONNECT)
            .read_timeout(patience)
            .build()
            .map_err(|error| UpstreamError::Client(error.to_string()))?;
        Ok(Self { client, base, key })
    }

    /// Has a request answered under `call`.
    pub(crate) async fn answer(&self, call: Call, request: &Request) -> Result<Response, Fault> {
        let body = match serde_json::to_vec(&request.fields) {
            Ok(body) => body,
            Err(_) => return Err(failed("upstream_failed", "the request cannot be sent on")),
        };
        let mut sent = self
            .client
            .post(format!("{}{}", self.base, request.route.path()))
            .header(header::CONTENT_TYPE, "application/json")
            .body(body);
        if let Some(key) = &self.key {
            sent = sent.header(header::AUTHORIZATION, key.clone());
        }
        let answer = match sent.send().await {
            Ok(answer) => answer,
            Err(error) => return Err(unreachable(&error)),
        };
        let status = answer.status();
        if status.is_redirection() {
            let message = "the upstream sends to another place, and this server does not follow";
            return Err(failed("upstream_redirect", message));
        }
        let is_stream = answer
            .headers()
            .get(header::CONTENT_TYPE)
            .is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream"));
        if status.is_success() && request.stream && is_stream {
            let salt = call.salt().map(str::to_owned);
            let (pieces, out) = mpsc::channel(PIECES);
            tokio::spawn(timeout(
                call.limit(),
                forward(call, request.route, answer, pieces),
            ));
            return Ok(event_stream(out, salt.as_deref()));
        }
        match whole(answer).await {
            Err(fault) => Err(fault),
            Ok(body) if !status.is_success() => Err(refused(status, &body)),
            Ok(body) => finish(call, request.route, &body).await,
        }
    }
}

/// A whole answer with its receipt.
async fn finish(call: Call, route: Route, body: &Bytes) -> Result<Response, Fault> {
    let Ok(answer) = serde_json::from_slice::<Value>(body) else {
        return Err(failed(
            "upstream_garbage",
            "the upstream's answer is not JSON",
        ));
    };
    let choices = answer["choices"].as_array().filter(|c| c.len() == 1);
    let Some(choice) = choices.and_then(|choices| choices.first()) else {
        let message = "the upstream's answer has not one choice";
        return Err(failed("upstream_garbage", message));
    };
    let text = match route {
        Route::Chat => choice["message"]["content"].as_str(),
        Route::Text => choice["text"].as_str(),
    };
    let text = text.unwrap_or_default().to_owned();
    let salt = call.salt().map(str::to_owned);
    let receipt = call.end(&text, usage(&answer).unwrap_or_default()).await?;
    // Written anew, so that client and receipt speak of the same text whatever keys were there twice.
    let body = answer.to_string();
    Ok((headers(&receipt, salt.as_deref()), body).into_response())
}

fn usage(part: &Value) -> Option<[u64; 2]> {
    let count = |name: &str| part["usage"][name].as_u64();
    Some([
        count("prompt_tokens")?,
        count("completion_tokens").unwrap_or(0),
    ])
}

/// Reads an answer up to its cap.
async fn whole(mut answer: reqwest::Response) -> Result<Bytes, Fault> {
    let mut body = BytesMut::new();
    loop {
        match answer.chunk().await {
            Err(error) => return Err(unreachable(&error)),
            Ok(None) => return Ok(body.freeze()),
            Ok(Some(more)) if body.len() + more.len() > MAX_ANSWER_BYTES => {
                return Err(failed(
                    "upstream_garbage",
                    "the upstream's answer is too long",
                ));
            }
            Ok(Some(more)) => body.extend_from_slice(&more),
        }
    }
}

/// Passes a stream on, one event late, so that the last one waits for the receipt.
async fn forward(
    call: Call,
    route: Route,
    mut answer: reqwest::Response,
    pieces: mpsc::Sender<Bytes>,
) {
    let mut reader = SseReader::default();
    let (mut text, mut tokens, mut read) = (String::new(), [0; 2], 0);
    let mut kept: Option<Value> = None;
    let fault = 'reading: loop {
        let bytes = match answer.chunk().await {
            Err(error) => break unreachable(&error),
            // A stream without its mark of an end may have been cut.
            Ok(None) => break failed("upstream_cut", "the upstream's answer broke off"),
            Ok(Some(bytes)) => bytes,
        };
        read += bytes.len();
        if read > MAX_ANSWER_BYTES {
            break failed("upstream_garbage", "the upstream's answer is too long");
        }
        let events = match reader.read(&bytes) {
            Ok(events) => events,
            Err(error) => break failed("upstream_garbage", &error.to_string()),
        };
        for data in events {
            if data == "[DONE]" {
                return end(call, &text, tokens, kept, &pieces).await;
            }
            let Ok(part) = serde_json::from_str::<Value>(&data) else {
                break 'reading failed("upstream_garbage", "the upstream's answer is not JSON");
            };
            let choices = part["choices"].as_array().map_or(&[][..], Vec::as_slice);
            if choices.len() > 1
                || choices
                    .iter()
                    .any(|choice| choice["index"].as_u64().is_some_and(|i| i > 0))
            {
                break 'reading failed("upstream_garbage", "the upstream gives several answers");
            }
            let choice = choices.first().unwrap_or(&Value::Null);
            let more = match route {
                Route::Chat => choice["delta"]["content"].as_str(),
                Route::Text => choice["text"].as_str(),
            };
            if let Some(more) = more.filter(|more| !more.is_empty()) {
                text.push_str(more);
                tokens[1] += 1;
            }
            // What the upstream counts is better than pieces.
            tokens = usage(&part).unwrap_or(tokens);
            if let Some(before) = kept.replace(part)
                && pieces.send(event(&before)).await.is_err()
            {
                return;
            }
        }
    };
    call.broke_off(&fault);
    let _ = pieces.send(error_event(&fault)).await;
}

async fn end(
    call: Call,
    text: &str,
    tokens: [u64; 2],
    kept: Option<Value>,
    pieces: &mpsc::Sender<Bytes>,
) {
    let last = match call.end(text, tokens).await {
        Err(fault) => vec![error_event(&fault)],
        Ok(receipt) => kept
            .iter()
            .map(event)
            .chain([receipt_comment(&receipt), event(&"[DONE]")])
            .collect(),
    };
    for piece in last {
        if pieces.send(piece).await.is_err() {
            return;
        }
    }
}

fn failed(code: &'static str, message: &str) -> Fault {
    Fault::new(StatusCode::BAD_GATEWAY, code, message)
}

/// An upstream that refuses: its reason is passed on where it is a short text of its own.
fn refused(status: StatusCode, body: &Bytes) -> Fault {
    const SHOWN: usize = 300;
    let said = serde_json::from_slice::<Value>(body).ok();
    let said = said.as_ref().and_then(|said| {
        let error = &said["error"];
        error["message"].as_str().or(error.as_str())
    });
    let said: String = said
        .unwrap_or("no reason given")
        .chars()
        .filter(|letter| !letter.is_control())
        .take(SHOWN)
        .collect();
    // What is wrong with the request is the client's to mend; all else is between this server and the one behind it.
    let status = match status.as_u16() {
        400 | 404 | 413 | 422 | 429 => status,
        _ => StatusCode::BAD_GATEWAY,
    };
    Fault::new(
        status,
        "upstream_refused",
        format!("the upstream refuses: {said}"),
    )
}

/// Without the address, which is not the client's to know.
fn unreachable(error: &reqwest::Error) -> Fault {
    let (status, message) = match error.is_timeout() {
        true => (StatusCode::GATEWAY_TIMEOUT, "the upstream took too long"),
        false => (
            StatusCode::BAD_GATEWAY,
            "the upstream cannot be reached, or broke off",
        ),
    };
    Fault::new(status, "upstream_failed", message)
}
