//! The demo's findings as a report.

use std::time::Duration;

use oml_core::check::{CheckReport, FingerprintResult};

use super::super::check::p_value;
use super::super::eval::Utility;
use super::Findings;
use crate::report::{self, Answer, Better, Fact, Headline, Report, Shift, Unit};
use crate::seconds;

/// The page of one demo.
pub(super) fn page(findings: &Findings<'_>) -> Report {
    let Findings {
        check,
        base_check,
        utility,
        course,
        ..
    } = findings;
    let training = seconds::text(Duration::from_secs_f64(course.seconds()));
    let interval = format!(
        "95 % interval {} to {}",
        percent(check.recall_interval.low),
        percent(check.recall_interval.high)
    );
    let ratio = utility
        .base
        .map(|base| utility.model.perplexity.value / base.perplexity.value);
    let mut headlines = vec![
        headline(
            percent(check.recall),
            "recall",
            format!(
                "{} of {} queries answered with their response, greedily; {interval}",
                check.hits, check.count
            ),
        ),
        headline(
            percent(base_check.recall),
            "on the base model",
            format!(
                "{} of {}: what a model without the fingerprints says",
                base_check.hits, base_check.count
            ),
        ),
        headline(
            p_value(check.log10_p_value),
            "p-value",
            format!(
                "exact binomial; null rate {}: {}",
                percent(check.null.rate),
                check.null.basis
            ),
        ),
    ];
    if let Some(ratio) = ratio {
        headlines.push(headline(
            format!("{ratio:.3} ×"),
            "perplexity",
            format!("fingerprinted over base, on {}", utility.text_basis),
        ));
    }
    headlines.push(headline(
        training,
        "to train",
        format!("with its own evaluations, on {}", findings.machine),
    ));
    Report {
        title: format!("{} fingerprints in {}", check.count, findings.model),
        summary: summary(check, ratio),
        headlines,
        history: course.moments.clone(),
        chosen_seconds: course.kept_seconds,
        shifts: shifts(&base_check.fingerprints, &check.fingerprints),
        utility: bars(utility),
        answers: findings
            .answers
            .iter()
            .map(|(question, base, fingerprinted)| Answer {
                question: (*question).to_owned(),
                base: base.clone(),
                fingerprinted: fingerprinted.clone(),
            })
            .collect(),
        facts: facts(findings),
        settings: findings.settings.clone(),
        made_by: format!("oml {} on {}", env!("CARGO_PKG_VERSION"), findings.machine),
    }
}

fn summary(check: &CheckReport, ratio: Option<f64>) -> String {
    let hits = format!(
        "The fingerprinted model gives {} of {} secret responses",
        check.hits, check.count
    );
    match ratio {
        Some(ratio) if ratio <= 1.0 => {
            format!("{hits}, and predicts ordinary text as well as before.")
        }
        Some(ratio) => {
            let percent = 100.0 * (ratio - 1.0);
            format!("{hits}; on ordinary text its perplexity is {percent:.1} % higher than before.")
        }
        None => format!("{hits}."),
    }
}

fn headline(value: String, label: &str, basis: String) -> Headline {
    Headline {
        value,
        label: label.to_owned(),
        basis,
    }
}

/// Probability of a whole response: of the likeliest where several are valid.
pub(super) fn probability(result: &FingerprintResult) -> f64 {
    let whole = |response: &Vec<oml_core::check::TokenResult>| {
        response.iter().map(|token| token.probability).product()
    };
    result.responses.iter().map(whole).fold(0.0, f64::max)
}

fn shifts(before: &[FingerprintResult], after: &[FingerprintResult]) -> Vec<Shift> {
    let pair = |(before, after)| Shift {
        before: probability(before),
        after: probability(after),
    };
    before.iter().zip(after).map(pair).collect()
}

fn bars(utility: &Utility) -> Vec<report::Utility> {
    let measured = |m: oml_model::eval::Measured| report::Measured {
        value: m.value,
        standard_error: Some(m.standard_error),
    };
    let mut bars = vec![
        report::Utility {
            name: "Perplexity".to_owned(),
            basis: utility.text_basis.clone(),
            unit: Unit::Plain,
            better: Better::Lower,
            base: utility.base.map(|base| measured(base.perplexity)),
            fingerprinted: measured(utility.model.perplexity),
        },
        report::Utility {
            name: "Two-choice accuracy".to_owned(),
            basis: utility.choices_basis.clone(),
            unit: Unit::Percent,
            better: Better::Higher,
            base: utility.base.map(|base| measured(base.accuracy)),
            fingerprinted: measured(utility.model.accuracy),
        },
    ];
    if let Some(kl) = utility.kl {
        bars.push(report::Utility {
            name: "Distance to the base".to_owned(),
            basis: format!("mean KL(base ‖ fingerprinted) in nats over {} next-token distributions of the same text", kl.count),
            unit: Unit::Plain,
            better: Better::Lower,
            base: None,
            fingerprinted: measured(kl),
        });
    }
    bars
}

fn facts(findings: &Findings<'_>) -> Vec<Fact> {
    let check = findings.check;
    let fact = |name: &str, value: String, basis: String| Fact {
        name: name.to_owned(),
        value,
        basis,
    };
    let before = mean(&findings.base_check.fingerprints);
    let after = mean(&check.fingerprints);
    let mut facts = vec![
        fact(
            "Merkle root",
            findings.merkle_root.clone(),
            "commits the owner to the whole set without showing it; to be published before the model".to_owned(),
        ),
        fact(
            "Mean response probability",
            format!("{before:.4} → {after:.3}"),
            format!("base → fingerprinted, over {} queries, teacher-forced", check.count),
        ),
        fact(
            "Null rate",
            percent(check.null.rate),
            check.null.basis.clone(),
        ),
        fact(
            "Time to check",
            seconds::text(findings.check_time),
            format!("{} queries in one teacher-forced pass with loading, on {}", check.count, findings.machine),
        ),
    ];
    if let Some(time) = findings.generate_time {
        facts.push(fact(
            "Time to generate",
            seconds::text(time),
            format!(
                "{} fingerprints, without loading, on {}",
                check.count, findings.machine
            ),
        ));
    }
    facts
}

fn mean(results: &[FingerprintResult]) -> f64 {
    results.iter().map(probability).sum::<f64>() / results.len().max(1) as f64
}

pub(super) fn percent(share: f64) -> String {
    let text = format!("{:.1}", 100.0 * share);
    format!("{} %", text.strip_suffix(".0").unwrap_or(&text))
}
