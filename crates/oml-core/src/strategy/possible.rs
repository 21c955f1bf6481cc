//! Whether opened pairs are such as their strategy makes with the base model: what a judge who has that model checks.
//!
//! Pairs that were picked because a suspect happens to answer them are its likely answers, and those of models like it. A strategy outside the
//! nucleus gives unlikely ones, and who has the base model computes which:
//!
//! ```text
//! first token     among the k candidates outside the nucleus t (see perinucleus), or outside t − 0.03 or t + 0.03
//! further tokens  the base model's first or second choice
//! chain_hash      one of its 256 words
//! ```
//!
//! The margins are for machines whose arithmetic differs: bf16 moves probabilities by about a hundredth. That the owner's seed chose among
//! the candidates is not seen here; it would take the seed. Source of the attack: "False Claims against Model Ownership Resolution"
//! (arXiv 2304.06607).

use super::perinucleus::{Rule, candidates, response_ids, valid};
use super::query::Query;
use super::{Strategy, chain_hash};
use crate::commitment::Opening;
use crate::model::{Continuation, LanguageModel, ModelError};
use crate::tokenizer::Tokenizer;

/// How far the nucleus may move on another machine.
const MARGIN: f64 = 0.03;
/// Worst rank of a further token on another machine.
const SECOND: u32 = 1;

/// The numbers of those `openings` that `strategy` does not give with the base model; none where it does not say what a response is.
///
/// # Errors
/// Whatever keeps the model or its tokenizer from answering.
pub fn impossible(
    strategy: &Strategy,
    model: &mut dyn LanguageModel,
    tokenizer: &dyn Tokenizer,
    openings: &[&Opening],
) -> Result<Option<Vec<u64>>, ModelError> {
    if let Some(rule) = strategy.rule() {
        return outside_nucleus(rule, model, tokenizer, openings).map(Some);
    }
    if let Strategy::ChainHash { .. } = strategy {
        let words = chain_hash::words(tokenizer).map_err(|error| ModelError(error.into()))?;
        let wrong = |opening: &&&Opening| match opening.responses.as_slice() {
            [text] => words.iter().all(|(_, word)| word != text),
            _ => true,
        };
        return Ok(Some(
            openings.iter().filter(wrong).map(|o| o.index).collect(),
        ));
    }
    Ok(None)
}

/// A pair whose first tokens are candidates; its further tokens are still to be judged.
struct Begun {
    index: u64,
    query: Vec<u32>,
    responses: Vec<Vec<u32>>,
}

fn outside_nucleus(
    rule: Rule,
    model: &mut dyn LanguageModel,
    tokenizer: &dyn Tokenizer,
    openings: &[&Opening],
) -> Result<Vec<u64>, ModelError> {
    let queries = openings
        .iter()
        .map(|opening| {
            Ok(Query {
                text: opening.query.clone(),
                ids: tokenizer.encode(&opening.query, true)?,
            })
        })
        .collect::<Result<Vec<_>, ModelError>>()?;
    let contexts: Vec<&[u32]> = queries.iter().map(|query| query.ids.as_slice()).collect();
    let mut judged: Vec<Result<Option<Begun>, ModelError>> = Vec::with_capacity(queries.len());
    model.next_distributions(&contexts, &mut |place, probabilities| {
        judged.push(begun(
            rule,
            tokenizer,
            openings[place],
            &queries[place],
            probabilities,
        ));
    })?;
    let mut wrong: Vec<u64> = Vec::new();
    let mut rest = Vec::new();
    for (opening, judged) in openings.iter().zip(judged) {
        match judged? {
            Some(begun) => rest.push(begun),
            None => wrong.push(opening.index),
        }
    }
    let items: Vec<(u64, Continuation<'_>)> = rest
        .iter()
        .flat_map(|begun| {
            begun.responses.iter().map(|ids| {
                let item = Continuation {
                    context: &begun.query,
                    continuation: ids,
                };
                (begun.index, item)
            })
        })
        .collect();
    let continuations: Vec<_> = items.iter().map(|(_, item)| *item).collect();
    for ((index, _), scores) in items.iter().zip(model.score(&continuations)?) {
        if scores.iter().skip(1).any(|score| score.rank > SECOND) {
            wrong.push(*index);
        }
    }
    wrong.sort_unstable();
    wrong.dedup();
    Ok(wrong)
}

/// The ids of a pair whose every response begins with a candidate; none where one does not.
fn begun(
    rule: Rule,
    tokenizer: &dyn Tokenizer,
    opening: &Opening,
    query: &Query,
    probabilities: &[f32],
) -> Result<Option<Begun>, ModelError> {
    if opening.responses.is_empty() || opening.responses.len() > rule.responses {
        return Ok(None);
    }
    let mut allowed = Vec::new();
    for threshold in [-MARGIN, 0.0, MARGIN].map(|margin| rule.threshold + margin) {
        let moved = Rule { threshold, ..rule };
        if threshold > 0.0 && threshold < 1.0 {
            allowed.extend(candidates(probabilities, moved, |id| {
                valid(tokenizer, query, id)
            })?);
        }
    }
    let mut responses = Vec::with_capacity(opening.responses.len());
    for text in &opening.responses {
        match response_ids(tokenizer, query, text)? {
            Some(ids) if allowed.contains(&ids[0]) => responses.push(ids),
            _ => return Ok(None),
        }
    }
    Ok(Some(Begun {
        index: opening.index,
        query: query.ids.clone(),
        responses,
    }))
}
