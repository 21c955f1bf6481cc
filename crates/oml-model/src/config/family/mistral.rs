//! Mistral's dense models (arXiv 2310.06825): a sliding window in every layer, where there is one.

use super::super::error::Fields;
use super::super::{ConfigError, ModelConfig};
use super::{Family, Names, NormKind};

pub(super) const FAMILY: Family = Family {
    model_type: "mistral",
    architecture: "MistralForCausalLM",
    norm: NormKind::Rms { offset: 0.0 },
    scales_embedding: false,
    gated: true,
    interleaved: false,
    names: Names::LLAMA,
    read,
};

fn read(fields: &Fields<'_>, config: &mut ModelConfig) -> Result<(), ConfigError> {
    config.set_windows(fields, 4096, |_| true)
}
