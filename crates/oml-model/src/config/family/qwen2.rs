//! Qwen2 and Qwen2.5 (arXiv 2407.10671): biases on query, key and value; a sliding window in the upper layers where
//! `use_sliding_window` says so.

use super::super::error::Fields;
use super::super::{ConfigError, ModelConfig};
use super::{Family, Names, NormKind};

pub(super) const FAMILY: Family = Family {
    model_type: "qwen2",
    architecture: "Qwen2ForCausalLM",
    norm: NormKind::Rms { offset: 0.0 },
    scales_embedding: false,
    gated: true,
    interleaved: false,
    names: Names::LLAMA,
    read,
};

fn read(fields: &Fields<'_>, config: &mut ModelConfig) -> Result<(), ConfigError> {
    config.attention_bias = true;
    upper_windows(fields, config)
}

/// `sliding_window` in the layers from `max_window_layers` on, or in those that `layer_types` names.
pub(super) fn upper_windows(
    fields: &Fields<'_>,
    config: &mut ModelConfig,
) -> Result<(), ConfigError> {
    if !fields.flag("use_sliding_window")?.unwrap_or(false) {
        return Ok(());
    }
    let whole = fields.number("max_window_layers")?.unwrap_or(28.0);
    config.set_windows(fields, 4096, |layer| layer as f64 >= whole)
}
