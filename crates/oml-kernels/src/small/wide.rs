//! A block of a small product for AVX-512: rows × 16·V columns of C in registers, which the compiler does not manage from arrays of that size.

use std::arch::x86_64::*;

/// M rows of C`[M × 16·V]` (+)= A`[M×k]`·B`[k × 16·V]`, all row-major with their strides. `TURNED`: `a` holds Aᵀ, `[k×M]`.
///
/// # Panics
/// When a slice is too short for its rows and stride.
#[allow(clippy::too_many_arguments)]
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn block<const TURNED: bool, const M: usize, const V: usize>(
    k: usize,
    a: &[f32],
    lda: usize,
    b: &[f32],
    ldb: usize,
    c: &mut [f32],
    ldc: usize,
    accumulate: bool,
) {
    let holds = |length: usize, rows: usize, stride: usize, width: usize| {
        rows == 0
            || (rows - 1)
                .checked_mul(stride)
                .and_then(|before| before.checked_add(width))
                .is_some_and(|needed| needed <= length)
    };
    let (a_rows, a_width) = if TURNED { (k, M) } else { (M, k) };
    assert!(
        holds(a.len(), a_rows, lda, a_width)
            && holds(b.len(), k, ldb, 16 * V)
            && holds(c.len(), M, ldc, 16 * V),
        "a block of {M} × {} at k = {k} does not fit",
        16 * V
    );
    let (a, b, c) = (a.as_ptr(), b.as_ptr(), c.as_mut_ptr());
    let mut sums = [[_mm512_setzero_ps(); V]; M];
    for l in 0..k {
        // SAFETY: element `l` of every row of A and row `l` of B, which were checked to be there.
        unsafe {
            let mut row = [_mm512_setzero_ps(); V];
            for (v, row) in row.iter_mut().enumerate() {
                *row = _mm512_loadu_ps(b.add(l * ldb + 16 * v));
            }
            for (r, sums) in sums.iter_mut().enumerate() {
                let at = if TURNED { l * lda + r } else { r * lda + l };
                let x = _mm512_set1_ps(*a.add(at));
                for (sum, row) in sums.iter_mut().zip(row) {
                    *sum = _mm512_fmadd_ps(x, row, *sum);
                }
            }
        }
    }
    for (r, sums) in sums.into_iter().enumerate() {
        for (v, sum) in sums.into_iter().enumerate() {
            // SAFETY: row `r` of C, which was checked to be there.
            unsafe {
                let to = c.add(r * ldc + 16 * v);
                let sum = if accumulate {
                    _mm512_add_ps(_mm512_loadu_ps(to), sum)
                } else {
                    sum
                };
                _mm512_storeu_ps(to, sum);
            }
        }
    }
}
