//! Causal grouped-query attention over one sequence (arXiv 1706.03762, 2305.13245), in f32, forward and backward.
//!
//! ```text
//! S = scale · Q Kᵀ   (masked above the diagonal)      P = softmax(S)      O = P V
//! dV = Pᵀ dO     dP = dO Vᵀ     dS = P ∘ (dP − rowsum(dP ∘ P))     dQ = scale · dS K     dK = scale · dSᵀ Q
//! ```
//! Rows of Q, K and V lie one token apart by a stride, so that a fused QKV product and a key/value cache are both read in place.

use crate::{
    dispatch::versions,
    math::{exp, lane_sum},
    norm::sum_of_products,
    small::{product, transpose},
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

/// Rows of queries handled at once: what is in flight stays in the first caches.
const BLOCK: usize = 32;

/// Working memory of one thread, grown on demand.
#[derive(Default)]
pub struct AttentionScratch {
    keys: Vec<f32>,
    values: Vec<f32>,
    scores: Vec<f32>,
    other: Vec<f32>,
}

fn grown(buffer: &mut Vec<f32>, length: usize) -> &mut [f32] {
    if buffer.len() < length {
        buffer.resize(length, 0.0);
    }
    &mut buffer[..length]
}

fn padded(n: usize) -> usize {
    n.next_multiple_of(16)
}

/// Softmax of the first `live` elements of a row in place; the rest becomes 0.
#[inline(always)]
fn masked_softmax<const FMA: bool>(row: &mut [f32], live: usize, scale: f32) {
    let (row, dead) = row.split_at_mut(live);
    dead.fill(0.0);
    let max = row
        .iter()
        .fold(f32::NEG_INFINITY, |a, &b| if b > a { b } else { a });
    for v in row.iter_mut() {
        *v = exp::<FMA>((*v - max) * scale);
    }
    let inverse = 1.0 / lane_sum(row.iter().copied());
    for v in row.iter_mut() {
        *v *= inverse;
    }
}

#[inline(always)]
#[allow(clippy::too_many_arguments)]
fn forward_body<const FMA: bool>(
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
    let width = padded(total);
    let keys = grown(&mut scratch.keys, d * width);
    let scores = grown(&mut scratch.scores, BLOCK * width);
    for kv in 0..shape.kv_heads {
        if queries == 1 {
            // Generation: turning all cached keys for one query would cost more than the products.
            for head in kv * group..(kv + 1) * group {
                let q = &q[head * d..][..d];
                for (t, score) in scores[..total].iter_mut().enumerate() {
                    *score = sum_of_products::<FMA>(q, &k[t * kv_stride + kv * d..][..d]);
                }
                masked_softmax::<FMA>(&mut scores[..total], total, shape.scale);
                let (v, out) = (&v[kv * d..], &mut out[head * d..]);
                product::<FMA, false>(
                    [1, d, total],
                    scores,
                    width,
                    v,
                    kv_stride,
                    out,
                    out_stride,
                    false,
                );
            }
            continue;
        }
        transpose(total, d, &k[kv * d..], kv_stride, keys, width);
        for head in kv * group..(kv + 1) * group {
            for start in (0..queries).step_by(BLOCK) {
                let rows = BLOCK.min(queries - start);
                let live = first + start + rows;
                product::<FMA, false>(
                    [rows, padded(live), d],
                    &q[start * q_stride + head * d..],
                    q_stride,
                    keys,
                    width,
                    scores,
                    width,
                    false,
                );
                for r in 0..rows {
                    masked_softmax::<FMA>(
                        &mut scores[r * width..][..padded(live)],
                        first + start + r + 1,
                        shape.scale,
                    );
                }
                product::<FMA, false>(
                    [rows, d, live],
                    scores,
                    width,
                    &v[kv * d..],
                    kv_stride,
                    &mut out[start * out_stride + head * d..],
                    out_stride,
                    false,
                );
            }
        }
    }
}

#[inline(always)]
fn backward_body<const FMA: bool>(
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
    let width = padded(tokens);
    let keys = grown(&mut scratch.keys, d * width);
    let values = grown(&mut scratch.values, d * width);
    let p = grown(&mut scratch.scores, BLOCK * width);
    let ds = grown(&mut scratch.other, BLOCK * width);
    for row in d_qkv.chunks_mut(stride).take(tokens) {
        row[keys_at..].fill(0.0);
    }
    for kv in 0..shape.kv_heads {
        let (key, value) = (keys_at + kv * d, values_at + kv * d);
        transpose(tokens, d, &qkv[key..], stride, keys, width);
        transpose(tokens, d, &qkv[value..], stride, values, width);
        for head in kv * group..(kv + 1) * group {
            for start in (0..tokens).step_by(BLOCK) {
                let rows = BLOCK.min(tokens - start);
                let live = start + rows;
                let wide = padded(live);
                let at = start * stride + head * d;
                let (q, d_out) = (&qkv[at..], &d_out[start * out_stride + head * d..]);
                product::<FMA, false>([rows, wide, d], q, stride, keys, width, p, width, false);
                product::<FMA, false>(
                    [rows, wide, d],
                    d_out,
                    out_stride,
                    values,
                    width,
                    ds,
                    width,
                    false,
                );
                for r in 0..rows {
                    let p = &mut p[r * width..][..wide];
                    let ds = &mut ds[r * width..][..wide];
                    masked_softmax::<FMA>(p, start + r + 1, shape.scale);
                    let dot = lane_sum(p.iter().zip(ds.iter()).map(|(p, g)| p * g));
                    for (g, p) in ds.iter_mut().zip(p.iter()) {
                        *g = shape.scale * p * (*g - dot);
                    }
                }
                product::<FMA, false>(
                    [rows, d, live],
                    ds,
                    width,
                    &qkv[key..],
                    stride,
                    &mut d_qkv[at..],
                    stride,
                    false,
                );
                product::<FMA, true>(
                    [live, d, rows],
                    p,
                    width,
                    d_out,
                    out_stride,
                    &mut d_qkv[value..],
                    stride,
                    true,
                );
                product::<FMA, true>(
                    [live, d, rows],
                    ds,
                    width,
                    q,
                    stride,
                    &mut d_qkv[key..],
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
    pub fn attention = forward_body(shape: &AttentionShape, scratch: &mut AttentionScratch, first: usize, queries: usize, q: &[f32], q_stride: usize, k: &[f32], v: &[f32], kv_stride: usize, out: &mut [f32], out_stride: usize)
}
versions! {
    /// The gradient of [`attention`] over a whole sequence (`first` = 0) whose rows hold queries, keys and values one after another.
    /// `qkv` and `d_qkv` have rows of `(heads + 2·kv_heads)·head_dim`, `d_out` of `heads·head_dim`. `d_qkv` is written, not added to.
    ///
    /// # Panics
    /// If a slice is too short for its rows.
    pub fn attention_backward = backward_body(shape: &AttentionShape, scratch: &mut AttentionScratch, tokens: usize, qkv: &[f32], d_out: &[f32], d_qkv: &mut [f32])
}
