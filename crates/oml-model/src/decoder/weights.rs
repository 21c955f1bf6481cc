//! A decoder's weights: where each parameter lies, and loading them from a checkpoint.
//!
//! Trainable weights lie in one flat f32 buffer in the order below, Q, K and V (and gate and up) adjacent so that they are one product:
//! embedding, then per layer norm₁, q, k, v, their biases, o, its bias, norm₂, gate, up, their biases, down, its bias; final norm; head if untied.
//! Frozen weights are packed, and the flat buffer holds only norms and biases.

use std::ops::Range;

use thiserror::Error;

use crate::{
    backend::{Backend, Directions},
    checkpoint::{Checkpoint, CheckpointError},
};

/// Why a model could not be loaded.
#[derive(Debug, Error)]
pub enum LoadError {
    /// The checkpoint could not be read.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
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
    /// Weight of the norm before attention, `[H]`.
    pub input_norm: usize,
    /// Q, K and V, `[(heads + 2·kv_heads)·head_dim, H]`.
    pub qkv: B::Weight,
    /// Where its gradient goes when it is trained.
    pub qkv_offset: usize,
    /// Their biases.
    pub qkv_bias: Option<usize>,
    /// Output projection, `[H, heads·head_dim]`.
    pub o: B::Weight,
    /// Where its gradient goes when it is trained.
    pub o_offset: usize,
    /// Its bias.
    pub o_bias: Option<usize>,
    /// Weight of the norm before the MLP, `[H]`.
    pub post_norm: usize,
    /// Gate and up, `[2·I, H]`.
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
        let (h, i) = (config.hidden_size, config.intermediate_size);
        let (q, kv) = (
            config.num_attention_heads * config.head_dim,
            config.num_key_value_heads * config.head_dim,
        );
        let embedding = loader.matrix("model.embed_tokens", &[("", config.vocab_size)], h)?;
        let mut layers = Vec::with_capacity(config.num_hidden_layers);
        for n in 0..config.num_hidden_layers {
            let layer = format!("model.layers.{n}.");
            let attention = format!("{layer}self_attn.");
            let mlp = format!("{layer}mlp.");
            let qkv = [("q_proj", q), ("k_proj", kv), ("v_proj", kv)];
            let gate_up = [("gate_proj", i), ("up_proj", i)];
            layers.push(Layer {
                input_norm: loader.vector(&format!("{layer}input_layernorm.weight"), h)?,
                qkv_offset: loader.flat.len(),
                qkv: loader.matrix(&attention, &qkv, h)?,
                qkv_bias: loader.biases(config.attention_bias, &attention, &qkv)?,
                o_offset: loader.flat.len(),
                o: loader.matrix(&attention, &[("o_proj", h)], q)?,
                o_bias: loader.biases(config.attention_out_bias, &attention, &[("o_proj", h)])?,
                post_norm: loader.vector(&format!("{layer}post_attention_layernorm.weight"), h)?,
                gate_up_offset: loader.flat.len(),
                gate_up: loader.matrix(&mlp, &gate_up, h)?,
                gate_up_bias: loader.biases(config.mlp_bias, &mlp, &gate_up)?,
                down_offset: loader.flat.len(),
                down: loader.matrix(&mlp, &[("down_proj", h)], i)?,
                down_bias: loader.biases(config.mlp_bias, &mlp, &[("down_proj", h)])?,
            });
        }
        let final_norm = loader.vector("model.norm.weight", h)?;
        let head = if config.tie_word_embeddings {
            None
        } else {
            Some(loader.matrix("lm_head", &[("", config.vocab_size)], h)?)
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
