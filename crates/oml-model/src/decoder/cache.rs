//! The key/value cache of generation: for each layer `[slots · capacity, 2·kv_width]`, keys before values.

use super::Sizes;
use crate::backend::Backend;

/// Keys and values of the sequences that are being generated.
pub struct Cache<B: Backend> {
    pub(crate) layers: Vec<B::Buffer>,
    pub(crate) capacity: usize,
    pub(crate) past: Vec<usize>,
}

impl<B: Backend> Cache<B> {
    /// Room for `slots` sequences of at most `capacity` tokens.
    pub fn new(backend: &B, sizes: &Sizes, slots: usize, capacity: usize) -> Self {
        let length = slots * capacity * 2 * sizes.heads.kv_width();
        Self {
            layers: (0..sizes.layers).map(|_| backend.buffer(length)).collect(),
            capacity,
            past: vec![0; slots],
        }
    }

    /// Bytes of the keys and values of one token, at least 1.
    pub(crate) fn bytes_per_token(sizes: &Sizes) -> usize {
        (sizes.layers * 2 * sizes.heads.kv_width() * size_of::<f32>()).max(1)
    }

    /// Tokens that a slot holds.
    pub fn past(&self, slot: usize) -> usize {
        self.past[slot]
    }

    /// Frees a slot for another sequence.
    pub fn reset(&mut self, slot: usize) {
        self.past[slot] = 0;
    }
}
