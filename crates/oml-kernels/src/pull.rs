//! The pulls towards a base that end every optimizer's step.

use crate::dispatch::madd;

/// `θ ← θ − lr·distance·(θ − θ₀)` (L2-SP, arXiv 1802.01483), then `θ ← (1−average)·θ + average·θ₀`, as one factor on `θ₀ − θ`.
#[inline(always)]
pub(crate) fn pull<const FMA: bool>(
    learning_rate: f32,
    distance: f32,
    average: f32,
    theta: &mut [f32],
    base: Option<&[f32]>,
) {
    if let Some(base) = base {
        let pull = 1.0 - (1.0 - learning_rate * distance) * (1.0 - average);
        let base = &base[..theta.len()];
        for (t, b) in theta.iter_mut().zip(base) {
            *t = madd::<FMA>(pull, *b - *t, *t);
        }
    }
}
