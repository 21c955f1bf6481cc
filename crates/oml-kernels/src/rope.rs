//! Rotary position embedding of one head (arXiv 2104.09864), in the half-split form of Hugging Face's Llama:
//! `(x₁, x₂) → (x₁·cos − x₂·sin, x₂·cos + x₁·sin)` where x₁ and x₂ are the two halves of the head.

use crate::dispatch::versions;

#[inline(always)]
fn rotate_body<const FMA: bool>(head: &mut [f32], cos: &[f32], sin: &[f32], direction: f32) {
    let (first, second) = head.split_at_mut(cos.len());
    for i in 0..cos.len() {
        let (x, y, s) = (first[i], second[i], sin[i] * direction);
        first[i] = x * cos[i] - y * s;
        second[i] = y * cos[i] + x * s;
    }
}

versions! {
    /// Rotates a head of `2·cos.len()` elements; `direction` 1 is forward, −1 its inverse, which is also its backward.
    pub fn rotate = rotate_body(head: &mut [f32], cos: &[f32], sin: &[f32], direction: f32)
}
