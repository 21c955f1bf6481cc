//! Qwen3's dense models (arXiv 2505.09388): a norm of every query and key head, no biases unless `attention_bias`.

use super::super::error::Fields;
use super::super::{ConfigError, ModelConfig};
use super::{Family, Names, NormKind, qwen2};

pub(super) const FAMILY: Family = Family {
    model_type: "qwen3",
    architecture: "Qwen3ForCausalLM",
    norm: NormKind::Rms { offset: 0.0 },
    scales_embedding: false,
    gated: true,
    interleaved: false,
    names: Names {
        head_norms: Some(["self_attn.q_norm", "self_attn.k_norm"]),
        ..Names::LLAMA
    },
    read,
};

fn read(fields: &Fields<'_>, config: &mut ModelConfig) -> Result<(), ConfigError> {
    config.set_head_dim(fields, 128)?;
    config.attention_bias = fields.flag("attention_bias")?.unwrap_or(false);
    config.attention_out_bias = config.attention_bias;
    qwen2::upper_windows(fields, config)
}
