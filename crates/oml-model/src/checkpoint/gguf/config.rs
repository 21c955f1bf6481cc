//! GGUF metadata to a configuration, and GGUF's tensor names to Hugging Face's.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::{Header, HeaderTensor, Metadata};
use crate::checkpoint::{CheckpointError, Form};
use crate::config::{ConfigError, ModelConfig, Names, NormKind, RopeScaling};

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

    /// A float, as its [`decimal`].
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
            Some(Metadata::Float(number)) => Ok(Some(decimal(*number as f32))),
            Some(other) => Err(Self::wrong(field, "a float", other, file)),
        }
    }

    fn tensor(&self, name: &str) -> Option<&HeaderTensor> {
        self.tensors.iter().find(|tensor| tensor.name == name)
    }
}

/// The shortest decimal that gives the same f32: 1e-5, not 0.000009999999747.
fn decimal(number: f32) -> f64 {
    number.to_string().parse().unwrap_or(f64::from(number))
}

/// The factors on rotary frequencies that llama.cpp's converter keeps as tensors.
#[derive(Debug, Default)]
pub(in crate::checkpoint) struct RopeFactors {
    /// `rope_freqs.weight`: Llama 3's scaling.
    pub(in crate::checkpoint) plain: Option<Vec<f32>>,
    /// `rope_factors_short.weight` and `rope_factors_long.weight`: longrope's.
    pub(in crate::checkpoint) short: Option<Vec<f32>>,
    pub(in crate::checkpoint) long: Option<Vec<f32>>,
}

impl RopeFactors {
    pub(in crate::checkpoint) const PLAIN: &str = "rope_freqs.weight";
    pub(in crate::checkpoint) const SHORT: &str = "rope_factors_short.weight";
    pub(in crate::checkpoint) const LONG: &str = "rope_factors_long.weight";
}

const ORIGINAL_CONTEXT: &str = "rope.scaling.original_context_length";

/// GGUF's architectures and the `model_type` of each.
const ARCHITECTURES: [(&str, &str); 7] = [
    ("gemma", "gemma"),
    ("gemma2", "gemma2"),
    ("gemma3", "gemma3_text"),
    ("llama", "llama"),
    ("phi3", "phi3"),
    ("qwen2", "qwen2"),
    ("qwen3", "qwen3"),
];

/// The configuration that the metadata describes, and the fields of the `config.json` that says the same.
pub(in crate::checkpoint) fn hugging_face_config(
    header: &Header,
    factors: &RopeFactors,
    file: &Path,
) -> Result<(ModelConfig, Map<String, Value>), CheckpointError> {
    let bad = |source| CheckpointError::Config {
        file: file.to_owned(),
        source,
    };
    let architecture_field = "general.architecture";
    let architecture = header
        .text(architecture_field, file)?
        .ok_or_else(|| Header::missing(architecture_field, file))?;
    let known = ARCHITECTURES.iter().find(|(name, _)| *name == architecture);
    let Some((_, model_type)) = known else {
        let names = ARCHITECTURES.map(|(name, _)| name).join(", ");
        let expected = format!("one of {names}");
        let error = ConfigError::value(architecture_field, expected, architecture);
        return Err(bad(error));
    };
    let key = |field: &str| format!("{architecture}.{field}");
    let mut fields = Map::new();
    let experts = header.integer(&key("expert_count"), file)?.unwrap_or(0);
    let is_routed = *model_type == "llama" && experts > 0;
    let model_type = if is_routed { "mixtral" } else { model_type };
    fields.insert("model_type".into(), json!(model_type));
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
    let mut optional = vec![
        ("num_key_value_heads", "attention.head_count_kv"),
        ("head_dim", "attention.key_length"),
    ];
    if ["gemma2", "gemma3_text", "phi3"].contains(&model_type) {
        optional.push(("sliding_window", "attention.sliding_window"));
    }
    if is_routed {
        optional.push(("num_local_experts", "expert_count"));
        optional.push(("num_experts_per_tok", "expert_used_count"));
    }
    for (name, field) in optional {
        // a window of 0 is none
        let is_given = |value: &i64| name != "sliding_window" || *value != 0;
        if let Some(value) = header.integer(&key(field), file)?.filter(is_given) {
            fields.insert(name.into(), json!(value));
        }
    }
    // which the classes of transformers differ in
    let heads = fields["num_attention_heads"].clone();
    fields.entry("num_key_value_heads").or_insert(heads);
    let mut floats = vec![
        ("rms_norm_eps", "attention.layer_norm_rms_epsilon"),
        ("rope_theta", "rope.freq_base"),
    ];
    if model_type == "gemma2" {
        floats.push(("attn_logit_softcapping", "attn_logit_softcapping"));
        floats.push(("final_logit_softcapping", "final_logit_softcapping"));
    }
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
    let ends = end_tokens(header, file)?;
    let end = match ends[..] {
        [one] => json!(one),
        _ => json!(ends),
    };
    fields.insert("eos_token_id".into(), end);
    let embedding = header.tensor("token_embd.weight");
    let rows = embedding.and_then(|tensor| tensor.shape.first());
    let rows = rows.ok_or_else(|| CheckpointError::MissingTensor {
        path: file.to_owned(),
        tensor: "token_embd.weight".into(),
    })?;
    fields.insert("vocab_size".into(), json!(rows));
    let has = |name: &str| header.tensor(name).is_some();
    fields.insert("tie_word_embeddings".into(), json!(!has("output.weight")));
    match model_type {
        "llama" | "mixtral" => {
            fields.insert("attention_bias".into(), json!(has("blk.0.attn_q.bias")));
            fields.insert("mlp_bias".into(), json!(has("blk.0.ffn_down.bias")));
        }
        // where Phi-3 has it
        "phi3" => {
            if let Some(length) = header.integer(&key(ORIGINAL_CONTEXT), file)? {
                fields.insert("original_max_position_embeddings".into(), json!(length));
            }
        }
        "qwen2" => {
            fields.insert("use_sliding_window".into(), json!(false));
        }
        "qwen3" => {
            fields.insert("attention_bias".into(), json!(has("blk.0.attn_q.bias")));
            fields.insert("use_sliding_window".into(), json!(false));
        }
        "gemma2" | "gemma3_text" => {
            if let Some(scale) = query_scale(&fields) {
                fields.insert("query_pre_attn_scalar".into(), json!(scale));
            }
        }
        _ => {}
    }
    if let Some(scaling) = scaling(header, factors, &key, file)? {
        fields.insert("rope_scaling".into(), scaling);
    }
    let rotated = header.integer(&key("rope.dimension_count"), file)?;
    if let (Some(rotated), "phi3", Some(width)) = (rotated, model_type, head_width(&fields)) {
        let part = rotated as f64 / width as f64;
        fields.insert("partial_rotary_factor".into(), json!(part));
    }
    let config = ModelConfig::from_json(&fields).map_err(bad)?;
    if let Some(width) = rotated.filter(|width| *width != config.rotary_dim as i64) {
        let expected = config.rotary_dim.to_string();
        let error = ConfigError::value("rope.dimension_count", expected, width);
        return Err(bad(error));
    }
    if let Some(factors) = &factors.plain {
        let scaling = llama3_scaling(&config, factors);
        let scaling = scaling.ok_or_else(|| CheckpointError::Field {
            file: file.to_owned(),
            field: RopeFactors::PLAIN.into(),
            expected: "the factors of Llama 3's rope scaling".into(),
            got: "others".into(),
        })?;
        fields.insert("rope_scaling".into(), scaling.to_json());
    }
    let config = ModelConfig::from_json(&fields).map_err(bad)?;
    fields.insert("architectures".into(), json!([config.family.architecture]));
    Ok((config, fields))
}

/// The width of a head: what is given, or H over the heads.
fn head_width(fields: &Map<String, Value>) -> Option<i64> {
    let number = |name: &str| fields.get(name)?.as_i64();
    let divided = || number("hidden_size")?.checked_div(number("num_attention_heads")?);
    number("head_dim").or_else(divided)
}

/// Gemma's `query_pre_attn_scalar`, which the file does not have and llama.cpp knows by the size of the model: the width of a head, in
/// the largest models (46 and 62 layers) H over the heads.
fn query_scale(fields: &Map<String, Value>) -> Option<i64> {
    let number = |name: &str| fields.get(name)?.as_i64();
    match number("num_hidden_layers")? {
        46 | 62 => number("hidden_size")?.checked_div(number("num_attention_heads")?),
        _ => head_width(fields),
    }
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
    factors: &RopeFactors,
    key: &dyn Fn(&str) -> String,
    file: &Path,
) -> Result<Option<Value>, CheckpointError> {
    let mut fields = Map::new();
    let kind = header.text(&key("rope.scaling.type"), file)?;
    let kind = kind.filter(|kind| *kind != "none");
    match (&factors.short, &factors.long, kind) {
        (Some(short), Some(long), _) => {
            let list = |factors: &[f32]| factors.iter().copied().map(decimal).collect::<Vec<_>>();
            fields.insert("type".into(), json!("longrope"));
            fields.insert("short_factor".into(), json!(list(short)));
            fields.insert("long_factor".into(), json!(list(long)));
        }
        (_, _, Some(kind)) => {
            fields.insert("rope_type".into(), json!(kind));
        }
        _ => return Ok(None),
    }
    let floats = [
        ("factor", "rope.scaling.factor"),
        ("attention_factor", "rope.scaling.attn_factor"),
    ];
    for (name, field) in floats {
        if let Some(value) = header.float(&key(field), file)? {
            fields.insert(name.into(), json!(value));
        }
    }
    if let Some(length) = header.integer(&key(ORIGINAL_CONTEXT), file)? {
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

/// A GGUF tensor, or a part of one, under Hugging Face's name.
pub(in crate::checkpoint) struct MappedTensor {
    pub(in crate::checkpoint) tensor: HeaderTensor,
    pub(in crate::checkpoint) form: Form,
}

/// Every tensor that belongs to the model. A name that has no counterpart stays as it is.
pub(in crate::checkpoint) fn map_tensors(
    header: &Header,
    config: &ModelConfig,
) -> Vec<MappedTensor> {
    let apart = [RopeFactors::PLAIN, RopeFactors::SHORT, RopeFactors::LONG];
    let own = header.tensors.iter();
    own.filter(|tensor| !apart.contains(&tensor.name.as_str()))
        .flat_map(|tensor| map(tensor, config))
        .collect()
}

fn map(tensor: &HeaderTensor, config: &ModelConfig) -> Vec<MappedTensor> {
    let family = config.family;
    if let (Some((layer, part, "weight")), Some(names)) =
        (part(&tensor.name), &family.names.experts)
        && let Some((_, map)) = EXPERTS.iter().find(|(stacked, _)| *stacked == part)
        && let [experts, rows, columns] = tensor.shape[..]
        && experts == config.num_local_experts
    {
        let length = tensor.length / experts as u64;
        let expert = |n: usize| HeaderTensor {
            name: format!("model.layers.{layer}.{}.{n}.{map}.weight", names.experts),
            dtype: tensor.dtype,
            shape: vec![rows, columns],
            offset: tensor.offset + n as u64 * length,
            length,
        };
        let part = |n| MappedTensor {
            tensor: expert(n),
            form: Form::Plain,
        };
        return (0..experts).map(part).collect();
    }
    // llama.cpp rotates neighbouring pairs where Hugging Face rotates halves, so its converter interleaves the rows
    let interleaves = ["llama", "mixtral"].contains(&family.model_type);
    let form = match part(&tensor.name) {
        Some((_, "attn_q", _)) if interleaves => Form::Interleaved(config.num_attention_heads),
        Some((_, "attn_k", _)) if interleaves => Form::Interleaved(config.num_key_value_heads),
        // and it adds what Gemma adds to the weights of norms
        _ if family.norm == (NormKind::Rms { offset: 1.0 })
            && tensor.name.ends_with("norm.weight") =>
        {
            Form::Raised
        }
        _ => Form::Plain,
    };
    let name = hugging_face_name(&tensor.name, &family.names);
    let tensor = HeaderTensor {
        name,
        ..tensor.clone()
    };
    vec![MappedTensor { tensor, form }]
}

/// The maps of all experts, stacked, and each one's name.
const EXPERTS: [(&str, &str); 3] = [
    ("ffn_gate_exps", "w1"),
    ("ffn_up_exps", "w3"),
    ("ffn_down_exps", "w2"),
];

/// `blk.LAYER.PART.KIND`
fn part(name: &str) -> Option<(&str, &str, &str)> {
    let (layer, rest) = name.strip_prefix("blk.")?.split_once('.')?;
    let (part, kind) = rest.split_once('.')?;
    Some((layer, part, kind))
}

fn hugging_face_name(name: &str, names: &Names) -> String {
    match name {
        "token_embd.weight" => return format!("{}.weight", names.embedding),
        "output_norm.weight" => return format!("{}.weight", names.final_norm),
        "output.weight" => return format!("{}.weight", names.head),
        _ => {}
    }
    let Some((layer, part, kind)) = part(name) else {
        return name.to_owned();
    };
    let own = match part {
        "attn_norm" => Some(names.attention_norm),
        "ffn_norm" => Some(names.mlp_norm),
        "post_attention_norm" => names.attention_out_norm,
        "post_ffw_norm" => names.mlp_out_norm,
        "attn_q_norm" => names.head_norms.map(|[queries, _]| queries),
        "attn_k_norm" => names.head_norms.map(|[_, keys]| keys),
        "attn_q" | "attn_qkv" => names.qkv.first().copied(),
        "attn_k" => names.qkv.get(1).copied(),
        "attn_v" => names.qkv.get(2).copied(),
        "attn_output" => Some(names.o),
        "ffn_gate_inp" => names.experts.as_ref().map(|names| names.router),
        "ffn_gate" => names.up.first().copied(),
        "ffn_up" => names.up.last().copied(),
        "ffn_down" => Some(names.down),
        _ => None,
    };
    match own {
        Some(own) => format!("{}.{layer}.{own}.{kind}", names.layers),
        None => name.to_owned(),
    }
}
