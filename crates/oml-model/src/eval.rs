//! What a model can do: perplexity, two-choice accuracy and divergence from a base, each with its standard error.
//!
//! - perplexity = exp(L), L the mean negative log-likelihood in nats over the text's tokens. The text is read in windows of
//!   a fixed length that do not overlap, each begun with what the tokenizer adds by itself (BOS) or, where that is nothing,
//!   with its own first token unscored. Standard error: exp(L) times that of L, windows taken as the independent samples.
//! - accuracy: share of questions whose right answer has the higher log-likelihood per character, in the form and with the
//!   normalisation of lm-evaluation-harness's `acc_norm` for PIQA: context `Question: {goal}\nAnswer:`, continuation
//!   ` {solution}`, divided by the characters of the solution. Standard error: √(p(1−p)/(n−1)).
//! - divergence: mean of KL(base ‖ model) in nats over the next-token distributions at every position of the windows.
//!
//! Sources: "PIQA" (arXiv 1911.11641); lm-evaluation-harness (github.com/EleutherAI/lm-evaluation-harness).

use std::sync::Mutex;

use oml_core::model::{Continuation, LanguageModel, ModelError, TokenScore};
use oml_core::tokenizer::Tokenizer;
use oml_kernels::{divergence, log_sum_exp};

use thiserror::Error;

use crate::causal::{CausalModel, RequestError};
use crate::decoder::Batch;

/// A measured value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Measured {
    /// The value.
    pub value: f64,
    /// Its standard error.
    pub standard_error: f64,
    /// What it was measured on: tokens, questions or positions.
    pub count: usize,
}

/// A question with two answers, one of them right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// What is to be done.
    pub goal: String,
    /// The two answers.
    pub solutions: [String; 2],
    /// Which of them is right: 0 or 1.
    pub label: usize,
}

/// A text as the windows that [`perplexity`] and [`compare`] read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Windows {
    sequences: Vec<Vec<u32>>,
    /// Tokens at the start of every window that are not scored.
    unscored: usize,
}

impl Windows {
    /// Cuts at most `limit` tokens of `text` into windows of `length` tokens.
    ///
    /// # Errors
    /// The tokenizer's; a text of fewer than two tokens gives no window.
    pub fn new(
        tokenizer: &dyn Tokenizer,
        text: &str,
        length: usize,
        limit: usize,
    ) -> Result<Self, ModelError> {
        let start = tokenizer.encode("", true)?;
        let ids = tokenizer.encode(text, false)?;
        let kept = &ids[..ids.len().min(limit)];
        let unscored = start.len().max(1);
        let sequences = kept
            .chunks(length.saturating_sub(start.len()).max(2))
            .map(|chunk| [&start[..], chunk].concat())
            .filter(|sequence| sequence.len() > unscored)
            .collect();
        Ok(Self {
            sequences,
            unscored,
        })
    }

    /// Number of scored tokens.
    pub fn tokens(&self) -> usize {
        self.sequences.iter().map(|s| s.len() - self.unscored).sum()
    }
}

/// Perplexity of a text.
///
/// # Errors
/// The model's.
pub fn perplexity(
    model: &mut dyn LanguageModel,
    windows: &Windows,
) -> Result<Measured, ModelError> {
    let items: Vec<Continuation<'_>> = windows
        .sequences
        .iter()
        .map(|sequence| {
            let (context, continuation) = sequence.split_at(windows.unscored);
            Continuation {
                context,
                continuation,
            }
        })
        .collect();
    let losses: Vec<(f64, usize)> = scores(model, &items)?
        .into_iter()
        .map(|scores| (-log_probability(&scores), scores.len()))
        .collect();
    Ok(perplexity_of(mean(&losses)))
}

/// Share of questions answered rightly, by log-likelihood per character.
///
/// # Errors
/// The tokenizer's or the model's.
pub fn choices(
    model: &mut dyn LanguageModel,
    tokenizer: &dyn Tokenizer,
    questions: &[Choice],
) -> Result<Measured, ModelError> {
    let mut pairs = Vec::with_capacity(2 * questions.len());
    for question in questions {
        let context = format!("Question: {}\nAnswer:", question.goal);
        let shared = tokenizer.encode(&context, true)?.len();
        for solution in &question.solutions {
            let whole = tokenizer.encode(&format!("{context} {solution}"), true)?;
            pairs.push((shared.clamp(1, whole.len().saturating_sub(1).max(1)), whole));
        }
    }
    let items: Vec<Continuation<'_>> = pairs
        .iter()
        .map(|(shared, whole)| {
            let (context, continuation) = whole.split_at(*shared);
            Continuation {
                context,
                continuation,
            }
        })
        .collect();
    let scores = scores(model, &items)?;
    let right = questions
        .iter()
        .zip(scores.chunks_exact(2))
        .filter(|(question, scores)| {
            let per_character = |which: usize| {
                log_probability(&scores[which])
                    / question.solutions[which].chars().count().max(1) as f64
            };
            // Like an arg-max, a tie goes to the first.
            usize::from(per_character(1) > per_character(0)) == question.label
        });
    let (count, right) = (questions.len(), right.count());
    let value = right as f64 / count.max(1) as f64;
    let standard_error = (value * (1.0 - value) / count.saturating_sub(1).max(1) as f64).sqrt();
    Ok(Measured {
        value,
        standard_error,
        count,
    })
}

/// The model's scores, all of them finite.
fn scores(
    model: &mut dyn LanguageModel,
    items: &[Continuation<'_>],
) -> Result<Vec<Vec<TokenScore>>, ModelError> {
    let scores = model.score(items)?;
    let finite = |scores: &Vec<TokenScore>| scores.iter().all(|s| s.log_probability.is_finite());
    match scores.iter().position(|scores| !finite(scores)) {
        Some(index) => Err(RequestError::NotFinite { index }.into()),
        None => Ok(scores),
    }
}

fn log_probability(scores: &[TokenScore]) -> f64 {
    scores.iter().map(|s| f64::from(s.log_probability)).sum()
}

/// A model beside its base on one text.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Comparison {
    /// The model's perplexity.
    pub perplexity: Measured,
    /// The base's.
    pub base_perplexity: Measured,
    /// Mean divergence KL(base ‖ model) at the scored positions, in nats.
    pub kl: Measured,
}

/// Why two models could not be compared.
#[derive(Debug, Error)]
pub enum ComparisonError {
    /// The model, or both.
    #[error("{0}")]
    Model(#[source] RequestError),
    /// The base.
    #[error("base: {0}")]
    Base(#[source] RequestError),
}

/// Perplexity of both and the divergence between them, each text token read once by each. Both are of one engine.
///
/// # Errors
/// Either model's, vocabularies that differ, or a value that is not finite.
pub fn compare(
    model: &mut CausalModel,
    base: &mut CausalModel,
    windows: &Windows,
) -> Result<Comparison, ComparisonError> {
    let (own, its) = (*model.decoder().sizes(), *base.decoder().sizes());
    if own.vocabulary != its.vocabulary {
        return Err(ComparisonError::Model(RequestError::Vocabulary {
            expected: its.vocabulary,
            got: own.vocabulary,
        }));
    }
    // Per window, of all its positions: [the model's loss, the base's, the divergence].
    let mut sums = Vec::with_capacity(windows.sequences.len());
    let mut buffer = Vec::new();
    for (index, ids) in windows.sequences.iter().enumerate() {
        let check = |reader: &CausalModel| reader.check(index, ids.iter().copied(), 0);
        check(model).map_err(ComparisonError::Model)?;
        check(base).map_err(ComparisonError::Base)?;
        let sum = compared(model, base, ids, windows.unscored, &mut buffer);
        let fault = RequestError::NotFinite { index };
        match sum.map(f64::is_finite) {
            [true, true, true] => sums.push((sum, ids.len() - windows.unscored)),
            [true, false, _] => return Err(ComparisonError::Base(fault)),
            _ => return Err(ComparisonError::Model(fault)),
        }
    }
    let of = |which: usize| {
        let groups: Vec<(f64, usize)> = sums.iter().map(|(sum, n)| (sum[which], *n)).collect();
        mean(&groups)
    };
    Ok(Comparison {
        perplexity: perplexity_of(of(0)),
        base_perplexity: perplexity_of(of(1)),
        kl: of(2),
    })
}

/// Sums over the scored tokens of a window: the model's loss, the base's, the divergence. The buffer is for logits.
fn compared(
    model: &mut CausalModel,
    base: &mut CausalModel,
    ids: &[u32],
    unscored: usize,
    buffer: &mut Vec<f32>,
) -> [f64; 3] {
    /// Rows of logits at once.
    const ROWS: usize = 256;
    let isa = model.isa();
    let (model, base) = (model.decoder(), base.decoder());
    // The distribution after each token that a scored one follows.
    let positions = unscored - 1..ids.len() - 1;
    let batch = Batch::new([(ids, positions.collect())]);
    let widths = [model.sizes().hidden, base.sizes().hidden];
    let (own, its) = (model.hidden_rows(&batch), base.hidden_rows(&batch));
    let vocabulary = base.sizes().vocabulary;
    buffer.resize(vocabulary * ROWS.min(batch.picked.len()), 0.0);
    let mut sum = [0.0; 3];
    let parts = own
        .chunks(ROWS * widths[0])
        .zip(its.chunks(ROWS * widths[1]));
    for ((own, its), next) in parts.zip(ids[unscored..].chunks(ROWS)) {
        let theirs: Vec<_> = buffer
            .chunks_mut(vocabulary)
            .take(next.len())
            .map(Mutex::new)
            .collect();
        base.head_rows(its, &|row, logits| {
            lock(&theirs[row]).copy_from_slice(logits)
        });
        let values = Mutex::new(vec![[0.0; 3]; next.len()]);
        model.head_rows(own, &|row, logits| {
            let theirs = lock(&theirs[row]);
            let id = next[row] as usize;
            let normalisers = [log_sum_exp(isa, logits), log_sum_exp(isa, &theirs)];
            let divergence = divergence(isa, &theirs, normalisers[1], logits, normalisers[0]);
            let losses = [normalisers[0] - logits[id], normalisers[1] - theirs[id]];
            lock(&values)[row] = [losses[0], losses[1], divergence].map(f64::from);
        });
        for row in lock(&values).iter() {
            for (sum, value) in sum.iter_mut().zip(row) {
                *sum += value;
            }
        }
    }
    sum
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// exp of a mean loss.
fn perplexity_of(loss: Measured) -> Measured {
    let value = loss.value.exp();
    Measured {
        value,
        standard_error: value * loss.standard_error,
        ..loss
    }
}

/// The mean over all items of groups given as (sum, count), with the standard error of a ratio over the groups.
fn mean(groups: &[(f64, usize)]) -> Measured {
    let count: usize = groups.iter().map(|group| group.1).sum();
    let value = groups.iter().map(|group| group.0).sum::<f64>() / count.max(1) as f64;
    let n = groups.len() as f64;
    let squares: f64 = groups
        .iter()
        .map(|(sum, count)| (sum - value * *count as f64).powi(2))
        .sum();
    let standard_error = if groups.len() < 2 {
        0.0
    } else {
        (n / (n - 1.0) * squares).sqrt() / count as f64
    };
    Measured {
        value,
        standard_error,
        count,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mean_weighs_groups_by_their_items() {
        let measured = mean(&[(2.0, 1), (4.0, 3)]);
        assert_eq!((measured.value, measured.count), (1.5, 4));
        assert!((measured.standard_error - (2.0f64 * 0.5).sqrt() / 4.0).abs() < 1e-12);
    }

    #[test]
    fn one_group_has_no_error_to_tell() {
        assert_eq!(mean(&[(3.0, 2)]).standard_error, 0.0);
    }
}
