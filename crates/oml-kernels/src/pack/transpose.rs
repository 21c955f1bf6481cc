//! A 16×16 transpose of 32-bit words in sixteen AVX-512 registers, 64 shuffles.

use std::arch::x86_64::*;

/// `out[i]` lane `j` = `rows[j]` lane `i`.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn transpose_16x16(rows: [__m512i; 16]) -> [__m512i; 16] {
    let mut a = rows;
    let mut b = rows;
    // Within 128-bit lanes: pairs of words, then pairs of double words.
    for i in 0..8 {
        b[2 * i] = _mm512_unpacklo_epi32(a[2 * i], a[2 * i + 1]);
        b[2 * i + 1] = _mm512_unpackhi_epi32(a[2 * i], a[2 * i + 1]);
    }
    // After this a[4g + j] holds, in 128-bit lane l, words 4l + j of rows 4g … 4g + 3.
    for g in 0..4 {
        a[4 * g] = _mm512_unpacklo_epi64(b[4 * g], b[4 * g + 2]);
        a[4 * g + 1] = _mm512_unpackhi_epi64(b[4 * g], b[4 * g + 2]);
        a[4 * g + 2] = _mm512_unpacklo_epi64(b[4 * g + 1], b[4 * g + 3]);
        a[4 * g + 3] = _mm512_unpackhi_epi64(b[4 * g + 1], b[4 * g + 3]);
    }
    // Across lanes: a 4×4 transpose of 128-bit lanes for each j.
    for j in 0..4 {
        let low = _mm512_shuffle_i32x4::<0x44>(a[j], a[4 + j]);
        let high = _mm512_shuffle_i32x4::<0xee>(a[j], a[4 + j]);
        let low_rest = _mm512_shuffle_i32x4::<0x44>(a[8 + j], a[12 + j]);
        let high_rest = _mm512_shuffle_i32x4::<0xee>(a[8 + j], a[12 + j]);
        b[j] = _mm512_shuffle_i32x4::<0x88>(low, low_rest);
        b[4 + j] = _mm512_shuffle_i32x4::<0xdd>(low, low_rest);
        b[8 + j] = _mm512_shuffle_i32x4::<0x88>(high, high_rest);
        b[12 + j] = _mm512_shuffle_i32x4::<0xdd>(high, high_rest);
    }
    b
}
