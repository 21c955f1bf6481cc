//! The activation of a feed-forward block, one row at a time: gated `a = f(g) · u` (arXiv 2002.05202), or plain `a = f(g)`.
//!
//! Every f is `g · s(g)`: SiLU with s = σ, GELU (arXiv 1606.08415) with s = Φ, its tanh form with `s = σ(2·√(2/π)·(g + 0.044715 g³))`.
//! Inputs are f32, or bf16 bits as [`crate::matmul_narrow`] leaves them.

use crate::{
    dispatch::versions,
    math::{normal, sigmoid},
};

/// What a feed-forward block does to its gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// `g · σ(g)`.
    Silu,
    /// `g · Φ(g)`.
    Gelu,
    /// GELU through a hyperbolic tangent.
    GeluTanh,
}

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

/// `g ↦ (s, s′/s)`.
trait Curve: Fn(f32) -> (f32, f32) {}
impl<F: Fn(f32) -> (f32, f32)> Curve for F {}

#[inline(always)]
fn silu<const FMA: bool>(g: f32) -> (f32, f32) {
    let s = sigmoid::<FMA>(g);
    (s, 1.0 - s)
}

#[inline(always)]
fn gelu<const FMA: bool>(g: f32) -> (f32, f32) {
    let (s, density) = normal::<FMA>(g);
    (s, density / s.max(1e-35))
}

#[inline(always)]
fn gelu_tanh<const FMA: bool>(g: f32) -> (f32, f32) {
    const SLOPE: f32 = 1.595_769_2; // 2·√(2/π)
    const CUBE: f32 = 0.044_715;
    let s = sigmoid::<FMA>(SLOPE * (g + CUBE * g * g * g));
    (s, (1.0 - s) * SLOPE * (1.0 + 3.0 * CUBE * g * g))
}

/// `$run(curve, arguments)` with the activation's curve.
macro_rules! with_curve {
    ($activation:ident, $run:ident($($argument:ident),*)) => {
        match $activation {
            Activation::Silu => $run(silu::<FMA>, $($argument),*),
            Activation::Gelu => $run(gelu::<FMA>, $($argument),*),
            Activation::GeluTanh => $run(gelu_tanh::<FMA>, $($argument),*),
        }
    };
}

#[inline(always)]
fn gated_body<const FMA: bool>(
    activation: Activation,
    gate: &[impl Stored],
    up: &[impl Stored],
    out: &mut [f32],
) {
    #[inline(always)]
    fn run(f: impl Curve, gate: &[impl Stored], up: &[impl Stored], out: &mut [f32]) {
        for ((o, g), u) in out.iter_mut().zip(gate).zip(up) {
            let (g, u) = (g.value(), u.value());
            *o = g * f(g).0 * u;
        }
    }
    with_curve!(activation, run(gate, up, out));
}

/// `dg = da · u · s · (1 + g · s′/s)`, `du = da · g · s`.
#[inline(always)]
fn gated_backward_body<const FMA: bool>(
    activation: Activation,
    gate: &[impl Stored],
    up: &[impl Stored],
    da: &[f32],
    dgate: &mut [f32],
    dup: &mut [f32],
) {
    #[inline(always)]
    fn run(
        f: impl Curve,
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
            let (s, slope) = f(g);
            dup[i] = da[i] * g * s;
            dgate[i] = da[i] * u * s * (1.0 + g * slope);
        }
    }
    with_curve!(activation, run(gate, up, da, dgate, dup));
}

#[inline(always)]
fn plain_body<const FMA: bool>(activation: Activation, x: &[impl Stored], out: &mut [f32]) {
    #[inline(always)]
    fn run(f: impl Curve, x: &[impl Stored], out: &mut [f32]) {
        for (o, x) in out.iter_mut().zip(x) {
            let x = x.value();
            *o = x * f(x).0;
        }
    }
    with_curve!(activation, run(x, out));
}

#[inline(always)]
fn plain_backward_body<const FMA: bool>(
    activation: Activation,
    x: &[impl Stored],
    da: &[f32],
    dx: &mut [f32],
) {
    #[inline(always)]
    fn run(f: impl Curve, x: &[impl Stored], da: &[f32], dx: &mut [f32]) {
        for ((dx, x), da) in dx.iter_mut().zip(x).zip(da) {
            let x = x.value();
            let (s, slope) = f(x);
            *dx = da * s * (1.0 + x * slope);
        }
    }
    with_curve!(activation, run(x, da, dx));
}

versions! {
    /// `out = f(gate) · up`.
    pub fn gated = gated_body(activation: Activation, gate: &[f32], up: &[f32], out: &mut [f32])
}
versions! {
    /// [`gated`] of bf16 bits.
    pub fn gated_bf16 = gated_body(activation: Activation, gate: &[u16], up: &[u16], out: &mut [f32])
}
versions! {
    /// The gradients of [`gated`] with respect to both inputs.
    pub fn gated_backward = gated_backward_body(activation: Activation, gate: &[f32], up: &[f32], da: &[f32], dgate: &mut [f32], dup: &mut [f32])
}
versions! {
    /// [`gated_backward`] at bf16 bits.
    pub fn gated_backward_bf16 = gated_backward_body(activation: Activation, gate: &[u16], up: &[u16], da: &[f32], dgate: &mut [f32], dup: &mut [f32])
}
versions! {
    /// `out = f(x)`.
    pub fn activated = plain_body(activation: Activation, x: &[f32], out: &mut [f32])
}
versions! {
    /// [`activated`] of bf16 bits.
    pub fn activated_bf16 = plain_body(activation: Activation, x: &[u16], out: &mut [f32])
}
versions! {
    /// The gradient of [`activated`].
    pub fn activated_backward = plain_backward_body(activation: Activation, x: &[f32], da: &[f32], dx: &mut [f32])
}
versions! {
    /// [`activated_backward`] at bf16 bits.
    pub fn activated_backward_bf16 = plain_backward_body(activation: Activation, x: &[u16], da: &[f32], dx: &mut [f32])
}
