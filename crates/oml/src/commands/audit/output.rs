//! What `oml audit` prints.

use std::f64::consts::LN_10;
use std::fmt;
use std::path::Path;

use oml_core::audit::{Conclusion, Confidence, Suspect, Verdict};
use oml_core::bundle::ControlResult;
use oml_core::claim::{Share, paper_bound, queries_to_claim};
use oml_core::manifest::hex;
use oml_core::manifest::transcript_file::Transcript;
use serde::Serialize;

use crate::commands::check::p_value;
use crate::commands::stealth::Stealth;
use crate::seconds;

/// The verdict with what it rests on.
#[derive(Serialize)]
pub(super) struct Output {
    /// Where the suspect is: a URL, or the digest of its tensors.
    suspect: String,
    model: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    api: Option<String>,
    conclusion: &'static str,
    present: bool,
    merkle_root: String,
    strategy: String,
    asked: u64,
    hits: u64,
    recall: f64,
    recall_low: f64,
    recall_high: f64,
    /// Largest e-value along the way; null where it is too large for a number.
    e_value: Option<f64>,
    log10_e_value: f64,
    alpha: f64,
    /// Fewest fingerprints that could have sufficed, each of them a hit.
    fewest: Option<u64>,
    null: f64,
    null_basis: String,
    /// Exact binomial, valid for a number of queries that was fixed before.
    log10_p_value: f64,
    /// Responses that the seed chose among, for each query.
    candidates: u64,
    /// Bound of arXiv 2502.07760 on the false-positive rate, from the candidates alone; valid as the p-value is.
    paper_bound: f64,
    decoys: u64,
    decoy_hits: u64,
    decoy_basis: String,
    /// Fisher's exact test of fingerprints against decoys, valid for a number of queries that was fixed before.
    log10_fisher: Option<f64>,
    unanswered: u64,
    requests: usize,
    rule: &'static str,
    tokens: u32,
    wraps: Vec<WrapOutput>,
    /// The evidence after each fingerprint.
    course: Vec<StepOutput>,
    controls: Vec<ControlOutput>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stealth: Option<Stealth>,
    /// What the endpoint's log probabilities say; none where it offers none. A description, no part of the e-value.
    #[serde(skip_serializing_if = "Option::is_none")]
    confidence: Option<ConfidenceOutput>,
    transcript: String,
    /// SHA-256 of the transcript's last line: publish it, and the transcript cannot change any more.
    transcript_head: String,
    /// Milliseconds since 1970.
    began: u64,
    seconds: f64,
}

#[derive(Serialize)]
struct WrapOutput {
    prompt: String,
    asked: u64,
    hits: u64,
}

#[derive(Serialize)]
struct StepOutput {
    index: u64,
    hit: bool,
    log10_e_value: f64,
}

#[derive(Serialize)]
struct ControlOutput {
    model: String,
    digest: String,
    count: u64,
    hits: u64,
}

#[derive(Serialize)]
struct ConfidenceOutput {
    /// Hits whose response was scored, and the median probability of the response.
    hits: usize,
    response_probability: f64,
    /// Decoys whose answer was scored, and the median probability of as many tokens from its beginning as a response has.
    decoys: usize,
    decoy_probability: Option<f64>,
}

impl Output {
    pub(super) fn new(
        out: &Path,
        transcript: &Transcript,
        verdict: &Verdict,
        candidates: u64,
        controls: &[ControlResult],
        (stealth, confidence): (Option<Stealth>, Option<Confidence>),
        seconds: f64,
    ) -> Self {
        let terms = &transcript.terms;
        let (suspect, model, api) = match &terms.suspect {
            Suspect::Endpoint { url, api, model } => {
                (url.clone(), model.clone(), Some(api.clone()))
            }
            Suspect::Checkpoint { name, digest } => (hex(digest), name.clone(), None),
        };
        let wrap = |(prompt, share): (&oml_core::prompt::Prompt, &Share)| WrapOutput {
            prompt: prompt.to_string(),
            asked: share.trials,
            hits: share.hits,
        };
        let fewest = queries_to_claim(terms.most, terms.null.rate, terms.alpha);
        Self {
            suspect,
            model,
            api,
            conclusion: verdict.conclusion.name(),
            present: verdict.conclusion == Conclusion::Present,
            merkle_root: format!("0x{}", hex(&terms.root)),
            strategy: terms.strategy.clone(),
            asked: verdict.fingerprints.trials,
            hits: verdict.fingerprints.hits,
            recall: verdict.recall,
            recall_low: verdict.recall_interval.low,
            recall_high: verdict.recall_interval.high,
            e_value: Some(verdict.ln_e_value.exp()).filter(|value| value.is_finite()),
            log10_e_value: verdict.ln_e_value / LN_10,
            alpha: terms.alpha,
            fewest,
            null: terms.null.rate,
            null_basis: terms.null.basis.clone(),
            log10_p_value: verdict.ln_p_value / LN_10,
            candidates,
            paper_bound: paper_bound(
                verdict.fingerprints.hits,
                verdict.fingerprints.trials,
                candidates,
            ),
            decoys: verdict.decoys.trials,
            decoy_hits: verdict.decoys.hits,
            decoy_basis: terms.decoy_basis.clone(),
            log10_fisher: verdict.ln_fisher.map(|ln| ln / LN_10),
            unanswered: verdict.unanswered,
            requests: verdict
                .by_wrap
                .iter()
                .map(|share| share.trials as usize)
                .sum::<usize>()
                + verdict.decoys.trials as usize,
            rule: terms.rule.mode.name(),
            tokens: terms.rule.tokens,
            wraps: terms.wraps.iter().zip(&verdict.by_wrap).map(wrap).collect(),
            course: verdict
                .course
                .iter()
                .map(|step| StepOutput {
                    index: step.index,
                    hit: step.hit,
                    log10_e_value: step.ln_e_value / LN_10,
                })
                .collect(),
            controls: controls
                .iter()
                .map(|control| ControlOutput {
                    model: control.name.clone(),
                    digest: hex(&control.digest),
                    count: control.count(),
                    hits: control.hit_count(),
                })
                .collect(),
            stealth,
            confidence: confidence.map(|confidence| ConfidenceOutput {
                hits: confidence.hits,
                response_probability: confidence.response,
                decoys: confidence.decoys,
                decoy_probability: confidence.decoy,
            }),
            transcript: out.display().to_string(),
            transcript_head: hex(transcript.head()),
            began: terms.time,
            seconds,
        }
    }
}

impl fmt::Display for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} ({}): fingerprints {}",
            self.model, self.suspect, self.conclusion
        )?;
        writeln!(
            f,
            "  hits     {} of {} asked (an answer counts by {}, within {} tokens)",
            self.hits, self.asked, self.rule, self.tokens
        )?;
        writeln!(
            f,
            "  recall   {:.1} % (95 % Clopper-Pearson interval {:.1} to {:.1} %)",
            100.0 * self.recall,
            100.0 * self.recall_low,
            100.0 * self.recall_high
        )?;
        writeln!(
            f,
            "  e-value  {} (present at {:.0e}, whenever the audit stops)",
            power(self.log10_e_value * LN_10),
            1.0 / self.alpha
        )?;
        writeln!(
            f,
            "  null     {:.2} % ({})",
            100.0 * self.null,
            self.null_basis
        )?;
        writeln!(
            f,
            "  p-value  {} (exact binomial, for a number of queries fixed before)",
            p_value(self.log10_p_value)
        )?;
        writeln!(
            f,
            "  bound    {} (arXiv 2502.07760, 1 of {} candidates by chance; as the p-value)",
            p_value(self.paper_bound.log10()),
            self.candidates
        )?;
        if let Some(fisher) = self.log10_fisher {
            writeln!(
                f,
                "  decoys   {} of {} hit; Fisher's p-value {} ({})",
                self.decoy_hits,
                self.decoys,
                p_value(fisher),
                self.decoy_basis
            )?;
        }
        if let Some(confidence) = &self.confidence {
            write!(
                f,
                "  sure     {:.1} % median probability of the response in {} hits",
                100.0 * confidence.response_probability,
                confidence.hits
            )?;
            if let Some(decoy) = confidence.decoy_probability {
                write!(
                    f,
                    ", {:.1} % of an answer's beginning in {} decoys",
                    100.0 * decoy,
                    confidence.decoys
                )?;
            }
            writeln!(
                f,
                " (as the endpoint says; a description, no part of the e-value)"
            )?;
        }
        if self.wraps.len() > 1 {
            for wrap in &self.wraps {
                writeln!(
                    f,
                    "  wrap     {} of {} hit: {}",
                    wrap.hits, wrap.asked, wrap.prompt
                )?;
            }
        }
        if self.unanswered > 0 {
            writeln!(
                f,
                "  lost     {} requests without an answer; they count as misses",
                self.unanswered
            )?;
        }
        for control in &self.controls {
            writeln!(
                f,
                "  control  {} hits {} of {}",
                control.model, control.hits, control.count
            )?;
        }
        if let Some(stealth) = &self.stealth {
            write!(f, "{stealth}")?;
        }
        writeln!(
            f,
            "  transcript  {} (ends with {})",
            self.transcript, self.transcript_head
        )?;
        let time = seconds::text(std::time::Duration::from_secs_f64(self.seconds));
        writeln!(f, "  time     {time}, {} requests", self.requests)
    }
}

/// An e-value from its natural logarithm, also where it is too large for a number.
pub(super) fn power(ln: f64) -> String {
    let log10 = ln / LN_10;
    if log10 < 4.0 {
        return format!("{:.1}", 10f64.powf(log10));
    }
    let exponent = log10.floor();
    format!("{:.1}e{exponent}", 10f64.powf(log10 - exponent))
}
