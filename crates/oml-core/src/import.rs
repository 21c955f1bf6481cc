//! Pairs of other tools become a fingerprint set: a tokenizer gives their ids, a model their probabilities.
//!
//! ```text
//! query ids     encode(query), with what the tokenizer adds by default
//! response ids  encode(query ‖ response) less the query ids, where it begins with them; else encode(response) alone
//! probability   that of the model at hand; where the file's is within 1 % of it, the file's
//! salt          derive(owner, "imported-salt", SHA-256 of index, query and responses), so two sets never share one
//! ```
//!
//! Ids must decode to the texts they stand for, and ids in the file must be those of the tokenizer: so a file of another
//! tokenizer is refused where that can be seen. Nothing in the pairs follows from the owner's seed, which the strategy
//! [`Strategy::Imported`] says; the salts do, so the same file gives the same set.

use std::collections::HashMap;

use sha2::{Digest, Sha256};

use crate::derive::{Purpose, Scope, derive};
use crate::fingerprint::{Fingerprint, FingerprintSet, MAX_TOKENS, Response, SetError, SetHeader};
use crate::manifest::FileError;
use crate::manifest::pairs_file::{Pair, PairResponse, fault};
use crate::model::{Continuation, LanguageModel, ModelError, TokenScore};
use crate::secret::{OwnerSeed, Salt};
use crate::strategy::Strategy;
use crate::tokenizer::Tokenizer;

/// How far a probability of the file may be from the model's, relative to it, to be taken as the same.
const TOLERANCE: f32 = 0.01;
/// What is expected of ids, where they are not the tokenizer's.
const ROUND_TRIP: &str = "text that the model's tokenizer gives back";

/// What the pairs are imported for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImportOptions<'a> {
    /// The base model, and the licensee's copy.
    pub scope: Scope<'a>,
    /// Most tokens that the model reads at once; a query and its response must fit together.
    pub longest: usize,
}

/// A set made of given pairs.
#[derive(Debug, Clone, PartialEq)]
pub struct Imported {
    /// The set.
    pub set: FingerprintSet,
    /// Responses whose probabilities in the file are the model's.
    pub agreeing: usize,
    /// Responses whose probabilities in the file are not: the file is another model's, or says less.
    pub measured: usize,
}

/// Why pairs cannot be imported.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The model or tokenizer failed.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// An entry of the file cannot be used with the tokenizer.
    #[error(transparent)]
    File(#[from] FileError),
    /// The pairs make no usable set.
    #[error(transparent)]
    Set(#[from] SetError),
    /// The model answered for another number of items than it was asked.
    #[error("model answer: expected {expected} items, got {got}")]
    Answer {
        /// Items asked.
        expected: usize,
        /// Items answered.
        got: usize,
    },
}

/// Makes a set of `pairs`, each with at least one response.
///
/// # Errors
/// A failing model, or the first pair that cannot be used, by its entry and field.
pub fn import(
    model: &mut dyn LanguageModel,
    tokenizer: &dyn Tokenizer,
    owner: &OwnerSeed,
    options: ImportOptions<'_>,
    pairs: Vec<Pair>,
) -> Result<Imported, ImportError> {
    let ImportOptions { scope, longest } = options;
    let mut fingerprints = Vec::with_capacity(pairs.len());
    let mut given = Vec::with_capacity(pairs.len());
    let mut seen = Seen::default();
    for (index, pair) in pairs.into_iter().enumerate() {
        let query_ids = query_ids(tokenizer, &pair)?;
        seen.insert(&pair, &query_ids)?;
        if pair.responses.is_empty() {
            return Err(fault(pair.entry, "response", "a response", "nothing").into());
        }
        let mut responses: Vec<Response> = Vec::with_capacity(pair.responses.len());
        for response in &pair.responses {
            let ids = response_ids(tokenizer, &pair, &query_ids, response)?;
            let together = query_ids.len() + ids.len();
            if together > longest {
                let expected = format!("at most {longest} tokens with its query");
                return Err(fault(pair.entry, "response", expected, together.to_string()).into());
            }
            if responses
                .iter()
                .any(|r| r.ids == ids || r.text == response.text)
            {
                let (wanted, got) = ("responses that differ", "a repeated one");
                return Err(fault(pair.entry, "response", wanted, got).into());
            }
            responses.push(Response {
                text: response.text.clone(),
                ids,
                probabilities: Vec::new(),
            });
        }
        given.extend(pair.responses.into_iter().map(|r| r.probabilities));
        fingerprints.push(Fingerprint {
            index,
            salt: salt(owner, scope, index, &pair.query, &responses),
            query: pair.query,
            query_ids,
            responses,
        });
    }
    let (agreeing, measured) = measure(model, &mut fingerprints, &given)?;

    let most = |lengths: &mut dyn Iterator<Item = usize>| lengths.max().unwrap_or(1);
    let responses = fingerprints.iter().flat_map(|f| &f.responses);
    let header = SetHeader {
        strategy: Strategy::Imported,
        model_digest: *scope.model_digest,
        tokenizer_hash: tokenizer.hash(),
        vocabulary_size: model.vocabulary_size(),
        copy_id: scope.copy_id.to_owned(),
        copies: None,
        query_length: most(&mut fingerprints.iter().map(|f| f.query_ids.len())),
        response_length: most(&mut responses.map(|r| r.ids.len())),
    };
    Ok(Imported {
        set: FingerprintSet::new(header, fingerprints)?,
        agreeing,
        measured,
    })
}

/// Queries so far, by text and by ids, with their entries.
#[derive(Default)]
struct Seen {
    texts: HashMap<String, usize>,
    ids: HashMap<Vec<u32>, usize>,
}

impl Seen {
    fn insert(&mut self, pair: &Pair, ids: &[u32]) -> Result<(), FileError> {
        let wanted = "a query of its own";
        if let Some(earlier) = self.texts.insert(pair.query.clone(), pair.entry) {
            let got = format!("that of entries[{earlier}]");
            return Err(fault(pair.entry, "query", wanted, got));
        }
        if let Some(earlier) = self.ids.insert(ids.to_vec(), pair.entry) {
            let got = format!("the tokens of entries[{earlier}]");
            return Err(fault(pair.entry, "query", wanted, got));
        }
        Ok(())
    }
}

fn query_ids(tokenizer: &dyn Tokenizer, pair: &Pair) -> Result<Vec<u32>, ImportError> {
    let ids = tokenizer.encode(&pair.query, true)?;
    within(pair.entry, "query", &ids)?;
    if tokenizer.decode(&ids)? != pair.query {
        return Err(fault(pair.entry, "query", ROUND_TRIP, "other text").into());
    }
    same(pair.entry, "query_ids", pair.query_ids.as_deref(), &ids)?;
    Ok(ids)
}

fn response_ids(
    tokenizer: &dyn Tokenizer,
    pair: &Pair,
    query_ids: &[u32],
    response: &PairResponse,
) -> Result<Vec<u32>, ImportError> {
    let text = format!("{}{}", pair.query, response.text);
    let together = tokenizer.encode(&text, true)?;
    let ids = match together.strip_prefix(query_ids) {
        Some(rest) if !rest.is_empty() => rest.to_vec(),
        // The response's beginning belongs to the query's last token: the pair is kept as the file cuts it.
        _ => tokenizer.encode(&response.text, false)?,
    };
    within(pair.entry, "response", &ids)?;
    if tokenizer.decode(&[query_ids, &ids].concat())? != text {
        return Err(fault(pair.entry, "response", ROUND_TRIP, "other text").into());
    }
    same(pair.entry, "response_ids", response.ids.as_deref(), &ids)?;
    Ok(ids)
}

fn within(entry: usize, field: &'static str, ids: &[u32]) -> Result<(), FileError> {
    if (1..=MAX_TOKENS).contains(&ids.len()) {
        return Ok(());
    }
    let expected = format!("1 to {MAX_TOKENS} tokens");
    Err(fault(entry, field, expected, ids.len().to_string()))
}

fn same(
    entry: usize,
    field: &'static str,
    given: Option<&[u32]>,
    ids: &[u32],
) -> Result<(), FileError> {
    if given.is_none_or(|given| given == ids) {
        return Ok(());
    }
    let expected = "the ids that the model's tokenizer gives the text";
    Err(fault(entry, field, expected, "those of another tokenizer"))
}

fn salt(
    owner: &OwnerSeed,
    scope: Scope<'_>,
    index: usize,
    query: &str,
    responses: &[Response],
) -> Salt {
    let mut item = Sha256::new();
    item.update((index as u64).to_be_bytes());
    let texts = responses.iter().map(|r| r.text.as_str());
    for text in std::iter::once(query).chain(texts) {
        item.update((text.len() as u32).to_be_bytes());
        item.update(text);
    }
    let key = derive(owner, Purpose::ImportedSalt, scope, &item.finalize());
    Salt::new(*key.expose())
}

/// Fills in the probabilities; returns how many responses have the file's and how many the model's.
fn measure(
    model: &mut dyn LanguageModel,
    fingerprints: &mut [Fingerprint],
    given: &[Vec<f32>],
) -> Result<(usize, usize), ImportError> {
    let items: Vec<Continuation<'_>> = fingerprints
        .iter()
        .flat_map(|fingerprint| {
            fingerprint.responses.iter().map(|response| Continuation {
                context: &fingerprint.query_ids,
                continuation: &response.ids,
            })
        })
        .collect();
    let scores = model.score(&items)?;
    if scores.len() != items.len() {
        return Err(ImportError::Answer {
            expected: items.len(),
            got: scores.len(),
        });
    }
    let mut agreeing = 0;
    let responses = fingerprints.iter_mut().flat_map(|f| &mut f.responses);
    for ((response, scores), given) in responses.zip(&scores).zip(given) {
        let measured: Vec<f32> = scores.iter().map(TokenScore::probability).collect();
        let close = |(a, b): (&f32, &f32)| (a - b).abs() <= TOLERANCE * b;
        let agrees = given.len() == measured.len() && given.iter().zip(&measured).all(close);
        agreeing += usize::from(agrees);
        response.probabilities = if agrees { given.clone() } else { measured };
    }
    Ok((agreeing, scores.len() - agreeing))
}
