//! Benign text: from a file, or sampled from the base model once and kept in the user's cache folder.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use oml_core::manifest::hex;
use oml_core::tokenizer::Tokenizer;
use oml_model::train::{BenignText, Recipe};
use serde::{Deserialize, Serialize};

use super::super::workbench::Opened;
use crate::files::{self, Access, Existing};
use crate::printer::Printer;

const FORMAT: &str = "oml-benign";
const VERSION: u32 = 1;
const CACHE_LIMIT: usize = 512 << 20;
const FILE_LIMIT: usize = 256 << 20;
/// Letters of a token that may begin a sample.
const START_LETTERS: usize = 3;

/// A cache file: sampled sequences, which the name of the file ties to their model and recipe.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Cache {
    format: String,
    version: u32,
    sequences: Vec<Vec<u32>>,
}

/// The benign text of a recipe; empty where the recipe wants none.
///
/// # Errors
/// When the file cannot be read or is too short, or the model fails.
pub(super) fn text(
    base: &mut Opened,
    digest: &[u8; 32],
    recipe: &Recipe,
    file: Option<&Path>,
    printer: &Printer,
) -> anyhow::Result<BenignText> {
    if recipe.kl_weight == 0.0 || recipe.benign_batch == 0 {
        return Ok(BenignText {
            sequences: Vec::new(),
        });
    }
    let Recipe {
        benign_sequences: count,
        benign_length: length,
        ..
    } = *recipe;
    if let Some(path) = file {
        let ids = base
            .tokenizer
            .encode(&files::read_text(path, FILE_LIMIT)?, false)?;
        let text = BenignText::cut(&ids, count, length);
        ensure!(
            text.sequences.len() >= 8,
            "{}: expected at least {} tokens of text, got {}",
            path.display(),
            8 * length,
            ids.len()
        );
        return Ok(text);
    }
    let cache = cache_path(digest, recipe);
    if let Some(kept) = cache
        .as_deref()
        .and_then(|path| kept(path, count, length, base.tokenizer.vocabulary_size()))
    {
        return Ok(kept);
    }
    let bar = printer.bar(count as u64, "sample");
    bar.set_message("benign text from the base model");
    let starts = starts(&base.tokenizer);
    let mut progress = |done: usize| bar.set_position(done as u64);
    let text = BenignText::sample(
        &mut base.model,
        &starts,
        count,
        length,
        recipe.seed,
        &mut progress,
    )?;
    bar.finish_and_clear();
    if let Some(path) = cache {
        let cache = Cache {
            format: FORMAT.to_owned(),
            version: VERSION,
            sequences: text.sequences.clone(),
        };
        let bytes = serde_json::to_vec(&cache).context("cannot write the benign text as JSON")?;
        // Only the next run would have profited.
        if let Err(error) = files::write_whole(&path, &bytes, Access::Shared, Existing::Replace) {
            printer.warning(format!("the benign text is not kept: {error:#}"));
        }
    }
    Ok(text)
}

fn cache_path(digest: &[u8; 32], recipe: &Recipe) -> Option<PathBuf> {
    use etcetera::BaseStrategy as _;
    let folder = etcetera::choose_base_strategy()
        .ok()?
        .cache_dir()
        .join("oml")
        .join("benign");
    let Recipe {
        benign_sequences,
        benign_length,
        seed,
        ..
    } = recipe;
    Some(folder.join(format!(
        "{}-{benign_sequences}x{benign_length}-{seed}.json",
        hex(digest)
    )))
}

/// A cache file, if it is whole and fits.
fn kept(path: &Path, count: usize, length: usize, vocabulary: usize) -> Option<BenignText> {
    let cache: Cache = serde_json::from_slice(&files::read(path, CACHE_LIMIT).ok()?).ok()?;
    let fits = |sequence: &Vec<u32>| {
        sequence.len() == length && sequence.iter().all(|id| (*id as usize) < vocabulary)
    };
    let whole =
        cache.format == FORMAT && cache.version == VERSION && cache.sequences.len() == count;
    (whole && cache.sequences.iter().all(fits)).then_some(BenignText {
        sequences: cache.sequences,
    })
}

/// Tokens that begin a word, in lower case after a space or with a capital.
fn starts(tokenizer: &dyn Tokenizer) -> Vec<u32> {
    let begins = |text: String| {
        let word = text.strip_prefix(' ').unwrap_or(&text);
        let mut letters = word.chars();
        let capital = letters
            .next()
            .is_some_and(|first| first.is_ascii_uppercase());
        word.len() >= START_LETTERS
            && (capital
                || (word.len() < text.len()
                    && word.starts_with(|first: char| first.is_ascii_lowercase())))
            && letters.all(|letter| letter.is_ascii_lowercase())
    };
    (0..tokenizer.vocabulary_size() as u32)
        .filter(|id| tokenizer.token(*id).is_some_and(begins))
        .collect()
}
