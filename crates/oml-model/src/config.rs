//! The shape and constants of a model, in the names of Hugging Face's `config.json`.
//!
//! One decoder serves every [`Family`]: token embedding, then per layer a norm, grouped-query attention with rotary
//! positions, a second norm and a feed-forward block, then a last norm and the output head. What the decoder cannot
//! compute (another activation or rope type, quantised weights) is refused here, before any weight is read.

mod error;
mod family;
mod rope;

pub use error::ConfigError;
pub use family::{ExpertNames, Family, MlpPart, Names, NormKind};
pub use oml_kernels::Activation;
pub use rope::RopeScaling;

use error::Fields;
use serde_json::{Map, Value};

/// Bytes of `config.json` that are read at most.
pub const MAX_CONFIG_BYTES: u64 = 1 << 20;

const MAX_LAYERS: usize = 1 << 10;
const MAX_HEADS: usize = 1 << 12;
pub(crate) const MAX_WIDTH: usize = 1 << 20;
const MAX_VOCABULARY: usize = 1 << 22;
const MAX_POSITIONS: usize = 1 << 28;

/// The shape and constants of a model. Fields carry the names of `config.json`.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelConfig {
    /// The family: `model_type`, and what all its models have in common.
    pub family: &'static Family,
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
    /// What the feed-forward block does to its gate.
    pub hidden_act: Activation,
    /// Added to the mean square (or the variance) inside the norms.
    pub rms_norm_eps: f32,
    /// Elements of a head that are rotated, even: `partial_rotary_factor` of `head_dim`.
    pub rotary_dim: usize,
    /// Base of the rotary frequencies.
    pub rope_theta: f64,
    /// Base of the frequencies in layers with a window, where it is another; these are never stretched.
    pub rope_local_base_freq: Option<f64>,
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
    /// Attention's scores are divided by its root; `head_dim` in most families.
    pub query_pre_attn_scalar: f64,
    /// Soft cap of attention's scores.
    pub attn_logit_softcapping: Option<f32>,
    /// Soft cap of the logits.
    pub final_logit_softcapping: Option<f32>,
    /// Attention and the feed-forward block both read the stream before the layer.
    pub use_parallel_residual: bool,
    /// Tokens that a position sees in each layer, itself included; `None` sees all. From `sliding_window` and what says
    /// which layers have it.
    pub windows: Vec<Option<usize>>,
    /// Feed-forward blocks of a layer.
    pub num_local_experts: usize,
    /// How many of them each token goes through.
    pub num_experts_per_tok: usize,
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
        let family = Family::parse(fields.text("model_type")?)?;
        if let Some(classes) = json.get("architectures").and_then(Value::as_array)
            && let Some(class) = classes.first().and_then(Value::as_str)
            && class != family.architecture
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
        let (rope_theta, rope_scaling) = rope::from_json(json, max_position_embeddings, 10_000.0)?;
        let layers = fields.size("num_hidden_layers", MAX_LAYERS)?;
        let mut config = Self {
            family,
            hidden_size,
            intermediate_size: fields.size("intermediate_size", MAX_WIDTH)?,
            num_hidden_layers: layers,
            num_attention_heads: heads,
            num_key_value_heads: fields
                .optional_size("num_key_value_heads", MAX_HEADS)?
                .unwrap_or(heads),
            head_dim,
            vocab_size: fields.size("vocab_size", MAX_VOCABULARY)?,
            max_position_embeddings,
            hidden_act: fields.activation("hidden_act")?.unwrap_or(Activation::Silu),
            rms_norm_eps: fields.number("rms_norm_eps")?.unwrap_or(1e-6) as f32,
            rotary_dim: head_dim,
            rope_theta,
            rope_local_base_freq: None,
            rope_scaling,
            tie_word_embeddings: fields.flag("tie_word_embeddings")?.unwrap_or(false),
            attention_bias: false,
            attention_out_bias: false,
            mlp_bias: false,
            query_pre_attn_scalar: head_dim as f64,
            attn_logit_softcapping: None,
            final_logit_softcapping: None,
            use_parallel_residual: false,
            windows: vec![None; layers],
            num_local_experts: 1,
            num_experts_per_tok: 1,
            bos_token_id: fields.tokens("bos_token_id")?.first().copied(),
            eos_token_ids: fields.tokens("eos_token_id")?,
            pad_token_id: fields.tokens("pad_token_id")?.first().copied(),
        };
        family.read(&fields, &mut config)?;
        if config.rotary_dim == config.head_dim
            && let Some(part) = fields.rotary_part()?.filter(|part| *part != 1.0)
        {
            return Err(ConfigError::value("partial_rotary_factor", "1", part));
        }
        config.validate()?;
        Ok(config)
    }

    /// `head_dim`, which has a default of its own in some families, and what follows it.
    fn set_head_dim(&mut self, fields: &Fields<'_>, default: usize) -> Result<(), ConfigError> {
        self.head_dim = fields
            .optional_size("head_dim", MAX_WIDTH)?
            .unwrap_or(default);
        self.rotary_dim = self.head_dim;
        self.query_pre_attn_scalar = self.head_dim as f64;
        Ok(())
    }

    /// The rotated part of a head.
    fn set_rotary_dim(&mut self, part: Option<f64>) -> Result<(), ConfigError> {
        const FIELD: &str = "partial_rotary_factor";
        let part = part.unwrap_or(1.0);
        let rotated = (self.head_dim as f64 * part) as usize;
        if !(part > 0.0 && part <= 1.0) || rotated < 2 || !rotated.is_multiple_of(2) {
            let expected = format!("an even part of head_dim {}", self.head_dim);
            return Err(ConfigError::value(FIELD, expected, part));
        }
        self.rotary_dim = rotated;
        Ok(())
    }

    /// `sliding_window` (`default` where it is absent) in the layers that `layer_types` names, or that `slides` does.
    fn set_windows(
        &mut self,
        fields: &Fields<'_>,
        default: usize,
        slides: impl Fn(usize) -> bool,
    ) -> Result<(), ConfigError> {
        let window = match fields.has("sliding_window") {
            true => fields.optional_size("sliding_window", MAX_POSITIONS)?,
            false => Some(default),
        };
        let types = fields.texts("layer_types", self.num_hidden_layers)?;
        let has_window = |layer: usize| match types.as_ref().map(|types| types[layer]) {
            None => Ok(slides(layer)),
            Some("full_attention") => Ok(false),
            Some("sliding_attention") => Ok(true),
            Some(other) => Err(ConfigError::value(
                "layer_types",
                "full_attention or sliding_attention",
                other,
            )),
        };
        for layer in 0..self.num_hidden_layers {
            self.windows[layer] = if has_window(layer)? { window } else { None };
        }
        Ok(())
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
        if let Some(RopeScaling::Long {
            short_factor,
            long_factor,
            ..
        }) = &self.rope_scaling
        {
            let pairs = self.rotary_dim / 2;
            for (field, factors) in [("short_factor", short_factor), ("long_factor", long_factor)] {
                if factors.len() != pairs {
                    let expected = format!("{pairs} numbers, one per rotary pair");
                    return Err(ConfigError::value(field, expected, factors.len()));
                }
            }
        }
        let thetas = [
            ("rope_theta", Some(self.rope_theta)),
            ("rope_local_base_freq", self.rope_local_base_freq),
        ];
        for (field, theta) in thetas {
            if let Some(theta) = theta.filter(|theta| !(*theta > 1.0 && theta.is_finite())) {
                return Err(ConfigError::value(field, "a number over 1", theta));
            }
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

    /// Every tensor of the model with its shape, rows first, in the order of computation.
    pub fn tensor_shapes(&self) -> Vec<(String, Vec<usize>)> {
        let (hidden, inner) = (self.hidden_size, self.intermediate_size);
        let queries = self.num_attention_heads * self.head_dim;
        let keys = self.num_key_value_heads * self.head_dim;
        let (family, names) = (self.family, &self.family.names);
        let with_bias = |name: String, shape: Vec<usize>, bias: bool| {
            let rows = shape[0];
            let bias = bias.then(|| (format!("{name}.bias"), vec![rows]));
            [(format!("{name}.weight"), shape)].into_iter().chain(bias)
        };
        let norm = |name: String| with_bias(name, vec![hidden], family.norm == NormKind::Layer);
        let map = |name: &str, rows, columns, bias| (name.to_owned(), vec![rows, columns], bias);
        let mut maps = Vec::new();
        for (name, rows) in family.qkv_parts(queries, keys) {
            maps.push(map(name, rows, hidden, self.attention_bias));
        }
        maps.push(map(names.o, hidden, queries, self.attention_out_bias));
        if let Some(names) = &names.experts {
            maps.push(map(names.router, self.num_local_experts, hidden, false));
        }
        for prefix in family.block_prefixes(self.num_local_experts) {
            let block = |name| format!("{prefix}{name}");
            for (name, rows) in family.up_parts(inner) {
                maps.push(map(&block(name), rows, hidden, self.mlp_bias));
            }
            maps.push(map(&block(names.down), hidden, inner, self.mlp_bias));
        }
        let norms = [
            Some(names.attention_norm),
            names.attention_out_norm,
            Some(names.mlp_norm),
            names.mlp_out_norm,
        ];

        let embedding = (
            format!("{}.weight", names.embedding),
            vec![self.vocab_size, hidden],
        );
        let mut shapes = vec![embedding];
        for layer in 0..self.num_hidden_layers {
            let name = |part: &str| format!("{}.{layer}.{part}", names.layers);
            for part in norms.into_iter().flatten() {
                shapes.extend(norm(name(part)));
            }
            for part in names.head_norms.into_iter().flatten() {
                shapes.extend(with_bias(name(part), vec![self.head_dim], false));
            }
            for (part, shape, bias) in &maps {
                shapes.extend(with_bias(name(part), shape.clone(), *bias));
            }
        }
        shapes.extend(norm(names.final_norm.to_owned()));
        if !self.tie_word_embeddings {
            let head = format!("{}.weight", names.head);
            shapes.push((head, vec![self.vocab_size, hidden]));
        }
        shapes
    }

    /// The name of the tensor that is the output head: the embedding's where they are tied.
    pub fn head_tensor(&self) -> String {
        let names = &self.family.names;
        let name = if self.tie_word_embeddings {
            names.embedding
        } else {
            names.head
        };
        format!("{name}.weight")
    }
}

#[cfg(test)]
mod tests;
