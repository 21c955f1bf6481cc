//! Benign queries among the secret ones: they hide these from whoever watches, and show how often the suspect gives a response by chance.
//!
//! ```text
//! decoy i     a piece of benign text from the beginning of a sentence, cut between words where it has as many characters as the query of
//!             a fingerprint drawn at random; its responses are those of another fingerprint, drawn too
//! ```
//!
//! Stronger decoys are fingerprints that were never trained in: a set of the same strategy and model, made for this.

use std::collections::HashSet;

use crate::fingerprint::FingerprintSet;
use crate::random::Stream;
use crate::secret::DerivedKey;
use crate::strategy::perplexity;

/// Draws for one decoy before the text is called too short.
const ATTEMPTS: usize = 64;

/// A benign query and the responses that would count for it.
#[derive(Clone, PartialEq, Eq)]
pub struct Decoy {
    /// Text of the query.
    pub query: String,
    /// The responses.
    pub responses: Vec<String>,
}

/// The text does not yield enough decoys.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("benign text: expected {expected} different pieces as long as queries, got {got}")]
pub struct DecoyError {
    /// Decoys wanted.
    pub expected: usize,
    /// Decoys found.
    pub got: usize,
}

/// `count` decoys from benign text, drawn by `seed`.
///
/// # Errors
/// [`DecoyError`] where the text is too short.
pub fn from_text(
    text: &str,
    set: &FingerprintSet,
    count: usize,
    seed: &[u8; 32],
) -> Result<Vec<Decoy>, DecoyError> {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let beginnings = perplexity::beginnings(&text);
    let mut stream = Stream::new(&DerivedKey::new(*seed));
    let mut taken: HashSet<String> = set
        .fingerprints()
        .iter()
        .map(|fingerprint| fingerprint.query.trim().to_owned())
        .collect();
    let mut decoys = Vec::with_capacity(count);
    while decoys.len() < count {
        let piece = (0..ATTEMPTS).find_map(|_| {
            let like = &set.fingerprints()[stream.index(set.count())];
            let begin = *beginnings.get(stream.index(beginnings.len()))?;
            let piece = cut(&text[begin..], like.query.trim().chars().count())?;
            taken.insert(piece.to_owned()).then_some(piece)
        });
        let Some(query) = piece else {
            return Err(DecoyError {
                expected: count,
                got: decoys.len(),
            });
        };
        let lender = &set.fingerprints()[stream.index(set.count())];
        decoys.push(Decoy {
            query: query.to_owned(),
            responses: lender.responses.iter().map(|r| r.text.clone()).collect(),
        });
    }
    Ok(decoys)
}

/// The first `characters` of a text, without a word that they would cut; none where it is shorter.
fn cut(text: &str, characters: usize) -> Option<&str> {
    let end = text.char_indices().nth(characters)?.0;
    let end = match text[end..].starts_with(' ') {
        true => end,
        false => text[..end].rfind(' ')?,
    };
    Some(&text[..end])
}
