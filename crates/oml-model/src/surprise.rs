//! How much texts surprise a model, beside how much they would if the model had drawn each token itself.
//!
//! ```text
//! loss     = −Σ_t ln p(x_t | x_<t)
//! expected = −Σ_t Σ_y q(y | x_<t) ln p(y | x_<t),     q ∝ p^{1/T}
//! ```
//!
//! Where x_t is drawn from q, the mean of loss − expected is 0, and it varies much less from text to text than the loss: what is left is
//! the chance of the draws, without that of what the texts are about.

use std::sync::Mutex;

use oml_core::model::Continuation;
use oml_kernels::{exp_scaled, log_sum_exp};

use crate::causal::{CausalModel, RequestError};

/// Of one continuation, in nats, summed over its tokens.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Surprise {
    /// Of the tokens that are there.
    pub loss: f64,
    /// Of tokens drawn at the temperature.
    pub expected: f64,
}

/// Measures every continuation; `temperature` is above 0.
///
/// # Errors
/// When a sequence is empty, too long or has unknown tokens, or the model computes NaN or infinity.
pub fn surprise(
    model: &mut CausalModel,
    items: &[Continuation<'_>],
    temperature: f32,
) -> Result<Vec<Surprise>, RequestError> {
    let isa = model.isa();
    let mut sequences = Vec::with_capacity(items.len());
    for (index, item) in items.iter().enumerate() {
        let (context, continuation) = (item.context, item.continuation);
        if context.is_empty() || continuation.is_empty() {
            return Err(RequestError::Empty { index });
        }
        model.check(index, context.iter().chain(continuation).copied(), 0)?;
        let read = continuation.len() - 1;
        let ids = [context, &continuation[..read]].concat();
        sequences.push((ids, (context.len() - 1..context.len() + read).collect()));
    }
    // One place for each token, so that the sums do not depend on the order in which threads come.
    let places: Vec<Mutex<Vec<Surprise>>> = items
        .iter()
        .map(|item| Mutex::new(vec![Surprise::default(); item.continuation.len()]))
        .collect();
    model.visit_logits(&sequences, &|i, p, logits| {
        let scaled: Vec<f32> = logits.iter().map(|l| l / temperature).collect();
        let mut drawn = vec![0.0; logits.len()];
        exp_scaled(isa, &scaled, log_sum_exp(isa, &scaled), 1.0, &mut drawn);
        let all = f64::from(log_sum_exp(isa, logits));
        let pairs = drawn.iter().zip(logits);
        let mean: f64 = pairs.map(|(q, l)| f64::from(*q) * f64::from(*l)).sum();
        let own = f64::from(logits[items[i].continuation[p] as usize]);
        places[i].lock().unwrap_or_else(|e| e.into_inner())[p] = Surprise {
            loss: all - own,
            expected: all - mean,
        };
    })?;
    let sum = |place: Mutex<Vec<Surprise>>| {
        let tokens = place.into_inner().unwrap_or_else(|e| e.into_inner());
        Surprise {
            loss: tokens.iter().map(|token| token.loss).sum(),
            expected: tokens.iter().map(|token| token.expected).sum(),
        }
    };
    Ok(places.into_iter().map(sum).collect())
}
