//! Phi-3 (arXiv 2404.14219): one map for query, key and value, one for gate and up, a part of each head rotated.

use super::super::error::Fields;
use super::super::{ConfigError, ModelConfig, RopeScaling};
use super::{Family, Names, NormKind};

pub(super) const FAMILY: Family = Family {
    model_type: "phi3",
    architecture: "Phi3ForCausalLM",
    norm: NormKind::Rms { offset: 0.0 },
    scales_embedding: false,
    gated: true,
    interleaved: false,
    names: Names {
        qkv: &["self_attn.qkv_proj"],
        up: &["mlp.gate_up_proj"],
        ..Names::LLAMA
    },
    read,
};

const ORIGINAL: &str = "original_max_position_embeddings";

fn read(fields: &Fields<'_>, config: &mut ModelConfig) -> Result<(), ConfigError> {
    if !fields.present("rms_norm_eps") {
        config.rms_norm_eps = 1e-5;
    }
    if let Some(scaling) = &config.rope_scaling
        && !matches!(scaling, RopeScaling::Long { .. })
    {
        return Err(ConfigError::value(
            "rope_type",
            "default or longrope for phi3",
            &scaling.to_json()["rope_type"],
        ));
    }
    let has_original = ["rope_parameters", "rope_scaling"]
        .iter()
        .filter_map(|name| fields.0.get(*name)?.as_object())
        .any(|rope| Fields(rope).present(ORIGINAL));
    if config.rope_scaling.is_some() && !has_original && !fields.present(ORIGINAL) {
        return Err(ConfigError::Missing { field: ORIGINAL });
    }
    config.set_rotary_dim(fields.rotary_part()?)?;
    if fields.present("sliding_window") {
        config.set_windows(fields, 1, |_| true)?;
    }
    Ok(())
}
