//! DoRA (arXiv 2402.09353): `y = m/‖V‖ ⊙ (V·x)` with `V = W + scale·B·A` and ‖·‖ over the rows of V, beside a bias that stays as it is.
//!
//! As in PEFT the norm counts as a constant in the backward pass (section 4.3 there). It is worked out before each forward pass from
//! `‖V‖² = ‖W‖² + 2·scale·(W·Aᵀ)·B + scale²·B·(A·Aᵀ)·Bᵀ`, row by row, so that V never exists.

use super::{
    Decoder,
    adapter::{Adapters, Group, LayerAdapters},
    weights::Layer,
};
use crate::backend::{Backend, Columns, Role};

/// Rows of a weight whose norms are worked out at a time.
const ROWS: usize = 256;

/// What a group of maps with magnitudes needs; of maps without adapters factors are 1.
pub(crate) struct Magnitudes<B: Backend> {
    /// ‖W‖² of each output.
    squares: Vec<f32>,
    /// m/‖V‖ of each output, as it was before the last forward pass.
    pub(crate) factors: B::Buffer,
    /// 1/‖V‖ of each output.
    pub(crate) inverse_norms: B::Buffer,
}

impl<B: Backend> Magnitudes<B> {
    /// ‖W‖ of outputs `from..from + count`: the magnitudes at the start.
    pub(crate) fn start(&self, from: usize, count: usize) -> impl Iterator<Item = f32> {
        self.squares[from..][..count].iter().map(|s| s.sqrt())
    }
}

/// A layer's groups with the weights beside which they lie.
fn groups<'a, B: Backend>(
    adapters: &'a mut LayerAdapters<B>,
    layer: &'a Layer<B>,
) -> impl Iterator<Item = (&'a mut Group<B>, &'a B::Weight)> {
    let LayerAdapters {
        qkv,
        o,
        gate_up,
        down,
    } = adapters;
    let mlp = &layer.mlps[0]; // experts have no adapters
    [
        (qkv, &layer.qkv),
        (o, &layer.o),
        (gate_up, &mlp.gate_up),
        (down, &mlp.down),
    ]
    .into_iter()
    .filter_map(|(group, weight)| Some((group.as_mut()?, weight)))
}

impl<B: Backend> Decoder<B> {
    /// Puts adapters beside the weights; where they have magnitudes, these start as the norms of the weights' rows.
    pub fn adapt(&mut self, mut adapters: Adapters<B>) {
        let Self {
            backend, weights, ..
        } = self;
        let Adapters {
            spec,
            layers,
            flat: values,
            ..
        } = &mut adapters;
        for (own, layer) in layers.iter_mut().zip(&weights.layers) {
            for (group, weight) in groups(own, layer).filter(|_| spec.use_dora) {
                let mut squares = vec![0.0; group.outputs];
                let width = group.inputs;
                let mut rows = backend.buffer(ROWS.min(group.outputs) * width);
                let mut host = vec![0.0; ROWS.min(group.outputs) * width];
                let ids: Vec<u32> = (0..group.outputs as u32).collect();
                for (ids, squares) in ids.chunks(ROWS).zip(squares.chunks_mut(ROWS)) {
                    backend.embed(ids, weight, &weights.flat, 1.0, &mut rows);
                    let host = &mut host[..ids.len() * width];
                    backend.download(&rows, 0, host);
                    for (square, row) in squares.iter_mut().zip(host.chunks(width)) {
                        *square = dot(row, row) as f32;
                    }
                }
                let magnitudes = Magnitudes {
                    squares,
                    factors: backend.buffer(group.outputs),
                    inverse_norms: backend.buffer(group.outputs),
                };
                for part in &group.parts {
                    let start: Vec<f32> = magnitudes.start(part.at, part.outputs).collect();
                    backend.upload(&start, values, part.magnitude_offset);
                }
                group.magnitudes = Some(magnitudes);
            }
        }
        self.adapters = Some(adapters);
    }

    /// Works the norms out anew from the present adapters.
    pub(super) fn refresh_norms(&mut self) {
        let Self {
            backend,
            weights,
            adapters: Some(adapters),
            ..
        } = self
        else {
            return;
        };
        if !adapters.spec.use_dora {
            return;
        }
        let (scale, rank) = (f64::from(adapters.spec.scale()), adapters.spec.rank);
        let Adapters { layers, flat, .. } = adapters;
        let mut operand = backend.operand(Role::Forward);
        for (own, layer) in layers.iter_mut().zip(&weights.layers) {
            for (group, weight) in groups(own, layer) {
                let (inner, inputs, outputs) = (group.inner, group.inputs, group.outputs);
                let rows = Columns {
                    offset: group.a_offset,
                    stride: inputs,
                };
                backend.operand_from(flat, inner, inputs, rows, 1.0, &mut [&mut operand]);
                let mut products = backend.buffer(inner * outputs);
                let all = Columns::all(outputs);
                backend.linear(&operand, weight, &weights.flat, &mut products, all, false);
                let mut host = |source: &B::Buffer, offset, length| {
                    let mut values = vec![0.0; length];
                    backend.download(source, offset, &mut values);
                    values
                };
                let products = host(&products, 0, inner * outputs);
                let a = host(flat, group.a_offset, inner * inputs);
                let Some(magnitudes) = &mut group.magnitudes else {
                    continue;
                };
                let mut factors = vec![1.0; outputs];
                let mut inverse_norms = vec![0.0; outputs];
                for part in &group.parts {
                    let own: Vec<&[f32]> = a.chunks(inputs).skip(part.inner).take(rank).collect();
                    let gram: Vec<f64> = own
                        .iter()
                        .flat_map(|x| own.iter().map(|y| dot(x, y)))
                        .collect();
                    let b = host(flat, part.b_offset, part.outputs * rank);
                    let m = host(flat, part.magnitude_offset, part.outputs);
                    for (r, b) in b.chunks(rank).enumerate() {
                        let output = part.at + r;
                        let cross: f64 = (0..rank)
                            .map(|k| {
                                let product = products[(part.inner + k) * outputs + output];
                                f64::from(b[k]) * f64::from(product)
                            })
                            .sum();
                        let own: f64 = gram
                            .chunks(rank)
                            .zip(b)
                            .map(|(row, factor)| {
                                let along = row.iter().zip(b).map(|(g, b)| g * f64::from(*b));
                                along.sum::<f64>() * f64::from(*factor)
                            })
                            .sum();
                        let square = f64::from(magnitudes.squares[output]);
                        let square = square + 2.0 * scale * cross + scale * scale * own;
                        let norm = square.max(f64::MIN_POSITIVE).sqrt();
                        factors[output] = (f64::from(m[r]) / norm) as f32;
                        inverse_norms[output] = (1.0 / norm) as f32;
                    }
                }
                backend.upload(&factors, &mut magnitudes.factors, 0);
                backend.upload(&inverse_norms, &mut magnitudes.inverse_norms, 0);
            }
        }
    }
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter()
        .zip(b)
        .map(|(a, b)| f64::from(*a) * f64::from(*b))
        .sum()
}
