//! Matrix products of packed operands: C`[m×n]` = A`[m×k]`·B`[k×n]`, or added to C, in f32.
//!
//! C is cut into rectangles that threads claim one by one. Within a rectangle k is cut into slices, so that one slice
//! of a B panel stays in L1 and the slices of the A panels in L2 while the kernel walks down the rows:
//! `for slice of k { for panel of B { for panel of A { register tile } } }`.
//!
//! Every element of C sums its k products in one order that depends on k alone, so a row of C does not depend on how
//! many rows there are, nor on the number of threads.

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod amx;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod portable;

use crate::isa::Isa;
use crate::pack::Packed;
use crate::pool::Pool;

/// Register tiles of the f32 kernels: rows of A × columns of B.
pub(crate) const PORTABLE: (usize, usize) = (4, 8);
pub(crate) const AVX2: (usize, usize) = (4, 24);
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

/// A tile of C in memory.
#[derive(Clone, Copy)]
struct Tile {
    start: *mut f32,
    /// Elements from row to row.
    stride: usize,
    /// Whether the products are added to what is there.
    add: bool,
    /// The tile of C to prefetch meanwhile; it may lie anywhere.
    fetch: *const f32,
}

/// C = A·B, or C += A·B with `accumulate`. C is row-major `[m×n]`, its rows `stride` elements apart.
///
/// # Panics
/// When the operands are of different instruction sets, are not a left and a right one, disagree on k, or C is too
/// small for m rows of n elements.
pub fn matmul(pool: &Pool, a: &Packed, b: &Packed, c: &mut [f32], stride: usize, accumulate: bool) {
    assert_eq!(a.isa(), b.isa(), "instruction sets of the operands");
    assert!(
        a.form().is_left() && !b.form().is_left(),
        "A is {:?}, B is {:?}",
        a.form(),
        b.form()
    );
    assert_eq!(a.inner(), b.inner(), "k of A and of B");
    let (m, n, k) = (a.outer(), b.outer(), a.inner());
    if m == 0 || n == 0 {
        return;
    }
    assert!(
        stride >= n && c.len() >= (m - 1) * stride + n,
        "{m} rows of {n} at stride {stride} do not fit into {} elements",
        c.len()
    );
    if k == 0 {
        if !accumulate {
            c.chunks_mut(stride)
                .take(m)
                .for_each(|row| row[..n].fill(0.0));
        }
        return;
    }
    let product = Product {
        a: a.start(),
        b: b.start(),
        c: c.as_mut_ptr(),
        m,
        n,
        k,
        stride,
        accumulate,
    };
    match a.isa() {
        Isa::Portable => product.run::<portable::Portable>(pool),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => product.run::<avx2::Avx2>(pool),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => product.run::<avx512::Avx512>(pool),
        #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
        Isa::Amx => product.run::<amx::Amx>(pool),
        #[allow(unreachable_patterns)]
        isa => unreachable!("an operand of {isa}, which this processor does not have"),
    }
}

/// One product: packed operands and C, checked by [`matmul`].
struct Product {
    a: *const u8,
    b: *const u8,
    c: *mut f32,
    m: usize,
    n: usize,
    k: usize,
    stride: usize,
    accumulate: bool,
}

// SAFETY: the operands are only read; tasks write disjoint rectangles of C, which `matmul` holds mutably.
unsafe impl Sync for Product {}

/// C tile at an edge: computed whole here, copied in part.
#[repr(align(64))]
struct Edge([f32; 32 * 48]);

impl Product {
    fn run<K: Kernel>(&self, pool: &Pool) {
        let (row_panels, column_panels) = (self.m.div_ceil(K::ROWS), self.n.div_ceil(K::COLUMNS));
        let grid = Grid::new(
            row_panels,
            column_panels,
            K::ROWS,
            K::COLUMNS,
            self.k,
            pool.threads(),
        );
        pool.run(grid.tasks(), &|task| {
            let (rows, columns) = grid.rectangle(task);
            // SAFETY: operands of this instruction set exist only where the processor has it; `matmul` checked that the
            // panels and C cover m × n × k, and rectangles are disjoint.
            unsafe {
                K::enter();
                self.rectangle::<K>(rows, columns);
                K::leave();
            }
        });
    }

    /// # Safety
    /// Between `enter` and `leave`; ranges of panels that exist, of a rectangle of C nobody else touches.
    unsafe fn rectangle<K: Kernel>(
        &self,
        rows: std::ops::Range<usize>,
        columns: std::ops::Range<usize>,
    ) {
        let padded = self.k.next_multiple_of(K::STEP);
        let slices = padded.div_ceil(K::SLICE);
        let slice = (padded / K::STEP).div_ceil(slices) * K::STEP;
        let (a_panel, b_panel) = (K::ROWS * padded * K::BYTES, K::COLUMNS * padded * K::BYTES);
        let mut edge = Edge([0.0; 32 * 48]);
        let mut from = 0;
        while from < self.k {
            let inner = slice.min(self.k - from);
            let add = self.accumulate || from > 0;
            for column in columns.clone() {
                let width = K::COLUMNS.min(self.n - column * K::COLUMNS);
                for row in rows.clone() {
                    let height = K::ROWS.min(self.m - row * K::ROWS);
                    // SAFETY: panels `row` and `column` exist and have `padded` inner indices; the tile lies inside C, or
                    // is computed in `edge` and only its part inside C is copied.
                    unsafe {
                        let a = self.a.add(row * a_panel + from * K::ROWS * K::BYTES);
                        let b = self.b.add(column * b_panel + from * K::COLUMNS * K::BYTES);
                        let c = self
                            .c
                            .add(row * K::ROWS * self.stride + column * K::COLUMNS);
                        if width == K::COLUMNS {
                            // A tile that is only written has the time of its own products to arrive; one that is
                            // read first is fetched a tile ahead.
                            let fetch = match (add, row + 1 < rows.end) {
                                (true, true) => c.wrapping_add(K::ROWS * self.stride),
                                _ => c,
                            };
                            K::tile(
                                height,
                                inner,
                                a,
                                b,
                                Tile {
                                    start: c,
                                    stride: self.stride,
                                    add,
                                    fetch,
                                },
                            );
                        } else {
                            let tile = edge.0.as_mut_ptr();
                            for r in 0..height {
                                c.add(r * self.stride)
                                    .copy_to_nonoverlapping(tile.add(r * K::COLUMNS), width);
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
                                },
                            );
                            for r in 0..height {
                                tile.add(r * K::COLUMNS)
                                    .copy_to_nonoverlapping(c.add(r * self.stride), width);
                            }
                        }
                    }
                }
            }
            from += slice;
        }
    }
}

/// How C is cut into rectangles of panels.
struct Grid {
    row_panels: usize,
    column_panels: usize,
    rows: usize,
    columns: usize,
}

impl Grid {
    /// The most rows and columns of a rectangle: its C and the slices of A and B in use stay in L2.
    const SIDE: usize = 384;
    /// Rectangles for each thread, where there is work for them.
    const SHARE: usize = 4;
    /// Multiply-adds that are worth a task, some ten microseconds.
    const WORK: usize = 8 << 20;

    fn new(
        row_panels: usize,
        column_panels: usize,
        height: usize,
        width: usize,
        k: usize,
        threads: usize,
    ) -> Grid {
        let rows = even(row_panels, (Grid::SIDE / height).max(1));
        let bands = row_panels.div_ceil(rows);
        let wanted = (Grid::SHARE * threads).div_ceil(bands);
        let least = Grid::WORK.div_ceil(rows * height * width * k);
        let columns = (column_panels / wanted)
            .max(least)
            .min(Grid::SIDE / width)
            .max(1);
        let columns = even(column_panels, columns);
        Grid {
            row_panels,
            column_panels,
            rows,
            columns,
        }
    }

    fn tasks(&self) -> usize {
        self.row_panels.div_ceil(self.rows) * self.column_panels.div_ceil(self.columns)
    }

    fn rectangle(&self, task: usize) -> (std::ops::Range<usize>, std::ops::Range<usize>) {
        let bands = self.row_panels.div_ceil(self.rows);
        let (row, column) = (task % bands * self.rows, task / bands * self.columns);
        (
            row..self.row_panels.min(row + self.rows),
            column..self.column_panels.min(column + self.columns),
        )
    }
}

/// The length of a part when `count` is cut into equal parts of at most `most`.
fn even(count: usize, most: usize) -> usize {
    count.div_ceil(count.div_ceil(most))
}
