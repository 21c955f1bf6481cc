//! Causal grouped-query attention over one sequence (arXiv 1706.03762, 2305.13245), in f32, forward and backward.
//!
//! ```text
//! S = scale · Q Kᵀ   (masked above the diagonal)      P = softmax(S)      O = P V
//! dV = Pᵀ dO     dP = dO Vᵀ     dS = P ∘ (dP − rowsum(dP ∘ P))     dQ = scale · dS K     dK = scale · dSᵀ Q
//! ```
//! Rows of Q, K and V lie one token apart by a stride, so that a fused QKV product and a key/value cache are both read in place.

use crate::{
    dispatch::{madd, versions},
    math::{exp, lane_sum},
    norm::sum_of_products,
    small::{product, transpose},
    softmax::max_body,
};

/// Shapes shared by both directions.
#[derive(Clone, Copy, Debug)]
pub struct AttentionShape {
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; divides `heads`.
    pub kv_heads: usize,
    /// Elements of a head.
    pub head_dim: usize,
    /// Factor on the scores, `1/sqrt(head_dim)` unless a family says otherwise.
    pub scale: f32,
}

/// Queries handled at once, side by side in the lanes of a row of Sᵀ: what is in flight stays in the first caches.
const BLOCK: usize = 32;

/// Working memory of one thread, grown on demand.
#[derive(Default)]
pub struct AttentionScratch {
    /// Qᵀ and dOᵀ of a block, `[head_dim × BLOCK]`.
    queries: Vec<f32>,
    gradients: Vec<f32>,
    /// Sᵀ, then Pᵀ, and dPᵀ, then dSᵀ, of a block, `[keys × BLOCK]`.
    scores: Vec<f32>,
    other: Vec<f32>,
}

fn grown(buffer: &mut Vec<f32>, length: usize) -> &mut [f32] {
    if buffer.len() < length {
        buffer.resize(length, 0.0);
    }
    &mut buffer[..length]
}

/// A block of queries turned, `[d × BLOCK]`; lanes beyond its rows are 0.
#[inline(always)]
fn turn(rows: usize, d: usize, from: &[f32], stride: usize, to: &mut [f32]) {
    if rows < BLOCK {
        to.fill(0.0);
    }
    transpose(rows, d, from, stride, to, BLOCK);
}

/// Softmax of one row in place.
#[inline(always)]
fn softmax<const FMA: bool>(row: &mut [f32], scale: f32) {
    let max = max_body::<FMA>(row);
    for v in row.iter_mut() {
        *v = exp::<FMA>((*v - max) * scale);
    }
    let inverse = 1.0 / lane_sum(row);
    for v in row.iter_mut() {
        *v *= inverse;
    }
}

/// Softmax down the columns of Sᵀ in place. Lane l sees the first `seen + l` keys, of the others it gets 0.
#[inline(always)]
fn softmax_down<const FMA: bool>(scores: &mut [[f32; BLOCK]], seen: usize, scale: f32) {
    let mut max = [f32::NEG_INFINITY; BLOCK];
    for (t, row) in scores.iter_mut().enumerate() {
        if t >= seen {
            row[..(t + 1 - seen).min(BLOCK)].fill(f32::NEG_INFINITY);
        }
        for l in 0..BLOCK {
            max[l] = if row[l] > max[l] { row[l] } else { max[l] };
        }
    }
    let mut sum = [0f32; BLOCK];
    for (t, row) in scores.iter_mut().enumerate() {
        for l in 0..BLOCK {
            row[l] = exp::<FMA>((row[l] - max[l]) * scale);
        }
        if t >= seen {
            row[..(t + 1 - seen).min(BLOCK)].fill(0.0);
        }
        for l in 0..BLOCK {
            sum[l] += row[l];
        }
    }
    let inverse = sum.map(|sum| 1.0 / sum);
    for row in scores {
        for l in 0..BLOCK {
            row[l] *= inverse[l];
        }
    }
}

#[inline(always)]
#[allow(clippy::too_many_arguments)]
fn forward_body<const FMA: bool, const WIDE: bool>(
    shape: &AttentionShape,
    scratch: &mut AttentionScratch,
    first: usize,
    queries: usize,
    q: &[f32],
    q_stride: usize,
    k: &[f32],
    v: &[f32],
    kv_stride: usize,
    out: &mut [f32],
    out_stride: usize,
) {
    let (d, group) = (shape.head_dim, shape.heads / shape.kv_heads);
    let total = first + queries;
    let turned = grown(&mut scratch.queries, d * BLOCK);
    let scores = grown(&mut scratch.scores, total * BLOCK);
    for head in 0..shape.heads {
        let kv = head / group * d;
        let (k, v) = (&k[kv..], &v[kv..]);
        if queries == 1 {
            // Generation: one query would leave the lanes empty.
            let q = &q[head * d..][..d];
            let scores = &mut scores[..total];
            for (t, score) in scores.iter_mut().enumerate() {
                *score = sum_of_products::<FMA>(q, &k[t * kv_stride..][..d]);
            }
            softmax::<FMA>(scores, shape.scale);
            product::<FMA, WIDE, false>(
                [1, d, total],
                scores,
                total,
                v,
                kv_stride,
                &mut out[head * d..],
                out_stride,
                false,
            );
            continue;
        }
        for start in (0..queries).step_by(BLOCK) {
            let rows = BLOCK.min(queries - start);
            let seen = first + start + 1;
            let live = first + start + rows;
            turn(rows, d, &q[start * q_stride + head * d..], q_stride, turned);
            product::<FMA, WIDE, false>(
                [live, rows.next_multiple_of(16), d],
                k,
                kv_stride,
                turned,
                BLOCK,
                scores,
                BLOCK,
                false,
            );
            let (columns, _) = scores[..live * BLOCK].as_chunks_mut();
            softmax_down::<FMA>(columns, seen, shape.scale);
            product::<FMA, WIDE, true>(
                [rows, d, live],
                scores,
                BLOCK,
                v,
                kv_stride,
                &mut out[start * out_stride + head * d..],
                out_stride,
                false,
            );
        }
    }
}

#[inline(always)]
#[allow(clippy::too_many_arguments)]
fn backward_body<const FMA: bool, const WIDE: bool>(
    shape: &AttentionShape,
    scratch: &mut AttentionScratch,
    tokens: usize,
    qkv: &[f32],
    d_out: &[f32],
    d_qkv: &mut [f32],
) {
    let (d, group) = (shape.head_dim, shape.heads / shape.kv_heads);
    let (out_stride, keys_at) = (shape.heads * d, shape.heads * d);
    let values_at = keys_at + shape.kv_heads * d;
    let stride = values_at + shape.kv_heads * d;
    let turned = grown(&mut scratch.queries, d * BLOCK);
    let d_turned = grown(&mut scratch.gradients, d * BLOCK);
    let p = grown(&mut scratch.scores, tokens * BLOCK);
    let ds = grown(&mut scratch.other, tokens * BLOCK);
    for row in d_qkv.chunks_mut(stride).take(tokens) {
        row[keys_at..].fill(0.0);
    }
    for head in 0..shape.heads {
        let kv = head / group * d;
        let (key, value) = (keys_at + kv, values_at + kv);
        for start in (0..tokens).step_by(BLOCK) {
            let rows = BLOCK.min(tokens - start);
            let live = start + rows;
            let at = start * stride + head * d;
            let (q, d_out) = (&qkv[at..], &d_out[start * out_stride + head * d..]);
            turn(rows, d, q, stride, turned);
            turn(rows, d, d_out, out_stride, d_turned);
            let lanes = rows.next_multiple_of(16);
            for (rows_of, turned, to) in [(key, &*turned, &mut *p), (value, d_turned, ds)] {
                product::<FMA, WIDE, false>(
                    [live, lanes, d],
                    &qkv[rows_of..],
                    stride,
                    turned,
                    BLOCK,
                    to,
                    BLOCK,
                    false,
                );
            }
            let (p_rows, _) = p[..live * BLOCK].as_chunks_mut::<BLOCK>();
            let (ds_rows, _) = ds[..live * BLOCK].as_chunks_mut::<BLOCK>();
            softmax_down::<FMA>(p_rows, start + 1, shape.scale);
            let mut dot = [0f32; BLOCK];
            for (p, g) in p_rows.iter().zip(ds_rows.iter()) {
                for l in 0..BLOCK {
                    dot[l] = madd::<FMA>(p[l], g[l], dot[l]);
                }
            }
            for (p, g) in p_rows.iter().zip(ds_rows) {
                for l in 0..BLOCK {
                    g[l] = shape.scale * p[l] * (g[l] - dot[l]);
                }
            }
            product::<FMA, WIDE, true>(
                [rows, d, live],
                ds,
                BLOCK,
                &qkv[key..],
                stride,
                &mut d_qkv[at..],
                stride,
                false,
            );
            for (weights, rows_of, its, to) in
                [(&*p, d_out, out_stride, value), (ds, q, stride, key)]
            {
                product::<FMA, WIDE, false>(
                    [live, d, rows],
                    weights,
                    BLOCK,
                    rows_of,
                    its,
                    &mut d_qkv[to..],
                    stride,
                    true,
                );
            }
        }
    }
}

versions! {
    /// Attention of `queries` rows that stand at positions `first..first + queries` over the keys and values of positions `0..first + queries`.
    /// `q` starts at the first query's row; `k` and `v` start at position 0. Writes `out` rows of `heads·head_dim`.
    ///
    /// # Panics
    /// If a slice is too short for its rows and stride.
    pub fn attention = forward_body[WIDE](shape: &AttentionShape, scratch: &mut AttentionScratch, first: usize, queries: usize, q: &[f32], q_stride: usize, k: &[f32], v: &[f32], kv_stride: usize, out: &mut [f32], out_stride: usize)
}
versions! {
    /// The gradient of [`attention`] over a whole sequence (`first` = 0) whose rows hold queries, keys and values one after another.
    /// `qkv` and `d_qkv` have rows of `(heads + 2·kv_heads)·head_dim`, `d_out` of `heads·head_dim`. `d_qkv` is written, not added to.
    ///
    /// # Panics
    /// If a slice is too short for its rows.
    pub fn attention_backward = backward_body[WIDE](shape: &AttentionShape, scratch: &mut AttentionScratch, tokens: usize, qkv: &[f32], d_out: &[f32], d_qkv: &mut [f32])
}
