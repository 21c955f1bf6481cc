//! The decoder: forward and backward side by side, over a [`Backend`].
//!
//! ```text
//! x = scale · E[ids]                                    [T, H]
//! per layer:  x += O · attention(rope(QKV · norm₁(x)))      QKV fused: [T, (heads + 2·kv_heads)·head_dim]
//!             x += D · activation(GU · norm₂(x))            GU fused: [T, 2·I], or [T, I] without a gate
//! logits = E_out · norm(x[picked])                      [R, V]
//! ```
//! So it is in Llama (arXiv 2302.13971). A [`Family`] may norm the heads of Q and K before they are rotated, norm what
//! a half of a layer adds, let both halves read the stream before the layer, cap scores and logits, let a layer see only a
//! window, and have several feed-forward blocks of which a router chooses (`experts`).
//!
//! Sequences are packed, not padded; behind the last layer's attention only the picked rows go on. The backward pass
//! keeps x, the rotated QKV, the attention's output and GU of each layer and recomputes norms and activations while they
//! are packed for the products. Where there are more norms it keeps what goes into them too.

mod adapter;
mod backward;
mod batch;
mod cache;
mod dora;
mod experts;
mod forward;
mod trained;
mod weights;

pub use adapter::{ALL_LINEAR, AdapterSpec, Adapters};
pub(crate) use adapter::{LowRank, add_low_rank};
pub use batch::{Batch, TrainingSequence, groups};
pub use cache::Cache;
pub use trained::Trained;
pub use weights::{Layer, LoadError, Mlp, Mode, ParameterInfo, ParameterMap, Weights};

use oml_kernels::AttentionShape;

use crate::{
    backend::{Backend, Gate, Heads, Norm, Role, RopeTable},
    config::{Family, ModelConfig, NormKind},
};

use backward::BackwardWork;
use forward::{ForwardWork, LayerSaves};

/// Sizes of a decoder, worked out once from its config.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    /// H.
    pub hidden: usize,
    /// I.
    pub intermediate: usize,
    /// Feed-forward blocks of a layer.
    pub experts: usize,
    /// How many of them a token goes through.
    pub experts_per_token: usize,
    /// V.
    pub vocabulary: usize,
    /// Number of layers.
    pub layers: usize,
    /// Attention heads.
    pub heads: Heads,
    /// The norms.
    pub norm: NormKind,
    /// Epsilon of the norms.
    pub eps: f32,
    /// Between the halves of the feed-forward block.
    pub gate: Gate,
    /// Factor on the embeddings.
    pub embedding_scale: f32,
    /// Soft cap of the logits.
    pub softcap: Option<f32>,
    /// Both halves of a layer read the stream before it.
    pub parallel: bool,
    /// What the model's tensors are called.
    pub family: &'static Family,
}

impl Sizes {
    /// The sizes in a config.
    pub fn new(config: &ModelConfig) -> Self {
        let (family, heads, d) = (config.family, config.num_attention_heads, config.head_dim);
        let scale = 1.0 / (config.query_pre_attn_scalar as f32).sqrt();
        let mut shape = match family.interleaved {
            true => AttentionShape::interleaved(heads, d, scale),
            false => AttentionShape::new(heads, config.num_key_value_heads, d, scale),
        };
        shape.softcap = config.attn_logit_softcapping;
        Self {
            hidden: config.hidden_size,
            intermediate: config.intermediate_size,
            experts: config.num_local_experts,
            experts_per_token: config.num_experts_per_tok,
            vocabulary: config.vocab_size,
            layers: config.num_hidden_layers,
            heads: Heads { shape },
            norm: family.norm,
            eps: config.rms_norm_eps,
            gate: Gate {
                activation: config.hidden_act,
                gated: family.gated,
            },
            embedding_scale: match family.scales_embedding {
                true => (config.hidden_size as f64).sqrt() as f32,
                false => 1.0,
            },
            softcap: config.final_logit_softcapping,
            parallel: config.use_parallel_residual,
            family,
        }
    }

    /// The norm whose weight starts at this place of the flat buffer.
    pub(crate) fn norm_at(&self, weight: usize) -> Norm {
        Norm {
            weight,
            kind: self.norm,
            eps: self.eps,
        }
    }
}

/// Rotary tables: of the layers that see everything, and of those with a window where these have their own.
struct Ropes {
    whole: RopeTable,
    local: Option<RopeTable>,
}

impl Ropes {
    fn new(config: &ModelConfig) -> Self {
        let (frequencies, scaling) = config.inverse_frequencies();
        let local = config.local_inverse_frequencies();
        Self {
            whole: RopeTable::new(frequencies, scaling),
            local: local.map(|frequencies| RopeTable::new(frequencies, 1.0)),
        }
    }

    fn reserve(&mut self, positions: usize) {
        self.whole.reserve(positions);
        if let Some(local) = &mut self.local {
            local.reserve(positions);
        }
    }

    fn of(&self, window: Option<usize>) -> &RopeTable {
        match &self.local {
            Some(local) if window.is_some() => local,
            _ => &self.whole,
        }
    }
}

/// A model on a backend: weights, optional low-rank adapters, and the working memory of its passes.
pub struct Decoder<B: Backend> {
    /// The device.
    pub backend: B,
    /// The weights.
    pub weights: Weights<B>,
    /// Low-rank adapters beside the weights, where there are any.
    pub adapters: Option<Adapters<B>>,
    /// The weights that are trained, where these are not all.
    pub trained: Option<Trained>,
    /// Keep only what goes into each layer for the backward pass, and compute the layer again there (gradient checkpointing, arXiv 1604.06174).
    pub checkpoints: bool,
    sizes: Sizes,
    ropes: Ropes,
    forward: ForwardWork<B>,
    backward: Option<BackwardWork<B>>,
    /// The residual stream before each layer, `[T, H]`.
    inputs: Vec<B::Buffer>,
    /// What else the backward pass needs of each layer, or of the one that it is at.
    saves: Vec<LayerSaves<B>>,
}

impl<B: Backend> Decoder<B> {
    /// A decoder around loaded weights.
    pub fn new(backend: B, config: &ModelConfig, weights: Weights<B>) -> Self {
        let sizes = Sizes::new(config);
        let forward = ForwardWork::new(&backend, Role::Forward);
        Self {
            backend,
            weights,
            adapters: None,
            trained: None,
            checkpoints: false,
            sizes,
            ropes: Ropes::new(config),
            forward,
            backward: None,
            inputs: Vec::new(),
            saves: Vec::new(),
        }
    }

    /// The sizes.
    pub fn sizes(&self) -> &Sizes {
        &self.sizes
    }

    /// The layer at which the backward pass ends: nothing below it is trained.
    fn first_layer(&self) -> usize {
        match (&self.adapters, &self.trained) {
            (Some(adapters), _) => adapters.first_layer(),
            (None, Some(trained)) => trained.first_layer(),
            (None, None) => 0,
        }
    }

    /// Frees the memory that only training needs.
    pub fn forget_training(&mut self) {
        self.backward = None;
        (self.inputs, self.saves) = (Vec::new(), Vec::new());
    }
}
