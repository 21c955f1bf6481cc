//! Norms of rows and of heads.

use oml_kernels::{
    Floats, Isa, Pool, for_each_chunk, layer_norm, layer_norm_backward_input,
    layer_norm_backward_weight, rms_norm, rms_norm_backward_input, rms_norm_backward_weight,
};

use super::super::{Heads, Norm, Target};
use super::{Compact, ROWS, add_to, block_sums};
use crate::config::NormKind;

/// The norm of one row.
pub(super) fn row(isa: Isa, parameters: &[f32], norm: &Norm, x: &[f32], y: &mut [f32]) {
    let (weight, bias) = parameters[norm.weight..].split_at(x.len());
    match norm.kind {
        NormKind::Rms { offset } => rms_norm(isa, x, weight, offset, norm.eps, y),
        NormKind::Layer => layer_norm(isa, x, weight, &bias[..x.len()], norm.eps, y),
    }
}

fn row_backward(isa: Isa, parameters: &[f32], norm: &Norm, x: &[f32], dy: &[f32], dx: &mut [f32]) {
    let weight = &parameters[norm.weight..][..x.len()];
    match norm.kind {
        NormKind::Rms { offset } => {
            rms_norm_backward_input(isa, x, weight, offset, norm.eps, dy, dx)
        }
        NormKind::Layer => layer_norm_backward_input(isa, x, weight, norm.eps, dy, dx),
    }
}

#[allow(clippy::too_many_arguments)]
pub(super) fn backward(
    isa: Isa,
    pool: &Pool,
    x: &[f32],
    (rows, width): (usize, usize),
    parameters: &[f32],
    norm: &Norm,
    dy: &[f32],
    dx: &mut [f32],
    d_weight: Option<Target<'_, Floats>>,
) {
    let dx = &mut dx[..rows * width];
    for_each_chunk(pool, dx, ROWS * width, |i, dx| {
        for (j, dx) in dx.chunks_mut(width).enumerate() {
            let at = (i * ROWS + j) * width;
            let (x, dy) = (&x[at..][..width], &dy[at..][..width]);
            row_backward(isa, parameters, norm, x, dy, dx);
        }
    });
    let Some(target) = d_weight else {
        return;
    };
    let of = |r: usize| (&x[r * width..][..width], &dy[r * width..][..width]);
    let sum = match norm.kind {
        NormKind::Rms { .. } => block_sums(pool, rows, width, |r, sum| {
            let (x, dy) = of(r);
            rms_norm_backward_weight(isa, x, norm.eps, dy, sum);
        }),
        NormKind::Layer => block_sums(pool, rows, 2 * width, |r, sum| {
            let ((x, dy), (dw, db)) = (of(r), sum.split_at_mut(width));
            layer_norm_backward_weight(isa, x, norm.eps, dy, dw, db);
        }),
    };
    add_to(target, &sum);
}

/// The norms of queries and of keys, whose weights lie one after the other.
fn of_heads(norm: &Norm, head_dim: usize) -> [Norm; 2] {
    let keys = Norm {
        weight: norm.weight + head_dim,
        ..*norm
    };
    [*norm, keys]
}

pub(super) fn heads(
    isa: Isa,
    pool: &Pool,
    qkv: &mut [f32],
    heads: &Heads,
    parameters: &[f32],
    norm: &Norm,
) {
    let (d, width) = (heads.shape.head_dim, heads.qkv_width());
    for_each_chunk(pool, qkv, ROWS * width, |_, rows| {
        let mut x = vec![0.0; d];
        for qkv in rows.chunks_mut(width) {
            for (norm, starts) in of_heads(norm, d).iter().zip(heads.queries_and_keys()) {
                for start in starts {
                    let y = &mut qkv[start..][..d];
                    x.copy_from_slice(y);
                    row(isa, parameters, norm, &x, y);
                }
            }
        }
    });
}

#[allow(clippy::too_many_arguments)]
pub(super) fn heads_backward(
    isa: Isa,
    pool: &Pool,
    qkv: &Compact,
    rows: usize,
    heads: &Heads,
    parameters: &[f32],
    norm: &Norm,
    d_qkv: &mut [f32],
    d_weight: Option<Target<'_, Floats>>,
) {
    let (d, width) = (heads.shape.head_dim, heads.qkv_width());
    let d_qkv = &mut d_qkv[..rows * width];
    if let Some(target) = d_weight {
        let sum = block_sums(pool, rows, 2 * d, |r, sum| {
            let mut wide = Vec::new();
            let x = qkv.read(isa, r * width, width, &mut wide);
            for (sum, starts) in sum.chunks_mut(d).zip(heads.queries_and_keys()) {
                for start in starts {
                    let dy = &d_qkv[r * width + start..][..d];
                    rms_norm_backward_weight(isa, &x[start..][..d], norm.eps, dy, sum);
                }
            }
        });
        add_to(target, &sum);
    }
    for_each_chunk(pool, d_qkv, ROWS * width, |i, block| {
        let (mut wide, mut dy) = (Vec::new(), vec![0.0; d]);
        let x = qkv.read(isa, i * ROWS * width, block.len(), &mut wide);
        for (x, d_qkv) in x.chunks(width).zip(block.chunks_mut(width)) {
            for (norm, starts) in of_heads(norm, d).iter().zip(heads.queries_and_keys()) {
                for start in starts {
                    let dx = &mut d_qkv[start..][..d];
                    dy.copy_from_slice(dx);
                    dx.fill(0.0);
                    row_backward(isa, parameters, norm, &x[start..][..d], &dy, dx);
                }
            }
        }
    });
}
