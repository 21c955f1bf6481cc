//! What the operator alone may see: counters, sums and records.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use oml_core::permission::ModelId;
use serde_json::json;

use super::Gateway;
use super::fault::Fault;
use super::routes::health;

pub(crate) fn admin(gateway: Arc<Gateway>) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/usage", get(usage))
        .route("/records", get(records))
        .route("/healthz", get(health))
        .with_state(gateway)
}

async fn metrics(State(gateway): State<Arc<Gateway>>) -> Response {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], gateway.metrics.page()).into_response()
}

/// Sums by day, model and licensee.
async fn usage(State(gateway): State<Arc<Gateway>>) -> Response {
    match gateway.gate.store().usage().await {
        Err(error) => Fault::from(error).into_response(),
        Ok(sums) => {
            let sums: Vec<_> = sums
                .into_iter()
                .map(|(key, sum)| {
                    json!({
                        "day": key.day, "model": ModelId(key.model).to_string(), "licensee": key.licensee().to_string(),
                        "calls": sum.calls, "prompt_tokens": sum.prompt_tokens,
                        "completion_tokens": sum.completion_tokens, "spent": sum.spent.to_string(),
                    })
                })
                .collect();
            axum::Json(sums).into_response()
        }
    }
}

/// Every call of the evidence window with its permission and receipt.
async fn records(State(gateway): State<Arc<Gateway>>) -> Response {
    match gateway.gate.store().records().await {
        Err(error) => Fault::from(error).into_response(),
        Ok(records) => {
            let records: Vec<_> = records
                .into_iter()
                .map(|record| {
                    let (receipt, tokens) = record.receipt.unzip();
                    json!({"time": record.time, "permission": record.token, "receipt": receipt, "tokens": tokens})
                })
                .collect();
            axum::Json(records).into_response()
        }
    }
}
