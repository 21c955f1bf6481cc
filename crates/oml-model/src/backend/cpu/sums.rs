//! Sums over rows in a fixed order.

use oml_kernels::{Floats, Pool, for_each_chunk};

use super::super::Target;

/// `Σ_r add(r, ·)`: blocks of rows in parallel, then the blocks one after another.
pub(super) fn block_sums(
    pool: &Pool,
    rows: usize,
    width: usize,
    add: impl Fn(usize, &mut [f32]) + Sync,
) -> Vec<f32> {
    const BLOCK: usize = 128;
    let mut sums = vec![0f32; rows.div_ceil(BLOCK).max(1) * width];
    for_each_chunk(pool, &mut sums, width, |i, sum| {
        for r in i * BLOCK..rows.min((i + 1) * BLOCK) {
            add(r, sum);
        }
    });
    let (total, rest) = sums.split_at_mut(width);
    for block in rest.chunks(width) {
        for (t, b) in total.iter_mut().zip(block) {
            *t += b;
        }
    }
    sums.truncate(width);
    sums
}

/// Adds to or overwrites a gradient.
pub(super) fn add_to(target: Target<'_, Floats>, values: &[f32]) {
    let place = &mut target.buffer[target.offset..][..values.len()];
    if target.accumulate {
        for (p, v) in place.iter_mut().zip(values) {
            *p += v;
        }
    } else {
        place.copy_from_slice(values);
    }
}
