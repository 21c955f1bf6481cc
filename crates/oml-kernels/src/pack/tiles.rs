//! bf16 tiles for AMX: `[outer / 32][depth / 32][2][16][16]` pairs of bf16, zero-padded to multiples of 32; depth ≥ inner.
//!
//! A tile is 1 KiB: 16 outer indices by 32 inner ones, two neighbouring inner indices in each 32-bit word. A left
//! tile has its outer index along tile rows, `[16 outer][16 pairs]`; a right tile has it along words,
//! `[16 pairs][16 outer]` (the VNNI layout of TDPBF16PS). One is the 16×16 transpose of the other, so the two forms with
//! the same outer index differ by a transpose of words in registers. Rounding is to nearest even.

use std::arch::x86_64::*;

use super::transpose::transpose_16x16;
use super::{Block, Form, Sink};

const SIDE: usize = 32;
/// bf16 elements of a tile.
const TILE: usize = 512;
/// Two tiles: 32 outer indices by 32 inner ones.
const PAIR: usize = 2 * TILE;

/// Writes columns `left..right` of the block, which start at a multiple of 32.
///
/// # Safety
/// As [`super::Sinks::write`], for a bf16 sink, on a processor with AVX-512 F, BW and BF16.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
pub(super) unsafe fn write(sink: &Sink, block: Block, left: usize, right: usize) {
    let steps = sink.depth / SIDE;
    let mut edge = [0f32; SIDE * SIDE];
    for column in (left..right).step_by(SIDE) {
        // SAFETY: the block's rows have the columns up to `right`.
        let mut source = unsafe { block.source.add(column - block.left) };
        let mut stride = block.stride;
        let width = SIDE.min(right - column);
        if block.count < SIDE || width < SIDE {
            edge.fill(0.0);
            for r in 0..block.count {
                // SAFETY: `width` elements of row `r` of the block; the edge block has 32 per row.
                unsafe {
                    source
                        .add(r * stride)
                        .copy_to_nonoverlapping(edge[r * SIDE..].as_mut_ptr(), width)
                };
            }
            (source, stride) = (edge.as_ptr(), SIDE);
        }
        let (outer, inner) = if sink.form.outer_is_rows() {
            (block.first, column)
        } else {
            (column, block.first)
        };
        // SAFETY: pair (outer / 32, inner / 32) is inside the padded layout and covers only this block's rows; the source
        // is 32 rows of 32 elements now.
        unsafe {
            let to = sink
                .start
                .cast::<u16>()
                .add((outer / SIDE * steps + inner / SIDE) * PAIR);
            match sink.form {
                Form::Left => write_along::<false>(source, stride, to),
                Form::RightTransposed => write_along::<true>(source, stride, to),
                Form::Right => write_across::<false>(source, stride, to),
                Form::LeftTransposed => write_across::<true>(source, stride, to),
            }
        }
    }
}

/// Pairs of neighbouring columns; tile rows are source rows.
///
/// # Safety
/// 32 × 32 readable elements at `source`, room for a pair of tiles at `to`.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
unsafe fn write_along<const TRANSPOSE: bool>(source: *const f32, stride: usize, to: *mut u16) {
    for tile in 0..2 {
        let mut words = [_mm512_setzero_si512(); 16];
        for (r, word) in words.iter_mut().enumerate() {
            // SAFETY: 32 elements of row `16·tile + r`.
            unsafe {
                let row = source.add((16 * tile + r) * stride);
                *word = to_bf16(_mm512_loadu_ps(row), _mm512_loadu_ps(row.add(16)));
            }
        }
        // SAFETY: passed on.
        unsafe { store::<TRANSPOSE>(words, to.add(tile * TILE)) };
    }
}

/// Pairs of neighbouring rows; words of a tile row are source columns.
///
/// # Safety
/// 32 × 32 readable elements at `source`, room for a pair of tiles at `to`.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
unsafe fn write_across<const TRANSPOSE: bool>(source: *const f32, stride: usize, to: *mut u16) {
    let interleave = _mm512_set_epi16(
        31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6, 21, 5, 20, 4,
        19, 3, 18, 2, 17, 1, 16, 0,
    );
    for tile in 0..2 {
        let mut words = [_mm512_setzero_si512(); 16];
        for (pair, word) in words.iter_mut().enumerate() {
            // SAFETY: 16 elements of rows `2·pair` and `2·pair + 1`.
            unsafe {
                let row = source.add(2 * pair * stride + 16 * tile);
                let both = to_bf16(_mm512_loadu_ps(row), _mm512_loadu_ps(row.add(stride)));
                *word = _mm512_permutexvar_epi16(interleave, both);
            }
        }
        // SAFETY: passed on.
        unsafe { store::<TRANSPOSE>(words, to.add(tile * TILE)) };
    }
}

/// # Safety
/// Room for a tile at `to`.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn store<const TRANSPOSE: bool>(words: [__m512i; 16], to: *mut u16) {
    let words = if TRANSPOSE {
        transpose_16x16(words)
    } else {
        words
    };
    for (r, word) in words.into_iter().enumerate() {
        // SAFETY: 64 bytes of row `r` of the tile.
        unsafe { _mm512_storeu_si512(to.add(32 * r).cast(), word) };
    }
}

/// `[low, high]` as 32 bf16.
#[inline]
#[target_feature(enable = "avx512f,avx512bf16")]
fn to_bf16(low: __m512, high: __m512) -> __m512i {
    // SAFETY: both are 512 plain bits.
    unsafe { std::mem::transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(high, low)) }
}

/// # Safety
/// The sink is packed, bf16, not being written, and has row `r` of `out.len()` columns.
pub(super) unsafe fn read_row(sink: &Sink, r: usize, out: &mut [f32]) {
    let steps = sink.depth / SIDE;
    for (c, value) in out.iter_mut().enumerate() {
        let (outer, inner) = if sink.form.outer_is_rows() {
            (r, c)
        } else {
            (c, r)
        };
        let (o, i) = (outer % 16, inner % SIDE);
        let within = if sink.form.is_left() {
            o * 32 + i
        } else {
            i / 2 * 32 + 2 * o + i % 2
        };
        let tile = (outer / SIDE * steps + inner / SIDE) * 2 + outer % SIDE / 16;
        // SAFETY: (outer, inner) is inside the layout.
        let bits = unsafe { *sink.start.cast::<u16>().add(tile * TILE + within) };
        *value = f32::from_bits(u32::from(bits) << 16);
    }
}
