//! Why a request is not answered, as HTTP says it: a status, and OpenAI's error object with a code for machines.

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use oml_core::permission::{InputError, Refusal};
use oml_core::serving::QuestionError;
use serde_json::{Value, json};

use super::offer::Offer;
use super::replay::{Decision, StoreError};

/// The header with the offer, as x402 names it.
const OFFER_HEADER: &str = "payment-required";

/// A refusal on its way to the client. Its message says nothing that the client did not send or may not know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    pub(crate) status: StatusCode,
    pub(crate) code: &'static str,
    pub(crate) message: String,
    pub(crate) param: Option<String>,
}

impl Fault {
    pub(crate) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            code,
            message: message.into(),
            param: None,
        }
    }

    /// A request that says something wrong in one field.
    pub(crate) fn field(
        code: &'static str,
        param: impl Into<String>,
        message: impl Into<String>,
    ) -> Self {
        Self {
            param: Some(param.into()),
            ..Self::new(StatusCode::BAD_REQUEST, code, message)
        }
    }

    pub(crate) fn busy(message: impl Into<String>) -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, "overloaded", message)
    }

    /// The response, with an offer where paying would help.
    pub(crate) fn with_offer(self, offer: &Offer, path: &str) -> Response {
        if self.status != StatusCode::PAYMENT_REQUIRED {
            return self.into_response();
        }
        let value = HeaderValue::from_str(&offer.header(path, self.code));
        let mut body = offer.to_json(path, self.code);
        body["error"] = self.error();
        let mut response = self.into_response();
        if let Ok(value) = value {
            response.headers_mut().insert(OFFER_HEADER, value);
        }
        *response.body_mut() = Body::from(body.to_string());
        response
    }

    /// The kind of error as OpenAI's clients know it.
    fn kind(&self) -> &'static str {
        match self.status.as_u16() {
            401 => "authentication_error",
            402 => "insufficient_quota",
            403 => "permission_error",
            429 => "rate_limit_error",
            400..=499 => "invalid_request_error",
            _ => "server_error",
        }
    }

    fn error(&self) -> Value {
        json!({"message": self.message, "type": self.kind(), "param": self.param, "code": self.code})
    }

    /// OpenAI's error object.
    pub(crate) fn body(&self) -> Bytes {
        Bytes::from(json!({"error": self.error()}).to_string())
    }
}

impl From<Refusal> for Fault {
    /// 401 where it is not certain who asks, 402 where paying helps, 403 where it does not, 503 where this gateway knows too little.
    fn from(refusal: Refusal) -> Self {
        let status = match &refusal {
            Refusal::StaleView { .. } | Refusal::FutureView { .. } => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Refusal::Text(_)
            | Refusal::WrongDomain
            | Refusal::BadSignature { .. }
            | Refusal::WrongSigner { .. }
            | Refusal::UnknownIssuer { .. } => StatusCode::UNAUTHORIZED,
            Refusal::OverCalls { .. } | Refusal::OverSpend { .. } => StatusCode::PAYMENT_REQUIRED,
            _ => StatusCode::FORBIDDEN,
        };
        Self::new(status, refusal.code(), refusal.to_string())
    }
}

impl Fault {
    /// What the store's decision means to the client; `None` where it was accepted.
    pub(crate) fn of_decision(decision: Decision) -> Option<Self> {
        let (status, code, message) = match decision {
            Decision::Accepted => return None,
            Decision::Replayed => (
                StatusCode::FORBIDDEN,
                "replayed",
                "permission: expected one that was not used before, got a used one",
            ),
            Decision::OutOfSequence => (
                StatusCode::FORBIDDEN,
                "out_of_sequence",
                "permission nonce: expected one above the last one used under the grant, got one at or below it",
            ),
            Decision::CallsSpent => (
                StatusCode::PAYMENT_REQUIRED,
                "over_calls",
                "calls: expected one of the calls that the grants allow, and all are used",
            ),
            Decision::SpendSpent => (
                StatusCode::PAYMENT_REQUIRED,
                "over_spend",
                "spend: expected the price within what the grants allow, and that is used",
            ),
            Decision::Underpaid => (
                StatusCode::PAYMENT_REQUIRED,
                "underpaid",
                "permission cumulative: expected at least the price of all calls under the grant, got less",
            ),
        };
        Some(Self::new(status, code, message))
    }
}

impl From<StoreError> for Fault {
    /// The reason goes to the log, not to the client.
    fn from(error: StoreError) -> Self {
        let code = match error {
            StoreError::Overloaded => return Self::busy(error.to_string()),
            StoreError::Closed => "shutting_down",
            StoreError::Failed { .. } | StoreError::Damaged { .. } => "store_failed",
        };
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            code,
            "the gateway cannot keep permissions now, so it accepts none",
        )
    }
}

impl From<QuestionError> for Fault {
    fn from(error: QuestionError) -> Self {
        let message = error.to_string();
        match error {
            QuestionError::Busy { .. } => Self::busy(message),
            QuestionError::TooLong { .. } => {
                Self::field("context_length_exceeded", "max_tokens", message)
            }
            QuestionError::Empty | QuestionError::Prompt(_) => {
                Self::field("invalid_prompt", "messages", message)
            }
            QuestionError::Stopped => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "shutting_down", message)
            }
        }
    }
}

impl From<InputError> for Fault {
    fn from(error: InputError) -> Self {
        Self::field("invalid_input", "messages", error.to_string())
    }
}

impl IntoResponse for Fault {
    fn into_response(self) -> Response {
        let mut response = (self.status, self.body()).into_response();
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        );
        if self.status == StatusCode::TOO_MANY_REQUESTS {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        if let Ok(code) = HeaderValue::from_str(self.code) {
            headers.insert("oml-code", code);
        }
        response
    }
}
