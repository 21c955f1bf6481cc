//! One admitted call on its way to its receipt.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::http::StatusCode;
use oml_core::manifest::hex;
use tokio::sync::OwnedSemaphorePermit;

use super::Gateway;
use super::fault::Fault;
use super::gate::{Admitted, now};
use super::log::Line;

/// An admitted call. It holds its place among the calls that are answered side by side.
pub(crate) struct Call {
    gateway: Arc<Gateway>,
    admitted: Admitted,
    started: Instant,
    /// What the gate took so far.
    gate: Duration,
    _place: OwnedSemaphorePermit,
}

impl Call {
    pub(crate) fn new(
        gateway: Arc<Gateway>,
        admitted: Admitted,
        started: Instant,
        gate: Duration,
        place: OwnedSemaphorePermit,
    ) -> Result<Self, Fault> {
        let call = Self {
            gate,
            gateway,
            admitted,
            started,
            _place: place,
        };
        // The drop of the call lowers it again, whatever follows.
        call.gateway.metrics.active.inc();
        call.say("admitted", None, None)?;
        Ok(call)
    }

    /// The salt that the host drew.
    pub(crate) fn salt(&self) -> Option<&str> {
        self.admitted.salt.as_deref()
    }

    /// A name for the answer that tells nothing of anything else.
    pub(crate) fn name(&self) -> String {
        hex(&self.admitted.permission()[..12])
    }

    /// Signs and keeps the receipt of the whole answer; afterwards its end may leave.
    pub(crate) async fn end(self, output: &str, tokens: [u64; 2]) -> Result<String, Fault> {
        let before = Instant::now();
        let gate = &self.gateway.gate;
        let receipt = gate
            .receipt(&self.admitted, output.as_bytes(), tokens)
            .await?;
        self.say("answered", None, Some(receipt.clone()))?;
        let gate = self.gate + before.elapsed();
        let whole = self.started.elapsed();
        self.gateway.metrics.answered(tokens, gate, whole);
        Ok(receipt)
    }

    /// An answer that has begun cannot go on.
    pub(crate) fn broke_off(&self, fault: &Fault) {
        self.gateway.metrics.refused(fault.code);
        // The answer ends here either way.
        let _ = self.say("broke_off", Some(fault.code), None);
    }

    /// How long an answer may take.
    pub(crate) fn limit(&self) -> Duration {
        self.gateway.limits.answer
    }

    fn say(&self, event: &str, code: Option<&str>, receipt: Option<String>) -> Result<(), Fault> {
        let Some(log) = &self.gateway.log else {
            return Ok(());
        };
        let said = log.say(Line {
            time: now(),
            event: event.to_owned(),
            code: code.map(str::to_owned),
            permission: Some(hex(self.admitted.permission())),
            licensee: Some(self.admitted.licensee().to_string()),
            purpose: self.admitted.purpose().map(str::to_owned),
            receipt,
            ..Line::default()
        });
        if said { Ok(()) } else { Err(log_failed()) }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.gateway.metrics.active.dec();
    }
}

/// Nothing is answered that the audit log cannot hold.
pub(crate) fn log_failed() -> Fault {
    Fault::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "log_failed",
        "the gateway cannot write its audit log, so it accepts nothing",
    )
}
