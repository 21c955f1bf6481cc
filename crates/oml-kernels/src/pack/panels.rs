//! f32 panels: `[outer / width][depth][width]`, depth ≥ inner. Element (o, i) lies at `((o / width)·depth + i)·width + o % width`.
//!
//! The width is the kernel's register tile: rows of A or columns of B. Where outer counts source rows packing
//! transposes, else it copies. Padding lanes of the last panel are zero.

use super::{Block, Form, Sink};
use crate::isa::Isa;

/// Rows of A or columns of B in one register tile.
pub(super) fn width(isa: Isa, form: Form) -> usize {
    use crate::matmul::{AVX2, AVX512, PORTABLE};
    let (rows, columns) = match isa {
        Isa::Portable => PORTABLE,
        Isa::Avx2 => AVX2,
        Isa::Avx512 | Isa::Amx => AVX512,
    };
    if form.is_left() { rows } else { columns }
}

/// # Safety
/// As [`super::Sinks::write`], for an f32 sink.
pub(super) unsafe fn write(sink: &Sink, block: Block) {
    if !sink.form.outer_is_rows() {
        // SAFETY: passed on.
        return unsafe { copy(sink, block) };
    }
    #[cfg(target_arch = "x86_64")]
    if sink.isa == Isa::Avx512 {
        // SAFETY: passed on; the sink says that the processor has AVX-512.
        return unsafe { transpose_avx512(sink, block) };
    }
    // SAFETY: passed on.
    unsafe { transpose(sink, block) }
}

/// Outer counts columns: every source row is one inner index of all panels.
unsafe fn copy(sink: &Sink, block: Block) {
    let width = sink.width;
    let start = sink.start.cast::<f32>();
    for left in (block.left..block.right).step_by(width) {
        let lanes = width.min(sink.columns - left);
        for r in 0..block.count {
            // SAFETY: row `r` of the block has `columns` elements; the destination is the whole inner index `first + r`
            // of panel `left / width`, which belongs to this row.
            unsafe {
                let from = block.source.add(r * block.stride + left - block.left);
                let to = start.add(left * sink.depth + (block.first + r) * width);
                match (lanes == width, width) {
                    (true, 48) => to
                        .cast::<[f32; 48]>()
                        .write(from.cast::<[f32; 48]>().read()),
                    (true, 16) => to
                        .cast::<[f32; 16]>()
                        .write(from.cast::<[f32; 16]>().read()),
                    (true, 8) => to.cast::<[f32; 8]>().write(from.cast::<[f32; 8]>().read()),
                    (true, 4) => to.cast::<[f32; 4]>().write(from.cast::<[f32; 4]>().read()),
                    _ => {
                        from.copy_to_nonoverlapping(to, lanes);
                        to.add(lanes).write_bytes(0, width - lanes);
                    }
                }
            }
        }
    }
}

/// Outer counts rows: the block fills whole lanes of one or more panels.
unsafe fn transpose(sink: &Sink, block: Block) {
    let (width, start) = (sink.width, sink.start.cast::<f32>());
    let padded = if block.first + block.count == sink.rows {
        sink.rows.next_multiple_of(width) - block.first
    } else {
        block.count
    };
    for lane in 0..padded {
        let outer = block.first + lane;
        // SAFETY: lane `outer % width` of panel `outer / width` belongs to this row, or is padding after the last row;
        // the row has `columns` elements, which is `inner` here.
        unsafe {
            let to = start.add(outer / width * width * sink.depth + outer % width);
            let from = block.source.add(lane * block.stride);
            for i in block.left..block.right {
                *to.add(i * width) = if lane < block.count {
                    *from.add(i - block.left)
                } else {
                    0.0
                };
            }
        }
    }
}

/// The same by 16×16 squares in registers. A square covers 16 lanes of one wide panel or two panels of 8.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
unsafe fn transpose_avx512(sink: &Sink, block: Block) {
    use super::transpose::transpose_16x16;
    use std::arch::x86_64::*;

    const SIDE: usize = 16;
    let (width, depth, start) = (sink.width, sink.depth, sink.start.cast::<f32>());
    let end = if block.first + block.count == sink.rows {
        sink.rows.next_multiple_of(width) - block.first
    } else {
        block.count
    };
    for lane in (0..end).step_by(SIDE) {
        for left in (block.left..block.right).step_by(SIDE) {
            let count = SIDE.min(block.right - left);
            let mask = (((1u32 << count) - 1) & 0xffff) as __mmask16;
            let mut square = [_mm512_setzero_si512(); SIDE];
            for (r, slot) in square
                .iter_mut()
                .enumerate()
                .take(block.count.saturating_sub(lane))
            {
                // SAFETY: row `lane + r` is below `count`, and the mask stops at its end.
                *slot = unsafe {
                    _mm512_maskz_loadu_epi32(
                        mask,
                        block
                            .source
                            .add((lane + r) * block.stride + left - block.left)
                            .cast(),
                    )
                };
            }
            let square = transpose_16x16(square);
            for (i, lanes) in square.into_iter().take(count).enumerate() {
                let outer = block.first + lane;
                // SAFETY: inner index `left + i` of the 16 lanes from `outer`, all of which are this block's rows or
                // padding after the last row. Panels of 8 take two halves, the second only if that panel exists.
                unsafe {
                    if width % SIDE == 0 {
                        let to = start.add(
                            outer / width * width * depth + (left + i) * width + outer % width,
                        );
                        _mm512_storeu_si512(to.cast(), lanes);
                    } else {
                        let to = start.add(outer * depth + (left + i) * 8);
                        _mm256_storeu_si256(to.cast(), _mm512_castsi512_si256(lanes));
                        if lane + 8 < end {
                            _mm256_storeu_si256(
                                to.add(8 * depth).cast(),
                                _mm512_extracti64x4_epi64::<1>(lanes),
                            );
                        }
                    }
                }
            }
        }
    }
}

/// # Safety
/// The sink is packed, f32, not being written, and has row `r` of `out.len()` columns.
pub(super) unsafe fn read_row(sink: &Sink, r: usize, out: &mut [f32]) {
    let (width, start) = (sink.width, sink.start.cast::<f32>());
    for (c, value) in out.iter_mut().enumerate() {
        let (outer, inner) = if sink.form.outer_is_rows() {
            (r, c)
        } else {
            (c, r)
        };
        // SAFETY: (outer, inner) is inside the layout.
        *value =
            unsafe { *start.add((outer / width * sink.depth + inner) * width + outer % width) };
    }
}
