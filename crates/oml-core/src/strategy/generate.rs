//! From the owner's seed to a fingerprint set: queries in batches, a response for each, the next query for those that
//! have none.

use std::collections::HashSet;
use std::fmt;
use std::ops::ControlFlow;

use super::chain_hash::ChainHash;
use super::custom::Given;
use super::english::Prose;
use super::perinucleus::Rule;
use super::perplexity::Benign;
use super::query::{Natural, Query};
use super::random_word::RandomWords;
use super::writer::Writer;
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

/// Who makes a set, and of what.
pub struct Parts<'a> {
    /// The base model.
    pub model: &'a mut dyn LanguageModel,
    /// Its tokenizer.
    pub tokenizer: &'a dyn Tokenizer,
    /// The owner's secret.
    pub owner: &'a OwnerSeed,
    /// Who writes natural text; the base model where there is none.
    pub writer: Option<&'a mut dyn Writer>,
    /// What the perplexity of natural queries is held against, where the strategy has a band.
    pub benign: Option<&'a Benign>,
}

/// What has been found after some of the candidates, so that generation can go on there.
#[derive(Clone, Default, PartialEq)]
pub struct PartialSet {
    /// Candidates tried.
    pub attempts: u64,
    /// Queries with their responses, which are empty where they depend on the whole set.
    pub(crate) pairs: Vec<(Query, Vec<Response>)>,
}

impl PartialSet {
    /// Fingerprints found.
    #[must_use]
    pub const fn count(&self) -> usize {
        self.pairs.len()
    }
}

impl fmt::Debug for PartialSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "PartialSet({} of {}, secret)",
            self.pairs.len(),
            self.attempts
        )
    }
}

/// What every step of generation works with.
pub(super) struct Workshop<'a> {
    pub(super) model: &'a mut dyn LanguageModel,
    pub(super) tokenizer: &'a dyn Tokenizer,
    pub(super) owner: &'a OwnerSeed,
    pub(super) scope: Scope<'a>,
    pub(super) query_length: usize,
    pub(super) response_length: usize,
    pub(super) writer: Option<&'a mut dyn Writer>,
    pub(super) benign: Option<&'a Benign>,
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

/// Makes the set that the owner's seed, the model and the options determine, going on from what was found before with the same
/// of these; `watch` sees what is found so far before each batch, and may stop.
///
/// # Errors
/// A failing model, options out of bounds, too few usable queries, or a stop; see [`GenerateError`].
pub fn generate<'a>(
    parts: Parts<'a>,
    options: &'a GenerateOptions,
    start: PartialSet,
    watch: &mut dyn FnMut(&PartialSet) -> ControlFlow<()>,
) -> Result<FingerprintSet, GenerateError> {
    validate(options, &parts)?;
    let owner = parts.owner;
    let scope = Scope {
        model_digest: &options.model_digest,
        copy_id: &options.copy_id,
    };
    let vocabulary_size = parts.model.vocabulary_size();
    let tokenizer = parts.tokenizer;
    let mut workshop = Workshop {
        model: parts.model,
        tokenizer,
        owner,
        scope,
        query_length: options.query_length,
        response_length: options.response_length,
        writer: parts.writer,
        benign: parts.benign,
    };
    let (mut queries, mut responses) = sources(&workshop, options)?;
    let mut pairs = collect(
        &mut workshop,
        queries.as_mut(),
        responses.as_mut(),
        options,
        start,
        watch,
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

fn validate(options: &GenerateOptions, parts: &Parts<'_>) -> Result<(), SetError> {
    options.strategy.validate()?;
    let band = options.strategy.writing().and_then(|writing| writing.band);
    if band.is_some() && parts.benign.is_none() {
        return Err(SetError::Field {
            field: "strategy band".into(),
            expected: "benign text to measure it on".into(),
            got: "none".into(),
        });
    }
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
    start: PartialSet,
    watch: &mut dyn FnMut(&PartialSet) -> ControlFlow<()>,
) -> Result<Vec<(Query, Vec<Response>)>, GenerateError> {
    let total = options.count;
    let limit = queries
        .limit()
        .unwrap_or((total as u64 * ATTEMPTS_PER_FINGERPRINT).max(MIN_ATTEMPTS));
    let mut found = start;
    let distinct = |query: &Query| (query.text.clone(), query.ids.clone());
    let (mut seen_texts, mut seen_ids): (HashSet<_>, HashSet<_>) =
        found.pairs.iter().map(|(query, _)| distinct(query)).unzip();
    while found.count() < total {
        if watch(&found).is_break() {
            return Err(GenerateError::Stopped {
                wanted: total,
                found: found.count(),
            });
        }
        if found.attempts >= limit {
            return Err(match queries.limit() {
                Some(given) => GenerateError::TooFewQueries {
                    wanted: total,
                    usable: found.count(),
                    given: given as usize,
                },
                None => GenerateError::Exhausted {
                    wanted: total,
                    usable: found.count(),
                    attempts: found.attempts,
                },
            });
        }
        let wanted = request(total - found.count(), found.count(), found.attempts)
            .min(options.batch as u64)
            .min(limit - found.attempts);
        let mut fresh = queries.next(workshop, found.attempts, wanted as usize)?;
        found.attempts += wanted;
        // A query that has no response is judged again when it comes again after a break, with the same result.
        fresh.retain(|query| {
            seen_texts.insert(query.text.clone()) && seen_ids.insert(query.ids.clone())
        });
        if fresh.is_empty() {
            continue;
        }
        let answers = responses.of(workshop, &fresh)?;
        let pairs = fresh.into_iter().zip(answers);
        found
            .pairs
            .extend(pairs.filter_map(|(query, found)| Some((query, found?))));
        found.pairs.truncate(total);
    }
    // Whoever watches sees the end too; there is nothing left to stop.
    let _ = watch(&found);
    Ok(found.pairs)
}

/// How many candidates to try for `missing` fingerprints, given the yield so far.
fn request(missing: usize, found: usize, attempts: u64) -> u64 {
    // Before the first batch, expect 16 of 20 to be usable; never expect less than 1 of 10.
    let expected_yield = ((found as f64 + 16.0) / (attempts as f64 + 20.0)).max(0.1);
    (missing as f64 / expected_yield).ceil() as u64
}
