//! The shape and constants of a model, in the names of Hugging Face's `config.json`.
//!
//! One decoder serves every family here: token embedding, then per layer a root-mean-square norm, grouped-query
//! attention with rotary positions, a second norm and a gated feed-forward block, then a last norm and the output head.
//! The families differ in which linear maps carry a bias. What the decoder cannot compute (another activation, a
//! sliding window that alternates, quantised weights) is refused here, before any weight is read.

mod error;
mod rope;

pub use error::ConfigError;
pub use rope::RopeScaling;

use error::Fields;
use serde_json::{Map, Value, json};

/// Bytes of `config.json` that are read at most.
pub const MAX_CONFIG_BYTES: u64 = 1 << 20;

const MAX_LAYERS: usize = 1 << 10;
const MAX_HEADS: usize = 1 << 12;
const MAX_WIDTH: usize = 1 << 20;
const MAX_VOCABULARY: usize = 1 << 22;
const MAX_POSITIONS: usize = 1 << 28;

/// A family of models that the decoder computes; the names are those of `model_type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ModelType {
    /// Llama 2 and 3, SmolLM2 and everything of their shape.
    Llama,
    /// Mistral's dense models.
    Mistral,
    /// Qwen2 and Qwen2.5: biases on query, key and value.
    Qwen2,
}

impl ModelType {
    const ALL: [Self; 3] = [Self::Llama, Self::Mistral, Self::Qwen2];

    /// The name in `model_type`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Llama => "llama",
            Self::Mistral => "mistral",
            Self::Qwen2 => "qwen2",
        }
    }

    /// The class named in `architectures`.
    pub fn architecture(self) -> &'static str {
        match self {
            Self::Llama => "LlamaForCausalLM",
            Self::Mistral => "MistralForCausalLM",
            Self::Qwen2 => "Qwen2ForCausalLM",
        }
    }

    fn parse(name: &str) -> Result<Self, ConfigError> {
        let known = |family: &Self| family.name() == name;
        Self::ALL
            .into_iter()
            .find(known)
            .ok_or_else(|| ConfigError::UnknownArchitecture {
                field: "model_type",
                got: name.to_owned(),
            })
    }
}

/// The shape and constants of a model. Fields carry the names of `config.json`.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelConfig {
    /// The family, which names the architecture too.
    pub model_type: ModelType,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width inside the feed-forward block.
    pub intermediate_size: usize,
    /// Number of layers.
    pub num_hidden_layers: usize,
    /// Query heads per layer.
    pub num_attention_heads: usize,
    /// Key and value heads per layer; divides `num_attention_heads`.
    pub num_key_value_heads: usize,
    /// Width of one head, even.
    pub head_dim: usize,
    /// Rows of the embedding; may exceed the tokenizer's vocabulary.
    pub vocab_size: usize,
    /// Longest sequence the model was made for.
    pub max_position_embeddings: usize,
    /// Added to the mean square inside the norms.
    pub rms_norm_eps: f32,
    /// Base of the rotary frequencies.
    pub rope_theta: f64,
    /// How the rotary frequencies are stretched; `None` leaves them as they are.
    pub rope_scaling: Option<RopeScaling>,
    /// The output head is the embedding.
    pub tie_word_embeddings: bool,
    /// Query, key and value maps have a bias.
    pub attention_bias: bool,
    /// The attention output map has a bias.
    pub attention_out_bias: bool,
    /// The feed-forward maps have a bias.
    pub mlp_bias: bool,
    /// Tokens a position sees behind it, itself included; `None` sees all. The same in every layer.
    pub sliding_window: Option<usize>,
    /// Token that begins a text.
    pub bos_token_id: Option<u32>,
    /// Tokens that end an answer: those of `config.json`, then those that only `generation_config.json` names.
    pub eos_token_ids: Vec<u32>,
    /// Token that fills short rows.
    pub pad_token_id: Option<u32>,
}

impl ModelConfig {
    /// Reads the fields of `config.json`.
    ///
    /// # Errors
    /// A field that is missing, has another type, is out of bounds or contradicts another one; an architecture, an
    /// activation or a rope type that the decoder does not compute; quantised weights.
    pub fn from_json(json: &Map<String, Value>) -> Result<Self, ConfigError> {
        let fields = Fields(json);
        let model_type = ModelType::parse(fields.text("model_type")?)?;
        if let Some(classes) = json.get("architectures").and_then(Value::as_array)
            && let Some(class) = classes.first().and_then(Value::as_str)
            && class != model_type.architecture()
        {
            return Err(ConfigError::UnknownArchitecture {
                field: "architectures",
                got: class.to_owned(),
            });
        }
        if fields.present("quantization_config") {
            return Err(ConfigError::value(
                "quantization_config",
                "none",
                "quantised weights",
            ));
        }
        let activation = fields.optional_text("hidden_act")?.unwrap_or("silu");
        if activation != "silu" {
            return Err(ConfigError::value("hidden_act", "silu", activation));
        }
        let heads = fields.size("num_attention_heads", MAX_HEADS)?;
        let hidden_size = fields.size("hidden_size", MAX_WIDTH)?;
        let head_dim = match fields.optional_size("head_dim", MAX_WIDTH)? {
            Some(width) => width,
            None if hidden_size % heads == 0 => hidden_size / heads,
            None => {
                return Err(ConfigError::value(
                    "hidden_size",
                    format!("a multiple of num_attention_heads {heads}"),
                    hidden_size,
                ));
            }
        };
        let max_position_embeddings = fields.size("max_position_embeddings", MAX_POSITIONS)?;
        let (rope_theta, rope_scaling) = rope::from_json(json, max_position_embeddings)?;
        let qkv_and_out = fields.flag("attention_bias")?.unwrap_or(false);
        let qwen = model_type == ModelType::Qwen2;
        let llama = model_type == ModelType::Llama;
        let sliding_window = match model_type {
            ModelType::Llama => None,
            ModelType::Mistral => fields.optional_size("sliding_window", MAX_POSITIONS)?,
            ModelType::Qwen2 if fields.flag("use_sliding_window")?.unwrap_or(false) => {
                return Err(ConfigError::value("use_sliding_window", "false", "true"));
            }
            ModelType::Qwen2 => None,
        };
        let config = Self {
            model_type,
            hidden_size,
            intermediate_size: fields.size("intermediate_size", MAX_WIDTH)?,
            num_hidden_layers: fields.size("num_hidden_layers", MAX_LAYERS)?,
            num_attention_heads: heads,
            num_key_value_heads: fields
                .optional_size("num_key_value_heads", MAX_HEADS)?
                .unwrap_or(heads),
            head_dim,
            vocab_size: fields.size("vocab_size", MAX_VOCABULARY)?,
            max_position_embeddings,
            rms_norm_eps: fields.number("rms_norm_eps")?.unwrap_or(1e-6) as f32,
            rope_theta,
            rope_scaling,
            tie_word_embeddings: fields.flag("tie_word_embeddings")?.unwrap_or(false),
            attention_bias: qwen || (llama && qkv_and_out),
            attention_out_bias: llama && qkv_and_out,
            mlp_bias: llama && fields.flag("mlp_bias")?.unwrap_or(false),
            sliding_window,
            bos_token_id: fields.tokens("bos_token_id")?.first().copied(),
            eos_token_ids: fields.tokens("eos_token_id")?,
            pad_token_id: fields.tokens("pad_token_id")?.first().copied(),
        };
        config.validate()?;
        Ok(config)
    }

    /// Adds the end tokens that only `generation_config.json` names.
    ///
    /// # Errors
    /// `eos_token_id` is neither a token nor a list of tokens, or a token is outside the vocabulary.
    pub fn add_generation_config(&mut self, json: &Map<String, Value>) -> Result<(), ConfigError> {
        for token in Fields(json).tokens("eos_token_id")? {
            if !self.eos_token_ids.contains(&token) {
                self.eos_token_ids.push(token);
            }
        }
        self.validate()
    }

    /// Checks that the fields agree with each other.
    ///
    /// # Errors
    /// The first field that does not.
    pub fn validate(&self) -> Result<(), ConfigError> {
        if !self
            .num_attention_heads
            .is_multiple_of(self.num_key_value_heads)
        {
            let expected = format!(
                "a divisor of num_attention_heads {}",
                self.num_attention_heads
            );
            return Err(ConfigError::value(
                "num_key_value_heads",
                expected,
                self.num_key_value_heads,
            ));
        }
        if !self.head_dim.is_multiple_of(2) {
            return Err(ConfigError::value(
                "head_dim",
                "an even number",
                self.head_dim,
            ));
        }
        if self.num_attention_heads * self.head_dim > MAX_WIDTH {
            let expected = format!("num_attention_heads times head_dim at most {MAX_WIDTH}");
            return Err(ConfigError::value("head_dim", expected, self.head_dim));
        }
        if !(self.rms_norm_eps > 0.0 && self.rms_norm_eps < 1.0) {
            return Err(ConfigError::value(
                "rms_norm_eps",
                "a number between 0 and 1",
                self.rms_norm_eps,
            ));
        }
        if !(self.rope_theta > 1.0 && self.rope_theta.is_finite()) {
            return Err(ConfigError::value(
                "rope_theta",
                "a number over 1",
                self.rope_theta,
            ));
        }
        let named = [
            ("bos_token_id", self.bos_token_id.as_slice()),
            ("eos_token_id", &self.eos_token_ids),
        ];
        for (field, tokens) in named {
            if let Some(token) = tokens
                .iter()
                .find(|&&token| token as usize >= self.vocab_size)
            {
                return Err(ConfigError::value(
                    field,
                    format!("a token below vocab_size {}", self.vocab_size),
                    token,
                ));
            }
        }
        Ok(())
    }

    /// The fields as `config.json` carries them, `dtype` being its name for the stored type.
    pub fn to_json(&self, dtype: &str) -> Map<String, Value> {
        let eos = match self.eos_token_ids.as_slice() {
            [] => Value::Null,
            [one] => json!(one),
            several => json!(several),
        };
        let fields = json!({
            "architectures": [self.model_type.architecture()],
            "model_type": self.model_type.name(),
            "hidden_act": "silu",
            "hidden_size": self.hidden_size,
            "intermediate_size": self.intermediate_size,
            "num_hidden_layers": self.num_hidden_layers,
            "num_attention_heads": self.num_attention_heads,
            "num_key_value_heads": self.num_key_value_heads,
            "head_dim": self.head_dim,
            "vocab_size": self.vocab_size,
            "max_position_embeddings": self.max_position_embeddings,
            "rms_norm_eps": shortest(self.rms_norm_eps),
            "rope_theta": self.rope_theta,
            "rope_scaling": self.rope_scaling.as_ref().map(RopeScaling::to_json),
            "tie_word_embeddings": self.tie_word_embeddings,
            "bos_token_id": self.bos_token_id,
            "eos_token_id": eos,
            "pad_token_id": self.pad_token_id,
            "torch_dtype": dtype,
            "use_cache": true,
        });
        let mut fields = match fields {
            Value::Object(fields) => fields,
            _ => Map::new(),
        };
        match self.model_type {
            ModelType::Llama => {
                fields.insert("attention_bias".into(), json!(self.attention_bias));
                fields.insert("mlp_bias".into(), json!(self.mlp_bias));
            }
            ModelType::Mistral => {
                fields.insert("sliding_window".into(), json!(self.sliding_window));
            }
            ModelType::Qwen2 => {
                fields.insert("use_sliding_window".into(), json!(false));
            }
        }
        fields
    }

    /// Every tensor of the model with its shape, rows first, in the order of computation.
    pub fn tensor_shapes(&self) -> Vec<(String, Vec<usize>)> {
        let (hidden, inner) = (self.hidden_size, self.intermediate_size);
        let queries = self.num_attention_heads * self.head_dim;
        let keys = self.num_key_value_heads * self.head_dim;
        let maps = [
            ("self_attn.q_proj", queries, hidden, self.attention_bias),
            ("self_attn.k_proj", keys, hidden, self.attention_bias),
            ("self_attn.v_proj", keys, hidden, self.attention_bias),
            ("self_attn.o_proj", hidden, queries, self.attention_out_bias),
            ("mlp.gate_proj", inner, hidden, self.mlp_bias),
            ("mlp.up_proj", inner, hidden, self.mlp_bias),
            ("mlp.down_proj", hidden, inner, self.mlp_bias),
        ];
        let mut shapes = vec![(
            "model.embed_tokens.weight".to_owned(),
            vec![self.vocab_size, hidden],
        )];
        for layer in 0..self.num_hidden_layers {
            let name = |part: &str| format!("model.layers.{layer}.{part}");
            shapes.push((name("input_layernorm.weight"), vec![hidden]));
            shapes.push((name("post_attention_layernorm.weight"), vec![hidden]));
            for (map, rows, columns, bias) in maps {
                shapes.push((name(&format!("{map}.weight")), vec![rows, columns]));
                if bias {
                    shapes.push((name(&format!("{map}.bias")), vec![rows]));
                }
            }
        }
        shapes.push(("model.norm.weight".to_owned(), vec![hidden]));
        if !self.tie_word_embeddings {
            shapes.push(("lm_head.weight".to_owned(), vec![self.vocab_size, hidden]));
        }
        shapes
    }
}

/// The f64 that prints as the f32 does: 1e-5, not 0.000009999999747.
fn shortest(value: f32) -> f64 {
    value.to_string().parse().unwrap_or(f64::from(value))
}

#[cfg(test)]
mod tests;
