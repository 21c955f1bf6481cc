//! Gemma 3's text models (arXiv 2503.19786): Gemma 2 with norms of query and key heads instead of soft caps, one layer
//! in six without a window, and other rotary frequencies in the layers with one. The models that see images too have
//! another `model_type` and are refused.

use super::super::error::Fields;
use super::super::{ConfigError, MAX_LAYERS, ModelConfig};
use super::{Family, Names, NormKind, gemma, gemma2};

pub(super) const FAMILY: Family = Family {
    model_type: "gemma3_text",
    architecture: "Gemma3ForCausalLM",
    norm: NormKind::Rms { offset: 1.0 },
    scales_embedding: true,
    gated: true,
    interleaved: false,
    names: Names {
        head_norms: Some(["self_attn.q_norm", "self_attn.k_norm"]),
        ..gemma2::NAMES
    },
    read,
};

fn read(fields: &Fields<'_>, config: &mut ModelConfig) -> Result<(), ConfigError> {
    gemma::common(fields, config, "hidden_activation")?;
    config.query_pre_attn_scalar = fields.positive("query_pre_attn_scalar")?.unwrap_or(256.0);
    config.attn_logit_softcapping = fields.cap("attn_logit_softcapping", None)?;
    config.final_logit_softcapping = fields.cap("final_logit_softcapping", None)?;
    let pattern = fields.optional_size("sliding_window_pattern", MAX_LAYERS)?;
    let pattern = pattern.unwrap_or(6);
    config.set_windows(fields, 4096, |layer| (layer + 1) % pattern != 0)?;
    config.set_two_ropes(fields, 1_000_000.0, 10_000.0)
}
