//! The bf16 kernel for AMX: 32×32 tiles of C in four tile registers, four TDPBF16PS for four tile loads.
//!
//! Rust has no stable intrinsics for AMX, so the kernel is inline assembly. Both operands are pairs of 1 KiB tiles, see
//! `pack::tiles`; TDPBF16PS adds the products of neighbouring pairs to f32 sums.

use std::arch::asm;

use super::{Kernel, Tile};

pub(super) struct Amx;

/// The operand of LDTILECFG: palette 1, eight tiles of 16 rows of 64 bytes.
#[repr(C, align(64))]
struct Configuration {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

static CONFIGURATION: Configuration = Configuration {
    palette: 1,
    start_row: 0,
    reserved: [0; 14],
    row_bytes: [64, 64, 64, 64, 64, 64, 64, 64, 0, 0, 0, 0, 0, 0, 0, 0],
    rows: [16, 16, 16, 16, 16, 16, 16, 16, 0, 0, 0, 0, 0, 0, 0, 0],
};

impl Kernel for Amx {
    const ROWS: usize = 32;
    const COLUMNS: usize = 32;
    const STEP: usize = 32;
    const BYTES: usize = size_of::<u16>();
    const SLICE: usize = 768;
    const B_STAYS: bool = false;

    unsafe fn enter() {
        // SAFETY: the processor has AMX and the process the permission (the caller's condition); reads 64 bytes.
        unsafe {
            asm!("ldtilecfg [{}]", in(reg) &raw const CONFIGURATION, options(nostack, readonly))
        };
    }

    unsafe fn leave() {
        // SAFETY: as above; no tile is live between calls of `tile`.
        unsafe { asm!("tilerelease", options(nostack, nomem)) };
    }

    unsafe fn tile(rows: usize, inner: usize, a: *const u8, b: *const u8, c: Tile) {
        let steps = inner.div_ceil(Self::STEP);
        if rows == Self::ROWS {
            // SAFETY: passed on.
            unsafe { tile_32(steps, a, b, c) };
            return;
        }
        // Fewer rows: computed on the side, copied in part. A's padding rows are zero.
        let mut side = Side([0.0; 1024]);
        let to = side.0.as_mut_ptr();
        let side = Tile {
            start: to,
            stride: 32,
            add: c.add,
            fetch: to,
            ahead: a,
        };
        // SAFETY: `rows` rows of 32 elements at `c` and at `to`, which has 32 such rows.
        unsafe {
            if c.add {
                for r in 0..rows {
                    c.start
                        .add(r * c.stride)
                        .copy_to_nonoverlapping(to.add(32 * r), 32);
                }
            }
            if rows <= 16 {
                tile_16(steps, a, b, side);
            } else {
                tile_32(steps, a, b, side);
            }
            for r in 0..rows {
                to.add(32 * r)
                    .copy_to_nonoverlapping(c.start.add(r * c.stride), 32);
            }
        }
    }
}

#[repr(align(64))]
struct Side([f32; 1024]);

/// One step of k: four tile loads, four products, and AHEAD bytes of the next panels on their way to L2.
macro_rules! step {
    () => {
        concat!(
            "prefetcht1 [{ahead}]\n",
            "prefetcht1 [{ahead} + 64]\n",
            "prefetcht1 [{ahead} + 128]\n",
            "add {ahead}, 192\n",
            "tileloadd tmm4, [{a} + {row}*1]\n",
            "tileloadd tmm6, [{b} + {row}*1]\n",
            "tileloadd tmm7, [{b} + {row}*1 + 1024]\n",
            "tileloadd tmm5, [{a} + {row}*1 + 1024]\n",
            "tdpbf16ps tmm0, tmm4, tmm6\n",
            "tdpbf16ps tmm1, tmm4, tmm7\n",
            "tdpbf16ps tmm2, tmm5, tmm6\n",
            "tdpbf16ps tmm3, tmm5, tmm7\n",
            "add {a}, 2048\n",
            "add {b}, 2048\n",
        )
    };
}

/// Fetches the next row of a tile of C for writing: without it every store of a cold C waits for its line.
macro_rules! fetch_row {
    () => {
        concat!(
            "prefetchw [{next}]\n",
            "prefetchw [{next} + 64]\n",
            "add {next}, {stride}\n"
        )
    };
}

/// 32×32 elements of C.
///
/// # Safety
/// As [`Kernel::tile`] with 32 rows.
unsafe fn tile_32(steps: usize, a: *const u8, b: *const u8, c: Tile) {
    let fetching = steps.min(8);
    // SAFETY: reads `steps` pairs of tiles from each panel, reads and writes 32 rows of 128 bytes of C; tiles are
    // configured, and all eight are declared as clobbered. A prefetch of any address is harmless.
    unsafe {
        asm!(
            "test {add:e}, {add:e}",
            "jnz 3f",
            "tilezero tmm0",
            "tilezero tmm1",
            "tilezero tmm2",
            "tilezero tmm3",
            "jmp 2f",
            "3:",
            "tileloadd tmm0, [{c} + {stride}*1]",
            "tileloadd tmm1, [{c} + {stride}*1 + 64]",
            "tileloadd tmm2, [{c_low} + {stride}*1]",
            "tileloadd tmm3, [{c_low} + {stride}*1 + 64]",
            "2:",
            fetch_row!(),
            fetch_row!(),
            step!(),
            fetch_row!(),
            fetch_row!(),
            "dec {fetching}",
            "jnz 2b",
            "test {rest}, {rest}",
            "jz 5f",
            "4:",
            step!(),
            "dec {rest}",
            "jnz 4b",
            "5:",
            "tilestored [{c} + {stride}*1], tmm0",
            "tilestored [{c} + {stride}*1 + 64], tmm1",
            "tilestored [{c_low} + {stride}*1], tmm2",
            "tilestored [{c_low} + {stride}*1 + 64], tmm3",
            a = inout(reg) a => _,
            b = inout(reg) b => _,
            c = in(reg) c.start,
            c_low = in(reg) c.start.add(16 * c.stride),
            next = inout(reg) c.fetch => _,
            ahead = inout(reg) c.ahead => _,
            stride = in(reg) c.stride * size_of::<f32>(),
            row = in(reg) 64usize,
            fetching = inout(reg) fetching => _,
            rest = inout(reg) steps - fetching => _,
            add = in(reg) u32::from(c.add),
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack),
        );
    }
}

/// The upper 16×32 elements of a contiguous 32×32 tile of C.
///
/// # Safety
/// As [`Kernel::tile`] with 16 rows and a stride of 32.
unsafe fn tile_16(steps: usize, a: *const u8, b: *const u8, c: Tile) {
    // SAFETY: reads the first of `steps` pairs of tiles of A and all of B, reads and writes 16 rows of 128 bytes of C;
    // tiles are configured and declared as clobbered.
    unsafe {
        asm!(
            "test {add:e}, {add:e}",
            "jnz 3f",
            "tilezero tmm0",
            "tilezero tmm1",
            "jmp 2f",
            "3:",
            "tileloadd tmm0, [{c} + {stride}*1]",
            "tileloadd tmm1, [{c} + {stride}*1 + 64]",
            "2:",
            "tileloadd tmm4, [{a} + {row}*1]",
            "tileloadd tmm6, [{b} + {row}*1]",
            "tdpbf16ps tmm0, tmm4, tmm6",
            "tileloadd tmm7, [{b} + {row}*1 + 1024]",
            "tdpbf16ps tmm1, tmm4, tmm7",
            "prefetcht0 [{b} + 8192]",
            "add {a}, 2048",
            "add {b}, 2048",
            "dec {steps}",
            "jnz 2b",
            "tilestored [{c} + {stride}*1], tmm0",
            "tilestored [{c} + {stride}*1 + 64], tmm1",
            a = inout(reg) a => _,
            b = inout(reg) b => _,
            c = in(reg) c.start,
            stride = in(reg) 32 * size_of::<f32>(),
            row = in(reg) 64usize,
            steps = inout(reg) steps => _,
            add = in(reg) u32::from(c.add),
            out("tmm0") _, out("tmm1") _, out("tmm4") _, out("tmm6") _, out("tmm7") _,
            options(nostack),
        );
    }
}
