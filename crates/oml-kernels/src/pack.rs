//! Operands of matrix products in the layout their kernel reads, written once and used by many products.
//!
//! The source S is row-major `[rows × columns]` in f32. A form says which operand it becomes: `Left` A = S,
//! `LeftTransposed` A = Sᵀ, `Right` B = S, `RightTransposed` B = Sᵀ, for C`[m×n]` = A`[m×k]`·B`[k×n]`. So one weight
//! W`[n×k]` serves the forward product as `RightTransposed` and the input gradient as `Right`, and one activation
//! X`[tokens×k]` the forward product as `Left` and the weight gradient as `Right`.
//!
//! Every layout keeps panels of consecutive *outer* indices (rows of A, columns of B) that hold all *inner* indices
//! (k) in order, see [`panels`] for f32 and [`tiles`] for bf16; a kernel reads both operands front to back.

mod panels;
#[cfg(target_arch = "x86_64")]
mod tiles;
#[cfg(target_arch = "x86_64")]
mod transpose;

use std::cell::Cell;

use crate::isa::Isa;
use crate::memory::Memory;
use crate::pool::Pool;

/// Columns a bf16 block converts for all targets before it moves on (a block of 32 rows of them stays in L1).
#[cfg(target_arch = "x86_64")]
const STRIP: usize = 128;

/// Which operand of a product a source becomes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Form {
    /// A = S.
    Left,
    /// A = Sᵀ.
    LeftTransposed,
    /// B = S.
    Right,
    /// B = Sᵀ.
    RightTransposed,
}

impl Form {
    /// Whether it is the left operand, A.
    pub fn is_left(self) -> bool {
        matches!(self, Form::Left | Form::LeftTransposed)
    }

    /// Whether the outer index (rows of A, columns of B) counts source rows.
    fn outer_is_rows(self) -> bool {
        matches!(self, Form::Left | Form::RightTransposed)
    }
}

/// A matrix product operand in the layout of one instruction set. It starts empty; [`pack`] and [`pack_with`] fill it
/// and reuse its memory once that is large enough.
pub struct Packed {
    isa: Isa,
    form: Form,
    rows: usize,
    columns: usize,
    memory: Memory,
}

impl Packed {
    /// An empty operand.
    ///
    /// # Panics
    /// When this processor does not have the instruction set.
    pub fn new(isa: Isa, form: Form) -> Packed {
        assert!(isa.is_available(), "this processor has no {isa}");
        Packed {
            isa,
            form,
            rows: 0,
            columns: 0,
            memory: Memory::zeroed(0),
        }
    }

    /// Rows of the source.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Columns of the source.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// The operand it is.
    pub fn form(&self) -> Form {
        self.form
    }

    /// The instruction set it is laid out for.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// Bytes of memory it holds.
    pub fn bytes(&self) -> usize {
        self.memory.bytes()
    }

    /// Rows of A or columns of B.
    pub(crate) fn outer(&self) -> usize {
        if self.form.outer_is_rows() {
            self.rows
        } else {
            self.columns
        }
    }

    /// Columns of A or rows of B: the k of the product.
    pub(crate) fn inner(&self) -> usize {
        if self.form.outer_is_rows() {
            self.columns
        } else {
            self.rows
        }
    }

    pub(crate) fn start(&self) -> *const u8 {
        self.memory.start()
    }

    /// Writes source row `r` back as f32, exactly as stored (bf16-rounded for [`Isa::Amx`]).
    ///
    /// # Panics
    /// When `r` is not below [`Packed::rows`] or `out` does not have [`Packed::columns`] elements.
    pub fn row(&self, r: usize, out: &mut [f32]) {
        assert!(r < self.rows, "row {r} of {}", self.rows);
        assert_eq!(out.len(), self.columns, "length of the row");
        let sink = self.sink();
        match self.isa {
            // SAFETY: `pack_with` filled the layout of `rows` × `columns`, `r` is inside, and no packing runs now (it
            // would hold `&mut self`).
            #[cfg(target_arch = "x86_64")]
            Isa::Amx => unsafe { tiles::read_row(&sink, r, out) },
            // SAFETY: as above.
            _ => unsafe { panels::read_row(&sink, r, out) },
        }
    }

    fn resize(&mut self, rows: usize, columns: usize) {
        (self.rows, self.columns) = (rows, columns);
        let element = if self.isa == Isa::Amx {
            size_of::<u16>()
        } else {
            size_of::<f32>()
        };
        let bytes = self
            .outer()
            .checked_next_multiple_of(self.width())
            .and_then(|outer| outer.checked_mul(self.depth())?.checked_mul(element))
            .unwrap_or_else(|| {
                panic!("{rows} × {columns} elements do not fit into the address space")
            });
        if bytes > self.memory.bytes() {
            // Freed first, so that the two are never held at once.
            self.memory = Memory::zeroed(0);
            self.memory = Memory::zeroed(bytes);
        }
    }

    /// Inner indices from one panel to the next: at least [`Packed::inner`]. Where panels would start at multiples of
    /// 64 KiB, the slices of a rectangle's panels would compete for the same sets of L2, so there it is more.
    pub(crate) fn depth(&self) -> usize {
        const APART: usize = 64 << 10;
        let (inner, width) = (self.inner(), self.width());
        match self.isa {
            Isa::Amx => {
                let padded = inner.next_multiple_of(32);
                if (padded * width * size_of::<u16>()).is_multiple_of(2 * APART) {
                    padded + 8 * 32
                } else {
                    padded
                }
            }
            _ if (inner * width * size_of::<f32>()).is_multiple_of(APART) => inner + 192,
            _ => inner,
        }
    }

    /// Outer indices of one panel.
    fn width(&self) -> usize {
        match self.isa {
            Isa::Amx => 32,
            _ => panels::width(self.isa, self.form),
        }
    }

    fn sink(&self) -> Sink {
        Sink {
            isa: self.isa,
            form: self.form,
            rows: self.rows,
            columns: self.columns,
            width: self.width(),
            depth: self.depth(),
            start: self.memory.start(),
        }
    }
}

/// A target of packing that tasks share: each task writes the elements of its own source rows, and nothing else.
#[derive(Clone, Copy)]
struct Sink {
    isa: Isa,
    form: Form,
    rows: usize,
    columns: usize,
    width: usize,
    depth: usize,
    start: *mut u8,
}

/// Up to 32 source rows from a multiple of 32, their columns `left..right`: a pointer to the first element and the
/// distance between rows in elements.
#[derive(Clone, Copy)]
pub(crate) struct Block {
    pub(crate) first: usize,
    pub(crate) count: usize,
    pub(crate) left: usize,
    pub(crate) right: usize,
    pub(crate) source: *const f32,
    pub(crate) stride: usize,
}

impl Block {
    /// Source rows packed at once.
    pub(crate) const ROWS: usize = 32;
}

/// The sinks of one packing, shared by its tasks.
pub(crate) struct Sinks {
    list: [Option<Sink>; Sinks::MAX],
}

// SAFETY: tasks write disjoint parts of the buffers behind the sinks (the elements of different source rows; where a
// padding element belongs to no row, one rule gives it to one block), and only while the targets are mutably borrowed.
unsafe impl Sync for Sinks {}

impl Sinks {
    const MAX: usize = 4;

    pub(crate) fn new(rows: usize, columns: usize, targets: &mut [&mut Packed]) -> Sinks {
        assert!(
            targets.len() <= Sinks::MAX,
            "{} targets, at most {}",
            targets.len(),
            Sinks::MAX
        );
        let mut list = [None; Sinks::MAX];
        for (slot, target) in list.iter_mut().zip(targets) {
            target.resize(rows, columns);
            *slot = Some(target.sink());
        }
        Sinks { list }
    }

    /// # Safety
    /// The block is readable, inside the sources of all sinks, and written by nobody else; `left` and `right` are 0, the
    /// end, or multiples of 32 (bf16) or of the columns of the f32 kernel's tile.
    pub(crate) unsafe fn write(&self, block: Block) {
        #[cfg(target_arch = "x86_64")]
        {
            for left in (block.left..block.right).step_by(STRIP) {
                let right = block.right.min(left + STRIP);
                for sink in self
                    .list
                    .iter()
                    .flatten()
                    .filter(|sink| sink.isa == Isa::Amx)
                {
                    // SAFETY: passed on; AMX operands exist only where the processor has AVX512-BF16.
                    unsafe { tiles::write(sink, block, left, right) };
                }
            }
        }
        for sink in self
            .list
            .iter()
            .flatten()
            .filter(|sink| sink.isa != Isa::Amx)
        {
            // SAFETY: passed on.
            unsafe { panels::write(sink, block) };
        }
    }
}

thread_local! {
    static SCRATCH: Cell<Vec<f32>> = const { Cell::new(Vec::new()) };
}

/// Packs a source of `rows` × `columns` into every target at once. `fill(r, row)` produces source row `r`; it is called
/// once per row, from any thread, with `row.len() == columns` and unspecified contents. So norms, activations and
/// optimizer updates run inside packing, on rows that stay in the cache.
///
/// # Panics
/// With more than four targets, and when `fill` panics.
pub fn pack_with(
    pool: &Pool,
    rows: usize,
    columns: usize,
    fill: &(dyn Fn(usize, &mut [f32]) + Sync),
    targets: &mut [&mut Packed],
) {
    let sinks = Sinks::new(rows, columns, targets);
    pool.run(rows.div_ceil(Block::ROWS), &|task| {
        let (first, count) = (
            task * Block::ROWS,
            Block::ROWS.min(rows - task * Block::ROWS),
        );
        // Taken, not borrowed: `fill` may pack something itself.
        let mut scratch = SCRATCH.take();
        if scratch.len() < count * columns {
            scratch.resize(count * columns, 0.0);
        }
        for r in 0..count {
            fill(first + r, &mut scratch[r * columns..(r + 1) * columns]);
        }
        // SAFETY: the scratch holds `count` rows of `columns`, and each row belongs to one task.
        unsafe {
            sinks.write(Block {
                first,
                count,
                left: 0,
                right: columns,
                source: scratch.as_ptr(),
                stride: columns,
            })
        };
        SCRATCH.set(scratch);
    });
}

/// Packs the row-major `source`, whose rows start `stride` elements apart, into every target at once.
///
/// # Panics
/// When the rows do not lie inside `source`, or with more than four targets.
pub fn pack(
    pool: &Pool,
    source: &[f32],
    rows: usize,
    columns: usize,
    stride: usize,
    targets: &mut [&mut Packed],
) {
    assert!(
        rows == 0 || (stride >= columns && source.len() >= (rows - 1) * stride + columns),
        "{rows} rows of {columns} at stride {stride} do not fit into {} elements",
        source.len()
    );
    let sinks = Sinks::new(rows, columns, targets);
    pool.run(rows.div_ceil(Block::ROWS), &|task| {
        let (first, count) = (
            task * Block::ROWS,
            Block::ROWS.min(rows - task * Block::ROWS),
        );
        let source = source[first * stride..].as_ptr();
        // SAFETY: checked above that the rows lie inside `source`; each row belongs to one task.
        unsafe {
            sinks.write(Block {
                first,
                count,
                left: 0,
                right: columns,
                source,
                stride,
            })
        };
    });
}
