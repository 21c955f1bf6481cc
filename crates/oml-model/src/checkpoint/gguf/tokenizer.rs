//! GGUF's tokenizer metadata to the files of a Hugging Face folder.
//!
//! `tokenizer.ggml.model` says the algorithm. `gpt2` is byte-level BPE: text is cut by the expressions that
//! `tokenizer.ggml.pre` names, bytes become printable characters, pairs merge in the order of
//! `tokenizer.ggml.merges`. `llama` is SentencePiece's BPE: spaces become `▁`, the pair whose union has the highest
//! score merges first, and what has no token falls back to its bytes. Token types: 1 normal, 2 unknown, 3 control,
//! 4 user-defined, 5 unused, 6 byte.

use std::collections::HashMap;
use std::path::Path;

use serde_json::{Map, Value, json};

use super::{Header, Metadata};
use crate::checkpoint::CheckpointError;
use crate::config::ModelConfig;
use crate::tokenizer::TokenizerError;

const UNKNOWN: i64 = 2;
const CONTROL: i64 = 3;
const USER_DEFINED: i64 = 4;
const UNUSED: i64 = 5;

/// The contractions, words, numbers and symbols that GPT-2 cuts a text into.
const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const PUNCTUATION: &str = r"[\p{P}\$\+<=>\^~\|]+";

/// What a byte-level pre-tokeniser's name stands for.
struct Cut {
    /// Expressions, each applied to the pieces of the one before.
    expressions: &'static [&'static str],
    /// A piece that is a token as a whole is not merged from its parts.
    whole_first: bool,
    /// The text is brought to Unicode form NFC first.
    composed: bool,
    /// A text begins with the BOS token unless the metadata says otherwise.
    begins: bool,
}

const CUTS: &str = "default, gpt-2, smollm, llama-bpe, qwen2, tekken";

fn cut(name: &str) -> Option<Cut> {
    let (expressions, whole_first, composed, begins): (&[&str], _, _, _) = match name {
        "default" => (
            &[PUNCTUATION, GPT2, r"\p{N}+", "[0-9][0-9][0-9]"],
            false,
            false,
            false,
        ),
        "gpt-2" => (&[GPT2], false, false, false),
        "smollm" | "starcoder" => (&[r"\p{N}", GPT2], false, false, false),
        "llama-bpe" | "llama3" | "llama-v3" => (&[LLAMA3], true, false, true),
        "qwen2" | "deepseek-r1-qwen" => (&[QWEN2], false, true, false),
        "tekken" => (&[TEKKEN], true, false, true),
        _ => return None,
    };
    Some(Cut {
        expressions,
        whole_first,
        composed,
        begins,
    })
}

/// The tokens with their types, and the ids of the tokens that have a role.
struct Vocabulary<'a> {
    tokens: &'a [String],
    types: Vec<i64>,
    ids: HashMap<&'a str, usize>,
}

impl<'a> Vocabulary<'a> {
    fn new(header: &'a Header, file: &Path) -> Result<Self, CheckpointError> {
        let tokens = header.texts("tokenizer.ggml.tokens", file)?;
        let types = match header.metadata.get("tokenizer.ggml.token_type") {
            Some(Metadata::Integers(types)) => types.clone(),
            _ => vec![1; tokens.len()],
        };
        if types.len() != tokens.len() {
            return Err(CheckpointError::Field {
                file: file.to_owned(),
                field: "tokenizer.ggml.token_type".into(),
                expected: format!("{} types, one per token", tokens.len()),
                got: types.len().to_string(),
            });
        }
        let mut ids = HashMap::new();
        for (id, token) in tokens
            .iter()
            .enumerate()
            .filter(|(id, _)| types[*id] != UNUSED)
        {
            if ids.insert(token.as_str(), id).is_some() {
                return Err(CheckpointError::Field {
                    file: file.to_owned(),
                    field: "tokenizer.ggml.tokens".into(),
                    expected: "tokens that differ".into(),
                    got: format!("{token:?} twice"),
                });
            }
        }
        Ok(Self { tokens, types, ids })
    }

    fn role(
        &self,
        header: &Header,
        role: &str,
        file: &Path,
    ) -> Result<Option<&'a str>, CheckpointError> {
        let field = format!("tokenizer.ggml.{role}_token_id");
        let Some(id) = header.integer(&field, file)? else {
            return Ok(None);
        };
        let token = usize::try_from(id).ok().and_then(|id| self.tokens.get(id));
        let token = token.ok_or_else(|| CheckpointError::Field {
            file: file.to_owned(),
            field,
            expected: format!("a token below {}", self.tokens.len()),
            got: id.to_string(),
        })?;
        Ok(Some(token))
    }

    /// Tokens that are found in a text before anything is cut.
    fn added(&self) -> Vec<(usize, Value)> {
        let is_added = |id: &usize| [UNKNOWN, CONTROL, USER_DEFINED].contains(&self.types[*id]);
        let entry = |id: usize| {
            let value = json!({
                "content": self.tokens[id],
                "single_word": false,
                "lstrip": false,
                "rstrip": false,
                "normalized": false,
                "special": self.types[id] != USER_DEFINED,
            });
            (id, value)
        };
        (0..self.tokens.len()).filter(is_added).map(entry).collect()
    }
}

/// `tokenizer.json`, `tokenizer_config.json` and `special_tokens_map.json`.
pub(in crate::checkpoint) fn tokenizer_files(
    header: &Header,
    config: &ModelConfig,
    file: &Path,
) -> Result<Vec<(String, Vec<u8>)>, CheckpointError> {
    let field = "tokenizer.ggml.model";
    let algorithm = header
        .text(field, file)?
        .ok_or_else(|| CheckpointError::MissingField {
            file: file.to_owned(),
            field: field.into(),
        })?;
    let vocabulary = Vocabulary::new(header, file)?;
    let (mut tokenizer, begins) = match algorithm {
        "gpt2" => byte_level(header, &vocabulary, file)?,
        "llama" => (sentence_piece(header, &vocabulary, file)?, true),
        other => {
            return Err(CheckpointError::Tokenizer {
                file: file.to_owned(),
                source: TokenizerError::Unsupported {
                    field: "tokenizer.ggml.model",
                    expected: "gpt2, llama",
                    got: other.to_owned(),
                },
            });
        }
    };
    let begins = header
        .flag("tokenizer.ggml.add_bos_token", file)?
        .unwrap_or(begins);
    let ends = header
        .flag("tokenizer.ggml.add_eos_token", file)?
        .unwrap_or(false);
    let role = |name: &str| vocabulary.role(header, name, file);
    let (first, last) = (
        role("bos")?.filter(|_| begins),
        role("eos")?.filter(|_| ends),
    );
    let with_id = |(id, value): (usize, Value)| {
        let mut fields = Map::from_iter([("id".to_owned(), json!(id))]);
        fields.extend(value.as_object().cloned().unwrap_or_default());
        Value::Object(fields)
    };
    tokenizer.insert("version".into(), json!("1.0"));
    tokenizer.insert("truncation".into(), Value::Null);
    tokenizer.insert("padding".into(), Value::Null);
    tokenizer.insert(
        "added_tokens".into(),
        vocabulary.added().into_iter().map(with_id).collect(),
    );
    tokenizer.insert("post_processor".into(), around(first, last, &vocabulary));

    let mut special = Map::new();
    for (name, role_name) in [
        ("bos_token", "bos"),
        ("eos_token", "eos"),
        ("unk_token", "unknown"),
        ("pad_token", "padding"),
    ] {
        if let Some(token) = role(role_name)? {
            special.insert(name.into(), json!(token));
        }
    }
    let mut settings = special.clone();
    let decoder = vocabulary
        .added()
        .into_iter()
        .map(|(id, value)| (id.to_string(), value));
    settings.insert(
        "added_tokens_decoder".into(),
        Value::Object(decoder.collect()),
    );
    settings.insert("add_bos_token".into(), json!(begins));
    settings.insert("add_eos_token".into(), json!(ends));
    settings.insert("clean_up_tokenization_spaces".into(), json!(false));
    settings.insert(
        "model_max_length".into(),
        json!(config.max_position_embeddings),
    );
    settings.insert("tokenizer_class".into(), json!("PreTrainedTokenizerFast"));
    if let Some(template) = header.text("tokenizer.chat_template", file)? {
        settings.insert("chat_template".into(), json!(template));
    }
    Ok(vec![
        ("tokenizer.json".into(), pretty(Value::Object(tokenizer))),
        (
            "tokenizer_config.json".into(),
            pretty(Value::Object(settings)),
        ),
        (
            "special_tokens_map.json".into(),
            pretty(Value::Object(special)),
        ),
    ])
}

/// `generation_config.json`: greedy unless the user asks otherwise, with the model's end tokens.
pub(in crate::checkpoint) fn generation_config(config: &ModelConfig) -> Vec<u8> {
    pretty(json!({
        "bos_token_id": config.bos_token_id,
        "eos_token_id": config.eos_token_ids,
        "pad_token_id": config.pad_token_id,
    }))
}

fn pretty(value: Value) -> Vec<u8> {
    format!("{value:#}\n").into_bytes()
}

fn byte_level<'a>(
    header: &'a Header,
    vocabulary: &Vocabulary<'a>,
    file: &Path,
) -> Result<(Map<String, Value>, bool), CheckpointError> {
    let name = header
        .text("tokenizer.ggml.pre", file)?
        .unwrap_or("default");
    let cut = cut(name).ok_or_else(|| CheckpointError::Tokenizer {
        file: file.to_owned(),
        source: TokenizerError::Unsupported {
            field: "tokenizer.ggml.pre",
            expected: CUTS,
            got: name.to_owned(),
        },
    })?;
    let mut steps: Vec<Value> = Vec::new();
    for expression in cut.expressions {
        steps.push(json!({
            "type": "Split", "pattern": {"Regex": expression}, "behavior": "Isolated", "invert": false,
        }));
    }
    steps.push(json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false}));
    let field = "tokenizer.ggml.merges";
    let mut merges = Vec::new();
    for merge in header.texts(field, file)? {
        let pair = merge.split_once(' ').filter(|(left, right)| {
            let joined = format!("{left}{right}");
            [left, right, &joined.as_str()]
                .iter()
                .all(|part| vocabulary.ids.contains_key(**part))
        });
        let (left, right) = pair.ok_or_else(|| CheckpointError::Field {
            file: file.to_owned(),
            field: field.into(),
            expected: "two tokens that join to a token".into(),
            got: format!("{merge:?}"),
        })?;
        merges.push(json!([left, right]));
    }
    let normalizer = if cut.composed {
        json!({"type": "NFC"})
    } else {
        Value::Null
    };
    let fields = json!({
        "normalizer": normalizer,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": steps},
        "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
        "model": model(vocabulary, merges, None, cut.whole_first),
    });
    Ok((object(fields), cut.begins))
}

fn sentence_piece<'a>(
    header: &'a Header,
    vocabulary: &Vocabulary<'a>,
    file: &Path,
) -> Result<Map<String, Value>, CheckpointError> {
    let field = "tokenizer.ggml.scores";
    let scores = match header.metadata.get(field) {
        Some(Metadata::Floats(scores)) if scores.len() == vocabulary.tokens.len() => scores,
        other => {
            return Err(CheckpointError::Field {
                file: file.to_owned(),
                field: field.into(),
                expected: format!("{} floats, one per token", vocabulary.tokens.len()),
                got: other.map_or("none", Metadata::kind).into(),
            });
        }
    };
    let prefix = header
        .flag("tokenizer.ggml.add_space_prefix", file)?
        .unwrap_or(true);
    let mut normalizers = Vec::new();
    if prefix {
        normalizers.push(json!({"type": "Prepend", "prepend": "▁"}));
    }
    normalizers.push(json!({"type": "Replace", "pattern": {"String": " "}, "content": "▁"}));
    let mut decoders = vec![
        json!({"type": "Replace", "pattern": {"String": "▁"}, "content": " "}),
        json!({"type": "ByteFallback"}),
        json!({"type": "Fuse"}),
    ];
    if prefix {
        decoders.push(json!({"type": "Strip", "content": " ", "start": 1, "stop": 0}));
    }
    let unknown = vocabulary.role(header, "unknown", file)?.or_else(|| {
        let id = vocabulary.types.iter().position(|kind| *kind == UNKNOWN)?;
        Some(vocabulary.tokens[id].as_str())
    });
    let fields = json!({
        "normalizer": {"type": "Sequence", "normalizers": normalizers},
        "pre_tokenizer": null,
        "decoder": {"type": "Sequence", "decoders": decoders},
        "model": model(vocabulary, score_merges(vocabulary, scores), unknown, false),
    });
    Ok(object(fields))
}

/// SentencePiece merges the pair whose union scores highest: every way to cut a token in two, best token first.
fn score_merges(vocabulary: &Vocabulary<'_>, scores: &[f32]) -> Vec<Value> {
    let mut merges = Vec::new();
    for (id, token) in vocabulary
        .tokens
        .iter()
        .enumerate()
        .filter(|(id, _)| vocabulary.types[*id] == 1)
    {
        for (at, _) in token.char_indices().skip(1) {
            let (left, right) = token.split_at(at);
            if let (Some(a), Some(b)) = (vocabulary.ids.get(left), vocabulary.ids.get(right)) {
                merges.push((scores[id], *a, *b, left, right));
            }
        }
    }
    merges.sort_by(|x, y| y.0.total_cmp(&x.0).then((x.1, x.2).cmp(&(y.1, y.2))));
    merges
        .into_iter()
        .map(|(_, _, _, left, right)| json!([left, right]))
        .collect()
}

fn model(
    vocabulary: &Vocabulary<'_>,
    merges: Vec<Value>,
    unknown: Option<&str>,
    whole_first: bool,
) -> Value {
    let used = (0..vocabulary.tokens.len()).filter(|id| vocabulary.types[*id] != UNUSED);
    let ids: Map<String, Value> = used
        .map(|id| (vocabulary.tokens[id].clone(), json!(id)))
        .collect();
    json!({
        "type": "BPE",
        "dropout": null,
        "unk_token": unknown,
        "continuing_subword_prefix": null,
        "end_of_word_suffix": null,
        "fuse_unk": unknown.is_some(),
        "byte_fallback": unknown.is_some(),
        "ignore_merges": whole_first,
        "vocab": ids,
        "merges": merges,
    })
}

/// The post-processor that puts `first` before a text and `last` after it.
fn around(first: Option<&str>, last: Option<&str>, vocabulary: &Vocabulary<'_>) -> Value {
    if first.is_none() && last.is_none() {
        return Value::Null;
    }
    let special = |token: &str, kind: u8| json!({"SpecialToken": {"id": token, "type_id": kind}});
    let one = |name: &str, kind: u8| {
        let text = json!({"Sequence": {"id": name, "type_id": kind}});
        let parts = [
            first.map(|token| special(token, kind)),
            Some(text),
            last.map(|token| special(token, kind)),
        ];
        parts.into_iter().flatten().collect::<Vec<_>>()
    };
    let named = [first, last].into_iter().flatten().map(|token| {
        let id = vocabulary.ids.get(token);
        (
            token.to_owned(),
            json!({"id": token, "ids": [id], "tokens": [token]}),
        )
    });
    let pair = [one("A", 0), one("B", 1)].concat();
    json!({
        "type": "TemplateProcessing",
        "single": one("A", 0),
        "pair": pair,
        "special_tokens": named.collect::<Map<_, _>>(),
    })
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}
