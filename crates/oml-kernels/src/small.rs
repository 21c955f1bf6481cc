//! Matrix products of operands so small that packing would cost more than the product: attention over short sequences.

#[cfg(target_arch = "x86_64")]
mod wide;

use crate::dispatch::madd;

/// C[m×n] (+)= A[m×k]·B[k×n], all row-major with their strides, in blocks of 8×32 accumulators where `WIDE`, else of 4×16.
/// `TURNED`: `a` holds Aᵀ, `[k×m]`, and is read down its columns.
#[inline(always)]
#[allow(clippy::too_many_arguments)]
pub(crate) fn product<const FMA: bool, const WIDE: bool, const TURNED: bool>(
    [m, n, k]: [usize; 3],
    a: &[f32],
    lda: usize,
    b: &[f32],
    ldb: usize,
    c: &mut [f32],
    ldc: usize,
    accumulate: bool,
) {
    let mut i = 0;
    while WIDE && i + 8 <= m {
        columns::<FMA, WIDE, TURNED, 8>(i, n, k, a, lda, b, ldb, c, ldc, accumulate);
        i += 8;
    }
    while i + 4 <= m {
        columns::<FMA, WIDE, TURNED, 4>(i, n, k, a, lda, b, ldb, c, ldc, accumulate);
        i += 4;
    }
    while i < m {
        columns::<FMA, WIDE, TURNED, 1>(i, n, k, a, lda, b, ldb, c, ldc, accumulate);
        i += 1;
    }
}

#[inline(always)]
#[allow(clippy::too_many_arguments)]
fn columns<const FMA: bool, const WIDE: bool, const TURNED: bool, const M: usize>(
    i: usize,
    n: usize,
    k: usize,
    a: &[f32],
    lda: usize,
    b: &[f32],
    ldb: usize,
    c: &mut [f32],
    ldc: usize,
    accumulate: bool,
) {
    let (a, c) = (&a[if TURNED { i } else { i * lda }..], &mut c[i * ldc..]);
    let mut j = 0;
    #[cfg(target_arch = "x86_64")]
    if WIDE {
        while j + 32 <= n {
            // SAFETY: `WIDE` is only said where the processor has AVX-512.
            unsafe {
                wide::block::<TURNED, M, 2>(k, a, lda, &b[j..], ldb, &mut c[j..], ldc, accumulate)
            };
            j += 32;
        }
        while j + 16 <= n {
            // SAFETY: as above.
            unsafe {
                wide::block::<TURNED, M, 1>(k, a, lda, &b[j..], ldb, &mut c[j..], ldc, accumulate)
            };
            j += 16;
        }
    }
    while j + 16 <= n {
        block::<FMA, TURNED, M, 16>(k, a, lda, &b[j..], ldb, &mut c[j..], ldc, accumulate);
        j += 16;
    }
    while j < n {
        block::<FMA, TURNED, M, 1>(k, a, lda, &b[j..], ldb, &mut c[j..], ldc, accumulate);
        j += 1;
    }
}

/// M rows by N columns of C, from the first elements of the slices on.
#[inline(always)]
#[allow(clippy::too_many_arguments)]
fn block<const FMA: bool, const TURNED: bool, const M: usize, const N: usize>(
    k: usize,
    a: &[f32],
    lda: usize,
    b: &[f32],
    ldb: usize,
    c: &mut [f32],
    ldc: usize,
    accumulate: bool,
) {
    let mut sums = [[0f32; N]; M];
    // Cut to their length, so that its bounds are checked once.
    let rows: [&[f32]; M] = std::array::from_fn(|r| match TURNED {
        true => &a[..0],
        false => &a[r * lda..][..k],
    });
    for l in 0..k {
        let b = &b[l * ldb..][..N];
        let column = match TURNED {
            true => &a[l * lda..][..M],
            false => &a[..0],
        };
        for r in 0..M {
            let x = if TURNED { column[r] } else { rows[r][l] };
            for v in 0..N {
                sums[r][v] = madd::<FMA>(x, b[v], sums[r][v]);
            }
        }
    }
    for (r, sums) in sums.iter().enumerate() {
        let c = &mut c[r * ldc..][..N];
        for v in 0..N {
            c[v] = if accumulate { c[v] + sums[v] } else { sums[v] };
        }
    }
}

/// Writes the transpose of A[rows×columns] (stride `lda`) to T[columns×rows] (stride `ldt`).
#[inline(always)]
pub(crate) fn transpose(
    rows: usize,
    columns: usize,
    a: &[f32],
    lda: usize,
    t: &mut [f32],
    ldt: usize,
) {
    for r in 0..rows {
        for (c, v) in a[r * lda..][..columns].iter().enumerate() {
            t[c * ldt + r] = *v;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::product;
    use crate::{Isa, dispatch::versions};

    #[inline(always)]
    #[allow(clippy::too_many_arguments)]
    fn body<const FMA: bool, const WIDE: bool>(
        mnk: [usize; 3],
        a: &[f32],
        lda: usize,
        b: &[f32],
        ldb: usize,
        c: &mut [f32],
        ldc: usize,
        accumulate: bool,
    ) {
        product::<FMA, WIDE, false>(mnk, a, lda, b, ldb, c, ldc, accumulate);
    }

    versions! {
        fn multiply = body[WIDE](mnk: [usize; 3], a: &[f32], lda: usize, b: &[f32], ldb: usize, c: &mut [f32], ldc: usize, accumulate: bool)
    }

    #[test]
    fn matches_f64_for_odd_sizes() {
        let value = |i: usize| ((i * 2_654_435_761) % 1009) as f32 / 500.0 - 1.0;
        for isa in [Isa::Portable, Isa::Avx2, Isa::Avx512]
            .into_iter()
            .filter(|i| i.is_available())
        {
            for [m, n, k] in [
                [1, 1, 1],
                [5, 49, 7],
                [4, 32, 64],
                [9, 17, 3],
                [3, 0, 2],
                [2, 3, 0],
            ] {
                let (lda, ldb, ldc) = (k + 3, n + 1, n + 2);
                let a: Vec<f32> = (0..m * lda).map(value).collect();
                let b: Vec<f32> = (0..k.max(1) * ldb).map(|i| value(i + 77)).collect();
                let mut c = vec![0.5; m * ldc];
                multiply(isa, [m, n, k], &a, lda, &b, ldb, &mut c, ldc, true);
                for i in 0..m {
                    for j in 0..n {
                        let exact = 0.5
                            + (0..k)
                                .map(|l| f64::from(a[i * lda + l]) * f64::from(b[l * ldb + j]))
                                .sum::<f64>();
                        assert!(
                            (f64::from(c[i * ldc + j]) - exact).abs() < 1e-5,
                            "{isa:?} {m}x{n}x{k}"
                        );
                    }
                }
            }
        }
    }
}
