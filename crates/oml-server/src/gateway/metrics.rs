//! What the gateway counts, in the format of Prometheus (OpenMetrics 1.0).

use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, text::encode};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Code {
    code: &'static str,
}

type Histograms = Histogram;

/// The counters.
pub(crate) struct Metrics {
    registry: Registry,
    answers: Counter,
    refusals: Family<Code, Counter>,
    prompt_tokens: Counter,
    completion_tokens: Counter,
    pub(crate) active: Gauge,
    gate: Histograms,
    answer: Histograms,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("oml");
        let gate = Histogram::new([
            1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 1e-2, 2.5e-2, 0.1, 1.0,
        ]);
        let answer = Histogram::new([0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0]);
        let metrics = Self {
            answers: Counter::default(),
            refusals: Family::default(),
            prompt_tokens: Counter::default(),
            completion_tokens: Counter::default(),
            active: Gauge::default(),
            gate: gate.clone(),
            answer: answer.clone(),
            registry: Registry::default(),
        };
        registry.register("answers", "Answers with a receipt", metrics.answers.clone());
        registry.register(
            "refusals",
            "Requests refused, by code",
            metrics.refusals.clone(),
        );
        registry.register(
            "prompt_tokens",
            "Tokens of prompts",
            metrics.prompt_tokens.clone(),
        );
        let tokens = metrics.completion_tokens.clone();
        registry.register("completion_tokens", "Tokens of answers", tokens);
        registry.register("active", "Requests being answered", metrics.active.clone());
        let help = "What the gate takes of an answer's time: verifying, admitting on disk, signing and keeping the receipt";
        registry.register_with_unit("gate", help, Unit::Seconds, gate);
        let help = "From the request's last byte until the end of the answer";
        registry.register_with_unit("answer", help, Unit::Seconds, answer);
        Self {
            registry,
            ..metrics
        }
    }
}

impl Metrics {
    pub(crate) fn refused(&self, code: &'static str) {
        self.refusals.get_or_create(&Code { code }).inc();
    }

    /// One answer with its receipt: the gate's share of the time, and all of it.
    pub(crate) fn answered(&self, tokens: [u64; 2], gate: Duration, whole: Duration) {
        self.answers.inc();
        self.prompt_tokens.inc_by(tokens[0]);
        self.completion_tokens.inc_by(tokens[1]);
        self.gate.observe(gate.as_secs_f64());
        self.answer.observe(whole.as_secs_f64());
    }

    /// The page that Prometheus reads.
    pub(crate) fn page(&self) -> String {
        let mut page = String::new();
        // Writing to a string does not fail.
        let _ = encode(&mut page, &self.registry);
        page
    }
}
