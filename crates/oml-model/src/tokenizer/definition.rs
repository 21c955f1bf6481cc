//! What a `tokenizer.json` must hold beside its form, so that the `tokenizers` crate does not stop the program on it.

use data_encoding::BASE64;
use serde_json::Value;

use super::TokenizerError;

/// Objects in objects that are looked into at most.
const MAX_DEPTH: usize = 16;

/// Refuses parts that the crate takes and then fails on.
pub(super) fn check(definition: &Value) -> Result<(), TokenizerError> {
    for part in ["normalizer", "pre_tokenizer", "post_processor", "decoder"] {
        check_part(part, &definition[part], MAX_DEPTH)?;
    }
    Ok(())
}

fn check_part(part: &'static str, value: &Value, depth: usize) -> Result<(), TokenizerError> {
    let wrong = |expected: &'static str, got: &str| TokenizerError::Part {
        part,
        expected,
        got: got.chars().take(80).collect(),
    };
    let kind = value["type"].as_str().unwrap_or_default();
    match kind {
        "Precompiled" => {
            let text = value["precompiled_charsmap"].as_str().unwrap_or_default();
            let map = BASE64.decode(text.as_bytes()).unwrap_or_default();
            if !is_character_map(&map) {
                return Err(wrong("a Precompiled with a character map", text));
            }
        }
        "Replace" | "Split" => {
            let pattern = &value["pattern"];
            let empty = |kind: &str| pattern[kind].as_str() == Some("");
            if empty("String") || empty("Regex") {
                return Err(wrong("a pattern that is not empty", kind));
            }
        }
        "TemplateProcessing" => {
            let pieces = ["single", "pair"].map(|form| value[form].as_array());
            for piece in pieces.into_iter().flatten().flatten() {
                if let Some(token) = piece["SpecialToken"]["id"].as_str()
                    && !value["special_tokens"][token].is_object()
                {
                    return Err(wrong("a token out of special_tokens", token));
                }
            }
        }
        "Sequence" => {
            let Some(depth) = depth.checked_sub(1) else {
                return Err(wrong("at most 16 sequences in each other", kind));
            };
            let lists = ["normalizers", "pretokenizers", "processors", "decoders"];
            for one in lists
                .iter()
                .filter_map(|list| value[list].as_array())
                .flatten()
            {
                check_part(part, one, depth)?;
            }
        }
        _ => {}
    }
    Ok(())
}

/// A trie of u32 behind its length in bytes, then texts in UTF-8 (sentencepiece's `precompiled_charsmap`).
fn is_character_map(map: &[u8]) -> bool {
    let Some((length, rest)) = map.split_first_chunk() else {
        return false;
    };
    let length = u32::from_le_bytes(*length) as usize;
    length >= 4 && length <= rest.len() && std::str::from_utf8(&rest[length / 4 * 4..]).is_ok()
}
