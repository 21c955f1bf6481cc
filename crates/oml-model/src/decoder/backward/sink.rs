//! Where gradients go.

use super::super::{Trained, trained::TrainedRows};
use crate::backend::{Backend, Columns, Target};

/// Where gradients go: a flat buffer, whether to add to it, and which of the weights have a place in it.
pub(in crate::decoder) struct Sink<'a, B: Backend> {
    pub(super) buffer: &'a mut B::Buffer,
    pub(super) accumulate: bool,
    pub(super) weights: Places<'a>,
}

/// The weights that have gradients.
#[derive(Clone, Copy)]
pub(super) enum Places<'a> {
    All,
    /// Adapters are trained instead.
    None,
    Some(&'a Trained),
}

impl<B: Backend> Sink<'_, B> {
    pub(in crate::decoder) fn at(&mut self, offset: usize) -> Target<'_, B::Buffer> {
        Target {
            buffer: self.buffer,
            offset,
            accumulate: self.accumulate,
        }
    }

    /// The trained ones of a weight's rows.
    pub(in crate::decoder) fn rows(
        &self,
        offset: usize,
        rows: usize,
        width: usize,
    ) -> Vec<TrainedRows> {
        match self.weights {
            Places::None => Vec::new(),
            Places::Some(trained) => trained.rows(offset, rows, width).collect(),
            Places::All => vec![TrainedRows {
                first: 0,
                count: rows,
                at: offset,
            }],
        }
    }

    /// The place of a tensor that is trained as a whole or not at all. What a norm has behind its weight is trained with it.
    pub(in crate::decoder) fn whole(
        &mut self,
        offset: usize,
        length: usize,
    ) -> Option<Target<'_, B::Buffer>> {
        let rows = self.rows(offset, length, 1);
        rows.first().map(|rows| self.at(rows.at))
    }

    /// The gradient of the trained ones of `width` biases.
    pub(in crate::decoder) fn bias(
        &mut self,
        backend: &mut B,
        dy: &B::Buffer,
        tokens: usize,
        width: usize,
        bias: Option<usize>,
    ) {
        let Some(offset) = bias else { return };
        for part in self.rows(offset, width, 1) {
            let columns = Columns {
                offset: part.first,
                stride: width,
            };
            backend.add_bias_backward(dy, tokens, part.count, columns, self.at(part.at));
        }
    }

    /// Zeros for a weight that no row of this batch went through.
    pub(in crate::decoder) fn nothing(
        &mut self,
        backend: &mut B,
        offset: usize,
        shape: [usize; 2],
    ) {
        if self.accumulate {
            return;
        }
        for part in self.rows(offset, shape[0], shape[1]) {
            backend.clear(self.buffer, part.at..part.at + part.count * shape[1]);
        }
    }
}
