//! The f32 kernel for AVX-512: 8×48 tiles in 24 of the 32 registers, 24 FMAs for 3 loads and 8 broadcasts.

use std::arch::x86_64::*;

use super::{AVX512, Kernel, Tile};

const ROWS: usize = AVX512.0;
const COLUMNS: usize = AVX512.1;

pub(super) struct Avx512;

impl Kernel for Avx512 {
    const ROWS: usize = ROWS;
    const COLUMNS: usize = COLUMNS;
    const STEP: usize = 1;
    const BYTES: usize = size_of::<f32>();
    const SLICE: usize = 192;
    const B_STAYS: bool = true;

    unsafe fn tile(rows: usize, inner: usize, a: *const u8, b: *const u8, c: Tile) {
        let (a, b) = (a.cast(), b.cast());
        // SAFETY: passed on; `enter`'s condition says that the processor has AVX-512.
        unsafe {
            match rows {
                1 => tile::<1>(inner, a, b, c),
                2 => tile::<2>(inner, a, b, c),
                3 => tile::<3>(inner, a, b, c),
                4 => tile::<4>(inner, a, b, c),
                5 => tile::<5>(inner, a, b, c),
                6 => tile::<6>(inner, a, b, c),
                7 => tile::<7>(inner, a, b, c),
                _ => tile::<ROWS>(inner, a, b, c),
            }
        }
    }
}

/// # Safety
/// As [`Kernel::tile`] with `rows` = R.
#[target_feature(enable = "avx512f")]
unsafe fn tile<const R: usize>(inner: usize, a: *const f32, b: *const f32, c: Tile) {
    // C arrives while products are computed.
    for r in 0..R {
        let row = c.fetch.wrapping_add(r * c.stride);
        for v in 0..3 {
            _mm_prefetch::<_MM_HINT_ET0>(row.wrapping_add(16 * v).cast());
        }
    }
    let mut sums = [[_mm512_setzero_ps(); 3]; R];
    for i in 0..inner {
        // SAFETY: group `i` of each panel.
        unsafe {
            let b = b.add(i * COLUMNS);
            let b = [
                _mm512_loadu_ps(b),
                _mm512_loadu_ps(b.add(16)),
                _mm512_loadu_ps(b.add(32)),
            ];
            for (r, sums) in sums.iter_mut().enumerate() {
                let a = _mm512_set1_ps(*a.add(i * ROWS + r));
                for (sum, b) in sums.iter_mut().zip(b) {
                    *sum = _mm512_fmadd_ps(a, b, *sum);
                }
            }
        }
    }
    for (r, sums) in sums.into_iter().enumerate() {
        for (v, sum) in sums.into_iter().enumerate() {
            // SAFETY: row `r` of the tile of C has COLUMNS elements.
            unsafe {
                let to = c.start.add(r * c.stride + 16 * v);
                let sum = if c.add {
                    _mm512_add_ps(_mm512_loadu_ps(to), sum)
                } else {
                    sum
                };
                _mm512_storeu_ps(to, sum);
            }
        }
    }
}
