//! RMSNorm of one row (arXiv 1910.07467): `y = x / rms(x) · w`, `rms(x) = sqrt(mean(x²) + eps)`.

use crate::{
    dispatch::{madd, versions},
    math::halves,
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
fn forward_body<const FMA: bool>(x: &[f32], weight: &[f32], eps: f32, y: &mut [f32]) {
    let r = inverse_rms::<FMA>(x, eps);
    for ((y, x), w) in y.iter_mut().zip(x).zip(weight) {
        *y = x * r * w;
    }
}

/// With g = dy·w and x̂ = x·r: `dx += r · (g − x̂ · mean(g·x̂))`.
#[inline(always)]
fn backward_input_body<const FMA: bool>(
    x: &[f32],
    weight: &[f32],
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
            lanes[l] = madd::<FMA>(dy[i + l] * weight[i + l], x[i + l], lanes[l]);
        }
    }
    let mut dot: f32 = lanes.iter().sum();
    for i in whole..n {
        dot += dy[i] * weight[i] * x[i];
    }
    let pull = r * r * r * dot / n as f32;
    for i in 0..n {
        dx[i] += dy[i] * weight[i] * r - x[i] * pull;
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

versions! {
    /// `y[i] = x[i] / rms(x) · weight[i]`; all rows of one length.
    pub fn rms_norm = forward_body(x: &[f32], weight: &[f32], eps: f32, y: &mut [f32])
}
versions! {
    /// Adds the gradient of [`rms_norm`] with respect to its input to `dx`.
    pub fn rms_norm_backward_input = backward_input_body(x: &[f32], weight: &[f32], eps: f32, dy: &[f32], dx: &mut [f32])
}
versions! {
    /// Adds the gradient of [`rms_norm`] with respect to its weight to `dw`.
    pub fn rms_norm_backward_weight = backward_weight_body(x: &[f32], eps: f32, dy: &[f32], dw: &mut [f32])
}
versions! {
    /// `Σ a[i]·b[i]`.
    pub fn dot = sum_of_products(a: &[f32], b: &[f32]) -> f32
}
