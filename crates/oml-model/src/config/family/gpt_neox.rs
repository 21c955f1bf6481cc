//! GPT-NeoX (arXiv 2204.06745) and Pythia (arXiv 2304.01373): LayerNorm and biases everywhere, attention and
//! feed-forward block side by side, a quarter of each head rotated, no gate.

use super::super::error::Fields;
use super::super::{ConfigError, ModelConfig};
use super::{Family, Names, NormKind};
use crate::config::Activation;

pub(super) const FAMILY: Family = Family {
    model_type: "gpt_neox",
    architecture: "GPTNeoXForCausalLM",
    norm: NormKind::Layer,
    scales_embedding: false,
    gated: false,
    interleaved: true,
    names: Names {
        embedding: "gpt_neox.embed_in",
        layers: "gpt_neox.layers",
        final_norm: "gpt_neox.final_layer_norm",
        head: "embed_out",
        attention_norm: "input_layernorm",
        qkv: &["attention.query_key_value"],
        head_norms: None,
        o: "attention.dense",
        attention_out_norm: None,
        mlp_norm: "post_attention_layernorm",
        up: &["mlp.dense_h_to_4h"],
        down: "mlp.dense_4h_to_h",
        mlp_out_norm: None,
        experts: None,
    },
    read,
};

fn read(fields: &Fields<'_>, config: &mut ModelConfig) -> Result<(), ConfigError> {
    config.hidden_act = fields.activation("hidden_act")?.unwrap_or(Activation::Gelu);
    // the one epsilon of a model, whatever its family calls it
    config.rms_norm_eps = fields.number("layer_norm_eps")?.unwrap_or(1e-5) as f32;
    config.num_key_value_heads = config.num_attention_heads;
    config.head_dim = config.hidden_size / config.num_attention_heads;
    config.query_pre_attn_scalar = config.head_dim as f64;
    config.attention_bias = fields.flag("attention_bias")?.unwrap_or(true);
    config.attention_out_bias = config.attention_bias;
    config.mlp_bias = true;
    config.use_parallel_residual = fields.flag("use_parallel_residual")?.unwrap_or(true);
    if let Some(theta) = fields.number("rotary_emb_base")? {
        config.rope_theta = theta;
    }
    let part = match fields.rotary_part()? {
        None => fields.number("rotary_pct")?.or(Some(0.25)),
        part => part,
    };
    config.set_rotary_dim(part)
}
