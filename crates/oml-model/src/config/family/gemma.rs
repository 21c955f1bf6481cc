//! Gemma (arXiv 2403.08295): norm weights around zero, embeddings times √H, GELU gates, the head always tied unless said.

use super::super::error::Fields;
use super::super::{ConfigError, ModelConfig};
use super::{Family, Names, NormKind};
use crate::config::Activation;

pub(super) const FAMILY: Family = Family {
    model_type: "gemma",
    architecture: "GemmaForCausalLM",
    norm: NormKind::Rms { offset: 1.0 },
    scales_embedding: true,
    gated: true,
    interleaved: false,
    names: Names::LLAMA,
    read,
};

fn read(fields: &Fields<'_>, config: &mut ModelConfig) -> Result<(), ConfigError> {
    common(fields, config, "hidden_act")?;
    // the first release says `gelu` and means its tanh form
    if config.hidden_act == Activation::Gelu {
        config.hidden_act = Activation::GeluTanh;
    }
    Ok(())
}

/// What the three generations share.
pub(super) fn common(
    fields: &Fields<'_>,
    config: &mut ModelConfig,
    activation: &'static str,
) -> Result<(), ConfigError> {
    config.set_head_dim(fields, 256)?;
    config.hidden_act = fields
        .activation(activation)?
        .unwrap_or(Activation::GeluTanh);
    config.tie_word_embeddings = fields.flag("tie_word_embeddings")?.unwrap_or(true);
    config.attention_bias = fields.flag("attention_bias")?.unwrap_or(false);
    config.attention_out_bias = config.attention_bias;
    if fields.flag("use_bidirectional_attention")?.unwrap_or(false) {
        return Err(ConfigError::value(
            "use_bidirectional_attention",
            "false",
            true,
        ));
    }
    Ok(())
}
