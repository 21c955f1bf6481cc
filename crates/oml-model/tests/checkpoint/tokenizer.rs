//! Tokenizers out of GGUF metadata against independent implementations, and files that are not tokenizers.

use std::fs;

use oml_model::checkpoint::{Checkpoint, CheckpointError};
use oml_model::config::ModelConfig;
use oml_model::tokenizer::{TextTokenizer, TokenizerFiles};
use serde_json::{Value, json};

use crate::support::{Field, Gguf, config, f32_bytes, gguf_metadata, gguf_name, tensors};

/// Opens a small model with the metadata that `describe` adds.
fn tokenizer(describe: impl Fn(&mut Gguf)) -> Result<TextTokenizer, CheckpointError> {
    let mut fields = config();
    fields.insert("vocab_size".into(), json!(1000));
    let mut file = gguf_metadata(&ModelConfig::from_json(&fields).unwrap());
    for tensor in tensors(&fields) {
        file.tensor(
            &gguf_name(&tensor.name),
            &tensor.shape,
            0,
            &f32_bytes(&tensor.values),
        );
    }
    describe(&mut file);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.gguf");
    fs::write(&path, file.bytes()).unwrap();
    Checkpoint::open(&path)?.tokenizer()
}

fn texts(value: &Value) -> Vec<String> {
    let texts = value.as_array().unwrap().iter();
    texts
        .map(|text| text.as_str().unwrap().to_owned())
        .collect()
}

fn ids(value: &Value) -> Vec<u32> {
    value
        .as_array()
        .unwrap()
        .iter()
        .map(|id| id.as_u64().unwrap() as u32)
        .collect()
}

#[test]
fn byte_level_ids_are_those_of_the_definition() {
    let golden: Value = serde_json::from_str(include_str!("../goldens/byte_level.json")).unwrap();
    let (tokens, merges) = (texts(&golden["tokens"]), texts(&golden["merges"]));
    let types: Vec<i32> = tokens
        .iter()
        .map(|token| if token.starts_with("<|") { 3 } else { 1 })
        .collect();
    for (name, expected) in golden["ids"].as_object().unwrap() {
        let tokenizer = tokenizer(|file| {
            file.field("tokenizer.ggml.model", Field::Text("gpt2"))
                .field("tokenizer.ggml.pre", Field::Text(name))
                .field("tokenizer.ggml.tokens", Field::Texts(&tokens))
                .field("tokenizer.ggml.token_type", Field::I32s(&types))
                .field("tokenizer.ggml.merges", Field::Texts(&merges))
                .field("tokenizer.ggml.bos_token_id", Field::U32(0));
        })
        .unwrap();
        for (text, expected) in texts(&golden["texts"])
            .iter()
            .zip(expected.as_array().unwrap())
        {
            let expected = ids(expected);
            assert_eq!(
                tokenizer.encode(text, false).unwrap(),
                expected,
                "{name}: {text:?}"
            );
            if name != "qwen2" {
                let visible = text.replace("<|im_start|>", "").replace("<|end|>", "");
                assert_eq!(tokenizer.decode(&expected).unwrap(), visible);
            }
        }
        let begins = ["llama-bpe", "tekken"].contains(&name.as_str());
        let first = tokenizer.encode("Hi", true).unwrap()[0];
        assert_eq!(first == 0, begins, "{name}");
    }
}

#[test]
fn sentence_piece_ids_are_its_own() {
    let golden: Value =
        serde_json::from_str(include_str!("../goldens/sentence_piece.json")).unwrap();
    let tokens = texts(&golden["tokens"]);
    let numbers = |field: &str| golden[field].as_array().unwrap().clone();
    let scores: Vec<f32> = numbers("scores")
        .iter()
        .map(|score| score.as_f64().unwrap() as f32)
        .collect();
    let types: Vec<i32> = numbers("types")
        .iter()
        .map(|kind| kind.as_i64().unwrap() as i32)
        .collect();
    let tokenizer = tokenizer(|file| {
        file.field("tokenizer.ggml.model", Field::Text("llama"))
            .field("tokenizer.ggml.tokens", Field::Texts(&tokens))
            .field("tokenizer.ggml.scores", Field::F32s(&scores))
            .field("tokenizer.ggml.token_type", Field::I32s(&types))
            .field("tokenizer.ggml.bos_token_id", Field::U32(1))
            .field("tokenizer.ggml.unknown_token_id", Field::U32(0));
    })
    .unwrap();
    for ((text, expected), decoded) in texts(&golden["texts"])
        .iter()
        .zip(numbers("ids"))
        .zip(texts(&golden["decoded"]))
    {
        let expected = ids(&expected);
        assert_eq!(tokenizer.encode(text, false).unwrap(), expected, "{text:?}");
        assert_eq!(tokenizer.decode(&expected).unwrap(), decoded);
    }
    let with_bos = tokenizer.encode("the cat", true).unwrap();
    assert_eq!(with_bos[0], 1);
    assert_eq!(with_bos[1..], tokenizer.encode("the cat", false).unwrap());
    let the = tokenizer.token_id("▁the").unwrap();
    assert_eq!(tokenizer.token(the).unwrap(), " the");
    assert_eq!(tokenizer.token(1), None);
}

#[test]
fn every_fault_of_the_metadata_has_its_message() {
    let words = |words: &[&str]| {
        words
            .iter()
            .map(|word| (*word).to_owned())
            .collect::<Vec<_>>()
    };
    let fault = |describe: &dyn Fn(&mut Gguf)| {
        let message = tokenizer(describe).err().unwrap().to_string();
        message.split_once("x.gguf: ").unwrap().1.to_owned()
    };
    let byte_level = |file: &mut Gguf, tokens: &[&str], merges: &[&str]| {
        file.field("tokenizer.ggml.model", Field::Text("gpt2"))
            .field("tokenizer.ggml.tokens", Field::Texts(&words(tokens)))
            .field("tokenizer.ggml.merges", Field::Texts(&words(merges)));
    };
    assert_eq!(
        fault(&|file| {
            file.field("tokenizer.ggml.model", Field::Text("rwkv"))
                .field("tokenizer.ggml.tokens", Field::Texts(&words(&["a"])));
        }),
        "tokenizer.ggml.model: expected one of gpt2, llama, got rwkv"
    );
    assert_eq!(
        fault(&|file| {
            file.field("tokenizer.ggml.model", Field::Text("gpt2"));
        }),
        "tokenizer.ggml.tokens: missing"
    );
    assert_eq!(
        fault(&|file| {
            byte_level(file, &["a"], &[]);
            file.field("tokenizer.ggml.pre", Field::Text("viking"));
        }),
        "tokenizer.ggml.pre: expected one of default, gpt-2, smollm, llama-bpe, qwen2, tekken, got viking"
    );
    assert_eq!(
        fault(&|file| byte_level(file, &["a", "a"], &[])),
        "tokenizer.ggml.tokens: expected tokens that differ, got \"a\" twice"
    );
    assert_eq!(
        fault(&|file| byte_level(file, &["a", "b"], &["a b"])),
        "tokenizer.ggml.merges: expected two tokens that join to a token, got \"a b\""
    );
    assert_eq!(
        fault(&|file| {
            byte_level(file, &["a"], &[]);
            file.field("tokenizer.ggml.token_type", Field::I32s(&[1, 1]));
        }),
        "tokenizer.ggml.token_type: expected 1 types, one per token, got 2"
    );
    assert_eq!(
        fault(&|file| {
            byte_level(file, &["a"], &[]);
            file.field("tokenizer.ggml.bos_token_id", Field::U32(7));
        }),
        "tokenizer.ggml.bos_token_id: expected a token below 1, got 7"
    );
    assert_eq!(
        fault(&|file| {
            file.field("tokenizer.ggml.model", Field::Text("llama"))
                .field("tokenizer.ggml.tokens", Field::Texts(&words(&["a"])));
        }),
        "tokenizer.ggml.scores: expected 1 floats, one per token, got none"
    );
}

#[test]
fn a_tokenizer_without_embedding_rows_is_refused() {
    let tokens: Vec<String> = (0..1001).map(|id| format!("t{id}")).collect();
    let message = tokenizer(|file| {
        file.field("tokenizer.ggml.model", Field::Text("gpt2"))
            .field("tokenizer.ggml.tokens", Field::Texts(&tokens))
            .field("tokenizer.ggml.merges", Field::Texts(&[]));
    });
    let message = message.err().unwrap().to_string();
    assert!(
        message.ends_with("x.gguf: tokenizer: expected at most 1000 ids by vocab_size, got 1001"),
        "{message}"
    );
}

/// A byte-level tokenizer of a few tokens.
fn definition() -> Value {
    json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": [
            {"id": 0, "content": "<s>", "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": true},
        ],
        "normalizer": null,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
        "post_processor": null,
        "decoder": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
        "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false,
            "vocab": {"<s>": 0, "a": 1, "b": 2, "ab": 3, "\u{120}": 4, "\u{e4}": 5},
            "merges": ["a b"]},
    })
}

fn build(
    definition: &Value,
    settings: &Value,
    template: Option<&str>,
) -> Result<TextTokenizer, String> {
    let (definition, settings) = (definition.to_string(), settings.to_string());
    let files = TokenizerFiles {
        tokenizer: definition.as_bytes(),
        settings: Some(settings.as_bytes()),
        template: template.map(str::as_bytes),
    };
    TextTokenizer::new(files).map_err(|error| error.to_string())
}

#[test]
fn the_hash_knows_the_tokenizer_not_its_file() {
    let hash = |definition: &Value| build(definition, &json!({}), None).unwrap().hash();
    let base = definition();
    let mut resaved = base.clone();
    resaved["model"]["merges"] = json!([["a", "b"]]);
    resaved["truncation"] =
        json!({"direction": "Right", "max_length": 1, "strategy": "LongestFirst", "stride": 0});
    assert_eq!(hash(&base), hash(&resaved));
    resaved["model"]["continuing_subword_prefix"] = json!("");
    resaved["model"]["end_of_word_suffix"] = json!("");
    let text = |id: &str| json!({"Sequence": {"id": id, "type_id": 0}});
    let template = |single: Value, pair: Value| {
        json!({"type": "TemplateProcessing", "single": single, "pair": pair,
        "special_tokens": {"<s>": {"id": "<s>", "ids": [0], "tokens": ["<s>"]}}})
    };
    resaved["post_processor"] = template(json!([text("A")]), json!([text("A"), text("B")]));
    assert_eq!(hash(&base), hash(&resaved));
    let mut begins = base.clone();
    let start = json!({"SpecialToken": {"id": "<s>", "type_id": 0}});
    begins["post_processor"] = template(json!([start, text("A")]), json!([text("A"), text("B")]));
    assert_ne!(hash(&base), hash(&begins));
    let tokenizer = build(&resaved, &json!({}), None).unwrap();
    assert_eq!(tokenizer.encode("ab ab", false).unwrap(), [3, 4, 3]);
    let mut other = base.clone();
    other["model"]["merges"] = json!([]);
    assert_ne!(hash(&base), hash(&other));
}

#[test]
fn single_tokens_are_read_as_inside_a_text() {
    let tokenizer = build(&definition(), &json!({}), None).unwrap();
    let tokens: Vec<_> = (0..7).map(|id| tokenizer.token(id)).collect();
    let text = |text: &str| Some(text.to_owned());
    assert_eq!(
        tokens,
        [
            None,
            text("a"),
            text("b"),
            text("ab"),
            text(" "),
            None,
            None
        ]
    );
    assert_eq!(tokenizer.vocabulary_size(), 6);
    let message = tokenizer.decode(&[1, 6]).unwrap_err().to_string();
    assert_eq!(message, "tokenizer: expected an id below 6, got 6");
}

#[test]
fn the_chat_template_comes_from_either_place() {
    let prompt = |settings: Value, template: Option<&str>| {
        let tokenizer = build(&definition(), &settings, template)?;
        tokenizer
            .chat_prompt("ab")
            .map_err(|error| error.to_string())
    };
    let template = "{{ bos_token }}{{ messages[0].content }}";
    assert_eq!(prompt(json!({}), None), Ok(None));
    assert_eq!(
        prompt(json!({"bos_token": "<s>", "chat_template": template}), None),
        Ok(Some(vec![0, 3]))
    );
    let named =
        json!([{"name": "tools", "template": "b"}, {"name": "default", "template": template}]);
    assert_eq!(
        prompt(
            json!({"bos_token": {"content": "<s>"}, "chat_template": named}),
            None
        ),
        Ok(Some(vec![0, 3]))
    );
    assert_eq!(
        prompt(json!({"chat_template": "b"}), Some("a")),
        Ok(Some(vec![1]))
    );
    assert_eq!(
        prompt(json!({"chat_template": 1}), None),
        Err("tokenizer_config.json: chat_template: expected a text or a list with one named default".into())
    );
}

#[test]
fn files_that_are_no_tokenizer_are_refused() {
    let message = build(&json!({}), &json!({}), None).err().unwrap();
    assert!(message.starts_with("tokenizer.json: "), "{message}");
    let files = TokenizerFiles {
        tokenizer: b"[",
        settings: None,
        template: None,
    };
    let message = TextTokenizer::new(files).err().unwrap().to_string();
    assert_eq!(
        message,
        "tokenizer.json: EOF while parsing a list at line 1 column 1"
    );
}

#[test]
fn definitions_that_lie_are_refused() {
    let message = |part: &str, value: Value| {
        let mut definition = definition();
        definition[part] = value;
        let outcome = build(&definition, &json!({}), None).and_then(|tokenizer| {
            let text = tokenizer.encode("ab <s> b", true);
            let ids = text.map_err(|error| error.to_string())?;
            tokenizer.decode(&ids).map_err(|error| error.to_string())
        });
        outcome.err().unwrap_or_default()
    };
    let sequence = |part: &str, value: Value| json!({"type": "Sequence", part: [value]});
    let map = |map: &str| json!({"type": "Precompiled", "precompiled_charsmap": map});
    for bad in ["", "AAAA", "AAAAAA==", "/////w==", "!", "BAAAAAAAAAD/"] {
        let expected = format!(
            "tokenizer.json: normalizer: expected a Precompiled with a character map, got {bad:?}"
        );
        assert_eq!(message("normalizer", map(bad)), expected);
        let inside = sequence("normalizers", map(bad));
        assert_eq!(message("normalizer", inside), expected);
    }
    // a trie that leads out of itself
    let astray = message("normalizer", map("BAAAAP////8="));
    assert!(astray.starts_with("tokenizer: "), "{astray}");
    for pattern in [json!({"String": ""}), json!({"Regex": ""})] {
        let replace = json!({"type": "Replace", "pattern": pattern, "content": "x"});
        for part in ["normalizer", "decoder"] {
            assert_eq!(
                message(part, replace.clone()),
                format!(
                    "tokenizer.json: {part}: expected a pattern that is not empty, got \"Replace\""
                )
            );
        }
    }
    let template = json!({"type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "<x>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [], "special_tokens": {"<s>": {"id": "<s>", "ids": [0], "tokens": ["<s>"]}}});
    for part in [template.clone(), sequence("processors", template)] {
        assert_eq!(
            message("post_processor", part),
            "tokenizer.json: post_processor: expected a token out of special_tokens, got \"<x>\""
        );
    }
    let mut deep = json!({"type": "Lowercase"});
    for _ in 0..17 {
        deep = sequence("normalizers", deep);
    }
    assert_eq!(
        message("normalizer", deep),
        "tokenizer.json: normalizer: expected at most 16 sequences in each other, got \"Sequence\""
    );
}
