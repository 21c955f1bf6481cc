//! The decoder of the Llama architecture (arXiv 2302.13971): forward and backward side by side, over a [`Backend`].
//!
//! ```text
//! x = E[ids]                                            [T, H]
//! per layer:  x += O · attention(rope(QKV · norm₁(x)))      QKV fused: [T, (heads + 2·kv_heads)·head_dim]
//!             x += D · swiglu(GU · norm₂(x))                GU fused: [T, 2·I]
//! logits = E_out · norm(x[picked])                      [R, V]
//! ```
//! Sequences are packed, not padded; behind the last layer's attention only the picked rows go on. The backward pass
//! keeps x, the rotated QKV, the attention's output and GU of each layer and recomputes norms and activations while they
//! are packed for the products.

mod adapter;
mod backward;
mod batch;
mod cache;
mod dora;
mod forward;
mod trained;
mod weights;

pub use adapter::{AdapterSpec, Adapters, TARGET_MODULES};
pub use batch::{Batch, TrainingSequence, groups};
pub use cache::Cache;
pub use trained::Trained;
pub use weights::{Layer, LoadError, Mode, ParameterInfo, ParameterMap, Weights};

use oml_kernels::AttentionShape;

use crate::{
    backend::{Backend, Heads, Role, RopeTable},
    config::ModelConfig,
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
    /// V.
    pub vocabulary: usize,
    /// Number of layers.
    pub layers: usize,
    /// Attention heads.
    pub heads: Heads,
    /// Epsilon of the norms.
    pub eps: f32,
}

impl Sizes {
    /// The sizes in a config.
    pub fn new(config: &ModelConfig) -> Self {
        Self {
            hidden: config.hidden_size,
            intermediate: config.intermediate_size,
            vocabulary: config.vocab_size,
            layers: config.num_hidden_layers,
            heads: Heads {
                shape: AttentionShape {
                    heads: config.num_attention_heads,
                    kv_heads: config.num_key_value_heads,
                    head_dim: config.head_dim,
                    scale: 1.0 / (config.head_dim as f32).sqrt(),
                },
            },
            eps: config.rms_norm_eps,
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
    sizes: Sizes,
    rope: RopeTable,
    forward: ForwardWork<B>,
    backward: Option<BackwardWork<B>>,
    saves: Vec<LayerSaves<B>>,
}

impl<B: Backend> Decoder<B> {
    /// A decoder around loaded weights.
    pub fn new(backend: B, config: &ModelConfig, weights: Weights<B>) -> Self {
        let sizes = Sizes::new(config);
        let (frequencies, scaling) = config.inverse_frequencies();
        let forward = ForwardWork::new(&backend, Role::Forward);
        Self {
            backend,
            weights,
            adapters: None,
            trained: None,
            sizes,
            rope: RopeTable::new(frequencies, scaling),
            forward,
            backward: None,
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
        self.saves = Vec::new();
    }
}
