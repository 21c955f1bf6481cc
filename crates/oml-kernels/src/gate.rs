//! The gated activation of one row (SwiGLU, arXiv 2002.05202): `a = silu(g) · u`, `silu(g) = g · σ(g)`.
//!
//! Gate and up are f32, or bf16 bits as [`crate::matmul_narrow`] leaves them.

use crate::{dispatch::versions, math::sigmoid};

/// A stored activation.
trait Stored: Copy {
    fn value(self) -> f32;
}

impl Stored for f32 {
    #[inline(always)]
    fn value(self) -> f32 {
        self
    }
}

/// bf16 bits.
impl Stored for u16 {
    #[inline(always)]
    fn value(self) -> f32 {
        f32::from_bits(u32::from(self) << 16)
    }
}

#[inline(always)]
fn forward_body<const FMA: bool>(gate: &[impl Stored], up: &[impl Stored], out: &mut [f32]) {
    for ((o, g), u) in out.iter_mut().zip(gate).zip(up) {
        let (g, u) = (g.value(), u.value());
        *o = g * sigmoid::<FMA>(g) * u;
    }
}

/// `dg = da · u · σ(g) · (1 + g · (1 − σ(g)))`, `du = da · silu(g)`.
#[inline(always)]
fn backward_body<const FMA: bool>(
    gate: &[impl Stored],
    up: &[impl Stored],
    da: &[f32],
    dgate: &mut [f32],
    dup: &mut [f32],
) {
    let n = gate.len();
    let (up, da, dgate, dup) = (&up[..n], &da[..n], &mut dgate[..n], &mut dup[..n]);
    for i in 0..n {
        let (g, u) = (gate[i].value(), up[i].value());
        let s = sigmoid::<FMA>(g);
        dup[i] = da[i] * g * s;
        dgate[i] = da[i] * u * s * (1.0 + g * (1.0 - s));
    }
}

versions! {
    /// `out = silu(gate) · up`.
    pub fn swiglu = forward_body(gate: &[f32], up: &[f32], out: &mut [f32])
}
versions! {
    /// [`swiglu`] of bf16 bits.
    pub fn swiglu_bf16 = forward_body(gate: &[u16], up: &[u16], out: &mut [f32])
}
versions! {
    /// The gradients of [`swiglu`] with respect to both inputs.
    pub fn swiglu_backward = backward_body(gate: &[f32], up: &[f32], da: &[f32], dgate: &mut [f32], dup: &mut [f32])
}
versions! {
    /// [`swiglu_backward`] at bf16 bits.
    pub fn swiglu_backward_bf16 = backward_body(gate: &[u16], up: &[u16], da: &[f32], dgate: &mut [f32], dup: &mut [f32])
}
