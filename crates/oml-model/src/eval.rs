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

use crate::backend::{Backend, Objective, Teacher};
use crate::causal::{CausalModel, RequestError};
use crate::decoder::{Batch, TrainingSequence};

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

/// A text as the windows that [`perplexity`] and [`kl`] read.
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
    let loss = mean(&losses);
    let value = loss.value.exp();
    Ok(Measured {
        value,
        standard_error: value * loss.standard_error,
        ..loss
    })
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

/// Mean divergence KL(base ‖ model) at the scored positions, in nats. Both are of one engine.
///
/// # Errors
/// Either model's, vocabularies that differ, or a divergence that is not finite.
pub fn kl(
    model: &mut CausalModel,
    base: &mut CausalModel,
    windows: &Windows,
) -> Result<Measured, ModelError> {
    let (own, its) = (*model.decoder().sizes(), *base.decoder().sizes());
    if own.vocabulary != its.vocabulary {
        return Err(RequestError::Vocabulary {
            expected: its.vocabulary,
            got: own.vocabulary,
        }
        .into());
    }
    let mut sums = Vec::with_capacity(windows.sequences.len());
    for (index, ids) in windows.sequences.iter().enumerate() {
        // The distribution after each token that has a successor.
        let positions: Vec<usize> = (windows.unscored - 1..ids.len() - 1).collect();
        let sum = if own.hidden == its.hidden {
            for reader in [&*base, &*model] {
                reader.check(index, ids.iter().copied(), 0)?;
            }
            followed(model, base, ids, &positions)
        } else {
            compared(model, base, ids, &positions)?
        };
        if !sum.is_finite() {
            return Err(RequestError::NotFinite { index }.into());
        }
        sums.push((sum, positions.len()));
    }
    Ok(mean(&sums))
}

/// Summed divergence by the loss of training, which needs the base's hidden states only, of the model's width.
fn followed(
    model: &mut CausalModel,
    base: &mut CausalModel,
    ids: &[u32],
    positions: &[usize],
) -> f64 {
    let base = base.decoder();
    let rows = base.hidden_rows(&Batch::new([(ids, positions.to_vec())]));
    let mut hidden = base.backend.buffer(rows.len());
    base.backend.upload(&rows, &mut hidden, 0);
    let objective = |(row, position): (usize, &usize)| {
        let objective = Objective::Teacher { row, weight: 1.0 };
        (*position, objective)
    };
    let sequence = TrainingSequence {
        ids: ids.to_vec(),
        objectives: positions.iter().enumerate().map(objective).collect(),
    };
    let teacher = Teacher {
        hidden: &hidden,
        head: base.weights.head(),
    };
    let batch = Batch::training(&[&sequence]);
    let losses = model.decoder().losses(&batch, Some(teacher));
    losses.iter().map(|row| f64::from(row.loss)).sum()
}

/// Summed divergence of models of different widths, some rows of logits at a time.
fn compared(
    model: &mut CausalModel,
    base: &mut CausalModel,
    ids: &[u32],
    positions: &[usize],
) -> Result<f64, RequestError> {
    const ROWS: usize = 256;
    let isa = model.isa();
    let mut sum = 0.0;
    for positions in positions.chunks(ROWS) {
        let read = positions.last().map_or(0, |last| last + 1);
        let request = [(ids[..read].to_vec(), positions.to_vec())];
        let theirs: Vec<Mutex<Vec<f32>>> = positions.iter().map(|_| Mutex::default()).collect();
        base.visit_logits(&request, &|_, p, logits| {
            *lock(&theirs[p]) = logits.to_vec()
        })?;
        let values = Mutex::new(vec![0.0; positions.len()]);
        model.visit_logits(&request, &|_, p, logits| {
            let theirs = lock(&theirs[p]);
            let normalisers = [log_sum_exp(isa, &theirs), log_sum_exp(isa, logits)];
            let value = divergence(isa, &theirs, normalisers[0], logits, normalisers[1]);
            lock(&values)[p] = f64::from(value);
        })?;
        sum += lock(&values).iter().sum::<f64>();
    }
    Ok(sum)
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
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
