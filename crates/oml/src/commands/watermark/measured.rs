//! What `oml watermark measure` found: shares with their intervals, and what a watermark costs.

use std::fmt;

use oml_core::claim::clopper_pearson;
use oml_model::surprise::Surprise;
use serde::Serialize;

use super::measure::LEVELS;

/// Confidence of all intervals.
const CONFIDENCE: f64 = 0.95;
/// Standard errors on both sides of a mean, for the same.
const SIDES: f64 = 1.96;

/// Texts that were found at each of [`LEVELS`].
#[derive(Debug, Clone, Default)]
pub(super) struct Rates {
    found: [u64; LEVELS.len()],
    tested: u64,
}

impl Rates {
    /// Takes one more p-value.
    pub(super) fn add(&mut self, ln_p_value: f64) {
        self.tested += 1;
        for (found, level) in self.found.iter_mut().zip(LEVELS) {
            *found += u64::from(ln_p_value <= level.ln());
        }
    }

    /// The shares.
    pub(super) fn shares(&self) -> Vec<Share> {
        let pairs = self.found.iter().zip(LEVELS);
        pairs
            .map(|(found, at)| {
                let interval = clopper_pearson(*found, self.tested, CONFIDENCE);
                Share {
                    at,
                    found: *found,
                    tested: self.tested,
                    low: interval.low,
                    high: interval.high,
                }
            })
            .collect()
    }
}

/// Texts found at one level, with the Clopper–Pearson interval of their share.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Share {
    at: f64,
    found: u64,
    tested: u64,
    low: f64,
    high: f64,
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = |share: f64| 100.0 * share;
        let share = self.found as f64 / self.tested.max(1) as f64;
        let shown = format!(
            "{:.1} ({:.1} to {:.1})",
            percent(share),
            percent(self.low),
            percent(self.high)
        );
        f.pad(&shown)
    }
}

/// Texts of one length.
#[derive(Serialize)]
pub(super) struct Found {
    pub(super) length: usize,
    /// By their text, which is put into tokens again.
    pub(super) text: Vec<Share>,
    /// By the tokens that were drawn.
    pub(super) tokens: Vec<Share>,
    /// By tokens of which a share was replaced.
    pub(super) replaced: Vec<(f64, Vec<Share>)>,
    /// Of texts without a watermark, under other keys.
    pub(super) false_positives: Vec<Share>,
}

/// A mean with its interval.
#[derive(Serialize)]
struct Mean {
    mean: f64,
    low: f64,
    high: f64,
}

impl Mean {
    /// Of ratios whose logarithms are given.
    fn of_ratios(logarithms: &[f64]) -> Self {
        let count = logarithms.len() as f64;
        let mean = logarithms.iter().sum::<f64>() / count;
        let squares: f64 = logarithms.iter().map(|x| (x - mean).powi(2)).sum();
        let error = (squares / (count - 1.0) / count).sqrt();
        Self {
            mean: mean.exp(),
            low: (mean - SIDES * error).exp(),
            high: (mean + SIDES * error).exp(),
        }
    }
}

impl fmt::Display for Mean {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.3} ({:.3} to {:.3})", self.mean, self.low, self.high)
    }
}

/// What the watermark costs, under the base model.
#[derive(Serialize)]
pub(super) struct Cost {
    /// Perplexity of marked text by that of plain text of the same prompts.
    perplexity_ratio: Mean,
    /// Perplexity of marked text by what the model expects on the same contexts, which varies less.
    against_expected: Mean,
    /// The same of plain text: 1 but for chance.
    plain_against_expected: Mean,
}

impl Cost {
    pub(super) fn new(plain: &[Surprise], marked: &[Surprise], tokens: u32) -> Self {
        let tokens = f64::from(tokens);
        let pairs = plain.iter().zip(marked);
        let ratios: Vec<f64> = pairs.map(|(p, m)| (m.loss - p.loss) / tokens).collect();
        let against = |texts: &[Surprise]| {
            let each = texts.iter().map(|s| (s.loss - s.expected) / tokens);
            Mean::of_ratios(&each.collect::<Vec<_>>())
        };
        Self {
            perplexity_ratio: Mean::of_ratios(&ratios),
            against_expected: against(marked),
            plain_against_expected: against(plain),
        }
    }
}

/// One scheme.
#[derive(Serialize)]
pub(super) struct Arm {
    pub(super) scheme: &'static str,
    pub(super) found: Vec<Found>,
    /// Whole texts by the plain sum of bits, in place of the weighted one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) plain_sum: Option<Vec<Share>>,
    pub(super) cost: Cost,
}

/// All schemes on the same prompts.
#[derive(Serialize)]
pub(super) struct Measured {
    pub(super) model: String,
    pub(super) prompts: String,
    pub(super) texts: usize,
    pub(super) tokens: u32,
    pub(super) temperature: f32,
    pub(super) seed: u64,
    pub(super) keys: u32,
    /// Of the plain texts, under the model that made them.
    pub(super) plain_perplexity: f64,
    /// Nats per token that the model expects there.
    pub(super) plain_entropy: f64,
    pub(super) arms: Vec<Arm>,
    pub(super) machine: String,
}

impl fmt::Display for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{}, {} texts of {} tokens, temperature {}, seed {}",
            self.model, self.texts, self.tokens, self.temperature, self.seed
        )?;
        writeln!(f, "  prompts from {}", self.prompts)?;
        writeln!(
            f,
            "  plain text: perplexity {:.2}, entropy {:.2} nats per token; false positives under {} other keys",
            self.plain_perplexity, self.plain_entropy, self.keys
        )?;
        for arm in &self.arms {
            for (level, at) in LEVELS.iter().enumerate() {
                writeln!(
                    f,
                    "\n{}, found at {at} or less, % (95 % interval)",
                    arm.scheme
                )?;
                writeln!(
                    f,
                    "  tokens  as text                as drawn               10 % replaced          20 %                   30 %                   plain text"
                )?;
                for found in &arm.found {
                    write!(f, "  {:<6}  ", found.length)?;
                    let replaced = found.replaced.iter().map(|(_, shares)| shares);
                    let columns = [&found.text, &found.tokens].into_iter().chain(replaced);
                    for shares in columns {
                        write!(f, "{:<23}", shares[level])?;
                    }
                    writeln!(f, "{}", found.false_positives[level])?;
                }
                if let Some(shares) = &arm.plain_sum {
                    writeln!(
                        f,
                        "  whole texts as drawn, by the plain sum of bits: {}",
                        shares[level]
                    )?;
                }
            }
            let cost = &arm.cost;
            writeln!(
                f,
                "  perplexity by that of plain text          {}",
                cost.perplexity_ratio
            )?;
            writeln!(
                f,
                "  perplexity by what the model expects      {}; plain text {}",
                cost.against_expected, cost.plain_against_expected
            )?;
        }
        Ok(())
    }
}
