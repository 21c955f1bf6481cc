//! A decoder's weights: where each parameter lies, and loading them from a checkpoint.
//!
//! Trainable weights lie in one flat f32 buffer in the order below, Q, K and V (and gate and up) adjacent so that they are one product:
//! embedding, then per layer norm₁, q, k, v, their biases, the heads' norms, o, its bias, the norm of what attention adds, norm₂, gate, up,
//! their biases, down, its bias, the norm of what it adds; final norm; head if untied. A norm's bias follows its weight. Where a layer has
//! experts, its router comes first and then gate, up and down of each. What a family does not have is left out, and what it keeps in one
//! tensor (Q, K and V; gate and up) stays one, in its own order.
//! Frozen weights are packed, and the flat buffer holds only norms and biases.

use std::ops::Range;

use thiserror::Error;

use crate::{
    backend::{Backend, Directions},
    checkpoint::{Checkpoint, CheckpointError},
    config::NormKind,
};

/// Why a model could not be loaded.
#[derive(Debug, Error)]
pub enum LoadError {
    /// The checkpoint could not be read.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// An adapter is wanted for a map that the family does not have.
    #[error("target_modules: expected names out of {expected}, got {got}")]
    TargetModule {
        /// The family's maps.
        expected: String,
        /// The name that is none of them.
        got: String,
    },
}

/// What the weights are wanted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// f32 masters in one flat buffer.
    Trainable,
    /// Packed for products.
    Frozen(Directions),
}

/// A named tensor and its place in the flat buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParameterInfo {
    /// Hugging Face's name.
    pub name: String,
    /// Shape.
    pub shape: Vec<usize>,
    /// First element in the flat buffer.
    pub offset: usize,
}

impl ParameterInfo {
    /// Elements in the flat buffer.
    pub fn range(&self) -> Range<usize> {
        self.offset..self.offset + self.shape.iter().product::<usize>()
    }
}

/// The tensors that lie in a flat buffer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ParameterMap {
    /// In order of their offsets.
    pub entries: Vec<ParameterInfo>,
}

impl ParameterMap {
    /// Appends a tensor and returns its offset.
    pub fn push(&mut self, name: String, shape: Vec<usize>) -> usize {
        let offset = self.length();
        self.entries.push(ParameterInfo {
            name,
            shape,
            offset,
        });
        offset
    }

    /// Elements of the whole buffer.
    pub fn length(&self) -> usize {
        self.entries.last().map_or(0, |e| e.range().end)
    }

    /// Looks a tensor up by name.
    pub fn get(&self, name: &str) -> Option<&ParameterInfo> {
        self.entries.iter().find(|e| e.name == name)
    }
}

/// One layer. Numbers are offsets into the flat buffer.
pub struct Layer<B: Backend> {
    /// Tokens that attention sees; `None` for all.
    pub window: Option<usize>,
    /// Weight of the norm before attention, `[H]`.
    pub attention_norm: usize,
    /// Q, K and V, `[(heads + 2·kv_heads)·head_dim, H]`.
    pub qkv: B::Weight,
    /// Where its gradient goes when it is trained.
    pub qkv_offset: usize,
    /// Their biases.
    pub qkv_bias: Option<usize>,
    /// Weight of the norm of query heads, `[head_dim]`; that of key heads follows.
    pub head_norms: Option<usize>,
    /// Output projection, `[H, heads·head_dim]`.
    pub o: B::Weight,
    /// Where its gradient goes when it is trained.
    pub o_offset: usize,
    /// Its bias.
    pub o_bias: Option<usize>,
    /// Weight of the norm of what attention adds, `[H]`.
    pub attention_out_norm: Option<usize>,
    /// Weight of the norm before the MLP, `[H]`.
    pub mlp_norm: usize,
    /// What chooses among several MLPs, `[experts, H]`, and where its gradient goes when it is trained.
    pub router: Option<(B::Weight, usize)>,
    /// The MLP, or the experts.
    pub mlps: Vec<Mlp<B>>,
    /// Weight of the norm of what the MLP adds, `[H]`.
    pub mlp_out_norm: Option<usize>,
}

/// A feed-forward block.
pub struct Mlp<B: Backend> {
    /// Gate and up, `[2·I, H]`, or without a gate `[I, H]`.
    pub gate_up: B::Weight,
    /// Where its gradient goes when it is trained.
    pub gate_up_offset: usize,
    /// Their biases.
    pub gate_up_bias: Option<usize>,
    /// Down, `[H, I]`.
    pub down: B::Weight,
    /// Where its gradient goes when it is trained.
    pub down_offset: usize,
    /// Its bias.
    pub down_bias: Option<usize>,
}

/// All weights of a decoder.
pub struct Weights<B: Backend> {
    /// What lies in `flat`.
    pub map: ParameterMap,
    /// Trainable parameters, or only norms and biases.
    pub flat: B::Buffer,
    /// Token embedding, `[V, H]`.
    pub embedding: B::Weight,
    /// Output head, `[V, H]`, where it is not the embedding.
    pub head: Option<B::Weight>,
    /// Weight of the last norm.
    pub final_norm: usize,
    /// The layers.
    pub layers: Vec<Layer<B>>,
}

impl<B: Backend> Weights<B> {
    /// The output head.
    pub fn head(&self) -> &B::Weight {
        self.head.as_ref().unwrap_or(&self.embedding)
    }

    /// Reads a checkpoint, one fused group at a time.
    ///
    /// # Errors
    /// Whatever the checkpoint refuses.
    pub fn load(backend: &mut B, checkpoint: &Checkpoint, mode: Mode) -> Result<Self, LoadError> {
        let mut loader = Loader {
            backend,
            checkpoint,
            mode,
            map: ParameterMap::default(),
            flat: Vec::new(),
        };
        let config = checkpoint.config();
        let (names, h) = (&config.family.names, config.hidden_size);
        let vocabulary = [("", config.vocab_size)];
        let q = config.num_attention_heads * config.head_dim;
        let kv = config.num_key_value_heads * config.head_dim;
        let qkv = config.family.qkv_parts(q, kv);
        let experts = config.num_local_experts;
        let blocks = config.family.block_prefixes(experts);
        let o = [(names.o, h)];
        let embedding = loader.matrix(names.embedding, &vocabulary, h)?;
        let mut layers = Vec::with_capacity(config.num_hidden_layers);
        for (n, window) in config.windows.iter().enumerate() {
            let layer = format!("{}.{n}.", names.layers);
            let attention_norm = loader.norm(&format!("{layer}{}", names.attention_norm), h)?;
            let qkv_offset = loader.flat.len();
            let weight = loader.matrix(&layer, &qkv, h)?;
            let qkv_bias = loader.biases(config.attention_bias, &layer, &qkv)?;
            let mut head_norms = None;
            for name in names.head_norms.into_iter().flatten() {
                let offset = loader.norm(&format!("{layer}{name}"), config.head_dim)?;
                head_norms.get_or_insert(offset);
            }
            layers.push(Layer {
                window: *window,
                attention_norm,
                qkv_offset,
                qkv: weight,
                qkv_bias,
                head_norms,
                o_offset: loader.flat.len(),
                o: loader.matrix(&layer, &o, q)?,
                o_bias: loader.biases(config.attention_out_bias, &layer, &o)?,
                attention_out_norm: loader.out_norm(&layer, names.attention_out_norm, h)?,
                mlp_norm: loader.norm(&format!("{layer}{}", names.mlp_norm), h)?,
                router: match &names.experts {
                    None => None,
                    Some(names) => {
                        let (offset, rows) = (loader.flat.len(), [(names.router, experts)]);
                        Some((loader.matrix(&layer, &rows, h)?, offset))
                    }
                },
                mlps: blocks
                    .iter()
                    .map(|block| loader.mlp(&format!("{layer}{block}")))
                    .collect::<Result<_, _>>()?,
                mlp_out_norm: loader.out_norm(&layer, names.mlp_out_norm, h)?,
            });
        }
        let final_norm = loader.norm(names.final_norm, h)?;
        let head = if config.tie_word_embeddings {
            None
        } else {
            Some(loader.matrix(names.head, &vocabulary, h)?)
        };
        let Loader { map, flat, .. } = loader;
        let mut buffer = backend.buffer(flat.len());
        backend.upload(&flat, &mut buffer, 0);
        Ok(Self {
            map,
            flat: buffer,
            embedding,
            head,
            final_norm,
            layers,
        })
    }
}

struct Loader<'a, B> {
    backend: &'a mut B,
    checkpoint: &'a Checkpoint,
    mode: Mode,
    map: ParameterMap,
    flat: Vec<f32>,
}

impl<B: Backend> Loader<'_, B> {
    /// Appends a tensor to the flat buffer.
    fn append(&mut self, name: String, shape: Vec<usize>) -> Result<usize, LoadError> {
        let length: usize = shape.iter().product();
        let offset = self.flat.len();
        self.flat.resize(offset + length, 0.0);
        self.checkpoint.read_f32(&name, &mut self.flat[offset..])?;
        Ok(self.map.push(name, shape))
    }

    fn vector(&mut self, name: &str, length: usize) -> Result<usize, LoadError> {
        self.append(name.to_owned(), vec![length])
    }

    /// A norm's weight, then its bias where the family has one.
    fn norm(&mut self, name: &str, width: usize) -> Result<usize, LoadError> {
        let weight = self.vector(&format!("{name}.weight"), width)?;
        if self.checkpoint.config().family.norm == NormKind::Layer {
            self.vector(&format!("{name}.bias"), width)?;
        }
        Ok(weight)
    }

    /// The norm of what a half of a layer adds, in the families that have one.
    fn out_norm(
        &mut self,
        layer: &str,
        name: Option<&str>,
        width: usize,
    ) -> Result<Option<usize>, LoadError> {
        name.map(|name| self.norm(&format!("{layer}{name}"), width))
            .transpose()
    }

    /// The feed-forward block with this prefix.
    fn mlp(&mut self, prefix: &str) -> Result<Mlp<B>, LoadError> {
        let config = self.checkpoint.config();
        let (h, i) = (config.hidden_size, config.intermediate_size);
        let up = config.family.up_parts(i);
        let down = [(config.family.names.down, h)];
        Ok(Mlp {
            gate_up_offset: self.flat.len(),
            gate_up: self.matrix(prefix, &up, h)?,
            gate_up_bias: self.biases(config.mlp_bias, prefix, &up)?,
            down_offset: self.flat.len(),
            down: self.matrix(prefix, &down, i)?,
            down_bias: self.biases(config.mlp_bias, prefix, &down)?,
        })
    }

    fn biases(
        &mut self,
        present: bool,
        prefix: &str,
        parts: &[(&str, usize)],
    ) -> Result<Option<usize>, LoadError> {
        let mut first = None;
        if present {
            for (part, outputs) in parts {
                let offset = self.vector(&format!("{prefix}{part}.bias"), *outputs)?;
                first.get_or_insert(offset);
            }
        }
        Ok(first)
    }

    /// A weight made of parts that are stacked along the outputs.
    fn matrix(
        &mut self,
        prefix: &str,
        parts: &[(&str, usize)],
        inputs: usize,
    ) -> Result<B::Weight, LoadError> {
        let outputs: usize = parts.iter().map(|(_, n)| n).sum();
        let names = parts
            .iter()
            .map(|(part, n)| (format!("{prefix}{part}.weight"), *n));
        match self.mode {
            Mode::Trainable => {
                let offset = self.flat.len();
                for (name, n) in names {
                    self.append(name, vec![n, inputs])?;
                }
                Ok(self.backend.weight_at(offset, outputs, inputs))
            }
            Mode::Frozen(directions) => {
                let mut values = vec![0.0; outputs * inputs];
                let mut at = 0;
                for (name, n) in names {
                    self.checkpoint
                        .read_f32(&name, &mut values[at..at + n * inputs])?;
                    at += n * inputs;
                }
                Ok(self
                    .backend
                    .weight_frozen(&values, outputs, inputs, directions))
            }
        }
    }
}
