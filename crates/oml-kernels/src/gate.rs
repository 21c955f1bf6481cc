//! The gated activation of one row (SwiGLU, arXiv 2002.05202): `a = silu(g) · u`, `silu(g) = g · σ(g)`.

use crate::{dispatch::versions, math::sigmoid};

#[inline(always)]
fn forward_body<const FMA: bool>(gate: &[f32], up: &[f32], out: &mut [f32]) {
    for ((o, g), u) in out.iter_mut().zip(gate).zip(up) {
        *o = g * sigmoid::<FMA>(*g) * u;
    }
}

/// `dg = da · u · σ(g) · (1 + g · (1 − σ(g)))`, `du = da · silu(g)`.
#[inline(always)]
fn backward_body<const FMA: bool>(
    gate: &[f32],
    up: &[f32],
    da: &[f32],
    dgate: &mut [f32],
    dup: &mut [f32],
) {
    let n = gate.len();
    let (up, da, dgate, dup) = (&up[..n], &da[..n], &mut dgate[..n], &mut dup[..n]);
    for i in 0..n {
        let s = sigmoid::<FMA>(gate[i]);
        dup[i] = da[i] * gate[i] * s;
        dgate[i] = da[i] * up[i] * s * (1.0 + gate[i] * (1.0 - s));
    }
}

versions! {
    /// `out = silu(gate) · up`.
    pub fn swiglu = forward_body(gate: &[f32], up: &[f32], out: &mut [f32])
}
versions! {
    /// The gradients of [`swiglu`] with respect to both inputs.
    pub fn swiglu_backward = backward_body(gate: &[f32], up: &[f32], da: &[f32], dgate: &mut [f32], dup: &mut [f32])
}
