//! One step of stochastic gradient descent with momentum (PyTorch's `SGD` without dampening) over a slice of parameters.
//!
//! ```text
//! b = momentum·b + gradient_scale·g
//! θ = θ − lr·weight_decay·θ − lr·b          then the pulls, as in AdamW
//! ```

use crate::dispatch::{madd, versions};
use crate::pull::pull;

/// The constants of one step.
#[derive(Clone, Copy, Debug)]
pub struct SgdStep {
    /// Learning rate of this step.
    pub learning_rate: f32,
    /// Share of the last step's direction that goes on.
    pub momentum: f32,
    /// Decoupled weight decay.
    pub weight_decay: f32,
    /// Factor on every gradient.
    pub gradient_scale: f32,
    /// Decoupled L2-SP pull towards the base.
    pub distance: f32,
    /// Weight averaging towards the base after the step.
    pub average: f32,
}

#[inline(always)]
fn step_body<const FMA: bool>(
    s: &SgdStep,
    theta: &mut [f32],
    momentum: &mut [f32],
    g: &[f32],
    base: Option<&[f32]>,
) {
    let n = theta.len();
    let (momentum, g) = (&mut momentum[..n], &g[..n]);
    let keep = 1.0 - s.learning_rate * s.weight_decay;
    for i in 0..n {
        let b = madd::<FMA>(s.momentum, momentum[i], g[i] * s.gradient_scale);
        momentum[i] = b;
        theta[i] = theta[i] * keep - s.learning_rate * b;
    }
    pull::<FMA>(s.learning_rate, s.distance, s.average, theta, base);
}

versions! {
    /// Updates `theta` and `momentum` in place. `base` is only read where a pull towards it is wanted.
    pub fn sgd = step_body(s: &SgdStep, theta: &mut [f32], momentum: &mut [f32], g: &[f32], base: Option<&[f32]>)
}
