//! Fingerprints and the validated set of them: what is trained, checked and committed to.
//!
//! A fingerprint is a secret (query, response) pair. Text and token ids are both kept: ids are what is trained and
//! scored, so that no re-tokenisation can shift a boundary, and text is what an endpoint sees and what is committed to.
//! `Debug` shows an index and nothing secret.

use std::collections::HashMap;
use std::fmt;

use crate::copies::{Copies, CopiesError, Members};
use crate::model::Continuation;
use crate::secret::Salt;
use crate::strategy::Strategy;

/// Most fingerprints in one set.
pub const MAX_COUNT: usize = 1 << 18;
/// Most bytes in one query or response text.
pub const MAX_TEXT_BYTES: usize = 1 << 16;
/// Most tokens in one query or response.
pub const MAX_TOKENS: usize = 1 << 12;
/// Most valid responses of one query.
pub const MAX_RESPONSES: usize = 64;
/// Most bytes in the name of a licensee's copy.
pub const MAX_COPY_ID_BYTES: usize = 256;

/// One valid answer to a query.
#[derive(Clone, PartialEq)]
pub struct Response {
    /// What follows the query's text, leading space included.
    pub text: String,
    /// Its token ids.
    pub ids: Vec<u32>,
    /// The base model's probability of each id, given the query and the ids before.
    pub probabilities: Vec<f32>,
}

/// A secret query and its valid responses.
#[derive(Clone, PartialEq)]
pub struct Fingerprint {
    /// Position in the set, from 0.
    pub index: usize,
    /// The query's text.
    pub query: String,
    /// Its token ids, with what the tokenizer adds by default: exactly what is trained and scored.
    pub query_ids: Vec<u32>,
    /// The valid responses; one unless the recipe asks for alternatives.
    pub responses: Vec<Response>,
    /// Blinding value of the commitment leaf.
    pub salt: Salt,
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Response(secret)")
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({}, secret)", self.index)
    }
}

/// What all fingerprints of a set have in common.
#[derive(Debug, Clone, PartialEq)]
pub struct SetHeader {
    /// How the set was made, with its parameters.
    pub strategy: Strategy,
    /// Digest of the base model the set was made on.
    pub model_digest: [u8; 32],
    /// Hash of the tokenizer the ids belong to.
    pub tokenizer_hash: [u8; 32],
    /// Number of token ids of the base model; every id is below it.
    pub vocabulary_size: usize,
    /// Name of the licensee's copy; empty for the owner's own set.
    pub copy_id: String,
    /// How the set is divided among licensees' copies, where it is.
    pub copies: Option<Copies>,
    /// Tokens per query, without what the tokenizer adds; the longest for a user's own queries and imported pairs.
    pub query_length: usize,
    /// Tokens per response; the longest for imported pairs.
    pub response_length: usize,
}

/// Fingerprints of one base model, checked to be usable: non-empty, distinct and inside the vocabulary.
#[derive(Debug, Clone, PartialEq)]
pub struct FingerprintSet {
    header: SetHeader,
    fingerprints: Vec<Fingerprint>,
}

/// One way a fingerprint set can be wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SetError {
    /// There is no fingerprint, or there are too many.
    #[error("fingerprints: expected 1 to {MAX_COUNT}, got {got}")]
    Count {
        /// Fingerprints found.
        got: usize,
    },
    /// A field of the header or of one fingerprint is out of bounds.
    #[error("{field}: expected {expected}, got {got}")]
    Field {
        /// Path of the field.
        field: String,
        /// What is allowed.
        expected: String,
        /// What was found.
        got: String,
    },
    /// A text or id list that must not be empty is.
    #[error("{field}: expected something, got nothing")]
    Empty {
        /// Path of the field.
        field: String,
    },
    /// Two fingerprints share a query, by text or by token ids.
    #[error(
        "fingerprints[{index}].{field}: expected a query of its own, got that of fingerprint {earlier}"
    )]
    Duplicate {
        /// The later fingerprint.
        index: usize,
        /// The fingerprint it repeats.
        earlier: usize,
        /// `query` or `query_ids`.
        field: &'static str,
    },
    /// A token id is not in the vocabulary.
    #[error("{field}: expected token ids below {vocabulary_size}, got {id}")]
    Id {
        /// Path of the field.
        field: String,
        /// Number of ids in the vocabulary.
        vocabulary_size: usize,
        /// The id found.
        id: u32,
    },
    /// The division among copies cannot be used.
    #[error(transparent)]
    Copies(#[from] CopiesError),
    /// The set belongs to another tokenizer.
    #[error("tokenizer hash: expected {expected} as in the fingerprints, got {got} from the model")]
    Tokenizer {
        /// Hash stored with the set.
        expected: String,
        /// Hash of the tokenizer at hand.
        got: String,
    },
    /// The model at hand knows fewer ids than the set uses.
    #[error(
        "vocabulary size: expected at least {expected} for the fingerprints, got {got} from the model"
    )]
    Vocabulary {
        /// Smallest vocabulary that holds every id of the set.
        expected: usize,
        /// Vocabulary of the model at hand.
        got: usize,
    },
}

impl FingerprintSet {
    /// Validates and builds a set.
    ///
    /// # Errors
    /// The first fault found, in the order of the fingerprints.
    pub fn new(header: SetHeader, fingerprints: Vec<Fingerprint>) -> Result<Self, SetError> {
        validate_header(&header)?;
        if fingerprints.is_empty() || fingerprints.len() > MAX_COUNT {
            return Err(SetError::Count {
                got: fingerprints.len(),
            });
        }
        for (position, fingerprint) in fingerprints.iter().enumerate() {
            validate(&header, position, fingerprint)?;
        }
        refuse_duplicates(&fingerprints, "query", |f| f.query.as_str())?;
        refuse_duplicates(&fingerprints, "query_ids", |f| f.query_ids.as_slice())?;
        Ok(Self {
            header,
            fingerprints,
        })
    }

    /// What all fingerprints have in common.
    #[must_use]
    pub const fn header(&self) -> &SetHeader {
        &self.header
    }

    /// The fingerprints, in the order of their indices.
    #[must_use]
    pub fn fingerprints(&self) -> &[Fingerprint] {
        &self.fingerprints
    }

    /// Number of fingerprints; at least 1.
    #[must_use]
    pub fn count(&self) -> usize {
        self.fingerprints.len()
    }

    /// The part of the set that one copy holds; fingerprints keep their index, and the Merkle root is the whole set's.
    ///
    /// # Errors
    /// [`SetError::Field`] for the members of a set of another size, [`SetError::Count`] when the copy holds nothing.
    pub fn of_copy(&self, members: &Members) -> Result<Self, SetError> {
        let held = members.as_slice();
        bounded(
            "members of the copy",
            held.len(),
            self.count(),
            self.count(),
        )?;
        let kept = self
            .fingerprints
            .iter()
            .zip(held)
            .filter(|(_, held)| **held);
        let fingerprints: Vec<_> = kept.map(|(fingerprint, _)| fingerprint.clone()).collect();
        if fingerprints.is_empty() {
            return Err(SetError::Count { got: 0 });
        }
        Ok(Self {
            header: self.header.clone(),
            fingerprints,
        })
    }

    /// Scoring requests for every response of every fingerprint: fingerprint by fingerprint, responses in order.
    #[must_use]
    pub fn continuations(&self) -> Vec<Continuation<'_>> {
        let mut items = Vec::with_capacity(self.count());
        for fingerprint in &self.fingerprints {
            for response in &fingerprint.responses {
                items.push(Continuation {
                    context: &fingerprint.query_ids,
                    continuation: &response.ids,
                });
            }
        }
        items
    }

    /// Refuses a model whose ids do not mean what this set's ids mean.
    ///
    /// # Errors
    /// [`SetError::Tokenizer`] or [`SetError::Vocabulary`].
    pub fn ensure_fits(
        &self,
        tokenizer_hash: &[u8; 32],
        vocabulary_size: usize,
    ) -> Result<(), SetError> {
        if *tokenizer_hash != self.header.tokenizer_hash {
            return Err(SetError::Tokenizer {
                expected: crate::manifest::hex(&self.header.tokenizer_hash),
                got: crate::manifest::hex(tokenizer_hash),
            });
        }
        let used = self
            .fingerprints
            .iter()
            .flat_map(|f| f.responses.iter().flat_map(|r| &r.ids).chain(&f.query_ids));
        let expected = used.max().map_or(0, |&id| id as usize + 1);
        if vocabulary_size < expected {
            return Err(SetError::Vocabulary {
                expected,
                got: vocabulary_size,
            });
        }
        Ok(())
    }
}

fn validate_header(header: &SetHeader) -> Result<(), SetError> {
    bounded(
        "vocabulary_size",
        header.vocabulary_size,
        1,
        u32::MAX as usize,
    )?;
    bounded("query_length", header.query_length, 1, MAX_TOKENS)?;
    bounded("response_length", header.response_length, 1, MAX_TOKENS)?;
    bounded("copy_id bytes", header.copy_id.len(), 0, MAX_COPY_ID_BYTES)?;
    if let Some(copies) = header.copies {
        copies.validate()?;
    }
    header.strategy.validate()
}

fn validate(
    header: &SetHeader,
    position: usize,
    fingerprint: &Fingerprint,
) -> Result<(), SetError> {
    let at = |field: &str| format!("fingerprints[{position}].{field}");
    if fingerprint.index != position {
        return Err(SetError::Field {
            field: at("index"),
            expected: position.to_string(),
            got: fingerprint.index.to_string(),
        });
    }
    text(&at("query"), &fingerprint.query)?;
    ids(
        &at("query_ids"),
        &fingerprint.query_ids,
        header.vocabulary_size,
    )?;
    bounded(
        &at("responses"),
        fingerprint.responses.len(),
        1,
        MAX_RESPONSES,
    )?;
    let shortest = match header.strategy {
        Strategy::Imported => 1,
        _ => header.response_length,
    };
    for (r, response) in fingerprint.responses.iter().enumerate() {
        let at = |field: &str| format!("fingerprints[{position}].responses[{r}].{field}");
        text(&at("text"), &response.text)?;
        ids(&at("ids"), &response.ids, header.vocabulary_size)?;
        bounded(
            &at("ids"),
            response.ids.len(),
            shortest,
            header.response_length,
        )?;
        bounded(
            &at("probabilities"),
            response.probabilities.len(),
            response.ids.len(),
            response.ids.len(),
        )?;
        if let Some(p) = response
            .probabilities
            .iter()
            .find(|p| !(0.0..=1.0).contains(*p))
        {
            return Err(SetError::Field {
                field: at("probabilities"),
                expected: "values from 0 to 1".into(),
                got: p.to_string(),
            });
        }
        if fingerprint.responses[..r]
            .iter()
            .any(|earlier| earlier.ids == response.ids || earlier.text == response.text)
        {
            return Err(SetError::Field {
                field: at("ids"),
                expected: "responses that differ".into(),
                got: "a repeated response".into(),
            });
        }
    }
    Ok(())
}

fn refuse_duplicates<'a, K: ?Sized + std::hash::Hash + Eq + 'a>(
    fingerprints: &'a [Fingerprint],
    field: &'static str,
    key: impl Fn(&'a Fingerprint) -> &'a K,
) -> Result<(), SetError> {
    let mut seen = HashMap::with_capacity(fingerprints.len());
    for fingerprint in fingerprints {
        if let Some(earlier) = seen.insert(key(fingerprint), fingerprint.index) {
            return Err(SetError::Duplicate {
                index: fingerprint.index,
                earlier,
                field,
            });
        }
    }
    Ok(())
}

fn text(field: &str, text: &str) -> Result<(), SetError> {
    if text.trim().is_empty() {
        return Err(SetError::Empty {
            field: field.into(),
        });
    }
    bounded(&format!("{field} bytes"), text.len(), 1, MAX_TEXT_BYTES)
}

fn ids(field: &str, ids: &[u32], vocabulary_size: usize) -> Result<(), SetError> {
    if ids.is_empty() {
        return Err(SetError::Empty {
            field: field.into(),
        });
    }
    bounded(&format!("{field} length"), ids.len(), 1, MAX_TOKENS)?;
    match ids.iter().find(|&&id| id as usize >= vocabulary_size) {
        Some(&id) => Err(SetError::Id {
            field: field.into(),
            vocabulary_size,
            id,
        }),
        None => Ok(()),
    }
}

pub(crate) fn bounded(field: &str, got: usize, low: usize, high: usize) -> Result<(), SetError> {
    if (low..=high).contains(&got) {
        return Ok(());
    }
    let expected = if low == high {
        low.to_string()
    } else {
        format!("{low} to {high}")
    };
    Err(SetError::Field {
        field: field.into(),
        expected,
        got: got.to_string(),
    })
}
