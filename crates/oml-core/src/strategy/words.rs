//! The words a tokenizer's own vocabulary offers: what seeds natural queries and makes up random ones.
//!
//! A word is a token with a leading space and then at least three ASCII letters, lower case after the first; it is kept
//! once whatever its case. Where those are too few, letters of any script count. The list is sorted, so it depends on the
//! vocabulary alone.

use std::collections::BTreeSet;

use super::GenerateError;
use crate::tokenizer::Tokenizer;

/// Fewest words a vocabulary must offer.
pub(super) const MIN_WORDS: usize = 256;
const MIN_LETTERS: usize = 3;

/// The sorted, lower-case words of `tokenizer`.
pub(super) fn words(tokenizer: &dyn Tokenizer) -> Result<Vec<String>, GenerateError> {
    let tokens: Vec<String> = (0..tokenizer.vocabulary_size() as u32)
        .filter_map(|id| tokenizer.token(id))
        .collect();
    let ascii = distinct(&tokens, |c| c.is_ascii_alphabetic());
    let found = if ascii.len() >= MIN_WORDS {
        ascii
    } else {
        distinct(&tokens, char::is_alphabetic)
    };
    if found.len() < MIN_WORDS {
        return Err(GenerateError::TooFewWords {
            needed: MIN_WORDS,
            found: found.len(),
        });
    }
    Ok(found.into_iter().collect())
}

/// The first `count` tokens, by id, that are a space and a lower-case word of ASCII letters. Small ids are frequent
/// words where the vocabulary was built by merging pairs.
pub(super) fn frequent(
    tokenizer: &dyn Tokenizer,
    count: usize,
) -> Result<Vec<(u32, String)>, GenerateError> {
    let is_word =
        |word: &str| word.len() >= MIN_LETTERS && word.bytes().all(|b| b.is_ascii_lowercase());
    let found: Vec<(u32, String)> = (0..tokenizer.vocabulary_size() as u32)
        .filter_map(|id| Some((id, tokenizer.token(id)?)))
        .filter(|(_, token)| token.strip_prefix(' ').is_some_and(is_word))
        .take(count)
        .collect();
    if found.len() < count {
        return Err(GenerateError::TooFewWords {
            needed: count,
            found: found.len(),
        });
    }
    Ok(found)
}

/// The tokens of at least two letters that encode to themselves at the beginning of a text, in the order of their ids.
pub(super) fn starts(tokenizer: &dyn Tokenizer) -> Result<Vec<String>, GenerateError> {
    let mut found = Vec::new();
    for id in 0..tokenizer.vocabulary_size() as u32 {
        let Some(token) = tokenizer.token(id) else {
            continue;
        };
        let text = token.strip_prefix(' ').unwrap_or(&token);
        let letters = text.chars().nth(1).is_some() && text.chars().all(char::is_alphabetic);
        if letters && tokenizer.encode(text, false)? == [id] {
            found.push(text.to_owned());
        }
    }
    if found.len() < MIN_WORDS {
        return Err(GenerateError::TooFewWords {
            needed: MIN_WORDS,
            found: found.len(),
        });
    }
    Ok(found)
}

fn distinct(tokens: &[String], letter: impl Fn(char) -> bool) -> BTreeSet<String> {
    let is_word = |word: &&str| {
        word.chars().count() >= MIN_LETTERS
            && word.chars().all(&letter)
            && word.chars().skip(1).all(|c| !c.is_uppercase())
    };
    tokens
        .iter()
        .filter_map(|token| token.strip_prefix(' '))
        .filter(is_word)
        .map(str::to_lowercase)
        .collect()
}
