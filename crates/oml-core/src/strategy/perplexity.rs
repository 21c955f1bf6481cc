//! How conspicuous queries are: their perplexity under the base model, held against that of benign text.
//!
//! ```text
//! perplexity(x)   exp(−(log p(x_s) + … + log p(x_n)) / (n − s + 1))   over the n tokens of x; s is the first one that something
//!                 precedes: the first of the text where the tokenizer adds a token in front, else the second
//! benign text     the first n tokens from each beginning of a sentence in real text, so that both begin as a prompt does
//! percentile(x)   share of the benign pieces of as many tokens that have a lower perplexity, half of the equals counted, in percent
//! ```
//!
//! A filter in front of a model that refuses what lies above the 99th percentile refuses one in a hundred ordinary prompts, and
//! every query up there. So natural queries outside a [`Band`] are passed over for the next candidate; this looks at the query
//! alone, never at a response, and leaves the choice among the responses as uniform as it was.
//!
//! Source: "Are Robust LLM Fingerprints Adversarially Robust?" (arXiv 2509.26598), detection of queries by perplexity.

use super::GenerateError;
use crate::fingerprint::SetError;
use crate::model::{Continuation, LanguageModel};
use crate::tokenizer::Tokenizer;

/// Fewest benign pieces that a percentile may rest on.
pub const MIN_PIECES: usize = 100;
/// Most benign pieces that are measured.
pub const MAX_PIECES: usize = 1_000;
/// Tokens of a query that its perplexity is measured on, at most.
pub const MAX_LENGTH: usize = 128;
/// Room for a piece: no more of the text is encoded for each of its tokens.
const BYTES_PER_TOKEN: usize = 32;

/// Percentiles of benign text between which the perplexity of a natural query must lie.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Band {
    /// The lower, from 0.
    pub low: f64,
    /// The upper, to 100.
    pub high: f64,
}

impl Default for Band {
    fn default() -> Self {
        Self {
            low: 1.0,
            high: 99.0,
        }
    }
}

impl Band {
    /// Whether a percentile lies in the band, its ends included.
    #[must_use]
    pub fn contains(&self, percentile: f64) -> bool {
        (self.low..=self.high).contains(&percentile)
    }

    pub(super) fn validate(self) -> Result<(), SetError> {
        if 0.0 <= self.low && self.low < self.high && self.high <= 100.0 {
            return Ok(());
        }
        Err(SetError::Field {
            field: "strategy band".into(),
            expected: "two percentiles from 0 to 100, the lower first".into(),
            got: format!("{} and {}", self.low, self.high),
        })
    }
}

/// Where a query lies.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Place {
    /// Its perplexity.
    pub perplexity: f64,
    /// Its percentile among benign pieces of as many tokens.
    pub percentile: f64,
}

/// The perplexities of benign text under the base model.
#[derive(Debug, Clone, PartialEq)]
pub struct Benign {
    /// Tokens that the tokenizer puts in front of a text.
    start: usize,
    /// Perplexities in ascending order, of pieces with 1, 2, … scored tokens.
    sorted: Vec<Vec<f64>>,
    count: usize,
}

impl Benign {
    /// Measures pieces of `text` that serve for queries of up to `length` tokens, of which the first [`MAX_LENGTH`] count.
    ///
    /// # Errors
    /// A failing model, or fewer than [`MIN_PIECES`] beginnings of sentences with so many tokens after them.
    pub fn measure(
        model: &mut dyn LanguageModel,
        tokenizer: &dyn Tokenizer,
        text: &str,
        length: usize,
    ) -> Result<Self, GenerateError> {
        let length = length.min(MAX_LENGTH);
        let start = tokenizer.encode("", true)?;
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        let beginnings = beginnings(&text);
        let mut pieces = Vec::new();
        for &beginning in evenly(&beginnings, MAX_PIECES) {
            let rest = &text[beginning..];
            let room = rest.floor_char_boundary(length * BYTES_PER_TOKEN);
            // No word is cut.
            let end = match room < rest.len() {
                true => rest[..room].rfind(' ').unwrap_or(room),
                false => room,
            };
            let ids = tokenizer.encode(&rest[..end], false)?;
            pieces.extend(ids.get(..length).map(|ids| [&start, ids].concat()));
        }
        if pieces.len() < MIN_PIECES {
            return Err(GenerateError::TooFewPieces {
                needed: MIN_PIECES,
                found: pieces.len(),
                length,
            });
        }
        let pieces: Vec<&[u32]> = pieces.iter().map(Vec::as_slice).collect();
        let scores = log_probabilities(model, &pieces, start.len())?;
        let sorted = (1..=scores.first().map_or(0, Vec::len)).map(|scored| {
            let values = scores.iter().map(|piece| perplexity(&piece[..scored]));
            let mut values: Vec<f64> = values.collect();
            values.sort_unstable_by(f64::total_cmp);
            values
        });
        Ok(Self {
            start: start.len(),
            sorted: sorted.collect(),
            count: pieces.len(),
        })
    }

    /// Number of pieces.
    #[must_use]
    pub const fn count(&self) -> usize {
        self.count
    }

    /// Where each query lies, given by its ids with what the tokenizer adds; `None` for one in which nothing precedes anything.
    ///
    /// # Errors
    /// A failing model.
    pub fn places(
        &self,
        model: &mut dyn LanguageModel,
        queries: &[&[u32]],
    ) -> Result<Vec<Option<Place>>, GenerateError> {
        let longest = self.start.max(1) + self.sorted.len();
        let cut: Vec<&[u32]> = queries
            .iter()
            .map(|ids| &ids[..ids.len().min(longest)])
            .collect();
        let scores = log_probabilities(model, &cut, self.start)?;
        let place = |scores: &Vec<f32>| {
            let sorted = self.sorted.get(scores.len().checked_sub(1)?)?;
            let perplexity = perplexity(scores);
            let below = sorted.partition_point(|other| *other < perplexity);
            let equal = sorted.partition_point(|other| *other <= perplexity) - below;
            Some(Place {
                perplexity,
                percentile: 100.0 * (below as f64 + equal as f64 / 2.0) / sorted.len() as f64,
            })
        };
        Ok(scores.iter().map(place).collect())
    }
}

fn perplexity(log_probabilities: &[f32]) -> f64 {
    let sum: f64 = log_probabilities.iter().copied().map(f64::from).sum();
    (-sum / log_probabilities.len() as f64).exp()
}

/// Log-probabilities of each sequence's tokens after the first `start`, or after the first where that is none.
fn log_probabilities(
    model: &mut dyn LanguageModel,
    sequences: &[&[u32]],
    start: usize,
) -> Result<Vec<Vec<f32>>, GenerateError> {
    let unscored = start.max(1);
    let mut found = vec![Vec::new(); sequences.len()];
    let (items, places): (Vec<_>, Vec<_>) = (0..)
        .zip(sequences)
        .filter(|(_, ids)| ids.len() > unscored)
        .map(|(place, ids): (usize, _)| {
            let (context, continuation) = ids.split_at(unscored);
            let item = Continuation {
                context,
                continuation,
            };
            (item, place)
        })
        .unzip();
    let scores = model.score(&items)?;
    if scores.len() != items.len() {
        return Err(GenerateError::Answer {
            expected: items.len(),
            got: scores.len(),
        });
    }
    for (place, scores) in places.into_iter().zip(scores) {
        found[place] = scores.iter().map(|score| score.log_probability).collect();
    }
    Ok(found)
}

/// Where sentences begin: at the start, and at each capital letter after a full stop, a question mark or an exclamation mark.
pub(crate) fn beginnings(text: &str) -> Vec<usize> {
    let after = |&(space, _): &(usize, &str)| {
        let before = text[..space].trim_end_matches(['"', '”', '\'', '’', ')']);
        before.ends_with(['.', '?', '!']) && text[space + 1..].starts_with(char::is_uppercase)
    };
    let inside = text
        .match_indices(' ')
        .filter(after)
        .map(|(space, _)| space + 1);
    (!text.is_empty())
        .then_some(0)
        .into_iter()
        .chain(inside)
        .collect()
}

/// At most `most` items, evenly spread.
fn evenly<T>(items: &[T], most: usize) -> impl Iterator<Item = &T> {
    let kept = items.len().min(most);
    (0..kept).map(move |i| &items[i * items.len() / kept])
}
