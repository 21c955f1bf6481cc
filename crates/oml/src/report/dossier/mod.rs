//! A report on evidence: what was found, what that shows and what not, and everything it rests on.
//!
//! ```text
//! `oml audit`, `oml check`, `oml embed`, `oml claim make` ──input──▶ Dossier ──layout──▶ sections ──▶ HTML, Markdown
//!                                                                     └──────────────────────────────▶ JSON
//! ```
//!
//! What is read comes from strangers: every figure that follows from counts is computed again, and a file that says anything else is
//! refused.

mod html;
mod input;
mod json;
mod layout;
mod markdown;
mod number;
mod terms;

use std::path::Path;

use serde::Serialize;

use super::data::{Fact, Headline, Moment, Utility};

/// Everything in a report.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Dossier {
    pub(crate) kind: Kind,
    /// What the report is about, in a line.
    pub(crate) title: String,
    /// Who was asked, when and for which set, in a line.
    subtitle: String,
    pub(crate) verdict: Verdict,
    /// The numbers that matter most.
    headlines: Vec<Headline>,
    /// The evidence after each fingerprint, where it was looked at that often.
    course: Option<Course>,
    /// Every fingerprint that was asked, in this order.
    fingerprints: Vec<Asked>,
    /// By what was put around the queries.
    prompts: Vec<Prompt>,
    /// Where each response stands among all that the suspect could say, best first.
    ranks: Vec<Rank>,
    /// Shares of questions answered.
    rates: Option<Rates>,
    /// How the queries look to a filter.
    stealth: Option<Stealth>,
    /// What the model can do, before and after.
    utility: Vec<Utility>,
    training: Option<Training>,
    /// What was checked about the evidence itself.
    checks: Vec<Check>,
    /// Every other number and name, with its basis.
    facts: Vec<Fact>,
    /// How somebody else sees that this is so.
    verify: Vec<Step>,
    /// Program and version of this report.
    made_by: String,
}

/// What a report was made from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    /// `oml audit --json`.
    Audit,
    /// `oml check --json`.
    Check,
    /// The folder that `oml embed` wrote.
    Embedding,
    /// A bundle that `oml claim make` wrote.
    Claim,
}

/// The answer to the question that the report is about.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Verdict {
    tone: Tone,
    /// In a word or two.
    pub(crate) word: String,
    /// In a sentence that needs no other.
    pub(crate) sentence: String,
    shows: Vec<String>,
    does_not_show: Vec<String>,
}

/// How a verdict is coloured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Tone {
    Present,
    Absent,
    Open,
    /// No verdict was asked for.
    Measured,
    /// The evidence contradicts itself.
    Broken,
}

/// How the evidence grew.
#[derive(Debug, Clone, Serialize)]
struct Course {
    alpha: f64,
    null: f64,
    /// Questions after which the evidence first sufficed.
    reached_after: Option<usize>,
    /// Decimal logarithm of the largest e-value.
    log10_e_value: f64,
}

/// One fingerprint that was asked.
#[derive(Debug, Clone, Serialize)]
struct Asked {
    /// Its number in the whole set.
    index: u64,
    hit: bool,
    /// Decimal logarithm of the e-value after it.
    #[serde(skip_serializing_if = "Option::is_none")]
    log10_e_value: Option<f64>,
    /// Place of the response's first token among all that the suspect could say, from 1: of the best response where there are several.
    #[serde(skip_serializing_if = "Option::is_none")]
    rank: Option<u64>,
    /// Probability of the likeliest response.
    #[serde(skip_serializing_if = "Option::is_none")]
    probability: Option<f64>,
    /// The query, where it was opened.
    #[serde(skip_serializing_if = "Option::is_none")]
    query: Option<String>,
    /// The valid responses, where they were opened.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    responses: Vec<String>,
}

/// Hits inside one prompt.
#[derive(Debug, Clone, Serialize)]
struct Prompt {
    text: String,
    hits: u64,
    asked: u64,
}

/// Responses whose first token stands in one range of places.
#[derive(Debug, Clone, Serialize)]
struct Rank {
    name: String,
    count: u64,
}

/// The suspect beside models and questions that should bring nothing.
#[derive(Debug, Clone, Serialize)]
struct Rates {
    suspect: Rate,
    decoys: Option<Rate>,
    decoy_basis: String,
    /// Decimal logarithm of Fisher's p-value against the decoys.
    log10_fisher: Option<f64>,
    controls: Vec<Rate>,
    null: f64,
    null_basis: String,
}

/// A share of questions answered, with its 95 % Clopper–Pearson interval.
#[derive(Debug, Clone, Serialize)]
struct Rate {
    name: String,
    /// Digest of the tensors, where they are at hand.
    #[serde(skip_serializing_if = "Option::is_none")]
    digest: Option<String>,
    hits: u64,
    asked: u64,
    low: f64,
    high: f64,
}

/// Perplexity of the queries beside that of ordinary text.
#[derive(Debug, Clone, Serialize)]
struct Stealth {
    median_perplexity: f64,
    median_percentile: f64,
    above_99th: f64,
    below_1st: f64,
    basis: String,
}

/// How training went.
#[derive(Debug, Clone, Serialize)]
struct Training {
    moments: Vec<Moment>,
    kept_seconds: Option<f64>,
    /// What was measured between the base and the end of training.
    walked_back: Vec<Stop>,
    kept_share: Option<f64>,
}

/// A point between the base and the end of training.
#[derive(Debug, Clone, Serialize)]
struct Stop {
    share: f64,
    recall: f64,
    perplexity_ratio: f64,
}

/// One check of the evidence.
#[derive(Debug, Clone, Serialize)]
struct Check {
    name: String,
    means: String,
    outcome: String,
    found: String,
}

/// Something that a reader can do.
#[derive(Debug, Clone, Serialize)]
struct Step {
    text: String,
    command: Option<String>,
}

/// What speaks for a suspect's holding the fingerprints.
pub(crate) struct Evidence {
    pub(crate) model: String,
    /// Natural logarithm of a p-value.
    pub(crate) ln_p_value: f64,
    /// What kind of one.
    pub(crate) basis: &'static str,
}

/// How a report is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    // One self-contained page. A doc comment would become help of its own.
    Html,
    // For issues and mails.
    Markdown,
    // For programs.
    Json,
}

impl Dossier {
    /// The report on what lies in `path`.
    ///
    /// # Errors
    /// When it is nothing of which there is a report, or says what cannot be.
    pub(crate) fn read(path: &Path) -> anyhow::Result<Self> {
        input::read(path)
    }

    /// The evidence of a result that is one among several; none of an embedding, nor of a claim that does not hold.
    pub(crate) fn evidence(&self) -> Option<Evidence> {
        let rates = self
            .rates
            .as_ref()
            .filter(|_| self.verdict.tone != Tone::Broken)?;
        let Rate { hits, asked, .. } = rates.suspect;
        let (ln_p_value, basis) = match &self.course {
            // P(the e-value ever reaches x) ≤ 1/x, whenever the audit stopped.
            Some(course) => (
                -course.log10_e_value * std::f64::consts::LN_10,
                "1 by the largest e-value",
            ),
            None => (
                oml_core::claim::ln_binomial_tail(hits, asked, rates.null),
                "exact binomial",
            ),
        };
        Some(Evidence {
            model: rates.suspect.name.clone(),
            ln_p_value,
            basis,
        })
    }

    /// The report as text.
    ///
    /// # Errors
    /// When a template or a number cannot be written.
    pub(crate) fn render(&self, format: Format) -> anyhow::Result<String> {
        match format {
            Format::Html => html::render(self),
            Format::Markdown => Ok(markdown::render(self)),
            Format::Json => json::render(self),
        }
    }
}

impl Kind {
    /// Above the title.
    const fn heading(self) -> &'static str {
        match self {
            Self::Audit => "Audit report",
            Self::Check => "Check report",
            Self::Embedding => "Embedding report",
            Self::Claim => "Claim report",
        }
    }
}

impl Tone {
    /// Name in the style sheet.
    const fn class(self) -> &'static str {
        match self {
            Self::Present => "present",
            Self::Absent => "absent",
            Self::Open => "open",
            Self::Measured => "measured",
            Self::Broken => "broken",
        }
    }
}

impl Rate {
    /// `hits` of `asked` with the interval that follows.
    fn new(name: String, digest: Option<String>, hits: u64, asked: u64) -> Self {
        let interval = oml_core::claim::clopper_pearson(hits, asked, 0.95);
        Self {
            name,
            digest,
            hits,
            asked,
            low: interval.low,
            high: interval.high,
        }
    }

    /// Hits by asked.
    fn share(&self) -> f64 {
        self.hits as f64 / self.asked.max(1) as f64
    }

    /// `8 of 8`.
    fn counts(&self) -> String {
        format!(
            "{} of {}",
            number::count(self.hits),
            number::count(self.asked)
        )
    }

    /// `100 % (63.1 % to 100 %)`.
    fn interval(&self) -> String {
        format!(
            "{} to {}",
            number::percent(self.low),
            number::percent(self.high)
        )
    }
}

#[cfg(test)]
mod tests;
