//! GGUF metadata to a configuration, and GGUF's tensor names to Hugging Face's.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::{Header, HeaderTensor, Metadata};
use crate::checkpoint::CheckpointError;
use crate::config::{ConfigError, ModelConfig, RopeScaling};

impl Header {
    fn missing(field: &str, file: &Path) -> CheckpointError {
        CheckpointError::MissingField {
            file: file.to_owned(),
            field: field.to_owned(),
        }
    }

    fn wrong(field: &str, expected: &str, got: &Metadata, file: &Path) -> CheckpointError {
        CheckpointError::Field {
            file: file.to_owned(),
            field: field.to_owned(),
            expected: expected.to_owned(),
            got: got.kind().to_owned(),
        }
    }

    pub(super) fn text(&self, field: &str, file: &Path) -> Result<Option<&str>, CheckpointError> {
        match self.metadata.get(field) {
            None => Ok(None),
            Some(Metadata::Text(text)) => Ok(Some(text)),
            Some(other) => Err(Self::wrong(field, "a text", other, file)),
        }
    }

    pub(super) fn integer(&self, field: &str, file: &Path) -> Result<Option<i64>, CheckpointError> {
        match self.metadata.get(field) {
            None => Ok(None),
            Some(Metadata::Integer(number)) => {
                let out_of_range = || CheckpointError::Field {
                    file: file.to_owned(),
                    field: field.to_owned(),
                    expected: "a 64-bit number".into(),
                    got: number.to_string(),
                };
                Ok(Some(i64::try_from(*number).map_err(|_| out_of_range())?))
            }
            Some(other) => Err(Self::wrong(field, "a whole number", other, file)),
        }
    }

    pub(super) fn flag(&self, field: &str, file: &Path) -> Result<Option<bool>, CheckpointError> {
        match self.metadata.get(field) {
            None => Ok(None),
            Some(Metadata::Flag(flag)) => Ok(Some(*flag)),
            Some(other) => Err(Self::wrong(field, "true or false", other, file)),
        }
    }

    pub(super) fn texts(&self, field: &str, file: &Path) -> Result<&[String], CheckpointError> {
        match self.metadata.get(field) {
            None => Err(Self::missing(field, file)),
            Some(Metadata::Texts(texts)) => Ok(texts),
            Some(other) => Err(Self::wrong(field, "texts", other, file)),
        }
    }

    /// A float, through the shortest decimal that gives the same f32: 1e-5, not 0.000009999999747.
    fn float(&self, field: &str, file: &Path) -> Result<Option<f64>, CheckpointError> {
        match self.metadata.get(field) {
            None => Ok(None),
            Some(Metadata::Float(number)) if !(*number as f32).is_finite() => {
                Err(CheckpointError::Field {
                    file: file.to_owned(),
                    field: field.to_owned(),
                    expected: "a finite number".into(),
                    got: number.to_string(),
                })
            }
            Some(Metadata::Float(number)) => Ok(Some(
                (*number as f32).to_string().parse().unwrap_or(*number),
            )),
            Some(other) => Err(Self::wrong(field, "a float", other, file)),
        }
    }

    fn tensor(&self, name: &str) -> Option<&HeaderTensor> {
        self.tensors.iter().find(|tensor| tensor.name == name)
    }
}

/// The configuration that the metadata describes. `rope_factors` is the content of `rope_freqs.weight`, where
/// llama.cpp's converter keeps Llama 3's scaling.
pub(in crate::checkpoint) fn hugging_face_config(
    header: &Header,
    rope_factors: Option<&[f32]>,
    file: &Path,
) -> Result<ModelConfig, CheckpointError> {
    let bad = |source| CheckpointError::Config {
        file: file.to_owned(),
        source,
    };
    let architecture_field = "general.architecture";
    let architecture = header
        .text(architecture_field, file)?
        .ok_or_else(|| Header::missing(architecture_field, file))?;
    if !["llama", "qwen2"].contains(&architecture) {
        let field = "general.architecture";
        return Err(bad(ConfigError::value(
            field,
            "one of llama, qwen2",
            architecture,
        )));
    }
    let key = |field: &str| format!("{architecture}.{field}");
    let mut fields = Map::new();
    fields.insert("model_type".into(), json!(architecture));
    let needed = [
        ("hidden_size", "embedding_length"),
        ("intermediate_size", "feed_forward_length"),
        ("num_hidden_layers", "block_count"),
        ("num_attention_heads", "attention.head_count"),
        ("max_position_embeddings", "context_length"),
    ];
    for (name, field) in needed {
        let field = key(field);
        let value = header
            .integer(&field, file)?
            .ok_or_else(|| Header::missing(&field, file))?;
        fields.insert(name.into(), json!(value));
    }
    let optional = [
        ("num_key_value_heads", "attention.head_count_kv"),
        ("head_dim", "attention.key_length"),
    ];
    for (name, field) in optional {
        if let Some(value) = header.integer(&key(field), file)? {
            fields.insert(name.into(), json!(value));
        }
    }
    let floats = [
        ("rms_norm_eps", "attention.layer_norm_rms_epsilon"),
        ("rope_theta", "rope.freq_base"),
    ];
    for (name, field) in floats {
        if let Some(value) = header.float(&key(field), file)? {
            fields.insert(name.into(), json!(value));
        }
    }
    for (name, token) in [("bos_token_id", "bos"), ("pad_token_id", "padding")] {
        if let Some(value) = header.integer(&format!("tokenizer.ggml.{token}_token_id"), file)? {
            fields.insert(name.into(), json!(value));
        }
    }
    fields.insert("eos_token_id".into(), json!(end_tokens(header, file)?));
    let embedding = header.tensor("token_embd.weight");
    let rows = embedding.and_then(|tensor| tensor.shape.first());
    let rows = rows.ok_or_else(|| CheckpointError::MissingTensor {
        path: file.to_owned(),
        tensor: "token_embd.weight".into(),
    })?;
    fields.insert("vocab_size".into(), json!(rows));
    let follows = [
        (
            "tie_word_embeddings",
            header.tensor("output.weight").is_none(),
        ),
        (
            "attention_bias",
            header.tensor("blk.0.attn_q.bias").is_some(),
        ),
        ("mlp_bias", header.tensor("blk.0.ffn_down.bias").is_some()),
    ];
    fields.extend(follows.map(|(name, flag)| (name.to_owned(), json!(flag))));
    if let Some(scaling) = scaling(header, &key, file)? {
        fields.insert("rope_scaling".into(), scaling);
    }
    let mut config = ModelConfig::from_json(&fields).map_err(bad)?;
    if let Some(width) = header.integer(&key("rope.dimension_count"), file)?
        && width != config.head_dim as i64
    {
        return Err(bad(ConfigError::value(
            "rope.dimension_count",
            config.head_dim.to_string(),
            width,
        )));
    }
    if let Some(factors) = rope_factors {
        config.rope_scaling =
            Some(
                llama3_scaling(&config, factors).ok_or_else(|| CheckpointError::Field {
                    file: file.to_owned(),
                    field: "rope_freqs.weight".into(),
                    expected: "the factors of Llama 3's rope scaling".into(),
                    got: "others".into(),
                })?,
            );
    }
    Ok(config)
}

/// The end of text, then the ends of turn and message where they differ.
fn end_tokens(header: &Header, file: &Path) -> Result<Vec<i64>, CheckpointError> {
    let mut tokens = Vec::new();
    for name in ["eos", "eot", "eom"] {
        if let Some(token) = header.integer(&format!("tokenizer.ggml.{name}_token_id"), file)?
            && !tokens.contains(&token)
        {
            tokens.push(token);
        }
    }
    Ok(tokens)
}

fn scaling(
    header: &Header,
    key: &dyn Fn(&str) -> String,
    file: &Path,
) -> Result<Option<Value>, CheckpointError> {
    let Some(kind) = header
        .text(&key("rope.scaling.type"), file)?
        .filter(|kind| *kind != "none")
    else {
        return Ok(None);
    };
    let mut fields = Map::new();
    fields.insert("rope_type".into(), json!(kind));
    let floats = [
        ("factor", "rope.scaling.factor"),
        ("attention_factor", "rope.scaling.attn_factor"),
    ];
    for (name, field) in floats {
        if let Some(value) = header.float(&key(field), file)? {
            fields.insert(name.into(), json!(value));
        }
    }
    if let Some(length) = header.integer(&key("rope.scaling.original_context_length"), file)? {
        fields.insert("original_max_position_embeddings".into(), json!(length));
    }
    Ok(Some(Value::Object(fields)))
}

/// Llama 3's published bounds with the factor of the longest wavelength, if they reproduce `factors`.
fn llama3_scaling(config: &ModelConfig, factors: &[f32]) -> Option<RopeScaling> {
    let scaling = RopeScaling::Llama3 {
        factor: f64::from(*factors.last()?),
        low_freq_factor: 1.0,
        high_freq_factor: 4.0,
        original_max_position_embeddings: 8192,
    };
    let plain = config.inverse_frequencies().0;
    let scaled = ModelConfig {
        rope_scaling: Some(scaling.clone()),
        ..config.clone()
    };
    let scaled = scaled.inverse_frequencies().0;
    let close = |((plain, scaled), factor): ((&f32, &f32), &f32)| {
        (plain / scaled / factor - 1.0).abs() < 1e-4
    };
    let same = factors.len() == plain.len() && plain.iter().zip(&scaled).zip(factors).all(close);
    same.then_some(scaling)
}

/// A GGUF tensor under Hugging Face's name, with the number of heads whose rows GGUF interleaves.
pub(in crate::checkpoint) struct MappedTensor<'a> {
    pub(in crate::checkpoint) name: String,
    pub(in crate::checkpoint) tensor: &'a HeaderTensor,
    pub(in crate::checkpoint) interleaved_heads: Option<usize>,
}

/// Every tensor that belongs to the model. A name that has no counterpart stays as it is.
pub(in crate::checkpoint) fn map_tensors<'a>(
    header: &'a Header,
    config: &ModelConfig,
    file: &Path,
) -> Result<Vec<MappedTensor<'a>>, CheckpointError> {
    // llama.cpp rotates neighbouring pairs where Hugging Face rotates halves, so its converter interleaves the rows
    let interleaves = header.text("general.architecture", file)? == Some("llama");
    let map = |tensor: &'a HeaderTensor| {
        let heads = match part(&tensor.name) {
            Some((_, "attn_q", _)) => Some(config.num_attention_heads),
            Some((_, "attn_k", _)) => Some(config.num_key_value_heads),
            _ => None,
        };
        MappedTensor {
            name: hugging_face_name(&tensor.name),
            tensor,
            interleaved_heads: heads.filter(|_| interleaves),
        }
    };
    Ok(header
        .tensors
        .iter()
        .filter(|tensor| tensor.name != "rope_freqs.weight")
        .map(map)
        .collect())
}

/// `blk.LAYER.PART.KIND`
fn part(name: &str) -> Option<(&str, &str, &str)> {
    let (layer, rest) = name.strip_prefix("blk.")?.split_once('.')?;
    let (part, kind) = rest.split_once('.')?;
    Some((layer, part, kind))
}

fn hugging_face_name(name: &str) -> String {
    match name {
        "token_embd.weight" => return "model.embed_tokens.weight".into(),
        "output_norm.weight" => return "model.norm.weight".into(),
        "output.weight" => return "lm_head.weight".into(),
        _ => {}
    }
    let Some((layer, part, kind)) = part(name) else {
        return name.to_owned();
    };
    let part = match part {
        "attn_norm" => "input_layernorm",
        "ffn_norm" => "post_attention_layernorm",
        "attn_q" => "self_attn.q_proj",
        "attn_k" => "self_attn.k_proj",
        "attn_v" => "self_attn.v_proj",
        "attn_output" => "self_attn.o_proj",
        "ffn_gate" => "mlp.gate_proj",
        "ffn_up" => "mlp.up_proj",
        "ffn_down" => "mlp.down_proj",
        _ => return name.to_owned(),
    };
    format!("model.layers.{layer}.{part}.{kind}")
}
