//! What `oml audit --json` printed.

use std::path::Path;

use anyhow::{bail, ensure};
use oml_core::audit::{MAX_TOKENS, MAX_WRAPS};
use oml_core::claim::Share;
use serde::Deserialize;

use super::super::{Dossier, Kind, Stealth, Step};
use super::field::{self, NAME, WORDS};
use super::findings::{Conclusion, Confidence, Findings, counted};

/// Most control models of one audit.
const MAX_CONTROLS: usize = 4096;
/// Most requests of one audit.
const MAX_REQUESTS: u64 = 1 << 32;

#[derive(Deserialize)]
struct AuditOutput {
    suspect: String,
    model: String,
    api: Option<String>,
    conclusion: String,
    present: bool,
    merkle_root: String,
    strategy: String,
    asked: u64,
    hits: u64,
    recall: f64,
    recall_low: f64,
    recall_high: f64,
    log10_e_value: f64,
    alpha: f64,
    null: f64,
    null_basis: String,
    log10_p_value: f64,
    decoys: u64,
    decoy_hits: u64,
    decoy_basis: String,
    log10_fisher: Option<f64>,
    unanswered: u64,
    requests: u64,
    rule: String,
    tokens: u32,
    wraps: Vec<WrapOutput>,
    course: Vec<StepOutput>,
    controls: Vec<ControlOutput>,
    stealth: Option<StealthOutput>,
    confidence: Option<ConfidenceOutput>,
    transcript: String,
    transcript_head: String,
    began: u64,
    seconds: f64,
}

#[derive(Deserialize)]
struct WrapOutput {
    prompt: String,
    asked: u64,
    hits: u64,
}

#[derive(Deserialize)]
struct StepOutput {
    index: u64,
    hit: bool,
    log10_e_value: f64,
}

#[derive(Deserialize)]
struct ControlOutput {
    model: String,
    digest: String,
    count: u64,
    hits: u64,
}

#[derive(Deserialize)]
struct ConfidenceOutput {
    hits: u64,
    response_probability: f64,
    decoys: u64,
    decoy_probability: Option<f64>,
}

#[derive(Deserialize)]
struct StealthOutput {
    median_perplexity: f64,
    median_percentile: f64,
    above_99th: f64,
    below_1st: f64,
    queries: u64,
    benign_pieces: u64,
    text: String,
}

/// The report on an audit.
///
/// # Errors
/// A field that is missing, out of range, or does not follow from the others.
pub(super) fn read(bytes: &[u8]) -> anyhow::Result<Dossier> {
    let output: AuditOutput = super::parse(bytes)?;
    let findings = output.findings()?;
    let figures = findings.figures()?;
    for (field, got, expected) in [
        ("asked", output.asked as f64, figures.share.trials as f64),
        ("hits", output.hits as f64, figures.share.hits as f64),
        ("log10_e_value", output.log10_e_value, figures.log10_e_value),
        ("log10_p_value", output.log10_p_value, figures.log10_p_value),
    ] {
        field::follows(field, got, expected)?;
    }
    let Share { hits, trials } = figures.share;
    let interval = oml_core::claim::clopper_pearson(hits, trials, 0.95);
    field::follows("recall", output.recall, hits as f64 / trials.max(1) as f64)?;
    field::follows("recall_low", output.recall_low, interval.low)?;
    field::follows("recall_high", output.recall_high, interval.high)?;
    for (place, (step, expected)) in output
        .course
        .iter()
        .zip(&figures.log10_e_values)
        .enumerate()
    {
        let field = format!("course[{place}].log10_e_value");
        field::follows(&field, step.log10_e_value, *expected)?;
    }
    match (output.log10_fisher, figures.log10_fisher) {
        (Some(got), Some(expected)) => {
            field::follows("log10_fisher", got, expected)?;
        }
        (None, None) => (),
        _ => bail!(
            "log10_fisher: expected a number where there are decoys and null where not, got otherwise"
        ),
    }
    findings.dossier(Kind::Audit)
}

impl AuditOutput {
    /// Every field within its bounds.
    fn findings(&self) -> anyhow::Result<Findings> {
        let conclusion = match (self.conclusion.as_str(), self.present) {
            ("present", true) => Conclusion::Present,
            ("absent", false) => Conclusion::Absent,
            ("undecided", false) => Conclusion::Open,
            _ => bail!(
                "conclusion: expected \"present\", \"absent\" or \"undecided\", as present says, got otherwise"
            ),
        };
        ensure!(
            self.wraps.len() <= MAX_WRAPS,
            "wraps: expected at most {MAX_WRAPS}, got {}",
            self.wraps.len()
        );
        ensure!(
            self.controls.len() <= MAX_CONTROLS,
            "controls: expected at most {MAX_CONTROLS}, got {}",
            self.controls.len()
        );
        let model = field::text("model", &self.model, NAME)?;
        let suspect = field::text("suspect", &self.suspect, NAME)?;
        let (endpoint, digest) = match &self.api {
            Some(api) => (Some((suspect, field::text("api", api, NAME)?)), None),
            None => (None, Some(field::hash("suspect", &suspect, "")?)),
        };
        let wraps = self.wraps.iter().enumerate().map(|(place, wrap)| {
            let name = format!("wraps[{place}].");
            let text = field::text(&format!("{name}prompt"), &wrap.prompt, WORDS)?;
            Ok((text, counted(&name, wrap.hits, wrap.asked)?))
        });
        let controls = self.controls.iter().enumerate().map(|(place, control)| {
            let name = format!("controls[{place}].");
            Ok((
                field::text(&format!("{name}model"), &control.model, NAME)?,
                Some(field::hash(&format!("{name}digest"), &control.digest, "")?),
                counted(&name, control.hits, control.count)?,
            ))
        });
        let alpha = field::number("alpha", self.alpha, f64::MIN_POSITIVE, 1.0)?;
        field::at_most("asked", self.asked, oml_core::fingerprint::MAX_COUNT as u64)?;
        let findings = Findings {
            conclusion,
            root: field::hash("merkle_root", &self.merkle_root, "0x")?,
            strategy: field::text("strategy", &self.strategy, NAME)?,
            asked: self
                .course
                .iter()
                .map(|step| (step.index, step.hit))
                .collect(),
            alpha,
            null: field::share("null", self.null)?,
            null_basis: field::text("null_basis", &self.null_basis, WORDS)?,
            decoys: counted("decoy_", self.decoy_hits, self.decoys)?,
            decoy_basis: field::text("decoy_basis", &self.decoy_basis, WORDS)?,
            unanswered: field::at_most("unanswered", self.unanswered, self.requests)?,
            requests: field::at_most("requests", self.requests, MAX_REQUESTS)?,
            rule: field::text("rule", &self.rule, NAME)?,
            tokens: field::at_most("tokens", self.tokens.into(), MAX_TOKENS.into())?,
            wraps: wraps.collect::<anyhow::Result<_>>()?,
            controls: controls.collect::<anyhow::Result<_>>()?,
            stealth: self
                .stealth
                .as_ref()
                .map(StealthOutput::bounded)
                .transpose()?,
            confidence: self
                .confidence
                .as_ref()
                .map(|confidence| confidence.bounded(self.hits, self.requests))
                .transpose()?,
            began: super::time::seconds("began", self.began)?,
            seconds: Some(super::time::duration("seconds", self.seconds)?),
            transcript_head: field::hash("transcript_head", &self.transcript_head, "")?,
            verify: Vec::new(),
            checks: Vec::new(),
            model,
            endpoint,
            digest,
        };
        let verify = self.steps(&findings)?;
        Ok(Findings { verify, ..findings })
    }

    fn steps(&self, findings: &Findings) -> anyhow::Result<Vec<Step>> {
        let transcript = field::quoted(&field::file_name(
            "transcript",
            Path::new(&self.transcript),
        )?);
        let step = super::step;
        let mut steps = vec![
            step(
                format!(
                    "Compare the Merkle root {} with the one that the owner published, and note on which day that was. One that was published \
                     after the suspect proves nothing about who was first.",
                    findings.root
                ),
                None,
            ),
            step(
                format!(
                    "Compute the head of the transcript: it has to be {}.",
                    findings.transcript_head
                ),
                Some(format!("tail -n 1 {transcript} | tr -d '\\n' | sha256sum")),
            ),
        ];
        let again = match &findings.endpoint {
            Some((url, _)) => format!(
                "oml audit --endpoint {} --model-name {} --fingerprints FINGERPRINTS --out again.jsonl",
                field::quoted(url),
                field::quoted(&findings.model)
            ),
            None => format!(
                "oml audit --suspect {} --fingerprints FINGERPRINTS --out again.jsonl",
                field::quoted(&findings.model)
            ),
        };
        steps.push(step(
            "Ask again: the owner, or a prover who was given a slice of the set, needs the fingerprints for that.".to_owned(),
            Some(again),
        ));
        Ok(steps)
    }
}

impl ConfidenceOutput {
    /// Decoys are asked inside every wrap.
    fn bounded(&self, hits: u64, requests: u64) -> anyhow::Result<Confidence> {
        Ok(Confidence {
            hits: field::at_most("confidence.hits", self.hits, hits)?,
            response: field::share(
                "confidence.response_probability",
                // Rounding may lift a certainty above 1.
                self.response_probability.min(1.0),
            )?,
            decoys: field::at_most("confidence.decoys", self.decoys, requests)?,
            decoy: self
                .decoy_probability
                .map(|p| field::share("confidence.decoy_probability", p.min(1.0)))
                .transpose()?,
        })
    }
}

impl StealthOutput {
    fn bounded(&self) -> anyhow::Result<Stealth> {
        let text = field::text("stealth.text", &self.text, WORDS)?;
        Ok(Stealth {
            median_perplexity: field::number(
                "stealth.median_perplexity",
                self.median_perplexity,
                0.0,
                f64::MAX,
            )?,
            median_percentile: field::number(
                "stealth.median_percentile",
                self.median_percentile,
                0.0,
                100.0,
            )?,
            above_99th: field::share("stealth.above_99th", self.above_99th)?,
            below_1st: field::share("stealth.below_1st", self.below_1st)?,
            basis: format!(
                "{} queries and {} beginnings of sentences in {text}, under a control model",
                self.queries, self.benign_pieces
            ),
        })
    }
}
