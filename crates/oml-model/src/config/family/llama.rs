//! Llama 2 and 3 (arXiv 2302.13971, 2307.09288), SmolLM2 and everything of their shape.

use super::super::error::Fields;
use super::super::{ConfigError, ModelConfig};
use super::{Family, Names, NormKind};

pub(super) const FAMILY: Family = Family {
    model_type: "llama",
    architecture: "LlamaForCausalLM",
    norm: NormKind::Rms { offset: 0.0 },
    scales_embedding: false,
    gated: true,
    interleaved: false,
    names: Names::LLAMA,
    read,
};

fn read(fields: &Fields<'_>, config: &mut ModelConfig) -> Result<(), ConfigError> {
    config.attention_bias = fields.flag("attention_bias")?.unwrap_or(false);
    config.attention_out_bias = config.attention_bias;
    config.mlp_bias = fields.flag("mlp_bias")?.unwrap_or(false);
    Ok(())
}
