//! Softmax of one row, in the pieces that attention and the loss need.

use crate::{dispatch::versions, math::exp};

#[inline(always)]
pub(crate) fn max_body<const FMA: bool>(x: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; 32];
    let (blocks, rest) = x.as_chunks::<32>();
    for b in blocks {
        for l in 0..32 {
            lanes[l] = if b[l] > lanes[l] { b[l] } else { lanes[l] };
        }
    }
    lanes
        .iter()
        .chain(rest)
        .fold(f32::NEG_INFINITY, |a, &b| if b > a { b } else { a })
}

#[inline(always)]
fn sum_exp_body<const FMA: bool>(x: &[f32], shift: f32) -> f32 {
    // Lanes are f32 over blocks of at most 4096 elements and the blocks are added in f64, so that a large vocabulary costs no accuracy.
    let mut total = 0f64;
    for block in x.chunks(4096) {
        let mut lanes = [0f32; 32];
        let (whole, rest) = block.as_chunks::<32>();
        for b in whole {
            for l in 0..32 {
                lanes[l] += exp::<FMA>(b[l] - shift);
            }
        }
        for &v in rest {
            lanes[0] += exp::<FMA>(v - shift);
        }
        total += lanes.iter().map(|&v| f64::from(v)).sum::<f64>();
    }
    total as f32
}

#[inline(always)]
fn exp_scaled_body<const FMA: bool>(x: &[f32], shift: f32, scale: f32, out: &mut [f32]) {
    for (o, v) in out.iter_mut().zip(x) {
        *o = exp::<FMA>(v - shift) * scale;
    }
}

#[inline(always)]
fn divergence_body<const FMA: bool>(
    t: &[f32],
    t_normaliser: f32,
    z: &[f32],
    z_normaliser: f32,
) -> f32 {
    let mut total = 0f64;
    for (t, z) in t.chunks(4096).zip(z.chunks(4096)) {
        let mut lanes = [0f32; 16];
        let ((t_whole, t_rest), (z_whole, z_rest)) = (t.as_chunks::<16>(), z.as_chunks::<16>());
        for (t, z) in t_whole.iter().zip(z_whole) {
            for l in 0..16 {
                let log_p = t[l] - t_normaliser;
                lanes[l] += exp::<FMA>(log_p) * (log_p - (z[l] - z_normaliser));
            }
        }
        for (t, z) in t_rest.iter().zip(z_rest) {
            let log_p = t - t_normaliser;
            lanes[0] += exp::<FMA>(log_p) * (log_p - (z - z_normaliser));
        }
        total += lanes.iter().map(|&v| f64::from(v)).sum::<f64>();
    }
    total as f32
}

versions! {
    /// `Σ p·(log p − log q)` of two rows of logits t and z and their `log_sum_exp`s: KL(softmax(t) ‖ softmax(z)) in nats.
    pub fn divergence = divergence_body(t: &[f32], t_normaliser: f32, z: &[f32], z_normaliser: f32) -> f32
}
versions! {
    /// The largest element; −∞ for an empty row.
    pub fn max = max_body(x: &[f32]) -> f32
}
versions! {
    /// `Σ exp(x[i] − shift)`.
    pub fn sum_exp = sum_exp_body(x: &[f32], shift: f32) -> f32
}
versions! {
    /// `out[i] = exp(x[i] − shift) · scale`.
    pub fn exp_scaled = exp_scaled_body(x: &[f32], shift: f32, scale: f32, out: &mut [f32])
}

/// `log Σ exp(x[i])`.
pub fn log_sum_exp(isa: crate::Isa, x: &[f32]) -> f32 {
    let m = max(isa, x);
    m + sum_exp(isa, x, m).ln()
}
