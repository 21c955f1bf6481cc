//! The families of models that the decoder computes: what a layer of each is made of, how its tensors are called, and
//! what its `config.json` adds to the fields that all share. One file per family; [`Family::ALL`] lists them.

mod gemma;
mod gemma2;
mod gemma3_text;
mod gpt_neox;
mod llama;
mod mistral;
mod mixtral;
mod phi3;
mod qwen2;
mod qwen3;

use std::fmt;

use super::error::Fields;
use super::{ConfigError, ModelConfig};

/// The norm of a family's layers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum NormKind {
    /// RMSNorm with weights around `1 − offset`.
    Rms {
        /// Added to the weight.
        offset: f32,
    },
    /// LayerNorm with a bias.
    Layer,
}

/// The names of a family's tensors, without `.weight` and `.bias`. Those of a layer follow `{layers}.{number}.`; the
/// last part of a linear map's name is its name as a target of adapters in PEFT.
#[derive(Debug)]
pub struct Names {
    /// Token embedding, `[V, H]`.
    pub embedding: &'static str,
    /// What comes before a layer's number.
    pub layers: &'static str,
    /// The norm before the head.
    pub final_norm: &'static str,
    /// The output head, `[V, H]`.
    pub head: &'static str,
    /// The norm before attention.
    pub attention_norm: &'static str,
    /// The maps to queries, keys and values: three, or one that makes all.
    pub qkv: &'static [&'static str],
    /// The norms of every query head and every key head.
    pub head_norms: Option<[&'static str; 2]>,
    /// The map from attention.
    pub o: &'static str,
    /// The norm of what attention adds.
    pub attention_out_norm: Option<&'static str>,
    /// The norm before the feed-forward block.
    pub mlp_norm: &'static str,
    /// The maps into the feed-forward block: gate and up, or one that makes all.
    pub up: &'static [&'static str],
    /// The map out of it.
    pub down: &'static str,
    /// The norm of what the feed-forward block adds.
    pub mlp_out_norm: Option<&'static str>,
    /// Where a layer's experts are, if it has several feed-forward blocks.
    pub experts: Option<ExpertNames>,
}

/// The names around a layer's experts. Their maps follow `{experts}.{number}.`.
#[derive(Debug)]
pub struct ExpertNames {
    /// The map whose largest outputs choose the experts of a token, `[experts, H]`.
    pub router: &'static str,
    /// What comes before an expert's number.
    pub experts: &'static str,
}

impl Names {
    /// Llama's, which most families share.
    const LLAMA: Self = Self {
        embedding: "model.embed_tokens",
        layers: "model.layers",
        final_norm: "model.norm",
        head: "lm_head",
        attention_norm: "input_layernorm",
        qkv: &["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"],
        head_norms: None,
        o: "self_attn.o_proj",
        attention_out_norm: None,
        mlp_norm: "post_attention_layernorm",
        up: &["mlp.gate_proj", "mlp.up_proj"],
        down: "mlp.down_proj",
        mlp_out_norm: None,
        experts: None,
    };
}

/// A side of a feed-forward block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MlpPart {
    /// Into it: gate and up. Each of its units is a row, of the fused map two.
    Up,
    /// Out of it. Each of its units is a column.
    Down,
}

/// A family of models: what all its models have in common.
pub struct Family {
    /// The name in `model_type`.
    pub model_type: &'static str,
    /// The class named in `architectures`.
    pub architecture: &'static str,
    /// The norm of all layers.
    pub norm: NormKind,
    /// Embeddings are multiplied with √H.
    pub scales_embedding: bool,
    /// The feed-forward block multiplies its activation with a second map.
    pub gated: bool,
    /// In the map to queries, keys and values each head's three lie together.
    pub interleaved: bool,
    /// The names of the tensors.
    pub names: Names,
    /// Reads what the family has beyond, or other than, Llama.
    read: fn(&Fields<'_>, &mut ModelConfig) -> Result<(), ConfigError>,
}

impl Family {
    /// Every family, by `model_type`.
    pub const ALL: [&'static Self; 10] = [
        &gemma::FAMILY,
        &gemma2::FAMILY,
        &gemma3_text::FAMILY,
        &gpt_neox::FAMILY,
        &llama::FAMILY,
        &mistral::FAMILY,
        &mixtral::FAMILY,
        &phi3::FAMILY,
        &qwen2::FAMILY,
        &qwen3::FAMILY,
    ];

    pub(super) fn parse(name: &str) -> Result<&'static Self, ConfigError> {
        let known = |family: &&Self| family.model_type == name;
        Self::ALL
            .into_iter()
            .find(known)
            .ok_or_else(|| ConfigError::UnknownArchitecture {
                field: "model_type",
                got: name.to_owned(),
            })
    }

    pub(super) fn read(
        &self,
        fields: &Fields<'_>,
        config: &mut ModelConfig,
    ) -> Result<(), ConfigError> {
        (self.read)(fields, config)
    }

    /// The linear maps of a layer as PEFT names them, in the order in which a layer uses them. Experts and routers get no
    /// adapters: in transformers these are no linear maps.
    pub fn target_modules(&self) -> Vec<&'static str> {
        let Names {
            qkv, o, up, down, ..
        } = self.names;
        let mut maps: Vec<_> = qkv.iter().chain([&o]).collect();
        if self.names.experts.is_none() {
            maps.extend(up.iter().chain([&down]));
        }
        maps.into_iter().map(|name| module(name)).collect()
    }

    /// What comes before the maps of each of a layer's feed-forward blocks, after the layer's own prefix.
    pub(crate) fn block_prefixes(&self, experts: usize) -> Vec<String> {
        match &self.names.experts {
            None => vec![String::new()],
            Some(names) => (0..experts)
                .map(|n| format!("{}.{n}.", names.experts))
                .collect(),
        }
    }

    /// The parts of the map to queries, keys and values, with their outputs.
    pub(crate) fn qkv_parts(&self, queries: usize, keys: usize) -> Vec<(&'static str, usize)> {
        match self.names.qkv {
            [all] => vec![(all, queries + 2 * keys)],
            names => names.iter().copied().zip([queries, keys, keys]).collect(),
        }
    }

    /// The parts of the map into the feed-forward block, with their outputs.
    pub(crate) fn up_parts(&self, intermediate: usize) -> Vec<(&'static str, usize)> {
        match self.names.up {
            [all] => vec![(all, self.up_width(intermediate))],
            names => names.iter().map(|name| (*name, intermediate)).collect(),
        }
    }

    /// The side of a feed-forward block that a layer's tensor belongs to, if to any.
    pub fn mlp_part(&self, tensor: &str) -> Option<MlpPart> {
        let map = tensor
            .strip_suffix(".weight")
            .or(tensor.strip_suffix(".bias"))?;
        let is = |name: &&str| {
            let rest = map.strip_suffix(*name);
            rest.is_some_and(|rest| rest.ends_with('.'))
        };
        let Names { up, down, .. } = &self.names;
        match up.iter().any(is) {
            true => Some(MlpPart::Up),
            false => is(down).then_some(MlpPart::Down),
        }
    }

    /// Outputs of the map into the feed-forward block.
    pub(crate) fn up_width(&self, intermediate: usize) -> usize {
        if self.gated {
            2 * intermediate
        } else {
            intermediate
        }
    }
}

/// The last part of a map's name.
fn module(name: &'static str) -> &'static str {
    name.rsplit_once('.').map_or(name, |(_, module)| module)
}

impl PartialEq for Family {
    fn eq(&self, other: &Self) -> bool {
        self.model_type == other.model_type
    }
}

impl fmt::Debug for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.model_type)
    }
}

/// Every family's `model_type`, for messages.
pub(super) fn listed() -> String {
    Family::ALL.map(|family| family.model_type).join(", ")
}
