//! The f32 kernel for AVX2: 4×16 tiles in 8 of the 16 registers, 8 FMAs for 2 loads and 4 broadcasts.

use std::arch::x86_64::*;

use super::{AVX2, Kernel, Tile};

const ROWS: usize = AVX2.0;
const COLUMNS: usize = AVX2.1;

pub(super) struct Avx2;

impl Kernel for Avx2 {
    const ROWS: usize = ROWS;
    const COLUMNS: usize = COLUMNS;
    const STEP: usize = 1;
    const BYTES: usize = size_of::<f32>();
    const SLICE: usize = 256;
    const B_STAYS: bool = true;

    unsafe fn tile(rows: usize, inner: usize, a: *const u8, b: *const u8, c: Tile) {
        let (a, b) = (a.cast(), b.cast());
        // SAFETY: passed on; `enter`'s condition says that the processor has AVX2 and FMA.
        unsafe {
            match rows {
                1 => tile::<1>(inner, a, b, c),
                2 => tile::<2>(inner, a, b, c),
                3 => tile::<3>(inner, a, b, c),
                _ => tile::<ROWS>(inner, a, b, c),
            }
        }
    }
}

/// # Safety
/// As [`Kernel::tile`] with `rows` = R.
#[target_feature(enable = "avx2,fma")]
unsafe fn tile<const R: usize>(inner: usize, a: *const f32, b: *const f32, c: Tile) {
    let mut sums = [[_mm256_setzero_ps(); 2]; R];
    for i in 0..inner {
        // SAFETY: group `i` of each panel.
        unsafe {
            let b = b.add(i * COLUMNS);
            let b = [_mm256_loadu_ps(b), _mm256_loadu_ps(b.add(8))];
            for (r, sums) in sums.iter_mut().enumerate() {
                let a = _mm256_set1_ps(*a.add(i * ROWS + r));
                for (sum, b) in sums.iter_mut().zip(b) {
                    *sum = _mm256_fmadd_ps(a, b, *sum);
                }
            }
        }
    }
    for (r, sums) in sums.into_iter().enumerate() {
        for (v, sum) in sums.into_iter().enumerate() {
            // SAFETY: row `r` of the tile of C has COLUMNS elements.
            unsafe {
                let to = c.start.add(r * c.stride + 8 * v);
                let sum = if c.add {
                    _mm256_add_ps(_mm256_loadu_ps(to), sum)
                } else {
                    sum
                };
                _mm256_storeu_ps(to, sum);
            }
        }
    }
}
