//! Products whose result is used at once, rectangle by rectangle, and need not be stored.

use std::cell::Cell;
use std::ops::Range;

use super::{Cut, Output, Place, Product};
use crate::memory::Floats;
use crate::pack::{Block, Packed, Sinks};
use crate::pool::Pool;

/// A finished rectangle of C in the cache of the thread that computed it.
pub struct Rectangle<'a> {
    rows: Range<usize>,
    columns: Range<usize>,
    values: &'a mut [f32],
    stride: usize,
}

impl Rectangle<'_> {
    /// The rows of C it covers; they start at a multiple of 32.
    pub fn rows(&self) -> Range<usize> {
        self.rows.clone()
    }

    /// The columns of C it covers.
    pub fn columns(&self) -> Range<usize> {
        self.columns.clone()
    }

    /// The elements of row `r` of C that lie in the rectangle.
    ///
    /// # Panics
    /// When `r` is not in [`Rectangle::rows`].
    pub fn row(&mut self, r: usize) -> &mut [f32] {
        assert!(self.rows.contains(&r), "row {r} is not in {:?}", self.rows);
        &mut self.values[(r - self.rows.start) * self.stride..][..self.columns.len()]
    }
}

/// Computes A·B and calls `finish` with every rectangle of it, from any thread, each element of C once. With
/// `whole_rows` rectangles have all columns (for norms); without, they are as the product is fastest.
///
/// What `finish` leaves behind is then packed into `targets`, whose source has m rows and `columns` columns: n, or a
/// divisor of it. When it is n / d, a rectangle that covers columns s‥e of C stands for columns s/d‥e/d of the source,
/// taken from the front of each row: so a gated activation halves its columns, given that the rows of the gate and up
/// weights alternate within every d columns that belong together. Without targets `columns` is ignored.
///
/// # Panics
/// When the operands do not fit together (see [`super::matmul`]), n is not a multiple of `columns`, there are more than
/// four targets, or `finish` panics.
pub fn matmul_with(
    pool: &Pool,
    a: &Packed,
    b: &Packed,
    whole_rows: bool,
    finish: &(dyn Fn(&mut Rectangle<'_>) + Sync),
    columns: usize,
    targets: &mut [&mut Packed],
) {
    let product = Product::new(a, b);
    let (m, n) = (product.m, product.n);
    let divisor = if targets.is_empty() {
        1
    } else {
        n.checked_div(columns).unwrap_or(1)
    };
    assert!(
        targets.is_empty() || columns * divisor == n,
        "{columns} columns of {n}"
    );
    // Blocks that are packed alone: whole panels of the target, so `divisor` panels of C.
    let cut = if whole_rows {
        Cut::Rows
    } else {
        Cut::Free { unit: divisor }
    };
    let used = Used {
        finish,
        divisor,
        sinks: Sinks::new(m, columns, targets),
    };
    product.run(pool, cut, &used);
}

/// C that lives in a scratch of its thread until it is used.
struct Used<'a> {
    finish: &'a (dyn Fn(&mut Rectangle<'_>) + Sync),
    divisor: usize,
    sinks: Sinks,
}

thread_local! {
    static SCRATCH: Cell<Option<Floats>> = const { Cell::new(None) };
}

impl Output for Used<'_> {
    fn place(&self, rows: Range<usize>, columns: Range<usize>, compute: &dyn Fn(Place)) {
        // An odd number of cache lines from row to row, so that the rows of a tile fall into different sets.
        let stride = columns.len().next_multiple_of(32) + 16;
        // Taken, not borrowed: `finish` may multiply something itself.
        let mut scratch = match SCRATCH.take() {
            Some(scratch) if scratch.len() >= rows.len() * stride => scratch,
            _ => Floats::zeroed(rows.len() * stride),
        };
        let start = scratch.as_mut_ptr();
        compute(Place {
            start,
            stride,
            accumulate: false,
        });
        let mut rectangle = Rectangle {
            rows: rows.clone(),
            columns: columns.clone(),
            values: &mut scratch,
            stride,
        };
        (self.finish)(&mut rectangle);
        let (left, right) = (columns.start / self.divisor, columns.end / self.divisor);
        for first in rows.clone().step_by(Block::ROWS) {
            let source = scratch[(first - rows.start) * stride..].as_ptr();
            let count = Block::ROWS.min(rows.end - first);
            // SAFETY: the scratch holds these rows and at least `right - left` columns of them; rectangles do not overlap
            // and start at multiples of 32 rows and of whole panels of packed columns.
            unsafe {
                self.sinks.write(Block {
                    first,
                    count,
                    left,
                    right,
                    source,
                    stride,
                })
            };
        }
        SCRATCH.set(Some(scratch));
    }
}
