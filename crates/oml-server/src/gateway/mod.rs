//! The gateway: an OpenAI-compatible server that answers only what is permitted, and signs a receipt for what it answered.
//!
//! ```text
//! client ─▶ limits ─▶ read ─▶ gate (verify, rate, admit on disk) ─▶ model of ours | upstream ─▶ receipt on disk ─▶ end of the answer
//! ```
//!
//! One [`Gateway`] serves one model under one host's key. [`serve`] listens in public, [`serve_admin`] for the operator alone.

mod admin;
mod answer;
mod call;
mod fault;
mod gate;
mod listen;
mod log;
mod metrics;
mod offer;
mod openapi;
mod rates;
mod replay;
mod request;
mod routes;
mod run;
mod sse;
mod upstream;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;

pub use answer::{RECEIPT_HEADER, SALT_HEADER};
pub use fault::Fault;
pub(crate) use gate::now;
pub use gate::{Gate, MAX_HEADER_BYTES, PERMISSION_HEADER, Terms};
pub(crate) use listen::run as serve_router;
pub use listen::{ListenError, Listening, Tls, serve, serve_admin};
pub use log::{AuditLog, Line, LogEnd, LogError, verify_log};
pub use offer::{Offer, Payment};
pub use replay::{
    Admission, Answered, Budget, Decision, EmbeddedStore, GrantState, PostgresStore, Promise,
    Record, ReplayStore, StoreError, Usage, UsageKey,
};
pub use request::{Request, Route};
pub(crate) use routes::read_body;
pub(crate) use run::asking;
pub use run::{Contents, Plan, Ready, RunError, StorePlace, run};
pub use sse::{SseError, SseReader};
pub use upstream::{Upstream, UpstreamError};

use metrics::Metrics;
use oml_core::serving::TextModel;

/// What answers.
pub enum Answers {
    /// A model of ours.
    Model(Arc<dyn TextModel>),
    /// A server behind this one.
    Upstream(Upstream),
}

/// How much is taken, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a request's body.
    pub body: usize,
    /// How long a client may take to send head or body, and to agree on TLS.
    pub patience: Duration,
    /// How long an answer may take.
    pub answer: Duration,
    /// Calls answered side by side; one more is refused at once.
    pub calls: usize,
    /// Connections; one more waits to be accepted.
    pub connections: usize,
    /// How long calls may go on after the wish to stop.
    pub grace: Duration,
    /// How long receipts are kept after their permissions expired.
    pub window: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body: 1 << 20,
            patience: Duration::from_secs(15),
            answer: Duration::from_secs(600),
            calls: 64,
            connections: 1024,
            grace: Duration::from_secs(30),
            window: Duration::from_secs(14 * 86_400),
        }
    }
}

/// A model behind its gate.
pub struct Gateway {
    names: Vec<String>,
    gate: Gate,
    answers: Answers,
    offer: Offer,
    limits: Limits,
    log: Option<AuditLog>,
    metrics: Metrics,
    places: Arc<Semaphore>,
}

impl Gateway {
    /// A gateway for the model that clients call by any of `names`; the first is how it calls itself.
    #[must_use]
    pub fn new(
        names: Vec<String>,
        gate: Gate,
        answers: Answers,
        offer: Offer,
        limits: Limits,
        log: Option<AuditLog>,
    ) -> Arc<Self> {
        Arc::new(Self {
            names,
            gate,
            answers,
            offer,
            places: Arc::new(Semaphore::new(limits.calls)),
            limits,
            log,
            metrics: Metrics::default(),
        })
    }

    /// How the model calls itself.
    fn name(&self) -> &str {
        self.names.first().map_or("model", String::as_str)
    }
}
