//! One Adafactor step (arXiv 1804.04235, algorithms 4 and 5) as PyTorch's `Adafactor` takes it, in three sweeps over a matrix `[rows, columns]`.
//!
//! ```text
//! R = β·R + (1−β)·mean_columns(g²)     C = β·C + (1−β)·mean_rows(g²)      1−β = step^−0.8
//! V = R·Cᵀ / mean(R)                   U = g / sqrt(max(V, ε₁²))
//! θ = θ − lr·weight_decay·θ − lr·max(ε₂, rms(θ)) · U / max(1, rms(U))       then the pulls, as in AdamW
//! ```
//! A vector is a matrix of one row whose V is a moving average itself: its factors are `R/mean(R) = 1` and `C = V`.
//! The caller sums what these functions return over the rows, in one order.

use crate::dispatch::{madd, versions};
use crate::pull::pull;

/// The constants of one step.
#[derive(Clone, Copy, Debug)]
pub struct AdafactorStep {
    /// Learning rate of this step.
    pub learning_rate: f32,
    /// Decoupled weight decay.
    pub weight_decay: f32,
    /// Factor on every gradient.
    pub gradient_scale: f32,
    /// Decoupled L2-SP pull towards the base.
    pub distance: f32,
    /// Weight averaging towards the base after the step.
    pub average: f32,
    /// 1-based count of steps, for the moving averages.
    pub step: u32,
}

impl AdafactorStep {
    /// ε₁, PyTorch's `eps[0]`: least root of a second moment, and least mean of R.
    pub const EPSILON1: f32 = f32::EPSILON;
    /// ε₂, PyTorch's `eps[1]`: least root mean square of a tensor that its steps are measured by.
    pub const EPSILON2: f64 = 1e-3;

    /// 1 − β, the share of the new squares in R and C.
    pub fn share(&self) -> f32 {
        f64::from(self.step).powf(-0.8) as f32
    }
}

/// `1 / sqrt(V)` of one element.
#[inline(always)]
fn inverse_root(row: f32, column: f32) -> f32 {
    let least = AdafactorStep::EPSILON1 * AdafactorStep::EPSILON1;
    1.0 / (row * column).max(least).sqrt()
}

#[inline(always)]
fn square_sums_body<const FMA: bool>(g: &[f32], scale: f32, columns: &mut [f32]) -> f32 {
    const LANES: usize = 16;
    let mut sums = [0f32; LANES];
    let (blocks, rest) = g.as_chunks::<LANES>();
    let (outs, out_rest) = columns[..g.len()].as_chunks_mut::<LANES>();
    for (g, out) in blocks.iter().zip(outs) {
        for i in 0..LANES {
            let x = g[i] * scale;
            sums[i] = madd::<FMA>(x, x, sums[i]);
            out[i] = madd::<FMA>(x, x, out[i]);
        }
    }
    let mut sum: f32 = sums.iter().sum();
    for (g, out) in rest.iter().zip(out_rest) {
        let square = (g * scale) * (g * scale);
        sum += square;
        *out += square;
    }
    sum
}

#[inline(always)]
fn update_square_body<const FMA: bool>(g: &[f32], scale: f32, row: f32, columns: &[f32]) -> f32 {
    const LANES: usize = 16;
    let mut sums = [0f32; LANES];
    let (blocks, rest) = g.as_chunks::<LANES>();
    let (factors, factor_rest) = columns[..g.len()].as_chunks::<LANES>();
    for (g, c) in blocks.iter().zip(factors) {
        for i in 0..LANES {
            let u = g[i] * scale * inverse_root(row, c[i]);
            sums[i] = madd::<FMA>(u, u, sums[i]);
        }
    }
    let mut sum: f32 = sums.iter().sum();
    for (g, c) in rest.iter().zip(factor_rest) {
        let u = g * scale * inverse_root(row, *c);
        sum += u * u;
    }
    sum
}

#[inline(always)]
fn step_body<const FMA: bool>(
    s: &AdafactorStep,
    size: f32,
    theta: &mut [f32],
    g: &[f32],
    row: f32,
    columns: &[f32],
    base: Option<&[f32]>,
) {
    let n = theta.len();
    let (g, columns) = (&g[..n], &columns[..n]);
    let keep = 1.0 - s.learning_rate * s.weight_decay;
    for i in 0..n {
        let u = g[i] * s.gradient_scale * inverse_root(row, columns[i]);
        theta[i] = theta[i] * keep - size * u;
    }
    pull::<FMA>(s.learning_rate, s.distance, s.average, theta, base);
}

versions! {
    /// First sweep: the sum of the squares of a row of `scale·g`, which are also added to `columns`.
    pub fn adafactor_square_sums = square_sums_body(g: &[f32], scale: f32, columns: &mut [f32]) -> f32
}
versions! {
    /// Second sweep: the sum of the squares of a row of U; `row` is `R/mean(R)` there, `columns` is C.
    pub fn adafactor_update_square = update_square_body(g: &[f32], scale: f32, row: f32, columns: &[f32]) -> f32
}
versions! {
    /// Third sweep: updates a row of parameters by `size·U`. `base` is only read where a pull towards it is wanted.
    pub fn adafactor = step_body(s: &AdafactorStep, size: f32, theta: &mut [f32], g: &[f32], row: f32, columns: &[f32], base: Option<&[f32]>)
}
