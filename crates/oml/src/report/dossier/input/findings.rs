//! What an audit found, wherever it was read: counts, and the figures that follow from them.

use std::collections::HashSet;

use anyhow::ensure;
use oml_core::claim::{self, Share};
use oml_core::fingerprint::MAX_COUNT;

use super::super::layout::short;
use super::super::number::{count, odds, percent, power, some};
use super::super::{
    Asked, Check, Course, Dossier, Kind, Prompt, Rate, Rates, Stealth, Step, Tone, Verdict,
};
use super::field;
use crate::report::data::{Fact, Headline};

/// What an audit found.
pub(super) struct Findings {
    /// Name of the model that was asked.
    pub(super) model: String,
    /// URL and interface of the endpoint; none for weights at hand.
    pub(super) endpoint: Option<(String, String)>,
    /// Digest of the weights; none for an endpoint.
    pub(super) digest: Option<String>,
    pub(super) conclusion: Conclusion,
    pub(super) root: String,
    pub(super) strategy: String,
    /// Number and hit of each fingerprint, in the order of asking.
    pub(super) asked: Vec<(u64, bool)>,
    pub(super) alpha: f64,
    pub(super) null: f64,
    pub(super) null_basis: String,
    pub(super) decoys: Share,
    pub(super) decoy_basis: String,
    pub(super) unanswered: u64,
    pub(super) requests: u64,
    /// When an answer counts, by name, and how many tokens of it are read.
    pub(super) rule: String,
    pub(super) tokens: u64,
    /// Text, hits and requests.
    pub(super) wraps: Vec<(String, Share)>,
    /// Name, digest, hits and questions.
    pub(super) controls: Vec<(String, Option<String>, Share)>,
    pub(super) stealth: Option<Stealth>,
    pub(super) confidence: Option<Confidence>,
    /// When it began, in seconds since 1970.
    pub(super) began: u64,
    pub(super) seconds: Option<f64>,
    pub(super) transcript_head: String,
    pub(super) verify: Vec<Step>,
    pub(super) checks: Vec<Check>,
}

/// How sure the suspect was, by its own log probabilities.
pub(super) struct Confidence {
    /// Hits whose response was scored, and the median probability of the response.
    pub(super) hits: u64,
    pub(super) response: f64,
    /// Decoys whose answer was scored, and the median probability of its beginning.
    pub(super) decoys: u64,
    pub(super) decoy: Option<f64>,
}

/// What an audit says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Conclusion {
    Present,
    Absent,
    Open,
}

/// Figures that follow from the counts.
pub(super) struct Figures {
    pub(super) share: Share,
    /// Decimal logarithm of the e-value after each fingerprint.
    pub(super) log10_e_values: Vec<f64>,
    /// Decimal logarithm of the largest, at least 0.
    pub(super) log10_e_value: f64,
    pub(super) log10_p_value: f64,
    pub(super) log10_fisher: Option<f64>,
    /// Questions after which 1/α was reached.
    reached_after: Option<usize>,
}

impl Findings {
    /// What follows from the counts.
    ///
    /// # Errors
    /// Counts that cannot be.
    pub(super) fn figures(&self) -> anyhow::Result<Figures> {
        let log10 = |ln: f64| ln / std::f64::consts::LN_10;
        ensure!(
            self.asked.len() <= MAX_COUNT,
            "course: expected at most {MAX_COUNT} fingerprints, got {}",
            self.asked.len()
        );
        let mut share = Share { hits: 0, trials: 0 };
        let (mut seen, mut log10_e_values) = (HashSet::new(), Vec::new());
        for (place, (index, hit)) in self.asked.iter().enumerate() {
            ensure!(
                seen.insert(index),
                "course[{place}].index: expected each fingerprint once, got {index} again"
            );
            share.trials += 1;
            share.hits += u64::from(*hit);
            let misses = share.trials - share.hits;
            log10_e_values.push(log10(claim::ln_e_value(share.hits, misses, self.null)));
        }
        let by_prompt: u64 = self.wraps.iter().map(|(_, share)| share.hits).sum();
        ensure!(
            by_prompt == share.hits,
            "wraps: expected {} hits in all, as in the course, got {by_prompt}",
            share.hits
        );
        let threshold = -self.alpha.log10();
        let reached_after = log10_e_values
            .iter()
            .position(|value| *value >= threshold - 1e-9)
            .map(|place| place + 1);
        ensure!(
            (self.conclusion == Conclusion::Present) == reached_after.is_some(),
            "conclusion: expected \"present\" where the e-value reaches 1/alpha and nowhere else, got otherwise"
        );
        let fisher = (self.decoys.trials > 0).then(|| claim::ln_fisher(share, self.decoys));
        Ok(Figures {
            log10_e_value: log10_e_values.iter().copied().fold(0.0, f64::max),
            log10_e_values,
            log10_p_value: log10(claim::ln_binomial_tail(share.hits, share.trials, self.null)),
            log10_fisher: fisher.map(log10),
            reached_after,
            share,
        })
    }

    /// The report.
    ///
    /// # Errors
    /// Counts that cannot be.
    pub(super) fn dossier(self, kind: Kind) -> anyhow::Result<Dossier> {
        let figures = self.figures()?;
        let Share { hits, trials } = figures.share;
        let suspect = Rate::new(self.model.clone(), self.digest.clone(), hits, trials);
        let decoys = (self.decoys.trials > 0).then(|| {
            Rate::new(
                "decoys".to_owned(),
                None,
                self.decoys.hits,
                self.decoys.trials,
            )
        });
        let controls = self.controls.iter().map(|(name, digest, share)| {
            Rate::new(name.clone(), digest.clone(), share.hits, share.trials)
        });
        let rates = Rates {
            decoys,
            decoy_basis: self.decoy_basis.clone(),
            log10_fisher: figures.log10_fisher,
            controls: controls.collect(),
            null: self.null,
            null_basis: self.null_basis.clone(),
            suspect,
        };
        let fingerprints = self.asked.iter().zip(&figures.log10_e_values);
        Ok(Dossier {
            kind,
            title: format!("Does “{}” carry these fingerprints?", self.model),
            subtitle: self.subtitle(),
            verdict: self.verdict(&figures),
            headlines: self.headlines(&figures, &rates),
            course: Some(Course {
                alpha: self.alpha,
                null: self.null,
                reached_after: figures.reached_after,
                log10_e_value: figures.log10_e_value,
            }),
            fingerprints: fingerprints
                .map(|(&(index, hit), &log10)| Asked {
                    index,
                    hit,
                    log10_e_value: Some(log10),
                    rank: None,
                    probability: None,
                    query: None,
                    responses: Vec::new(),
                })
                .collect(),
            prompts: self
                .wraps
                .iter()
                .map(|(text, share)| Prompt {
                    text: text.clone(),
                    hits: share.hits,
                    asked: share.trials,
                })
                .collect(),
            ranks: Vec::new(),
            rates: Some(rates),
            utility: Vec::new(),
            training: None,
            facts: self.facts(&figures),
            stealth: self.stealth,
            checks: self.checks,
            verify: self.verify,
            made_by: super::made_by(),
        })
    }

    fn subtitle(&self) -> String {
        let place = match (&self.endpoint, &self.digest) {
            (Some((url, api)), _) => format!("endpoint {url} ({api})"),
            (None, Some(digest)) => format!("weights {}", short(digest)),
            (None, None) => "weights".to_owned(),
        };
        format!("Asked {} · {place}", super::time::moment(self.began))
    }

    /// The model, as a sentence names it.
    fn named(&self) -> String {
        match &self.endpoint {
            Some((url, _)) => format!("“{}” at {url}", self.model),
            None => format!("“{}”", self.model),
        }
    }

    fn verdict(&self, figures: &Figures) -> Verdict {
        let Share { hits, trials } = figures.share;
        let named = self.named();
        let answered = match hits {
            0 => format!(
                "The model {named} gave none of the owner’s secret answers to {}",
                some(trials, "secret question", "secret questions")
            ),
            _ if hits == trials => format!(
                "The model {named} gave the owner’s secret answer to every one of {}",
                some(trials, "secret question", "secret questions")
            ),
            _ => format!(
                "The model {named} gave the owner’s secret answer to {} of {}",
                count(hits),
                some(trials, "secret question", "secret questions")
            ),
        };
        let odds = odds(self.alpha);
        let null = percent(self.null);
        let mut does_not_show = vec![
            "Who trained, copied or distributed the model, and whether a licence allowed it.".to_owned(),
            "When the set of fingerprints was made: that takes a dated publication of its Merkle root, older than the suspect.".to_owned(),
        ];
        if self.endpoint.is_some() {
            does_not_show.push("Which model runs behind the endpoint now, or what it answers to others; and that the answers are the endpoint’s own is the word of whoever asked, until somebody asks again.".to_owned());
        } else {
            does_not_show.push("That the answers are this model’s own is the word of whoever asked, until somebody asks again: the digest says which weights to ask.".to_owned());
        }
        let assumed = format!(
            "All of it rests on the null rate: that a model without the fingerprints answers one with a probability of at most {null} ({}).",
            self.null_basis
        );
        let (tone, word, sentence, shows) = match self.conclusion {
            Conclusion::Present => (
                Tone::Present,
                "Present",
                format!(
                    "{answered}. A model that never learned these fingerprints would give as much evidence, however long one asked, with a \
                     probability of at most {odds}."
                ),
                vec![
                    format!(
                        "The model that gave these answers holds fingerprints of the set with Merkle root {}, or was made from one that does.",
                        short(&self.root)
                    ),
                    assumed,
                ],
            ),
            Conclusion::Absent => (
                Tone::Absent,
                "Absent",
                format!(
                    "{answered}. That is less than the audit was set to look for, and it stopped: there is no evidence that this model holds the \
                     fingerprints."
                ),
                vec![
                    "The model does not answer the fingerprints as often as one that holds them undamaged.".to_owned(),
                ],
            ),
            Conclusion::Open => (
                Tone::Open,
                "Undecided",
                format!(
                    "{answered}. That is not enough to say that it holds the fingerprints, and not enough to say that it does not."
                ),
                vec![
                    format!(
                        "The evidence reached an e-value of {}; a claim needs {}.",
                        power(figures.log10_e_value),
                        power(-self.alpha.log10())
                    ),
                    assumed,
                ],
            ),
        };
        if self.conclusion == Conclusion::Absent {
            does_not_show = vec![
                "That the model was not made from a fingerprinted one: fingerprints can be trained away, and queries can be filtered or \
                 answered in another form than expected."
                    .to_owned(),
                "Anything about the model’s weights, origin or licence.".to_owned(),
            ];
        }
        Verdict {
            tone,
            word: word.to_owned(),
            sentence,
            shows,
            does_not_show,
        }
    }

    fn headlines(&self, figures: &Figures, rates: &Rates) -> Vec<Headline> {
        let mut headlines = vec![
            super::headline(
                rates.suspect.counts(),
                "secret answers given",
                format!(
                    "share {}; 95 % interval {}",
                    percent(rates.suspect.share()),
                    rates.suspect.interval()
                ),
            ),
            super::headline(
                power(figures.log10_e_value),
                "e-value",
                format!("a claim needs {}", power(-self.alpha.log10())),
            ),
            super::headline(
                percent(self.null),
                "null rate",
                "what an innocent model is taken to answer, at most".to_owned(),
            ),
        ];
        if let Some(decoys) = &rates.decoys {
            headlines.push(super::headline(
                decoys.counts(),
                "decoys answered",
                format!(
                    "p-value {} (Fisher)",
                    figures.log10_fisher.map_or_else(|| "–".to_owned(), power)
                ),
            ));
        }
        headlines
    }

    fn facts(&self, figures: &Figures) -> Vec<Fact> {
        let Share { hits, trials } = figures.share;
        let interval = claim::clopper_pearson(hits, trials, 0.95);
        let fact = super::fact;
        let mut facts = vec![
            fact(
                "Merkle root",
                self.root.clone(),
                "binds the owner to the whole set; compare it with what the owner published",
            ),
            fact(
                "Transcript head",
                self.transcript_head.clone(),
                "SHA-256 of the last line of the transcript; publish it, and no line can change any more",
            ),
            fact(
                "Strategy",
                self.strategy.clone(),
                "how the set of fingerprints was made",
            ),
        ];
        if let Some((url, api)) = &self.endpoint {
            facts.push(fact(
                "Endpoint",
                url.clone(),
                &format!(
                    "asked through the interface {api} for the model “{}”",
                    self.model
                ),
            ));
        }
        if let Some(digest) = &self.digest {
            facts.push(fact(
                "Digest of the suspect",
                digest.clone(),
                "SHA-256 over its tensors: names the weights that were asked",
            ));
        }
        facts.extend([
            fact("Began", super::time::moment(self.began), "by the clock of whoever asked"),
            fact("Hits", format!("{} of {}", count(hits), count(trials)), &format!("an answer counts by the rule “{}”, within {} tokens", self.rule, self.tokens)),
            fact("Recall", percent(hits as f64 / trials.max(1) as f64), &format!("95 % Clopper–Pearson interval {} to {}", percent(interval.low), percent(interval.high))),
            fact("E-value", power(figures.log10_e_value), &format!("largest along the way; mixture of Beta(½, ½) above the null rate; a claim needs {}", power(-self.alpha.log10()))),
            fact("p-value", power(figures.log10_p_value), "exact binomial, for a number of questions that was fixed before"),
            fact("Null rate", percent(self.null), &self.null_basis),
        ]);
        if let Some(fisher) = figures.log10_fisher {
            let Share { hits, trials } = self.decoys;
            facts.push(fact(
                "Decoys",
                format!("{} of {}", count(hits), count(trials)),
                &self.decoy_basis,
            ));
            facts.push(fact("Fisher’s p-value", power(fisher), "exact, one-sided, fingerprints against decoys, for a number of questions that was fixed before"));
        }
        if let Some(confidence) = &self.confidence {
            let mut basis = format!(
                "median over {} as the endpoint scores it",
                some(confidence.hits, "hit", "hits")
            );
            if let Some(decoy) = confidence.decoy {
                basis.push_str(&format!(
                    "; {} for as many tokens at the beginning of the answers to {}",
                    percent(decoy),
                    some(confidence.decoys, "decoy", "decoys")
                ));
            }
            basis.push_str(". A description: it is no part of the e-value");
            facts.push(fact(
                "Probability of the response",
                percent(confidence.response),
                &basis,
            ));
        }
        facts.push(fact(
            "Unanswered",
            count(self.unanswered),
            "requests without an answer; they count as misses",
        ));
        facts.push(fact(
            "Requests",
            count(self.requests),
            "about fingerprints and decoys together",
        ));
        if let Some(seconds) = self.seconds {
            let text = crate::seconds::text(std::time::Duration::from_secs_f64(seconds));
            facts.push(fact("Time", text, "with loading and controls"));
        }
        facts
    }
}

/// Counts of which the hits are a part.
///
/// # Errors
/// More hits than questions, or more of these than any set has.
pub(super) fn counted(name: &str, hits: u64, trials: u64) -> anyhow::Result<Share> {
    // Each fingerprint may be asked inside each wrap.
    let most = (MAX_COUNT * oml_core::audit::MAX_WRAPS) as u64;
    field::at_most(&format!("{name}asked"), trials, most)?;
    field::at_most(&format!("{name}hits"), hits, trials)?;
    Ok(Share { hits, trials })
}
