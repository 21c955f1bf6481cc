//! One AdamW step over a slice of parameters (arXiv 1711.05101), with the pulls towards a base in the same sweep.
//!
//! ```text
//! g' = g · gradient_scale
//! m = β1·m + (1−β1)·g'          v = β2·v + (1−β2)·g'²
//! θ = θ − lr·weight_decay·θ − lr·distance·(θ − θ₀) − step_size · m / (sqrt(v)·inverse_sqrt_correction2 + ε)
//! θ = (1−average)·θ + average·θ₀
//! ```

use crate::dispatch::{madd, versions};
use crate::pull::pull;

/// The constants of one step, the bias corrections worked out.
#[derive(Clone, Copy, Debug)]
pub struct AdamWStep {
    /// Learning rate of this step.
    pub learning_rate: f32,
    /// First moment's decay.
    pub beta1: f32,
    /// Second moment's decay.
    pub beta2: f32,
    /// Added to the root of the second moment.
    pub epsilon: f32,
    /// Decoupled weight decay.
    pub weight_decay: f32,
    /// Factor on every gradient (clipping, averaging over accumulated batches).
    pub gradient_scale: f32,
    /// Decoupled L2-SP pull towards the base (arXiv 1802.01483).
    pub distance: f32,
    /// Weight averaging λ towards the base after the step.
    pub average: f32,
    /// 1-based count of steps, for the bias corrections.
    pub step: u32,
}

#[inline(always)]
pub(crate) fn step_body<const FMA: bool>(
    s: &AdamWStep,
    theta: &mut [f32],
    m: &mut [f32],
    v: &mut [f32],
    g: &[f32],
    base: Option<&[f32]>,
) {
    let n = theta.len();
    let (m, v, g) = (&mut m[..n], &mut v[..n], &g[..n]);
    let step_size = s.learning_rate / (1.0 - s.beta1.powi(s.step as i32));
    let root_scale = 1.0 / (1.0 - s.beta2.powi(s.step as i32)).sqrt();
    let keep = 1.0 - s.learning_rate * s.weight_decay;
    for i in 0..n {
        let gi = g[i] * s.gradient_scale;
        let mi = madd::<FMA>(s.beta1, m[i], (1.0 - s.beta1) * gi);
        let vi = madd::<FMA>(s.beta2, v[i], (1.0 - s.beta2) * gi * gi);
        m[i] = mi;
        v[i] = vi;
        theta[i] = theta[i] * keep - step_size * mi / madd::<FMA>(vi.sqrt(), root_scale, s.epsilon);
    }
    pull::<FMA>(s.learning_rate, s.distance, s.average, theta, base);
}

versions! {
    /// Updates `theta`, `m` and `v` in place. `base` is only read where a pull towards it is wanted.
    pub fn adamw = step_body(s: &AdamWStep, theta: &mut [f32], m: &mut [f32], v: &mut [f32], g: &[f32], base: Option<&[f32]>)
}
