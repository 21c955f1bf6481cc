//! A model of some 40,000 weights with a tokenizer of its own, written by the test that needs it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::{Map, Value, json};

use super::Place;

const HIDDEN: usize = 32;
const INNER: usize = 64;
const HEADS: usize = 4;
const KEY_HEADS: usize = 2;
const LAYERS: usize = 2;
const WORDS: usize = 300;
/// Shorter than the window that measurements use where a model can read it.
const POSITIONS: usize = 256;

/// Words that are one token each after a space.
fn words() -> Vec<String> {
    let syllables: Vec<String> = "bdfgklmnprstvz"
        .chars()
        .flat_map(|c| "aeiou".chars().map(move |v| format!("{c}{v}")))
        .collect();
    let pairs = syllables
        .iter()
        .flat_map(|a| syllables.iter().map(move |b| format!("{a}{b}")));
    pairs.step_by(7).take(WORDS).collect()
}

/// The visible sign of each byte in a byte-level vocabulary.
fn signs() -> Vec<char> {
    let mut next = 256;
    (0..=255u8)
        .map(|byte| match byte {
            b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff => char::from(byte),
            _ => {
                next += 1;
                char::from_u32(next - 1).unwrap()
            }
        })
        .collect()
}

fn tokenizer() -> Value {
    let signs = signs().into_iter().map(String::from);
    let words = words().into_iter().map(|word| format!("Ġ{word}"));
    let vocabulary: BTreeMap<String, usize> = signs
        .chain(words)
        .enumerate()
        .map(|(id, t)| (t, id))
        .collect();
    json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
        "post_processor": null,
        "decoder": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": true,
            "vocab": vocabulary, "merges": [],
        },
    })
}

/// The tensors with their shapes, as the configuration gives them.
fn shapes() -> Vec<(String, Vec<usize>)> {
    let keys = HIDDEN / HEADS * KEY_HEADS;
    let mut shapes = vec![
        (
            "model.embed_tokens.weight".to_owned(),
            vec![256 + WORDS, HIDDEN],
        ),
        ("model.norm.weight".to_owned(), vec![HIDDEN]),
    ];
    for layer in 0..LAYERS {
        let maps: [(&str, &[usize]); 9] = [
            ("input_layernorm", &[HIDDEN]),
            ("post_attention_layernorm", &[HIDDEN]),
            ("self_attn.q_proj", &[HIDDEN, HIDDEN]),
            ("self_attn.k_proj", &[keys, HIDDEN]),
            ("self_attn.v_proj", &[keys, HIDDEN]),
            ("self_attn.o_proj", &[HIDDEN, HIDDEN]),
            ("mlp.gate_proj", &[INNER, HIDDEN]),
            ("mlp.up_proj", &[INNER, HIDDEN]),
            ("mlp.down_proj", &[HIDDEN, INNER]),
        ];
        let named = |(name, shape): (&str, &[usize])| {
            (
                format!("model.layers.{layer}.{name}.weight"),
                shape.to_vec(),
            )
        };
        shapes.extend(maps.map(named));
    }
    shapes
}

/// Writes the model into a new folder; `change` may edit each tensor.
fn write(folder: &Path, change: impl Fn(&str, &mut [f32])) {
    let mut state = 1u64;
    let mut random = move || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u64 << 24) as f32 - 0.5
    };
    let (mut header, mut data) = (Map::new(), Vec::new());
    for (name, shape) in shapes() {
        let count = shape.iter().product();
        let mut values: Vec<f32> = match shape.len() {
            1 => vec![1.0; count],
            _ => (0..count).map(|_| 0.5 * random()).collect(),
        };
        change(&name, &mut values);
        let begin = data.len();
        data.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        header.insert(
            name,
            json!({"dtype": "F32", "shape": shape, "data_offsets": [begin, data.len()]}),
        );
    }
    let header = Value::Object(header).to_string();
    let file = [
        &(header.len() as u64).to_le_bytes(),
        header.as_bytes(),
        &data,
    ]
    .concat();
    let config = json!({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu", "hidden_size": HIDDEN,
        "intermediate_size": INNER, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS,
        "num_key_value_heads": KEY_HEADS, "vocab_size": 256 + WORDS, "max_position_embeddings": POSITIONS,
        "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "tie_word_embeddings": true, "attention_bias": false,
        "mlp_bias": false, "torch_dtype": "float32",
    });
    fs::create_dir(folder).unwrap();
    fs::write(folder.join("model.safetensors"), file).unwrap();
    fs::write(folder.join("config.json"), config.to_string()).unwrap();
    fs::write(folder.join("tokenizer.json"), tokenizer().to_string()).unwrap();
}

/// `queries` in a place, each of six words.
fn write_queries(path: &Path, count: usize) {
    let words = words();
    let queries: Vec<String> = (0..count)
        .map(|i| {
            (0..6)
                .map(|j| format!(" {}", words[(31 * i + 17 * j * j + 5 * j) % WORDS]))
                .collect()
        })
        .collect();
    fs::write(path, json!(queries).to_string()).unwrap();
}

/// Fingerprints of every set here.
pub(super) const COUNT: usize = 16;

/// A place with a model in `base`, an owner, and fingerprints in `f.json`.
pub(super) fn place() -> Place {
    place_with(|_, _| ())
}

/// As [`place`], with a model that holds a weight which f16 cannot, and which nothing reads.
pub(super) fn place_with_a_large_weight() -> Place {
    place_with(|name, values| {
        if !name.starts_with("model.layers.0") {
            return;
        }
        if name.ends_with("input_layernorm.weight") {
            values[0] = 1e5;
        } else if ["q_proj", "k_proj", "v_proj"]
            .iter()
            .any(|map| name.contains(map))
        {
            values
                .iter_mut()
                .step_by(HIDDEN)
                .for_each(|value| *value = 0.0);
        }
    })
}

fn place_with(change: impl Fn(&str, &mut [f32])) -> Place {
    let place = Place::new();
    write(&place.path("base"), change);
    write_queries(&place.path("queries.json"), COUNT);
    place.ok("keygen --out owner.json");
    place.ok("generate --model base --owner owner.json --out f.json --strategy custom --queries queries.json");
    place
}

/// `oml embed` on such a place; seconds are spent on training, not on text.
pub(super) const EMBED: &str = "embed --model base --owner owner.json --fingerprints f.json --out marked --json \
    --learning-rate 1e-2 --benign-sequences 16 --benign-batch 2 --kl-weight 0.1 --threads 2";

pub(super) const CHECK: &str =
    "check --owner owner.json --fingerprints f.json --control base --json --threads 2";
