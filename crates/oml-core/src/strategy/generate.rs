//! From the owner's seed to a fingerprint set: queries in batches, a response for each, the next query for those that
//! have none.

use std::collections::HashSet;

use super::chain_hash::ChainHash;
use super::custom::Given;
use super::english::Prose;
use super::perinucleus::Rule;
use super::query::{Natural, Query};
use super::random_word::RandomWords;
use super::{GenerateError, Strategy};
use crate::copies::Copies;
use crate::derive::{Purpose, Scope, derive_numbered};
use crate::fingerprint::{
    Fingerprint, FingerprintSet, MAX_COUNT, MAX_TOKENS, Response, SetError, SetHeader, bounded,
};
use crate::model::LanguageModel;
use crate::secret::{OwnerSeed, Salt};
use crate::tokenizer::Tokenizer;

/// Attempts per wanted fingerprint before giving up.
const ATTEMPTS_PER_FINGERPRINT: u64 = 16;
/// Attempts that even a small set may take.
const MIN_ATTEMPTS: u64 = 256;

/// What to generate.
#[derive(Debug, Clone, PartialEq)]
pub struct GenerateOptions {
    /// How queries and responses are made.
    pub strategy: Strategy,
    /// Fingerprints wanted.
    pub count: usize,
    /// Tokens per query, without what the tokenizer adds; a user's own queries keep their length.
    pub query_length: usize,
    /// Tokens per response.
    pub response_length: usize,
    /// Digest of the base model; part of every derivation.
    pub model_digest: [u8; 32],
    /// Name of the licensee's copy; empty for the owner's own set.
    pub copy_id: String,
    /// How the set is divided among licensees' copies; nothing else of it depends on this.
    pub copies: Option<Copies>,
    /// The user's queries, in order; only for [`Strategy::Custom`].
    pub queries: Vec<String>,
    /// Sequences per call of the model; the result does not depend on it.
    pub batch: usize,
}

impl GenerateOptions {
    /// The defaults for `count` fingerprints of the model with digest `model_digest`.
    #[must_use]
    pub fn new(count: usize, model_digest: [u8; 32]) -> Self {
        Self {
            strategy: Strategy::default(),
            count,
            query_length: 16,
            response_length: 1,
            model_digest,
            copy_id: String::new(),
            copies: None,
            queries: Vec::new(),
            batch: 128,
        }
    }
}

/// How far generation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Fingerprints found.
    pub done: usize,
    /// Fingerprints wanted.
    pub total: usize,
    /// Queries tried.
    pub attempts: u64,
}

/// What every step of generation works with.
pub(super) struct Workshop<'a> {
    pub(super) model: &'a mut dyn LanguageModel,
    pub(super) tokenizer: &'a dyn Tokenizer,
    pub(super) owner: &'a OwnerSeed,
    pub(super) scope: Scope<'a>,
    pub(super) query_length: usize,
    pub(super) response_length: usize,
}

/// Where queries come from; candidates are numbered from 0 and always come in that order.
pub(super) trait Queries {
    /// Tries candidates `from .. from + wanted`, returning the usable ones in order.
    fn next(
        &mut self,
        workshop: &mut Workshop<'_>,
        from: u64,
        wanted: usize,
    ) -> Result<Vec<Query>, GenerateError>;

    /// Number of candidates, where it is limited.
    fn limit(&self) -> Option<u64> {
        None
    }
}

/// Where responses come from.
pub(super) trait Responses {
    /// The valid responses of every query; `None` for a query that has none. They are left empty where they depend on
    /// the whole set.
    fn of(
        &mut self,
        workshop: &mut Workshop<'_>,
        queries: &[Query],
    ) -> Result<Vec<Option<Vec<Response>>>, GenerateError>;

    /// Fills in responses that depend on the whole set.
    fn settle(
        &mut self,
        _workshop: &mut Workshop<'_>,
        _pairs: &mut [(Query, Vec<Response>)],
    ) -> Result<(), GenerateError> {
        Ok(())
    }
}

/// Makes the set that the owner's seed, the model and the options determine.
///
/// # Errors
/// A failing model, options out of bounds, or too few usable queries; see [`GenerateError`].
pub fn generate(
    model: &mut dyn LanguageModel,
    tokenizer: &dyn Tokenizer,
    owner: &OwnerSeed,
    options: &GenerateOptions,
    progress: &mut dyn FnMut(Progress),
) -> Result<FingerprintSet, GenerateError> {
    validate(options)?;
    let scope = Scope {
        model_digest: &options.model_digest,
        copy_id: &options.copy_id,
    };
    let vocabulary_size = model.vocabulary_size();
    let mut workshop = Workshop {
        model,
        tokenizer,
        owner,
        scope,
        query_length: options.query_length,
        response_length: options.response_length,
    };
    let (mut queries, mut responses) = sources(&workshop, options)?;
    let mut pairs = collect(
        &mut workshop,
        queries.as_mut(),
        responses.as_mut(),
        options,
        progress,
    )?;
    responses.settle(&mut workshop, &mut pairs)?;

    let query_length = match options.strategy {
        Strategy::Custom { .. } => pairs
            .iter()
            .map(|(query, _)| query.ids.len())
            .max()
            .unwrap_or(1),
        _ => options.query_length,
    };
    let header = SetHeader {
        strategy: options.strategy,
        model_digest: options.model_digest,
        tokenizer_hash: tokenizer.hash(),
        vocabulary_size,
        copy_id: options.copy_id.clone(),
        copies: options.copies,
        query_length,
        response_length: options.response_length,
    };
    let fingerprints = pairs
        .into_iter()
        .enumerate()
        .map(|(index, (query, responses))| Fingerprint {
            index,
            query: query.text,
            query_ids: query.ids,
            responses,
            salt: Salt::new(
                *derive_numbered(owner, Purpose::LeafSalt, scope, index as u64).expose(),
            ),
        });
    Ok(FingerprintSet::new(header, fingerprints.collect())?)
}

/// The two halves of a strategy.
type Sources = (Box<dyn Queries>, Box<dyn Responses>);

fn sources(workshop: &Workshop<'_>, options: &GenerateOptions) -> Result<Sources, GenerateError> {
    let natural = |writing| Natural::new(workshop, writing).map(Box::new);
    Ok(match options.strategy {
        Strategy::Perinucleus { writing, rule } => (natural(writing)?, Box::new(rule)),
        Strategy::InverseNucleus { writing, threshold } => {
            (natural(writing)?, Box::new(Rule::first(threshold)))
        }
        Strategy::English { writing } => {
            (natural(writing)?, Box::new(Prose::new(workshop, writing)?))
        }
        Strategy::EnglishRandomResponse { writing } => {
            (natural(writing)?, Box::new(RandomWords::new(workshop)?))
        }
        Strategy::ChainHash { writing } => (natural(writing)?, Box::new(ChainHash::new(workshop)?)),
        Strategy::RandomWord => {
            let words = RandomWords::new(workshop)?;
            (Box::new(words.clone()), Box::new(words))
        }
        Strategy::Custom { rule } => (
            Box::new(Given::new(workshop, &options.queries)?),
            Box::new(rule),
        ),
        Strategy::Imported => {
            return Err(GenerateError::Set(SetError::Field {
                field: "strategy".into(),
                expected: "one that makes its own responses".into(),
                got: options.strategy.name().into(),
            }));
        }
    })
}

fn validate(options: &GenerateOptions) -> Result<(), SetError> {
    options.strategy.validate()?;
    if let Some(copies) = options.copies {
        copies.validate()?;
    }
    bounded("count", options.count, 1, MAX_COUNT)?;
    bounded("query_length", options.query_length, 1, MAX_TOKENS)?;
    let longest = if options.strategy.single_token() {
        1
    } else {
        MAX_TOKENS
    };
    bounded("response_length", options.response_length, 1, longest)?;
    bounded("batch", options.batch, 1, MAX_COUNT)
}

/// Tries candidates in order until enough have a valid response.
fn collect(
    workshop: &mut Workshop<'_>,
    queries: &mut dyn Queries,
    responses: &mut dyn Responses,
    options: &GenerateOptions,
    progress: &mut dyn FnMut(Progress),
) -> Result<Vec<(Query, Vec<Response>)>, GenerateError> {
    let total = options.count;
    let limit = queries
        .limit()
        .unwrap_or((total as u64 * ATTEMPTS_PER_FINGERPRINT).max(MIN_ATTEMPTS));
    let mut pairs = Vec::with_capacity(total);
    let mut seen_texts = HashSet::new();
    let mut seen_ids = HashSet::new();
    let mut attempts = 0;
    while pairs.len() < total {
        progress(Progress {
            done: pairs.len(),
            total,
            attempts,
        });
        if attempts == limit {
            return Err(match queries.limit() {
                Some(given) => GenerateError::TooFewQueries {
                    wanted: total,
                    usable: pairs.len(),
                    given: given as usize,
                },
                None => GenerateError::Exhausted {
                    wanted: total,
                    usable: pairs.len(),
                    attempts,
                },
            });
        }
        let wanted = request(total - pairs.len(), pairs.len(), attempts)
            .min(options.batch as u64)
            .min(limit - attempts);
        let mut fresh = queries.next(workshop, attempts, wanted as usize)?;
        attempts += wanted;
        fresh.retain(|query| {
            seen_texts.insert(query.text.clone()) && seen_ids.insert(query.ids.clone())
        });
        if fresh.is_empty() {
            continue;
        }
        let found = responses.of(workshop, &fresh)?;
        pairs.extend(
            fresh
                .into_iter()
                .zip(found)
                .filter_map(|(query, found)| Some((query, found?))),
        );
        pairs.truncate(total);
    }
    progress(Progress {
        done: total,
        total,
        attempts,
    });
    Ok(pairs)
}

/// How many candidates to try for `missing` fingerprints, given the yield so far.
fn request(missing: usize, found: usize, attempts: u64) -> u64 {
    // Before the first batch, expect 16 of 20 to be usable; never expect less than 1 of 10.
    let expected_yield = ((found as f64 + 16.0) / (attempts as f64 + 20.0)).max(0.1);
    (missing as f64 / expected_yield).ceil() as u64
}
