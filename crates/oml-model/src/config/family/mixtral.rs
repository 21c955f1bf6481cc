//! Mixtral (arXiv 2401.04088): Mistral's attention, and several feed-forward blocks, of which a router chooses some for each token.

use super::super::error::Fields;
use super::super::{ConfigError, ModelConfig};
use super::{ExpertNames, Family, Names, NormKind};

/// Of every layer: each has three tensors.
const MAX_EXPERTS: usize = 1 << 7;

pub(super) const FAMILY: Family = Family {
    model_type: "mixtral",
    architecture: "MixtralForCausalLM",
    norm: NormKind::Rms { offset: 0.0 },
    scales_embedding: false,
    gated: true,
    interleaved: false,
    names: Names {
        up: &["w1", "w3"],
        down: "w2",
        experts: Some(ExpertNames {
            router: "block_sparse_moe.gate",
            experts: "block_sparse_moe.experts",
        }),
        ..Names::LLAMA
    },
    read,
};

fn read(fields: &Fields<'_>, config: &mut ModelConfig) -> Result<(), ConfigError> {
    if !fields.present("rms_norm_eps") {
        config.rms_norm_eps = 1e-5;
    }
    config.set_rope(fields, 1e6)?;
    config.num_local_experts = fields
        .optional_size("num_local_experts", MAX_EXPERTS)?
        .unwrap_or(8);
    let (field, most) = ("num_experts_per_tok", config.num_local_experts);
    config.num_experts_per_tok = fields.optional_size(field, most)?.unwrap_or(2.min(most));
    if fields.present("sliding_window") {
        config.set_windows(fields, 1, |_| true)?;
    }
    Ok(())
}
