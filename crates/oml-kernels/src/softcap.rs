//! Soft caps (arXiv 2408.00118, section 2): `y = cap · tanh(x / cap)`, which keeps scores and logits within ±cap.

use crate::{dispatch::versions, math::tanh};

#[inline(always)]
pub(crate) fn capped<const FMA: bool>(x: f32, cap: f32) -> f32 {
    cap * tanh::<FMA>(x / cap)
}

/// `dy/dx` at an output y: `1 − (y / cap)²`.
#[inline(always)]
pub(crate) fn slope(y: f32, cap: f32) -> f32 {
    1.0 - (y / cap) * (y / cap)
}

#[inline(always)]
fn forward_body<const FMA: bool>(x: &mut [f32], cap: f32) {
    for x in x {
        *x = capped::<FMA>(*x, cap);
    }
}

#[inline(always)]
fn backward_body<const FMA: bool>(y: &[f32], cap: f32, d: &mut [f32]) {
    for (d, y) in d.iter_mut().zip(y) {
        *d *= slope(*y, cap);
    }
}

versions! {
    /// Caps a row in place.
    pub fn soft_cap = forward_body(x: &mut [f32], cap: f32)
}
versions! {
    /// Turns the gradient of capped values `y` into that of the values before, in place.
    pub fn soft_cap_backward = backward_body(y: &[f32], cap: f32, d: &mut [f32])
}
