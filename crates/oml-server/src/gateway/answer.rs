//! Answers of a model of ours, whole or piece by piece, in OpenAI's form.

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream;
use oml_core::serving::{Ending, Event, Prepared};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::call::Call;
use super::fault::Fault;
use super::gate::now;
use super::request::{Request, Route};

/// The header of an answer that carries its receipt.
pub const RECEIPT_HEADER: &str = "oml-receipt";
/// The header that carries the salt where the host drew it.
pub const SALT_HEADER: &str = "oml-input-salt";
/// Pieces that wait for a slow client.
const PIECES: usize = 64;

/// What every part of one answer says.
struct Form {
    id: String,
    route: Route,
    model: String,
    created: u64,
    prompt_tokens: usize,
    /// Whether a streaming client wants the token counts.
    counts: bool,
}

impl Form {
    fn object(&self, streaming: bool) -> &'static str {
        match (self.route, streaming) {
            (Route::Text, _) => "text_completion",
            (Route::Chat, true) => "chat.completion.chunk",
            (Route::Chat, false) => "chat.completion",
        }
    }

    fn part(&self, streaming: bool, choices: Value) -> Value {
        json!({
            "id": self.id, "object": self.object(streaming), "created": self.created, "model": self.model,
            "choices": choices,
        })
    }

    fn usage(&self, tokens: usize) -> Value {
        json!({
            "prompt_tokens": self.prompt_tokens, "completion_tokens": tokens,
            "total_tokens": self.prompt_tokens + tokens,
        })
    }

    fn whole(&self, text: &str, finish: &str, tokens: usize) -> Value {
        let choice = match self.route {
            Route::Chat => json!({
                "index": 0, "message": {"role": "assistant", "content": text}, "logprobs": null, "finish_reason": finish,
            }),
            Route::Text => {
                json!({"index": 0, "text": text, "logprobs": null, "finish_reason": finish})
            }
        };
        let mut whole = self.part(false, json!([choice]));
        whole["usage"] = self.usage(tokens);
        whole
    }

    fn piece(&self, text: Option<&str>, finish: Option<&str>) -> Value {
        let choice = match self.route {
            Route::Chat => {
                let delta = text.map_or_else(|| json!({}), |text| json!({"content": text}));
                json!({"index": 0, "delta": delta, "logprobs": null, "finish_reason": finish})
            }
            Route::Text => json!({
                "index": 0, "text": text.unwrap_or_default(), "logprobs": null, "finish_reason": finish,
            }),
        };
        self.part(true, json!([choice]))
    }

    /// The first piece of a conversation's answer.
    fn opening(&self) -> Option<Value> {
        let choice = json!({
            "index": 0, "delta": {"role": "assistant", "content": ""}, "logprobs": null, "finish_reason": null,
        });
        (self.route == Route::Chat).then(|| self.part(true, json!([choice])))
    }
}

fn finish(ending: Ending) -> &'static str {
    match ending {
        Ending::Stop => "stop",
        Ending::Length => "length",
    }
}

fn counts(prompt: usize, answer: usize) -> [u64; 2] {
    [prompt as u64, answer as u64]
}

/// Has `prepared` answered under `call`.
pub(crate) async fn answer(
    call: Call,
    request: &Request,
    model: &str,
    prepared: Prepared,
) -> Result<Response, Fault> {
    let kind = match request.route {
        Route::Chat => "chatcmpl",
        Route::Text => "cmpl",
    };
    let options = request.fields.get("stream_options");
    let form = Form {
        id: format!("{kind}-{}", call.name()),
        route: request.route,
        model: model.to_owned(),
        created: now(),
        prompt_tokens: prepared.prompt_tokens,
        counts: options.is_some_and(|options| options["include_usage"] == true),
    };
    // The answer's length bounds what waits here; the engine never waits for a client.
    let (sender, events) = mpsc::unbounded_channel();
    let started = prepared.start(Box::new(move |event| sender.send(event).is_ok()));
    started?;
    if request.stream {
        return Ok(streamed(call, form, events));
    }
    whole(call, &form, events).await
}

async fn whole(
    call: Call,
    form: &Form,
    mut events: mpsc::UnboundedReceiver<Event>,
) -> Result<Response, Fault> {
    let mut text = String::new();
    loop {
        match events.recv().await {
            Some(Event::Text(more)) => text.push_str(&more),
            Some(Event::Ended { ending, tokens }) => {
                let salt = call.salt().map(str::to_owned);
                let counts = counts(form.prompt_tokens, tokens);
                let receipt = call.end(&text, counts).await?;
                let body = form.whole(&text, finish(ending), tokens).to_string();
                return Ok((headers(&receipt, salt.as_deref()), body).into_response());
            }
            Some(Event::Failed(_)) | None => return Err(failed()),
        }
    }
}

/// Headers of a whole answer.
pub(crate) fn headers(receipt: &str, salt: Option<&str>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    let own = [(RECEIPT_HEADER, Some(receipt)), (SALT_HEADER, salt)];
    for (name, value) in own {
        if let Some(value) = value.and_then(|value| HeaderValue::from_str(value).ok()) {
            headers.insert(name, value);
        }
    }
    headers
}

/// An answer whose pieces leave as they come.
fn streamed(call: Call, form: Form, events: mpsc::UnboundedReceiver<Event>) -> Response {
    let salt = call.salt().map(str::to_owned);
    let (pieces, body) = mpsc::channel(PIECES);
    tokio::spawn(timeout(call.limit(), send(call, form, events, pieces)));
    event_stream(body, salt.as_deref())
}

/// The response of a stream of events.
pub(crate) fn event_stream(mut pieces: mpsc::Receiver<Bytes>, salt: Option<&str>) -> Response {
    let pieces = stream::poll_fn(move |context| pieces.poll_recv(context));
    let whole = stream::StreamExt::map(pieces, Ok::<_, std::convert::Infallible>);
    let mut response = Body::from_stream(whole).into_response();
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/event-stream; charset=utf-8"),
    );
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    if let Some(salt) = salt.and_then(|salt| HeaderValue::from_str(salt).ok()) {
        headers.insert(SALT_HEADER, salt);
    }
    response
}

/// One event of a stream.
pub(crate) fn event(data: &impl std::fmt::Display) -> Bytes {
    Bytes::from(format!("data: {data}\n\n"))
}

/// The receipt in a stream: a comment, which clients that do not know it pass over.
pub(crate) fn receipt_comment(receipt: &str) -> Bytes {
    Bytes::from(format!(": {RECEIPT_HEADER} {receipt}\n\n"))
}

/// What ends a stream that cannot go on.
pub(crate) fn error_event(fault: &Fault) -> Bytes {
    event(&String::from_utf8_lossy(&fault.body()))
}

async fn send(
    call: Call,
    form: Form,
    mut events: mpsc::UnboundedReceiver<Event>,
    pieces: mpsc::Sender<Bytes>,
) {
    if let Some(opening) = form.opening()
        && pieces.send(event(&opening)).await.is_err()
    {
        return;
    }
    let mut text = String::new();
    let (ending, tokens) = loop {
        match events.recv().await {
            Some(Event::Text(more)) => {
                let piece = event(&form.piece(Some(&more), None));
                text.push_str(&more);
                if pieces.send(piece).await.is_err() {
                    return;
                }
            }
            Some(Event::Ended { ending, tokens }) => break (ending, tokens),
            Some(Event::Failed(_)) | None => {
                let fault = failed();
                call.broke_off(&fault);
                let _ = pieces.send(error_event(&fault)).await;
                return;
            }
        }
    };
    let last = match call.end(&text, counts(form.prompt_tokens, tokens)).await {
        Err(fault) => vec![error_event(&fault)],
        Ok(receipt) => {
            let mut last = vec![event(&form.piece(None, Some(finish(ending))))];
            if form.counts {
                let mut usage = form.part(true, json!([]));
                usage["usage"] = form.usage(tokens);
                last.push(event(&usage));
            }
            last.push(receipt_comment(&receipt));
            last.push(event(&"[DONE]"));
            last
        }
    };
    for piece in last {
        if pieces.send(piece).await.is_err() {
            return;
        }
    }
}

fn failed() -> Fault {
    Fault::new(
        axum::http::StatusCode::INTERNAL_SERVER_ERROR,
        "model_failed",
        "the model cannot answer this",
    )
}
