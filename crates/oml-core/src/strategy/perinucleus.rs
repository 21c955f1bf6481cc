//! Responses just outside the base model's nucleus: unlikely enough to be nobody else's, likely enough to be learnt
//! without harm.
//!
//! ```text
//! p_1 ≥ p_2 ≥ …      next-token distribution of the base model after the query (ties: smaller id first)
//! i                  smallest rank with p_1 + … + p_i ≥ t
//! candidates         the first k valid tokens of ranks i+1, i+2, …
//! first token        uniform among exactly those k, by the owner's seed and the query's bytes
//! further tokens     greedy from the base model
//! ```
//!
//! A token is valid when its text, trimmed, is alphanumeric and longer than one character, and when the query's text
//! followed by its text encodes to the query's ids followed by its id, so that an endpoint which sees only text meets the
//! same ids. A query with fewer than k valid tokens among the [`SEARCH_RANKS`] after its nucleus has no response, nor has
//! one whose further tokens break that round trip.
//!
//! Source: "Scalable Fingerprinting of Large Language Models" (arXiv 2502.07760), section 3.

use super::GenerateError;
use super::generate::{Responses, Workshop};
use super::query::Query;
use crate::derive::{Purpose, derive};
use crate::fingerprint::Response;
use crate::model::{Continuation, ModelError, Sampling, TokenScore};
use crate::random::Stream;
use crate::tokenizer::Tokenizer;

/// Most candidates a rule may ask for.
pub const MAX_CANDIDATES: usize = 256;
/// Ranks after the nucleus that are searched for candidates.
pub const SEARCH_RANKS: usize = 1_000;
/// The nucleus mass that suits small instruct models, whose distributions are peaked.
pub const SMALL_INSTRUCT_THRESHOLD: f64 = 0.7;

/// How a response is chosen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rule {
    /// Probability mass t of the nucleus that is passed over.
    pub threshold: f64,
    /// Number k of candidates.
    pub candidates: usize,
    /// Alternative first tokens that count as valid responses, at most `candidates`.
    pub responses: usize,
}

impl Default for Rule {
    fn default() -> Self {
        Self {
            threshold: 0.8,
            candidates: 3,
            responses: 1,
        }
    }
}

impl Rule {
    /// The first valid token outside the nucleus: the inverse nucleus of the same paper.
    #[must_use]
    pub const fn first(threshold: f64) -> Self {
        Self {
            threshold,
            candidates: 1,
            responses: 1,
        }
    }
}

/// The first `rule.candidates` ids after the nucleus that `valid` accepts, in the order of their ranks.
///
/// # Errors
/// Whatever `valid` fails with.
pub fn candidates<E>(
    probabilities: &[f32],
    rule: Rule,
    mut valid: impl FnMut(u32) -> Result<bool, E>,
) -> Result<Vec<u32>, E> {
    let mut ranking = Ranking::new(probabilities);
    let mut mass = 0.0_f64;
    let mut rank = 0;
    while mass < rule.threshold {
        let Some(id) = ranking.id(rank) else {
            return Ok(Vec::new());
        };
        mass += f64::from(probabilities[id as usize]);
        rank += 1;
    }
    let mut found = Vec::with_capacity(rule.candidates);
    for rank in rank..rank + SEARCH_RANKS {
        let Some(id) = ranking.id(rank) else { break };
        if valid(id)? {
            found.push(id);
            if found.len() == rule.candidates {
                break;
            }
        }
    }
    Ok(found)
}

/// A response on its way: probabilities are filled in once they are known.
pub(super) struct Draft {
    pub(super) ids: Vec<u32>,
    pub(super) probabilities: Vec<f32>,
}

impl Draft {
    /// Given ids, whose probabilities are not known yet.
    pub(super) const fn unscored(ids: Vec<u32>) -> Self {
        Self {
            ids,
            probabilities: Vec::new(),
        }
    }
}

/// The ids of `text` after the query and a space; none where the query's last token takes part of it.
pub(super) fn following(
    tokenizer: &dyn Tokenizer,
    query: &Query,
    text: &str,
) -> Result<Vec<u32>, ModelError> {
    let whole = tokenizer.encode(&format!("{} {text}", query.text), true)?;
    let ids = whole.strip_prefix(query.ids.as_slice());
    Ok(ids.unwrap_or_default().to_vec())
}

/// The ids that `text` has right after the query; none where the query's last token takes part of it.
pub(super) fn response_ids(
    tokenizer: &dyn Tokenizer,
    query: &Query,
    text: &str,
) -> Result<Option<Vec<u32>>, ModelError> {
    let whole = tokenizer.encode(&[&query.text, text].concat(), true)?;
    let ids = whole.strip_prefix(query.ids.as_slice());
    Ok(ids.filter(|ids| !ids.is_empty()).map(<[u32]>::to_vec))
}

impl Responses for Rule {
    fn of(
        &mut self,
        workshop: &mut Workshop<'_>,
        queries: &[Query],
    ) -> Result<Vec<Option<Vec<Response>>>, GenerateError> {
        let rule = *self;
        let (tokenizer, owner, scope) = (workshop.tokenizer, workshop.owner, workshop.scope);
        let contexts: Vec<&[u32]> = queries.iter().map(|query| query.ids.as_slice()).collect();
        let mut chosen: Vec<Result<Vec<Draft>, ModelError>> = Vec::with_capacity(queries.len());
        workshop
            .model
            .next_distributions(&contexts, &mut |i, probabilities| {
                let found = candidates(probabilities, rule, |id| valid(tokenizer, &queries[i], id));
                chosen.push(found.map(|mut ids| {
                    if ids.len() < rule.candidates {
                        return Vec::new();
                    }
                    let key = derive(owner, Purpose::Response, scope, queries[i].text.as_bytes());
                    Stream::new(&key).shuffle(&mut ids);
                    let draft = |id: u32| Draft {
                        ids: vec![id],
                        probabilities: vec![probabilities[id as usize]],
                    };
                    ids.into_iter().take(rule.responses).map(draft).collect()
                }));
            })?;
        if chosen.len() != queries.len() {
            return Err(GenerateError::Answer {
                expected: queries.len(),
                got: chosen.len(),
            });
        }
        let mut chosen = chosen.into_iter().collect::<Result<Vec<_>, _>>()?;
        continue_greedily(workshop, queries, &mut chosen)?;
        scored(workshop, queries, chosen)
    }
}

/// Whether token `id` may begin the response to `query`.
pub(super) fn valid(tokenizer: &dyn Tokenizer, query: &Query, id: u32) -> Result<bool, ModelError> {
    let Some(token) = tokenizer.token(id) else {
        return Ok(false);
    };
    let word = token.trim();
    if word.chars().nth(1).is_none() || !word.chars().all(char::is_alphanumeric) {
        return Ok(false);
    }
    Ok(response_text(tokenizer, query, &[id])?.is_some())
}

/// The text of `ids` after `query`; `None` when the two texts together encode to other ids than the two id lists.
pub(super) fn response_text(
    tokenizer: &dyn Tokenizer,
    query: &Query,
    ids: &[u32],
) -> Result<Option<String>, ModelError> {
    let whole = [query.ids.as_slice(), ids].concat();
    let decoded = tokenizer.decode(&whole)?;
    let Some(text) = decoded.strip_prefix(query.text.as_str()) else {
        return Ok(None);
    };
    let same = !text.trim().is_empty() && tokenizer.encode(&decoded, true)? == whole;
    Ok(same.then(|| text.to_owned()))
}

/// Extends every draft to `response_length` tokens.
fn continue_greedily(
    workshop: &mut Workshop<'_>,
    queries: &[Query],
    chosen: &mut [Vec<Draft>],
) -> Result<(), GenerateError> {
    let max_tokens = workshop.response_length - 1;
    let begun = queries
        .iter()
        .zip(&*chosen)
        .flat_map(|(query, drafts)| drafts.iter().map(move |draft| (query, draft)));
    let prompts: Vec<Vec<u32>> = begun
        .map(|(query, draft)| [query.ids.as_slice(), &draft.ids].concat())
        .collect();
    if max_tokens == 0 || prompts.is_empty() {
        return Ok(());
    }
    let sampling = Sampling {
        max_tokens,
        temperature: 0.0,
        top_k: 0,
        top_p: 1.0,
        stop: Vec::new(),
    };
    let prompts: Vec<&[u32]> = prompts.iter().map(Vec::as_slice).collect();
    let answers = workshop
        .model
        .generate(&prompts, &vec![0; prompts.len()], &sampling)?;
    if answers.len() != prompts.len() {
        return Err(GenerateError::Answer {
            expected: prompts.len(),
            got: answers.len(),
        });
    }
    for (draft, answer) in chosen.iter_mut().flatten().zip(answers) {
        draft.ids.extend(answer);
    }
    Ok(())
}

/// Turns drafts into responses with their texts and base probabilities; a query without drafts, or with one that has not
/// `response_length` tokens or does not survive the way through text, gets `None`.
pub(super) fn scored(
    workshop: &mut Workshop<'_>,
    queries: &[Query],
    chosen: Vec<Vec<Draft>>,
) -> Result<Vec<Option<Vec<Response>>>, GenerateError> {
    let mut answers = Vec::with_capacity(queries.len());
    for (query, drafts) in queries.iter().zip(chosen) {
        let mut usable = (!drafts.is_empty()).then(Vec::new);
        for Draft { ids, probabilities } in drafts {
            let text = response_text(workshop.tokenizer, query, &ids)?;
            let whole = ids.len() == workshop.response_length;
            usable = usable
                .zip(text)
                .filter(|_| whole)
                .map(|(mut usable, text)| {
                    usable.push(Response {
                        text,
                        ids,
                        probabilities,
                    });
                    usable
                });
        }
        answers.push(usable);
    }

    let open = |response: &Response| response.probabilities.len() < response.ids.len();
    let items: Vec<Continuation<'_>> = queries
        .iter()
        .zip(&answers)
        .flat_map(|(query, responses)| {
            responses
                .iter()
                .flatten()
                .map(move |response| (query, response))
        })
        .filter(|(_, response)| open(response))
        .map(|(query, response)| Continuation {
            context: &query.ids,
            continuation: &response.ids,
        })
        .collect();
    if items.is_empty() {
        return Ok(answers);
    }
    let scores = workshop.model.score(&items)?;
    if scores.len() != items.len() {
        return Err(GenerateError::Answer {
            expected: items.len(),
            got: scores.len(),
        });
    }
    for (response, scores) in answers
        .iter_mut()
        .flatten()
        .flatten()
        .filter(|r| open(r))
        .zip(scores)
    {
        response.probabilities = scores.iter().map(TokenScore::probability).collect();
    }
    Ok(answers)
}

/// Ids by falling probability, sorted only as far as somebody looks.
struct Ranking<'a> {
    probabilities: &'a [f32],
    ids: Vec<u32>,
    sorted: usize,
}

impl<'a> Ranking<'a> {
    const FIRST: usize = 256;

    fn new(probabilities: &'a [f32]) -> Self {
        Self {
            probabilities,
            ids: (0..probabilities.len() as u32).collect(),
            sorted: 0,
        }
    }

    /// The id of rank `rank` (from 0).
    fn id(&mut self, rank: usize) -> Option<u32> {
        while rank >= self.sorted && self.sorted < self.ids.len() {
            let length = (self.sorted.max(Self::FIRST)).min(self.ids.len() - self.sorted);
            let rest = &mut self.ids[self.sorted..];
            let order = |a: &u32, b: &u32| {
                let probability = |id: u32| self.probabilities[id as usize];
                probability(*b).total_cmp(&probability(*a)).then(a.cmp(b))
            };
            rest.select_nth_unstable_by(length - 1, order);
            rest[..length].sort_unstable_by(order);
            self.sorted += length;
        }
        self.ids.get(rank).copied()
    }
}
