//! Norms of one row. RMSNorm (arXiv 1910.07467): `y = x / rms(x) · (offset + w)`, `rms(x) = sqrt(mean(x²) + eps)`, where `offset` is 0, or
//! 1 in models whose weights lie around zero. LayerNorm (arXiv 1607.06450): `y = (x − mean(x)) / sqrt(var(x) + eps) · w + b`.

use crate::{
    dispatch::{madd, versions},
    math::{halves, lane_sum},
};

#[inline(always)]
pub(crate) fn sum_of_products<const FMA: bool>(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0f32; 32];
    let (a_blocks, a_rest) = a.as_chunks::<32>();
    let (b_blocks, b_rest) = b.as_chunks::<32>();
    for (x, y) in a_blocks.iter().zip(b_blocks) {
        for l in 0..32 {
            lanes[l] = madd::<FMA>(x[l], y[l], lanes[l]);
        }
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(x, y)| x * y).sum();
    let pairs = std::array::from_fn(|l| lanes[l] + lanes[l + 16]);
    halves(pairs) + rest
}

#[inline(always)]
fn inverse_rms<const FMA: bool>(x: &[f32], eps: f32) -> f32 {
    1.0 / (sum_of_products::<FMA>(x, x) / x.len() as f32 + eps).sqrt()
}

#[inline(always)]
fn forward_body<const FMA: bool>(x: &[f32], weight: &[f32], offset: f32, eps: f32, y: &mut [f32]) {
    let r = inverse_rms::<FMA>(x, eps);
    for ((y, x), w) in y.iter_mut().zip(x).zip(weight) {
        *y = x * r * (offset + w);
    }
}

/// With g = dy·(offset + w) and x̂ = x·r: `dx += r · (g − x̂ · mean(g·x̂))`.
#[inline(always)]
fn backward_input_body<const FMA: bool>(
    x: &[f32],
    weight: &[f32],
    offset: f32,
    eps: f32,
    dy: &[f32],
    dx: &mut [f32],
) {
    let n = x.len();
    let r = inverse_rms::<FMA>(x, eps);
    let mut lanes = [0f32; 16];
    let whole = n / 16 * 16;
    for i in (0..whole).step_by(16) {
        for l in 0..16 {
            lanes[l] = madd::<FMA>(dy[i + l] * (offset + weight[i + l]), x[i + l], lanes[l]);
        }
    }
    let mut dot: f32 = lanes.iter().sum();
    for i in whole..n {
        dot += dy[i] * (offset + weight[i]) * x[i];
    }
    let pull = r * r * r * dot / n as f32;
    for i in 0..n {
        dx[i] += dy[i] * (offset + weight[i]) * r - x[i] * pull;
    }
}

/// `dw += dy · x̂`.
#[inline(always)]
fn backward_weight_body<const FMA: bool>(x: &[f32], eps: f32, dy: &[f32], dw: &mut [f32]) {
    let r = inverse_rms::<FMA>(x, eps);
    for i in 0..x.len() {
        dw[i] = madd::<FMA>(dy[i] * r, x[i], dw[i]);
    }
}

/// `(mean, 1 / sqrt(var + eps))`.
#[inline(always)]
fn moments<const FMA: bool>(x: &[f32], eps: f32) -> (f32, f32) {
    let n = x.len() as f32;
    let mean = lane_sum(x) / n;
    let mut lanes = [0f32; 16];
    let (blocks, rest) = x.as_chunks::<16>();
    for block in blocks {
        for l in 0..16 {
            let d = block[l] - mean;
            lanes[l] = madd::<FMA>(d, d, lanes[l]);
        }
    }
    let rest: f32 = rest.iter().map(|x| (x - mean) * (x - mean)).sum();
    (mean, 1.0 / ((halves(lanes) + rest) / n + eps).sqrt())
}

#[inline(always)]
fn layer_body<const FMA: bool>(x: &[f32], weight: &[f32], bias: &[f32], eps: f32, y: &mut [f32]) {
    let (mean, r) = moments::<FMA>(x, eps);
    for (((y, x), w), b) in y.iter_mut().zip(x).zip(weight).zip(bias) {
        *y = (x - mean) * r * w + b;
    }
}

/// With g = dy·w and x̂ = (x − mean)·r: `dx += r · (g − mean(g) − x̂ · mean(g·x̂))`.
#[inline(always)]
fn layer_backward_input_body<const FMA: bool>(
    x: &[f32],
    weight: &[f32],
    eps: f32,
    dy: &[f32],
    dx: &mut [f32],
) {
    let n = x.len();
    let (mean, r) = moments::<FMA>(x, eps);
    let (mut sums, mut dots) = ([0f32; 16], [0f32; 16]);
    let whole = n / 16 * 16;
    for i in (0..whole).step_by(16) {
        for l in 0..16 {
            let g = dy[i + l] * weight[i + l];
            sums[l] += g;
            dots[l] = madd::<FMA>(g, (x[i + l] - mean) * r, dots[l]);
        }
    }
    let (mut sum, mut dot) = (halves(sums), halves(dots));
    for i in whole..n {
        let g = dy[i] * weight[i];
        sum += g;
        dot += g * (x[i] - mean) * r;
    }
    let (shift, pull) = (sum / n as f32, dot / n as f32);
    for i in 0..n {
        dx[i] += r * (dy[i] * weight[i] - shift - (x[i] - mean) * r * pull);
    }
}

/// `dw += dy · x̂`, `db += dy`.
#[inline(always)]
fn layer_backward_weight_body<const FMA: bool>(
    x: &[f32],
    eps: f32,
    dy: &[f32],
    dw: &mut [f32],
    db: &mut [f32],
) {
    let (mean, r) = moments::<FMA>(x, eps);
    for i in 0..x.len() {
        dw[i] = madd::<FMA>(dy[i] * r, x[i] - mean, dw[i]);
        db[i] += dy[i];
    }
}

versions! {
    /// `y[i] = x[i] / rms(x) · (offset + weight[i])`; all rows of one length.
    pub fn rms_norm = forward_body(x: &[f32], weight: &[f32], offset: f32, eps: f32, y: &mut [f32])
}
versions! {
    /// Adds the gradient of [`rms_norm`] with respect to its input to `dx`.
    pub fn rms_norm_backward_input = backward_input_body(x: &[f32], weight: &[f32], offset: f32, eps: f32, dy: &[f32], dx: &mut [f32])
}
versions! {
    /// Adds the gradient of [`rms_norm`] with respect to its weight to `dw`.
    pub fn rms_norm_backward_weight = backward_weight_body(x: &[f32], eps: f32, dy: &[f32], dw: &mut [f32])
}
versions! {
    /// `y[i] = (x[i] − mean(x)) / sqrt(var(x) + eps) · weight[i] + bias[i]`; all rows of one length.
    pub fn layer_norm = layer_body(x: &[f32], weight: &[f32], bias: &[f32], eps: f32, y: &mut [f32])
}
versions! {
    /// Adds the gradient of [`layer_norm`] with respect to its input to `dx`.
    pub fn layer_norm_backward_input = layer_backward_input_body(x: &[f32], weight: &[f32], eps: f32, dy: &[f32], dx: &mut [f32])
}
versions! {
    /// Adds the gradients of [`layer_norm`] with respect to its weight and bias to `dw` and `db`.
    pub fn layer_norm_backward_weight = layer_backward_weight_body(x: &[f32], eps: f32, dy: &[f32], dw: &mut [f32], db: &mut [f32])
}
versions! {
    /// `Σ a[i]·b[i]`.
    pub fn dot = sum_of_products(a: &[f32], b: &[f32]) -> f32
}
