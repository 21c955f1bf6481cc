//! The three sweeps of an Adafactor step over one tensor; see the kernel for the formulas.
//!
//! Rows are cut into blocks whose size depends on the tensor alone, and the sums of blocks are added in their order.

use oml_kernels::{
    AdafactorStep, Isa, Pool, adafactor, adafactor_square_sums, adafactor_update_square, dot,
    for_each_chunk, for_each_chunk2,
};

use super::{Factored, SWEEP};

pub(super) fn step(
    (isa, pool): (Isa, &Pool),
    step: &AdafactorStep,
    tensor: &Factored,
    theta: &mut [f32],
    factors: &mut [f32],
    g: &[f32],
    base: Option<&[f32]>,
) {
    let Factored { rows, columns, .. } = *tensor;
    if theta.is_empty() {
        return;
    }
    let block = (SWEEP / columns).max(1);
    let row = |r: usize| r * columns..(r + 1) * columns;
    let scale = step.gradient_scale;

    let mut row_squares = vec![0f32; rows];
    let mut column_squares = vec![0f32; rows.div_ceil(block) * columns];
    for_each_chunk2(
        pool,
        (&mut row_squares, block),
        (&mut column_squares, columns),
        |i, squares, column_squares| {
            for (j, square) in squares.iter_mut().enumerate() {
                let g = &g[row(i * block + j)];
                *square = adafactor_square_sums(isa, g, scale, column_squares);
            }
        },
    );
    let share = step.share();
    let (row_factors, column_factors) = factors.split_at_mut(tensor.row_factors());
    for (factor, square) in row_factors.iter_mut().zip(&row_squares) {
        *factor += share * (square / columns as f32 - *factor);
    }
    for (c, factor) in column_factors.iter_mut().enumerate() {
        let squares = column_squares.iter().skip(c).step_by(columns);
        let sum: f64 = squares.map(|s| f64::from(*s)).sum();
        *factor += share * ((sum / rows as f64) as f32 - *factor);
    }
    let total: f64 = row_factors.iter().map(|r| f64::from(*r)).sum();
    let mean = ((total / rows as f64) as f32).max(AdafactorStep::EPSILON1);
    let ratio = |r: usize| row_factors.get(r).map_or(1.0, |factor| factor / mean);

    let mut sums = vec![[0f64; 2]; rows];
    for_each_chunk(pool, &mut sums, block, |i, sums| {
        for (j, [update, parameter]) in sums.iter_mut().enumerate() {
            let r = i * block + j;
            let (g, theta) = (&g[row(r)], &theta[row(r)]);
            *update = adafactor_update_square(isa, g, scale, ratio(r), column_factors).into();
            *parameter = dot(isa, theta, theta).into();
        }
    });
    let [update, parameter] = [0, 1].map(|i| {
        let sum: f64 = sums.iter().map(|s| s[i]).sum();
        (sum / theta.len() as f64).sqrt()
    });
    let relative = parameter.max(AdafactorStep::EPSILON2) / update.max(1.0);
    let size = (f64::from(step.learning_rate) * relative) as f32;

    for_each_chunk(pool, theta, block * columns, |i, theta| {
        for (j, theta) in theta.chunks_mut(columns).enumerate() {
            let r = i * block + j;
            let base = base.map(|base| &base[row(r)]);
            adafactor(
                isa,
                step,
                size,
                theta,
                &g[row(r)],
                ratio(r),
                column_factors,
                base,
            );
        }
    });
}
