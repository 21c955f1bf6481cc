//! Products whose result is kept in bf16: half the memory traffic of C, which is what large products wait for.

use std::cell::Cell;
use std::ops::Range;

use super::{Output, Place, Product};
use crate::bf16::narrow;
use crate::isa::Isa;
use crate::memory::Floats;
use crate::pack::Packed;
use crate::pool::Pool;

/// C = A·B, summed in f32 and rounded once to bf16 bits. C is row-major `[m×n]` without gaps.
///
/// # Panics
/// When the operands do not fit together (see [`super::matmul`]) or C does not have m·n elements.
pub fn matmul_narrow(pool: &Pool, a: &Packed, b: &Packed, c: &mut [u16]) {
    let product = Product::new(a, b);
    let Product { m, n, .. } = product;
    assert_eq!(c.len(), m * n, "elements of C for {m} rows of {n}");
    product.run(
        pool,
        &Narrowed {
            isa: a.isa(),
            start: c.as_mut_ptr(),
            stride: n,
        },
    );
}

/// C in bf16, each rectangle of which is computed in a scratch of its thread.
struct Narrowed {
    isa: Isa,
    start: *mut u16,
    stride: usize,
}

// SAFETY: `matmul_narrow` holds the slice mutably, and tasks get disjoint rectangles of it.
unsafe impl Sync for Narrowed {}

thread_local! {
    static SCRATCH: Cell<Option<Floats>> = const { Cell::new(None) };
}

impl Output for Narrowed {
    fn place(&self, rows: Range<usize>, columns: Range<usize>, compute: &dyn Fn(Place)) {
        // An odd number of cache lines from row to row, so that the rows of a tile fall into different sets.
        let stride = columns.len().next_multiple_of(32) + 16;
        let mut scratch = match SCRATCH.take() {
            Some(scratch) if scratch.len() >= rows.len() * stride => scratch,
            _ => Floats::zeroed(rows.len() * stride),
        };
        compute(Place {
            start: scratch.as_mut_ptr(),
            stride,
            accumulate: false,
        });
        for (r, row) in rows.zip(scratch.chunks(stride)) {
            // SAFETY: row `r` of the rectangle lies inside C, and no other task writes this rectangle.
            let target = unsafe {
                std::slice::from_raw_parts_mut(
                    self.start.add(r * self.stride + columns.start),
                    columns.len(),
                )
            };
            narrow(self.isa, row, target);
        }
        SCRATCH.set(Some(scratch));
    }
}
