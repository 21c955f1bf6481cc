//! Matrix products of packed operands: C`[m×n]` = A`[m×k]`·B`[k×n]`, or added to C, in f32.
//!
//! C is cut into rectangles that threads claim one by one. Within a rectangle k is cut into slices whose panels fit into
//! L2, and the kernel walks along the rows, so that C is touched in order:
//! `for slice of k { for panel of A { for panel of B { register tile } } }`.
//!
//! C usually costs more than the products: 768×576×1536 on AMX takes as long to write 4.7 MB of C as to multiply. Rows
//! of C should start at multiples of 64 bytes ([`crate::Floats`] and a `stride` that is a multiple of 16). Where C is
//! wanted in bf16, [`matmul_narrow`] rounds its rectangles while they are in the cache.
//!
//! Every element of C sums its k products in one order that depends on k alone, so a row of C does not depend on how
//! many rows there are, nor on the number of threads.

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod amx;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod grid;
mod narrow;
mod portable;

pub use narrow::matmul_narrow;

use std::ops::Range;

use crate::isa::Isa;
use crate::pack::Packed;
use crate::pool::Pool;
use grid::{Extent, Grid};

/// Register tiles of the f32 kernels: rows of A × columns of B.
pub(crate) const PORTABLE: (usize, usize) = (4, 8);
pub(crate) const AVX2: (usize, usize) = (4, 16);
pub(crate) const AVX512: (usize, usize) = (8, 48);

/// A kernel for one register tile of C.
trait Kernel {
    /// Rows of C in a full tile, and of A in a panel.
    const ROWS: usize;
    /// Columns of C in a full tile, and of B in a panel.
    const COLUMNS: usize;
    /// Inner indices that are multiplied together; panels are padded to a multiple of it.
    const STEP: usize;
    /// Bytes of one operand element.
    const BYTES: usize;
    /// The most inner indices in one slice; a multiple of `STEP`.
    const SLICE: usize;
    /// Whether one slice of a panel of B stays in L1 while those of A pass by, or C is walked along its rows.
    const B_STAYS: bool;

    /// Prepares the current thread for `tile`; undone by `leave`.
    ///
    /// # Safety
    /// The processor has the instruction set.
    unsafe fn enter() {}

    /// # Safety
    /// After `enter`, on the same thread.
    unsafe fn leave() {}

    /// C = or += A·B over `inner` indices (padded to STEP) for `rows` rows of one tile.
    ///
    /// # Safety
    /// Between `enter` and `leave`; `a` and `b` point at `inner` (padded) indices of a panel, `c` at `rows` rows of
    /// COLUMNS elements; 1 ≤ `rows` ≤ ROWS, 1 ≤ `inner`.
    unsafe fn tile(rows: usize, inner: usize, a: *const u8, b: *const u8, c: Tile);
}

/// Bytes of the next panels fetched in each step of k.
const AHEAD: usize = 192;

/// A tile of C in memory, and what the kernel may fetch while it computes it.
#[derive(Clone, Copy)]
struct Tile {
    start: *mut f32,
    /// Elements from row to row.
    stride: usize,
    /// Whether the products are added to what is there.
    add: bool,
    /// The tile of C to prefetch meanwhile; it may lie anywhere.
    fetch: *const f32,
    /// Operands to prefetch meanwhile, [`AHEAD`] bytes for each step of k; they may lie anywhere.
    ahead: *const u8,
}

/// C = A·B, or C += A·B with `accumulate`. C is row-major `[m×n]`, its rows `stride` elements apart.
///
/// # Panics
/// When the operands are of different instruction sets, are not a left and a right one, disagree on k, or C is too
/// small for m rows of n elements.
pub fn matmul(pool: &Pool, a: &Packed, b: &Packed, c: &mut [f32], stride: usize, accumulate: bool) {
    let product = Product::new(a, b);
    let Product { m, n, .. } = product;
    assert!(
        m == 0 || (stride >= n && c.len() >= (m - 1) * stride + n),
        "{m} rows of {n} at stride {stride} do not fit into {} elements",
        c.len()
    );
    product.run(
        pool,
        &Stored {
            start: c.as_mut_ptr(),
            stride,
            accumulate,
        },
    );
}

/// Where rectangles of C go, in elements of C.
trait Output: Sync {
    /// Calls `compute` once with memory for the rectangle that no other task uses meanwhile.
    fn place(&self, rows: Range<usize>, columns: Range<usize>, compute: &dyn Fn(Place));
}

/// Memory of a rectangle of C.
#[derive(Clone, Copy)]
struct Place {
    start: *mut f32,
    stride: usize,
    accumulate: bool,
}

/// C in the caller's slice.
struct Stored {
    start: *mut f32,
    stride: usize,
    accumulate: bool,
}

// SAFETY: `matmul` holds the slice mutably, and tasks get disjoint rectangles of it.
unsafe impl Sync for Stored {}

impl Output for Stored {
    fn place(&self, rows: Range<usize>, columns: Range<usize>, compute: &dyn Fn(Place)) {
        let start = self
            .start
            .wrapping_add(rows.start * self.stride + columns.start);
        compute(Place {
            start,
            stride: self.stride,
            accumulate: self.accumulate,
        });
    }
}

/// One product of operands that fit together.
struct Product<'a> {
    a: &'a Packed,
    b: &'a Packed,
    m: usize,
    n: usize,
    k: usize,
}

/// A tile of C at an edge: computed whole here, copied in part.
#[repr(align(64))]
struct Edge([f32; 32 * 48]);

impl Product<'_> {
    fn new<'a>(a: &'a Packed, b: &'a Packed) -> Product<'a> {
        assert_eq!(a.isa(), b.isa(), "instruction sets of the operands");
        assert!(
            a.form().is_left() && !b.form().is_left(),
            "A is {:?}, B is {:?}",
            a.form(),
            b.form()
        );
        assert_eq!(a.inner(), b.inner(), "k of A and of B");
        Product {
            a,
            b,
            m: a.outer(),
            n: b.outer(),
            k: a.inner(),
        }
    }

    fn run(&self, pool: &Pool, output: &dyn Output) {
        match self.a.isa() {
            Isa::Portable => self.run_on::<portable::Portable>(pool, output),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => self.run_on::<avx2::Avx2>(pool, output),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => self.run_on::<avx512::Avx512>(pool, output),
            #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
            Isa::Amx => self.run_on::<amx::Amx>(pool, output),
            #[allow(unreachable_patterns)]
            isa => unreachable!("an operand of {isa}, which this processor does not have"),
        }
    }

    fn run_on<K: Kernel>(&self, pool: &Pool, output: &dyn Output) {
        let (rows, columns) = (self.m.div_ceil(K::ROWS), self.n.div_ceil(K::COLUMNS));
        if rows == 0 || columns == 0 {
            return;
        }
        let extent = Extent {
            rows,
            columns,
            height: K::ROWS,
            width: K::COLUMNS,
            k: self.k.max(1),
        };
        let grid = Grid::new(extent, pool.threads());
        pool.run(grid.tasks(), &|task| {
            let (row_panels, column_panels) = grid.rectangle(task);
            let rows = row_panels.start * K::ROWS..self.m.min(row_panels.end * K::ROWS);
            let columns =
                column_panels.start * K::COLUMNS..self.n.min(column_panels.end * K::COLUMNS);
            output.place(rows, columns, &|place| {
                // SAFETY: operands of this instruction set exist only where the processor has it, and `new` checked that
                // their panels cover m × n × k; the place is this task's own and holds the rectangle.
                unsafe {
                    K::enter();
                    self.rectangle::<K>(row_panels.clone(), column_panels.clone(), place);
                    K::leave();
                }
            });
        });
    }

    /// # Safety
    /// Between `enter` and `leave`; ranges of panels that exist, and memory for their rectangle of C.
    unsafe fn rectangle<K: Kernel>(&self, rows: Range<usize>, columns: Range<usize>, place: Place) {
        let padded = self.k.next_multiple_of(K::STEP);
        let slice = (padded / K::STEP).div_ceil(padded.div_ceil(K::SLICE).max(1)) * K::STEP;
        let a_panel = K::ROWS * self.a.depth() * K::BYTES;
        let b_panel = K::COLUMNS * self.b.depth() * K::BYTES;
        let mut edge = Edge([0.0; 32 * 48]);
        if self.k == 0 && !place.accumulate {
            for r in 0..self.m.min(rows.end * K::ROWS) - rows.start * K::ROWS {
                let width = self.n.min(columns.end * K::COLUMNS) - columns.start * K::COLUMNS;
                // SAFETY: row `r` of the rectangle.
                unsafe { place.start.add(r * place.stride).write_bytes(0, width) };
            }
        }
        let mut from = 0;
        while from < self.k {
            let inner = slice.min(self.k - from);
            let add = place.accumulate || from > 0;
            let (outer, within) = if K::B_STAYS {
                (columns.clone(), rows.clone())
            } else {
                (rows.clone(), columns.clone())
            };
            for first in outer {
                for second in within.clone() {
                    let (row, column) = if K::B_STAYS {
                        (second, first)
                    } else {
                        (first, second)
                    };
                    let height = K::ROWS.min(self.m - row * K::ROWS);
                    let width = K::COLUMNS.min(self.n - column * K::COLUMNS);
                    // SAFETY: panels `row` and `column` exist and have `padded` inner indices; the tile lies inside the
                    // place, or is computed in `edge` and only its part inside the place is copied.
                    unsafe {
                        let a = self
                            .a
                            .start()
                            .add(row * a_panel + from * K::ROWS * K::BYTES);
                        let b = self
                            .b
                            .start()
                            .add(column * b_panel + from * K::COLUMNS * K::BYTES);
                        let start = place.start.add(
                            (row - rows.start) * K::ROWS * place.stride
                                + (column - columns.start) * K::COLUMNS,
                        );
                        if width == K::COLUMNS {
                            // A tile that is only written has the time of its own products to arrive; one that is read
                            // first is fetched a tile ahead.
                            let distance = if add && column + 1 < columns.end {
                                K::COLUMNS
                            } else {
                                0
                            };
                            // The first row of tiles meets B for the first time; later ones a new panel of A.
                            let ahead = if row == rows.start {
                                b.wrapping_add(b_panel)
                            } else if row + 1 < rows.end {
                                a.wrapping_add(
                                    a_panel + (column - columns.start) * (inner / K::STEP) * AHEAD,
                                )
                            } else {
                                a
                            };
                            K::tile(
                                height,
                                inner,
                                a,
                                b,
                                Tile {
                                    start,
                                    stride: place.stride,
                                    add,
                                    fetch: start.wrapping_add(distance),
                                    ahead,
                                },
                            );
                        } else {
                            let tile = edge.0.as_mut_ptr();
                            if add {
                                copy(start, place.stride, tile, K::COLUMNS, height, width);
                            }
                            K::tile(
                                height,
                                inner,
                                a,
                                b,
                                Tile {
                                    start: tile,
                                    stride: K::COLUMNS,
                                    add,
                                    fetch: tile,
                                    ahead: a,
                                },
                            );
                            copy(tile, K::COLUMNS, start, place.stride, height, width);
                        }
                    }
                }
            }
            from += slice;
        }
    }
}

/// # Safety
/// `rows` rows of `columns` elements at both, which do not overlap.
unsafe fn copy(
    from: *const f32,
    from_stride: usize,
    to: *mut f32,
    to_stride: usize,
    rows: usize,
    columns: usize,
) {
    for r in 0..rows {
        // SAFETY: passed on.
        unsafe {
            from.add(r * from_stride)
                .copy_to_nonoverlapping(to.add(r * to_stride), columns)
        };
    }
}
