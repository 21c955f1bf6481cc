//! The verdict on a suspect model, from the scores of one teacher-forced pass.
//!
//! A response is given when every one of its tokens has rank 0 after the query and the tokens before, which is the same
//! verdict as token-by-token greedy decoding. A fingerprint is a hit when any of its responses is given. The fingerprint
//! set is called present when the exact binomial p-value of the hits under the stated null rate is at most α.
//!
//! The null rate is measured where controls are given: the worst control's upper Clopper–Pearson bound. Without controls
//! it is the chance that a model which knows nothing of the owner's seed answers as the seed chose: 1 of the candidates.
//! Imported pairs may have been chosen after a model was seen, so without a control they prove nothing: the rate is 1.

use crate::claim::{self, Interval};
use crate::fingerprint::FingerprintSet;
use crate::model::TokenScore;
use crate::strategy::Strategy;

/// Default significance level of the verdict.
pub const DEFAULT_ALPHA: f64 = 1e-6;
/// Confidence of the interval around recall.
pub const RECALL_CONFIDENCE: f64 = 0.95;
/// Confidence of the one-sided bound on a control's hit rate.
pub const CONTROL_CONFIDENCE: f64 = 0.95;

/// Hits of one model that is known not to carry the fingerprints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Control {
    /// How the report calls it.
    pub name: String,
    /// Fingerprints asked.
    pub count: usize,
    /// Fingerprints answered.
    pub hits: usize,
}

/// The rate at which an innocent model hits, and why we say so.
#[derive(Debug, Clone, PartialEq)]
pub struct Null {
    /// Probability of one hit.
    pub rate: f64,
    /// Where the rate comes from, in words.
    pub basis: String,
}

/// Rank and probability of one response token.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TokenResult {
    /// 0 is the model's first choice.
    pub rank: u32,
    /// Probability under the suspect.
    pub probability: f64,
}

/// How the suspect answers one fingerprint.
#[derive(Debug, Clone, PartialEq)]
pub struct FingerprintResult {
    /// Position in the set.
    pub index: usize,
    /// Whether any valid response is what the suspect says.
    pub hit: bool,
    /// Per valid response, per token.
    pub responses: Vec<Vec<TokenResult>>,
}

/// The verdict with everything it rests on.
#[derive(Debug, Clone, PartialEq)]
pub struct CheckReport {
    /// Fingerprints asked.
    pub count: usize,
    /// Fingerprints answered.
    pub hits: usize,
    /// hits / count.
    pub recall: f64,
    /// The 95 % Clopper–Pearson interval of recall.
    pub recall_interval: Interval,
    /// P(Bin(count, null) ≥ hits); 0 when below the smallest positive number, see `log10_p_value`.
    pub p_value: f64,
    /// Decimal logarithm of the p-value, exact where the p-value underflows.
    pub log10_p_value: f64,
    /// The rate the p-value assumes.
    pub null: Null,
    /// Significance level of the verdict.
    pub alpha: f64,
    /// Whether p-value ≤ α.
    pub present: bool,
    /// One result per fingerprint, in order.
    pub fingerprints: Vec<FingerprintResult>,
}

/// Scores that do not belong to the set, or a setting out of range.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum CheckError {
    /// The number of scored continuations differs.
    #[error("scores: expected {expected} continuations, got {got}")]
    Continuations {
        /// One per valid response.
        expected: usize,
        /// Scores given.
        got: usize,
    },
    /// One continuation has scores for another number of tokens.
    #[error("scores[{item}]: expected {expected} tokens, got {got}")]
    Tokens {
        /// Position among the continuations.
        item: usize,
        /// Tokens of the response.
        expected: usize,
        /// Scores given.
        got: usize,
    },
    /// A control says it hit more than it was asked, or was asked nothing.
    #[error("control {name}: expected 0 to {count} hits in at least 1 query, got {hits}")]
    Control {
        /// Its name.
        name: String,
        /// Its number of queries.
        count: usize,
        /// Its number of hits.
        hits: usize,
    },
    /// The significance level is not a probability.
    #[error("alpha: expected a number above 0 and below 1, got {got}")]
    Alpha {
        /// The value given.
        got: f64,
    },
}

/// Judges a suspect from its scores of [`FingerprintSet::continuations`], in that order.
///
/// # Errors
/// Scores of another shape than the set's, impossible controls, or an α outside 0..1.
pub fn check(
    set: &FingerprintSet,
    scores: &[Vec<TokenScore>],
    controls: &[Control],
    alpha: f64,
) -> Result<CheckReport, CheckError> {
    if !(alpha > 0.0 && alpha < 1.0) {
        return Err(CheckError::Alpha { got: alpha });
    }
    let fingerprints = results(set, scores)?;
    let count = fingerprints.len();
    let hits = fingerprints.iter().filter(|f| f.hit).count();
    let null = null(set, controls)?;
    let ln_p = claim::ln_binomial_tail(hits as u64, count as u64, null.rate);
    Ok(CheckReport {
        count,
        hits,
        recall: hits as f64 / count as f64,
        recall_interval: claim::clopper_pearson(hits as u64, count as u64, RECALL_CONFIDENCE),
        p_value: ln_p.exp(),
        log10_p_value: ln_p / std::f64::consts::LN_10,
        null,
        alpha,
        present: ln_p <= alpha.ln(),
        fingerprints,
    })
}

/// How a model answers each fingerprint, from its scores of [`FingerprintSet::continuations`].
///
/// # Errors
/// Scores of another shape than the set's.
pub fn results(
    set: &FingerprintSet,
    scores: &[Vec<TokenScore>],
) -> Result<Vec<FingerprintResult>, CheckError> {
    let continuations = set.continuations();
    if continuations.len() != scores.len() {
        return Err(CheckError::Continuations {
            expected: continuations.len(),
            got: scores.len(),
        });
    }
    for (item, (continuation, scores)) in continuations.iter().zip(scores).enumerate() {
        let expected = continuation.continuation.len();
        if scores.len() != expected {
            return Err(CheckError::Tokens {
                item,
                expected,
                got: scores.len(),
            });
        }
    }
    let mut rest = scores;
    let results = set.fingerprints().iter().map(|fingerprint| {
        let (own, others) = rest.split_at(fingerprint.responses.len());
        rest = others;
        FingerprintResult {
            index: fingerprint.index,
            hit: own
                .iter()
                .any(|response| response.iter().all(|token| token.rank == 0)),
            responses: own
                .iter()
                .map(|response| response.iter().map(token_result).collect())
                .collect(),
        }
    });
    Ok(results.collect())
}

/// Number of fingerprints a model answers: what a [`Control`] needs.
///
/// # Errors
/// Scores of another shape than the set's.
pub fn count_hits(set: &FingerprintSet, scores: &[Vec<TokenScore>]) -> Result<usize, CheckError> {
    Ok(results(set, scores)?.iter().filter(|f| f.hit).count())
}

fn token_result(score: &TokenScore) -> TokenResult {
    TokenResult {
        rank: score.rank,
        probability: f64::from(score.log_probability).exp(),
    }
}

/// The rate at which an innocent model hits: that of the worst control, or the stated worst case without one.
///
/// # Errors
/// A control that hit more than it was asked, or was asked nothing.
pub fn null(set: &FingerprintSet, controls: &[Control]) -> Result<Null, CheckError> {
    let mut worst: Option<(f64, &Control)> = None;
    for control in controls {
        if control.count == 0 || control.hits > control.count {
            let Control { name, count, hits } = control.clone();
            return Err(CheckError::Control { name, count, hits });
        }
        let bound = claim::upper_bound(
            control.hits as u64,
            control.count as u64,
            CONTROL_CONFIDENCE,
        );
        if worst.is_none_or(|(rate, _)| bound > rate) {
            worst = Some((bound, control));
        }
    }
    Ok(match worst {
        Some((rate, control)) => Null {
            rate,
            basis: format!(
                "upper {:.0} % Clopper-Pearson bound of the worst of {} control model(s): {} hit {} of {}",
                CONTROL_CONFIDENCE * 100.0,
                controls.len(),
                control.name,
                control.hits,
                control.count
            ),
        },
        None => worst_case(set),
    })
}

fn worst_case(set: &FingerprintSet) -> Null {
    if set.header().strategy == Strategy::Imported {
        return Null {
            rate: 1.0,
            basis: "no bound without a control: the pairs were imported, so no seed chose their responses".into(),
        };
    }
    let candidates = set.header().strategy.candidates();
    let responses = set
        .fingerprints()
        .iter()
        .map(|f| f.responses.len())
        .max()
        .unwrap_or(1);
    Null {
        rate: (responses as f64 / candidates as f64).min(1.0),
        basis: format!(
            "worst case without a control: {responses} of {candidates} candidate responses, chosen by the owner's seed"
        ),
    }
}
