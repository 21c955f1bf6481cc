//! What `oml check --json` printed.

use anyhow::ensure;
use oml_core::claim;
use oml_core::fingerprint::{MAX_COUNT, MAX_RESPONSES};
use serde::Deserialize;

use super::super::number::{count, percent, power, some};
use super::super::{Asked, Dossier, Kind, Prompt, Rank, Rate, Rates, Tone, Verdict};
use super::field::{self, NAME, WORDS};
use super::findings::counted;
use super::{fact, headline, step};

/// Most tokens of one response.
const MAX_TOKENS: usize = 4096;
/// Most control models, and most prompts.
const MAX_MODELS: usize = 4096;
/// Places of the ranges in which responses are counted: the last one of each, and its name.
const RANKS: [(u64, &str); 5] = [
    (1, "first choice"),
    (10, "2nd to 10th"),
    (100, "11th to 100th"),
    (1000, "101st to 1,000th"),
    (u64::MAX, "beyond 1,000th"),
];

#[derive(Deserialize)]
struct CheckOutput {
    model: String,
    copy: Option<u32>,
    count: u64,
    hits: u64,
    recall: f64,
    recall_low: f64,
    recall_high: f64,
    log10_p_value: f64,
    null: f64,
    null_basis: String,
    alpha: f64,
    hits_needed: Option<u64>,
    present: bool,
    controls: Vec<ControlOutput>,
    #[serde(default)]
    prompted: Vec<PromptOutput>,
    seconds: f64,
    fingerprints: Vec<FingerprintOutput>,
}

#[derive(Deserialize)]
struct ControlOutput {
    model: String,
    count: u64,
    hits: u64,
}

#[derive(Deserialize)]
struct PromptOutput {
    prompt: String,
    hits: u64,
    count: u64,
}

#[derive(Deserialize)]
struct FingerprintOutput {
    index: u64,
    hit: bool,
    ranks: Vec<Vec<u32>>,
    probabilities: Vec<Vec<f64>>,
}

/// The report on a check.
///
/// # Errors
/// A field that is missing, out of range, or does not follow from the others.
pub(super) fn read(bytes: &[u8]) -> anyhow::Result<Dossier> {
    let output: CheckOutput = super::parse(bytes)?;
    output.dossier()
}

impl CheckOutput {
    fn dossier(&self) -> anyhow::Result<Dossier> {
        let model = field::text("model", &self.model, NAME)?;
        let null = field::share("null", self.null)?;
        let null_basis = field::text("null_basis", &self.null_basis, WORDS)?;
        let alpha = field::number("alpha", self.alpha, f64::MIN_POSITIVE, 1.0)?;
        let seconds = super::time::duration("seconds", self.seconds)?;
        let asked = self.asked()?;
        let hits = asked.iter().filter(|asked| asked.hit).count() as u64;
        let trials = asked.len() as u64;
        field::follows("count", self.count as f64, trials as f64)?;
        field::follows("hits", self.hits as f64, hits as f64)?;
        let suspect = Rate::new(model.clone(), None, hits, trials);
        field::follows("recall", self.recall, suspect.share())?;
        field::follows("recall_low", self.recall_low, suspect.low)?;
        field::follows("recall_high", self.recall_high, suspect.high)?;
        let log10_p_value = claim::ln_binomial_tail(hits, trials, null) / std::f64::consts::LN_10;
        field::follows("log10_p_value", self.log10_p_value, log10_p_value)?;
        let needed = claim::hits_needed(trials, null, alpha);
        ensure!(
            self.hits_needed == needed
                && self.present == needed.is_some_and(|needed| hits >= needed),
            "present: expected what hits, null and alpha give, got otherwise"
        );
        let rates = Rates {
            decoys: None,
            decoy_basis: String::new(),
            log10_fisher: None,
            controls: self.controls()?,
            null,
            null_basis: null_basis.clone(),
            suspect,
        };
        let interval = rates.suspect.interval();
        let answered = format!(
            "{} of {}",
            count(hits),
            some(trials, "secret question", "secret questions")
        );
        let mean = asked
            .iter()
            .filter_map(|asked| asked.probability)
            .sum::<f64>()
            / trials.max(1) as f64;
        let mut facts = vec![
            fact(
                "Hits",
                rates.suspect.counts(),
                "every token of the response is the model’s first choice after the query and the tokens before",
            ),
            fact(
                "Recall",
                percent(rates.suspect.share()),
                &format!("95 % Clopper–Pearson interval {interval}"),
            ),
            fact(
                "p-value",
                power(log10_p_value),
                &format!(
                    "exact binomial, for a number of questions fixed before; present at {} or less",
                    power(alpha.log10())
                ),
            ),
            fact("Null rate", percent(null), &null_basis),
            fact(
                "Hits needed",
                needed.map_or_else(|| "more than there are".to_owned(), count),
                &format!(
                    "of {}, for a p-value of {} at this null rate",
                    count(trials),
                    power(alpha.log10())
                ),
            ),
            fact(
                "Mean response probability",
                format!("{mean:.4}"),
                "of each fingerprint’s likeliest response, teacher-forced",
            ),
            fact(
                "Time",
                crate::seconds::text(std::time::Duration::from_secs_f64(seconds)),
                "with loading and controls",
            ),
        ];
        if let Some(copy) = self.copy {
            facts.push(fact("Licensee’s copy", copy.to_string(), "only the fingerprints of this copy were asked; other copies hold many of them too, and “oml trace” says whose the model is"));
        }
        let headlines = vec![
            headline(
                rates.suspect.counts(),
                "secret answers given",
                format!(
                    "share {}; 95 % interval {interval}",
                    percent(rates.suspect.share())
                ),
            ),
            headline(
                power(log10_p_value),
                "p-value",
                format!(
                    "exact binomial; present at {} or less",
                    power(alpha.log10())
                ),
            ),
            headline(
                percent(null),
                "null rate",
                "what an innocent model is taken to answer, at most".to_owned(),
            ),
            headline(
                format!("{mean:.2}"),
                "mean probability",
                "of the response after its query".to_owned(),
            ),
        ];
        Ok(Dossier {
            kind: Kind::Check,
            title: format!("Does “{model}” carry these fingerprints?"),
            subtitle: format!("{} asked of weights at hand, in one teacher-forced pass", some(trials, "fingerprint", "fingerprints")),
            verdict: self.verdict(&model, &answered, log10_p_value, needed, &rates),
            headlines,
            course: None,
            prompts: self.prompts()?,
            ranks: bins(&asked),
            rates: Some(rates),
            stealth: None,
            utility: Vec::new(),
            training: None,
            checks: Vec::new(),
            facts,
            verify: vec![
                step(
                    "Ask the same weights again: with the owner’s file and the set of fingerprints the numbers are the same on every machine, up to their last digits."
                        .to_owned(),
                    Some(format!(
                        "oml check --model {} --fingerprints FINGERPRINTS --owner OWNER",
                        field::quoted(&model)
                    )),
                ),
                step(
                    "Ask models that never saw the fingerprints, to measure the null rate instead of assuming it.".to_owned(),
                    Some(format!(
                        "oml check --model {} --fingerprints FINGERPRINTS --owner OWNER --control OTHER",
                        field::quoted(&model)
                    )),
                ),
                step(
                    "For somebody who may not see the set: audit the model, which writes a transcript that others can check.".to_owned(),
                    Some(format!(
                        "oml audit --suspect {} --fingerprints FINGERPRINTS --out audit.jsonl",
                        field::quoted(&model)
                    )),
                ),
            ],
            fingerprints: asked,
            made_by: super::made_by(),
        })
    }

    /// Every fingerprint with its best response.
    fn asked(&self) -> anyhow::Result<Vec<Asked>> {
        ensure!(
            !self.fingerprints.is_empty() && self.fingerprints.len() <= MAX_COUNT,
            "fingerprints: expected 1 to {MAX_COUNT}, got {}",
            self.fingerprints.len()
        );
        let mut before = None;
        let asked = self.fingerprints.iter().enumerate().map(|(place, one)| {
            let name = format!("fingerprints[{place}]");
            ensure!(
                before.is_none_or(|before| one.index > before),
                "{name}.index: expected rising numbers, got {}",
                one.index
            );
            before = Some(one.index);
            let shapes = |lengths: &mut dyn Iterator<Item = usize>| lengths.collect::<Vec<_>>();
            let lengths = shapes(&mut one.ranks.iter().map(Vec::len));
            ensure!(
                lengths == shapes(&mut one.probabilities.iter().map(Vec::len))
                    && (1..=MAX_RESPONSES).contains(&lengths.len())
                    && lengths.iter().all(|length| (1..=MAX_TOKENS).contains(length)),
                "{name}: expected a rank and a probability for each token of 1 to {MAX_RESPONSES} responses, got otherwise"
            );
            let hit = one.ranks.iter().any(|ranks| ranks.iter().all(|rank| *rank == 0));
            ensure!(
                one.hit == hit,
                "{name}.hit: expected {hit}, which follows from the ranks, got {}",
                one.hit
            );
            for probability in one.probabilities.iter().flatten() {
                field::share(&format!("{name}.probabilities"), *probability)?;
            }
            let first = one.ranks.iter().filter_map(|ranks| ranks.first());
            let whole = one.probabilities.iter().map(|tokens| tokens.iter().product());
            Ok(Asked {
                index: one.index,
                hit,
                log10_e_value: None,
                rank: first.min().map(|rank| u64::from(*rank) + 1),
                probability: Some(whole.fold(0.0, f64::max)),
                query: None,
                responses: Vec::new(),
            })
        });
        asked.collect()
    }

    fn controls(&self) -> anyhow::Result<Vec<Rate>> {
        few("controls", self.controls.len())?;
        let controls = self.controls.iter().enumerate().map(|(place, control)| {
            let name = format!("controls[{place}].");
            let share = counted(&name, control.hits, control.count)?;
            let model = field::text(&format!("{name}model"), &control.model, NAME)?;
            Ok(Rate::new(model, None, share.hits, share.trials))
        });
        controls.collect()
    }

    fn prompts(&self) -> anyhow::Result<Vec<Prompt>> {
        few("prompted", self.prompted.len())?;
        let prompts = self.prompted.iter().enumerate().map(|(place, prompt)| {
            let name = format!("prompted[{place}].");
            let share = counted(&name, prompt.hits, prompt.count)?;
            Ok(Prompt {
                text: field::text(&format!("{name}prompt"), &prompt.prompt, WORDS)?,
                hits: share.hits,
                asked: share.trials,
            })
        });
        prompts.collect()
    }

    fn verdict(
        &self,
        model: &str,
        answered: &str,
        log10_p_value: f64,
        needed: Option<u64>,
        rates: &Rates,
    ) -> Verdict {
        let said = format!(
            "Asked directly, the model “{model}” puts the owner’s secret response first for {answered}"
        );
        let p_value = power(log10_p_value);
        let assumed = format!(
            "All of it rests on the null rate: that a model without the fingerprints answers one with a probability of at most {} ({}).",
            percent(rates.null),
            rates.null_basis
        );
        let mut does_not_show = vec![
            "Who trained, copied or distributed the model, and whether a licence allowed it.".to_owned(),
            "That the set of fingerprints is older than the model: that takes a dated publication of the set’s Merkle root.".to_owned(),
            "What an endpoint answers that runs this model behind prompts, filters and sampling: an audit asks that.".to_owned(),
        ];
        if self.present {
            return Verdict {
                tone: Tone::Present,
                word: "Present".to_owned(),
                sentence: format!(
                    "{said}. A model that never learned these fingerprints would do so with a probability of at most {p_value}."
                ),
                shows: vec![
                    "These weights hold the fingerprints, or were made from a model that does."
                        .to_owned(),
                    assumed,
                ],
                does_not_show,
            };
        }
        let why = match needed {
            Some(needed) => format!("It takes {} to call them present.", count(needed)),
            None => "The set is too small to call them present at this null rate, whatever the model answers.".to_owned(),
        };
        does_not_show.insert(
            0,
            "That the model was not made from a fingerprinted one: fingerprints can be trained away.".to_owned(),
        );
        Verdict {
            tone: Tone::Absent,
            word: "Not shown to be present".to_owned(),
            sentence: format!(
                "{said}, which is not enough to say that it holds the fingerprints: a model without them would do as much with a probability of up \
                 to {p_value}."
            ),
            shows: vec![why, assumed],
            does_not_show,
        }
    }
}

/// How many responses stand in each range of places.
fn bins(asked: &[Asked]) -> Vec<Rank> {
    let mut from = 0;
    let bins = RANKS.into_iter().map(|(last, name)| {
        let ranks = asked.iter().filter_map(|asked| asked.rank);
        let there = ranks
            .filter(|rank| (from + 1..=last).contains(rank))
            .count();
        from = last;
        Rank {
            name: name.to_owned(),
            count: there as u64,
        }
    });
    bins.collect()
}

fn few(name: &str, got: usize) -> anyhow::Result<()> {
    ensure!(
        got <= MAX_MODELS,
        "{name}: expected at most {MAX_MODELS}, got {got}"
    );
    Ok(())
}
