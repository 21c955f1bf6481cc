//! Gemma 2 (arXiv 2408.00118): norms before and after each block, soft caps on scores and logits, a sliding window in
//! every other layer, scores scaled by `query_pre_attn_scalar`.

use super::super::error::Fields;
use super::super::{ConfigError, ModelConfig};
use super::{Family, Names, NormKind, gemma};

pub(super) const FAMILY: Family = Family {
    model_type: "gemma2",
    architecture: "Gemma2ForCausalLM",
    norm: NormKind::Rms { offset: 1.0 },
    scales_embedding: true,
    gated: true,
    interleaved: false,
    names: NAMES,
    read,
};

/// Gemma 2's and Gemma 3's.
pub(super) const NAMES: Names = Names {
    attention_out_norm: Some("post_attention_layernorm"),
    mlp_norm: "pre_feedforward_layernorm",
    mlp_out_norm: Some("post_feedforward_layernorm"),
    ..Names::LLAMA
};

fn read(fields: &Fields<'_>, config: &mut ModelConfig) -> Result<(), ConfigError> {
    gemma::common(fields, config, "hidden_activation")?;
    config.query_pre_attn_scalar = fields.positive("query_pre_attn_scalar")?.unwrap_or(256.0);
    config.attn_logit_softcapping = fields.cap("attn_logit_softcapping", Some(50.0))?;
    config.final_logit_softcapping = fields.cap("final_logit_softcapping", Some(30.0))?;
    config.set_windows(fields, 4096, |layer| layer % 2 == 0)
}
