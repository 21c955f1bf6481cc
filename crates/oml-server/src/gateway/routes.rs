//! What each path does.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use bytes::Bytes;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use oml_core::permission::{Refusal, Token};
use oml_core::serving::QuestionError;
use serde_json::json;
use tokio::time::timeout;

use super::answer::{RECEIPT_HEADER, answer};
use super::call::{Call, log_failed};
use super::fault::Fault;
use super::gate::now;
use super::log::Line;
use super::request::{Request, Route};
use super::{Answers, Gateway, openapi};

/// What is public.
pub(crate) fn public(gateway: Arc<Gateway>) -> Router {
    Router::new()
        .route(Route::Chat.path(), post(chat))
        .route(Route::Text.path(), post(text))
        .route("/v1/models", get(models))
        .route("/v1/models/{name}", get(model))
        .route("/v1/receipts", post(receipt))
        .route("/openapi.json", get(openapi::document))
        .route("/healthz", get(health))
        .fallback(missing)
        .method_not_allowed_fallback(wrong_method)
        .with_state(gateway)
}

async fn chat(State(gateway): State<Arc<Gateway>>, headers: HeaderMap, body: Body) -> Response {
    complete(gateway, Route::Chat, headers, body).await
}

async fn text(State(gateway): State<Arc<Gateway>>, headers: HeaderMap, body: Body) -> Response {
    complete(gateway, Route::Text, headers, body).await
}

async fn complete(gateway: Arc<Gateway>, route: Route, headers: HeaderMap, body: Body) -> Response {
    let limit = gateway.limits.answer;
    let work = timeout(limit, call(gateway.clone(), route, &headers, body)).await;
    let answered = work.unwrap_or_else(|_| {
        let message = "the answer took longer than this server allows";
        Err(Fault::new(StatusCode::GATEWAY_TIMEOUT, "timeout", message))
    });
    match answered {
        Ok(response) => response,
        Err(fault) => gateway.refuse(fault, route.path()),
    }
}

async fn call(
    gateway: Arc<Gateway>,
    route: Route,
    headers: &HeaderMap,
    body: Body,
) -> Result<Response, Fault> {
    let body = read(&gateway, headers, body).await?;
    let started = Instant::now();
    let mut request = Request::read(route, &body)?;
    let model = gateway.named(&request.model)?.to_owned();
    let verifying = Instant::now();
    let ticket = gateway.gate.verify(headers, &request)?;
    let verified = verifying.elapsed();
    // Only who may ask takes a place, and where there is none is refused at once: nothing is used yet, and nothing waits without bound.
    let place =
        gateway.places.clone().try_acquire_owned().map_err(|_| {
            Fault::busy("this server answers as many calls as it can; try again soon")
        })?;
    if let (None, Some(limit)) = (request.max_tokens, ticket.max_tokens()) {
        request.limit(limit);
    }
    // All that may be wrong with the request is found before its permission is used.
    let prepared = match &gateway.answers {
        Answers::Upstream(_) => {
            request.passed_on()?;
            None
        }
        Answers::Model(model) => {
            let (question, model) = (request.question()?, model.clone());
            let prepared = match body.len() > 16 << 10 {
                false => model.prepare(question),
                // A long prompt takes the tokenizer longer than others should wait for this thread.
                true => tokio::task::spawn_blocking(move || model.prepare(question))
                    .await
                    .map_err(|_| QuestionError::Stopped)?,
            };
            Some(prepared?)
        }
    };
    let admitting = Instant::now();
    let admitted = gateway.gate.admit(ticket).await?;
    let gate = verified + admitting.elapsed();
    let call = Call::new(gateway.clone(), admitted, started, gate, place)?;
    match (&gateway.answers, prepared) {
        (Answers::Upstream(upstream), _) => upstream.answer(call, &request).await,
        (Answers::Model(_), Some(prepared)) => answer(call, &request, &model, prepared).await,
        (Answers::Model(_), None) => Err(QuestionError::Stopped.into()),
    }
}

/// The whole body, within its limits.
async fn read(gateway: &Gateway, headers: &HeaderMap, body: Body) -> Result<Bytes, Fault> {
    let kind = headers.get(header::CONTENT_TYPE);
    let is_json = kind.is_some_and(|kind| {
        let kind = kind.as_bytes();
        kind.len() >= 16 && kind[..16].eq_ignore_ascii_case(b"application/json")
    });
    if !is_json {
        let message = "content-type: expected application/json";
        return Err(Fault::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "content_type",
            message,
        ));
    }
    read_body(body, gateway.limits.body, gateway.limits.patience).await
}

/// A body of at most `limit` bytes that comes within `patience`.
pub(crate) async fn read_body(
    body: Body,
    limit: usize,
    patience: Duration,
) -> Result<Bytes, Fault> {
    let read = timeout(patience, Limited::new(body, limit).collect()).await;
    let read = read.map_err(|_| {
        let message = "body: expected it sooner";
        Fault::new(StatusCode::REQUEST_TIMEOUT, "slow_body", message)
    })?;
    match read {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => {
            let message = format!("body: expected at most {limit} bytes, got more");
            Err(Fault::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                "body_too_large",
                message,
            ))
        }
        Err(_) => {
            let message = "body: expected all of it, and it broke off";
            Err(Fault::new(StatusCode::BAD_REQUEST, "body_cut", message))
        }
    }
}

async fn models(State(gateway): State<Arc<Gateway>>) -> Response {
    let data: Vec<_> = gateway
        .names
        .iter()
        .map(|name| described(&gateway, name))
        .collect();
    axum::Json(json!({"object": "list", "data": data})).into_response()
}

async fn model(State(gateway): State<Arc<Gateway>>, Path(name): Path<String>) -> Response {
    match gateway.named(&name) {
        Ok(name) => axum::Json(described(&gateway, name)).into_response(),
        Err(fault) => gateway.refuse(fault, "/v1/models"),
    }
}

fn described(gateway: &Gateway, name: &str) -> serde_json::Value {
    json!({
        "id": name, "object": "model", "created": 0, "owned_by": gateway.gate.terms().model.to_string(),
    })
}

/// The receipt of a permission, for a client that streamed or lost its answer. Whoever has the permission's text may have it.
async fn receipt(State(gateway): State<Arc<Gateway>>, headers: HeaderMap) -> Response {
    let found = async {
        let value = headers
            .get(super::PERMISSION_HEADER)
            .and_then(|v| v.to_str().ok());
        let text = value
            .and_then(|value| value.split(';').next())
            .unwrap_or_default();
        let token = Token::from_text(text.trim()).map_err(Refusal::from)?;
        let found = gateway
            .gate
            .store()
            .find(token.id(), token.permission.deadline);
        let record = found.await?.filter(|record| record.token == text.trim());
        let Some(record) = record else {
            let message = "no such permission was used here, or its receipt is no longer kept";
            return Err(Fault::new(StatusCode::NOT_FOUND, "no_receipt", message));
        };
        let receipt = record.receipt.map(|(receipt, _)| receipt);
        Ok((record.time, receipt))
    };
    match found.await {
        Err(fault) => gateway.refuse(fault, "/v1/receipts"),
        Ok((time, receipt)) => {
            let body = json!({"admitted": time, "receipt": receipt});
            let mut response = axum::Json(body).into_response();
            let value = receipt.and_then(|receipt| HeaderValue::from_str(&receipt).ok());
            if let Some(value) = value {
                response.headers_mut().insert(RECEIPT_HEADER, value);
            }
            response
        }
    }
}

/// Whether the gateway would accept anything now.
pub(crate) async fn health(State(gateway): State<Arc<Gateway>>) -> Response {
    let (model, now) = (gateway.gate.terms().model, now());
    let view = gateway.gate.authority().view(&model, now);
    let stale = view
        .max_age
        .is_some_and(|age| now.saturating_sub(view.as_of) > age);
    let (status, said) = match stale {
        true => (StatusCode::SERVICE_UNAVAILABLE, "stale_view"),
        false => (StatusCode::OK, "ok"),
    };
    (status, axum::Json(json!({"status": said}))).into_response()
}

async fn missing() -> Response {
    Fault::new(
        StatusCode::NOT_FOUND,
        "no_such_path",
        "there is nothing here",
    )
    .into_response()
}

async fn wrong_method() -> Response {
    let message = "this path takes another method";
    Fault::new(StatusCode::METHOD_NOT_ALLOWED, "wrong_method", message).into_response()
}

impl Gateway {
    /// The name of the model that a request means.
    fn named(&self, name: &str) -> Result<&str, Fault> {
        if name.is_empty() {
            return Ok(self.name());
        }
        let known = self.names.iter().find(|known| *known == name);
        known.map(String::as_str).ok_or_else(|| {
            let message = format!("model: expected {}, got another", self.names.join(" or "));
            Fault {
                status: StatusCode::NOT_FOUND,
                ..Fault::field("model_not_found", "model", message)
            }
        })
    }

    /// Says no, with an offer where paying would help; the log knows of it.
    fn refuse(&self, fault: Fault, path: &str) -> Response {
        self.metrics.refused(fault.code);
        let line = Line {
            time: now(),
            event: "refused".to_owned(),
            code: Some(fault.code.to_owned()),
            ..Line::default()
        };
        if self.log.as_ref().is_some_and(|log| !log.say(line)) {
            return log_failed().into_response();
        }
        fault.with_offer(&self.offer, path)
    }
}
