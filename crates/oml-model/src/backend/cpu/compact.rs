//! Activations that wait for the next operation or for the backward pass.

use oml_kernels::{
    Floats, Isa, Packed, Pool, activated, activated_backward, activated_backward_bf16,
    activated_bf16, for_each_chunk, for_each_chunk2, gated, gated_backward, gated_backward_bf16,
    gated_bf16, matmul, matmul_narrow, narrow, widen,
};

use super::super::Gate;
use super::ROWS;

/// Rows of activations: bf16 where products are bf16 anyway, f32 otherwise.
pub enum Compact {
    /// bf16 bits.
    Half(Vec<u16>),
    /// f32 values.
    Full(Floats),
}

impl Compact {
    pub(super) fn new(isa: Isa) -> Self {
        if isa == Isa::Amx {
            Self::Half(Vec::new())
        } else {
            Self::Full(Floats::zeroed(0))
        }
    }

    /// `a·b`, `[rows, width]`.
    pub(super) fn multiply(&mut self, pool: &Pool, a: &Packed, b: &Packed) {
        let (rows, width) = (a.rows(), b.rows());
        match self {
            Self::Half(kept) => matmul_narrow(pool, a, b, half(kept, rows * width)),
            Self::Full(kept) => matmul(pool, a, b, full(kept, rows * width), width, false),
        }
    }

    /// `rows × width` values, rounded.
    pub(super) fn round(&mut self, isa: Isa, pool: &Pool, x: &[f32], width: usize) {
        let block = ROWS * width;
        match self {
            Self::Half(kept) => for_each_chunk(pool, half(kept, x.len()), block, |i, part| {
                narrow(isa, &x[i * block..][..part.len()], part);
            }),
            Self::Full(kept) => for_each_chunk(pool, full(kept, x.len()), block, |i, part| {
                part.copy_from_slice(&x[i * block..][..part.len()]);
            }),
        }
    }

    /// Calls `work(i, rows)` for each block of [`ROWS`] rows of `x`, then rounds it.
    pub(super) fn round_after(
        &mut self,
        isa: Isa,
        pool: &Pool,
        x: &mut [f32],
        width: usize,
        work: impl Fn(usize, &mut [f32]) + Sync,
    ) {
        let block = ROWS * width;
        match self {
            Self::Half(kept) => {
                let kept = half(kept, x.len());
                for_each_chunk2(pool, (x, block), (kept, block), |i, x, kept| {
                    work(i, x);
                    narrow(isa, x, kept);
                });
            }
            Self::Full(kept) => {
                let kept = full(kept, x.len());
                for_each_chunk2(pool, (x, block), (kept, block), |i, x, kept| {
                    work(i, x);
                    kept.copy_from_slice(x);
                });
            }
        }
    }

    /// Elements `start..start + length` as f32, in place or through the scratch.
    pub(super) fn read<'a>(
        &'a self,
        isa: Isa,
        start: usize,
        length: usize,
        scratch: &'a mut Vec<f32>,
    ) -> &'a [f32] {
        match self {
            Self::Half(kept) => {
                if scratch.len() < length {
                    scratch.resize(length, 0.0);
                }
                widen(isa, &kept[start..][..length], scratch);
                &scratch[..length]
            }
            Self::Full(kept) => &kept[start..][..length],
        }
    }

    /// The activation of row `r` of `[rows, gate.inputs(width)]`, gate first.
    pub(super) fn activate(&self, isa: Isa, gate: Gate, r: usize, out: &mut [f32]) {
        let (f, width) = (gate.activation, out.len());
        let n = gate.inputs(width);
        match self {
            Self::Half(kept) => match kept[r * n..][..n].split_at(width) {
                (x, []) => activated_bf16(isa, f, x, out),
                (gate, up) => gated_bf16(isa, f, gate, up, out),
            },
            Self::Full(kept) => match kept[r * n..][..n].split_at(width) {
                (x, []) => activated(isa, f, x, out),
                (gate, up) => gated(isa, f, gate, up, out),
            },
        }
    }

    /// The gradient of [`Compact::activate`] for row `r`: `d_act` to `out`, `gate.inputs` as wide.
    pub(super) fn activate_backward(
        &self,
        isa: Isa,
        gate: Gate,
        r: usize,
        d_act: &[f32],
        out: &mut [f32],
    ) {
        let (f, n, width) = (gate.activation, out.len(), d_act.len());
        let (d_gate, d_up) = out.split_at_mut(width);
        match self {
            Self::Half(kept) => match kept[r * n..][..n].split_at(width) {
                (x, []) => activated_backward_bf16(isa, f, x, d_act, d_gate),
                (gate, up) => gated_backward_bf16(isa, f, gate, up, d_act, d_gate, d_up),
            },
            Self::Full(kept) => match kept[r * n..][..n].split_at(width) {
                (x, []) => activated_backward(isa, f, x, d_act, d_gate),
                (gate, up) => gated_backward(isa, f, gate, up, d_act, d_gate, d_up),
            },
        }
    }
}

fn half(kept: &mut Vec<u16>, length: usize) -> &mut [u16] {
    if kept.len() < length {
        kept.resize(length, 0);
    }
    &mut kept[..length]
}

fn full(kept: &mut Floats, length: usize) -> &mut [f32] {
    if kept.len() < length {
        *kept = Floats::zeroed(length);
    }
    &mut kept[..length]
}
