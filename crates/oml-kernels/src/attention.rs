//! Causal grouped-query attention over one sequence (arXiv 1706.03762, 2305.13245), in f32, forward and backward.
//!
//! ```text
//! S = scale · Q Kᵀ   (masked above the diagonal)      P = softmax(S)      O = P V
//! dV = Pᵀ dO     dP = dO Vᵀ     dS = P ∘ (dP − rowsum(dP ∘ P))     dQ = scale · dS K     dK = scale · dSᵀ Q
//! ```
//! With a soft cap (arXiv 2408.00118) `S = cap · tanh(scale · Q Kᵀ / cap)`, and dS gets the factor `1 − (S / cap)²`. With a sliding window
//! (arXiv 2004.05150) a query sees the last `window` keys only, and the others cost nothing.
//!
//! Rows of Q, K and V lie one token apart by a stride, so that a fused QKV product and a key/value cache are both read in place.

use crate::{
    dispatch::{madd, versions},
    math::{exp, lane_sum},
    norm::sum_of_products,
    small::{product, transpose},
    softcap::{capped, slope},
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
    /// Bound of the scores, where they have one.
    pub softcap: Option<f32>,
    /// Keys that a query sees, its own included.
    pub window: usize,
    /// Elements from one query head to the next.
    pub query_step: usize,
    /// Elements from one key head to the next, and from one value head to the next.
    pub kv_step: usize,
    /// First key in a row of queries, keys and values.
    pub keys_at: usize,
    /// First value in such a row.
    pub values_at: usize,
}

impl AttentionShape {
    /// Rows of all queries, then all keys, then all values; every key is seen and scores are not capped.
    pub const fn new(heads: usize, kv_heads: usize, head_dim: usize, scale: f32) -> Self {
        Self {
            heads,
            kv_heads,
            head_dim,
            scale,
            softcap: None,
            window: usize::MAX,
            query_step: head_dim,
            kv_step: head_dim,
            keys_at: heads * head_dim,
            values_at: (heads + kv_heads) * head_dim,
        }
    }

    /// Rows in which each head's query, key and value lie together, as in GPT-NeoX.
    pub fn interleaved(heads: usize, head_dim: usize, scale: f32) -> Self {
        Self {
            query_step: 3 * head_dim,
            kv_step: 3 * head_dim,
            keys_at: head_dim,
            values_at: 2 * head_dim,
            ..Self::new(heads, heads, head_dim, scale)
        }
    }

    /// Elements of a row of queries, keys and values.
    pub fn row(&self) -> usize {
        (self.heads + 2 * self.kv_heads) * self.head_dim
    }

    /// First key that the query at a position sees.
    fn oldest(&self, position: usize) -> usize {
        (position + 1).saturating_sub(self.window)
    }
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
    /// What a soft cap makes of a score's gradient, `[keys × BLOCK]`.
    slopes: Vec<f32>,
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

/// Softmax down the columns of Sᵀ in place. Lane l sees the last `window` of the first `seen + l` keys, of the others it gets 0.
#[inline(always)]
fn softmax_down<const FMA: bool>(
    scores: &mut [[f32; BLOCK]],
    seen: usize,
    window: usize,
    scale: f32,
) {
    let hide = |t: usize, row: &mut [f32; BLOCK], value: f32| {
        if t >= seen {
            row[..(t + 1 - seen).min(BLOCK)].fill(value);
        }
        let last = t.saturating_add(window).saturating_add(1);
        row[last.saturating_sub(seen).min(BLOCK)..].fill(value);
    };
    let mut max = [f32::NEG_INFINITY; BLOCK];
    for (t, row) in scores.iter_mut().enumerate() {
        hide(t, row, f32::NEG_INFINITY);
        for l in 0..BLOCK {
            max[l] = if row[l] > max[l] { row[l] } else { max[l] };
        }
    }
    let mut sum = [0f32; BLOCK];
    for (t, row) in scores.iter_mut().enumerate() {
        for l in 0..BLOCK {
            row[l] = exp::<FMA>((row[l] - max[l]) * scale);
        }
        hide(t, row, 0.0);
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

/// Caps products of queries and keys where the shape says so, and gives the factor that is still to be applied.
#[inline(always)]
fn cap<const FMA: bool>(shape: &AttentionShape, scores: &mut [f32]) -> f32 {
    let Some(cap) = shape.softcap else {
        return shape.scale;
    };
    for score in scores {
        *score = capped::<FMA>(*score * shape.scale, cap);
    }
    1.0
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
    let scores = grown(&mut scratch.scores, (total - shape.oldest(first)) * BLOCK);
    for head in 0..shape.heads {
        let kv = head / group * shape.kv_step;
        let (k, v) = (&k[kv..], &v[kv..]);
        let q = &q[head * shape.query_step..];
        if queries == 1 {
            // Generation: one query would leave the lanes empty.
            let oldest = shape.oldest(first);
            let (k, live) = (&k[oldest * kv_stride..], total - oldest);
            let scores = &mut scores[..live];
            for (t, score) in scores.iter_mut().enumerate() {
                *score = sum_of_products::<FMA>(&q[..d], &k[t * kv_stride..][..d]);
            }
            let scale = cap::<FMA>(shape, scores);
            softmax::<FMA>(scores, scale);
            product::<FMA, WIDE, false>(
                [1, d, live],
                scores,
                live,
                &v[oldest * kv_stride..],
                kv_stride,
                &mut out[head * d..],
                out_stride,
                false,
            );
            continue;
        }
        for start in (0..queries).step_by(BLOCK) {
            let rows = BLOCK.min(queries - start);
            let oldest = shape.oldest(first + start);
            let seen = first + start + 1 - oldest;
            let live = first + start + rows - oldest;
            turn(rows, d, &q[start * q_stride..], q_stride, turned);
            product::<FMA, WIDE, false>(
                [live, rows.next_multiple_of(16), d],
                &k[oldest * kv_stride..],
                kv_stride,
                turned,
                BLOCK,
                scores,
                BLOCK,
                false,
            );
            let scale = cap::<FMA>(shape, &mut scores[..live * BLOCK]);
            let (columns, _) = scores[..live * BLOCK].as_chunks_mut();
            softmax_down::<FMA>(columns, seen, shape.window, scale);
            product::<FMA, WIDE, true>(
                [rows, d, live],
                scores,
                BLOCK,
                &v[oldest * kv_stride..],
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
    let (out_stride, stride) = (shape.heads * d, shape.row());
    let turned = grown(&mut scratch.queries, d * BLOCK);
    let d_turned = grown(&mut scratch.gradients, d * BLOCK);
    let p = grown(&mut scratch.scores, tokens * BLOCK);
    let ds = grown(&mut scratch.other, tokens * BLOCK);
    let slopes = &mut scratch.slopes;
    for row in d_qkv.chunks_mut(stride).take(tokens) {
        row[shape.keys_at..].fill(0.0);
    }
    for head in 0..shape.heads {
        let kv = head / group * shape.kv_step;
        for start in (0..tokens).step_by(BLOCK) {
            let rows = BLOCK.min(tokens - start);
            let oldest = shape.oldest(start);
            let live = start + rows - oldest;
            let key = oldest * stride + shape.keys_at + kv;
            let value = oldest * stride + shape.values_at + kv;
            let at = start * stride + head * shape.query_step;
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
            let scale = cap::<FMA>(shape, &mut p[..live * BLOCK]);
            if let Some(cap) = shape.softcap {
                slopes.clear();
                slopes.extend(p[..live * BLOCK].iter().map(|s| slope(*s, cap)));
            }
            let (p_rows, _) = p[..live * BLOCK].as_chunks_mut::<BLOCK>();
            let (ds_rows, _) = ds[..live * BLOCK].as_chunks_mut::<BLOCK>();
            softmax_down::<FMA>(p_rows, start + 1 - oldest, shape.window, scale);
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
            if shape.softcap.is_some() {
                for (g, slope) in ds[..live * BLOCK].iter_mut().zip(slopes.iter()) {
                    *g *= slope;
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
    /// The gradient of [`attention`] over a whole sequence (`first` = 0) whose rows hold queries, keys and values.
    /// `qkv` and `d_qkv` have rows of [`AttentionShape::row`], `d_out` of `heads·head_dim`. `d_qkv` is written, not added to.
    ///
    /// # Panics
    /// If a slice is too short for its rows.
    pub fn attention_backward = backward_body[WIDE](shape: &AttentionShape, scratch: &mut AttentionScratch, tokens: usize, qkv: &[f32], d_out: &[f32], d_qkv: &mut [f32])
}
