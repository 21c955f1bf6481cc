//! The kernel in plain Rust: 4×8 tiles that compilers turn into 128-bit vectors.

use super::{Kernel, PORTABLE, Tile};

pub(super) struct Portable;

impl Kernel for Portable {
    const ROWS: usize = PORTABLE.0;
    const COLUMNS: usize = PORTABLE.1;
    const STEP: usize = 1;
    const BYTES: usize = size_of::<f32>();
    const SLICE: usize = 256;
    const B_STAYS: bool = true;

    unsafe fn tile(rows: usize, inner: usize, a: *const u8, b: *const u8, c: Tile) {
        const ROWS: usize = PORTABLE.0;
        const COLUMNS: usize = PORTABLE.1;
        let mut sums = [[0f32; COLUMNS]; ROWS];
        // SAFETY: `inner` groups of ROWS and COLUMNS f32, from 64-byte aligned panels.
        let (a, b) = unsafe {
            (
                std::slice::from_raw_parts(a.cast::<[f32; ROWS]>(), inner),
                std::slice::from_raw_parts(b.cast::<[f32; COLUMNS]>(), inner),
            )
        };
        for (a, b) in a.iter().zip(b) {
            for (sums, a) in sums.iter_mut().zip(a) {
                for (sum, b) in sums.iter_mut().zip(b) {
                    *sum += a * b;
                }
            }
        }
        for (r, sums) in sums.iter().enumerate().take(rows) {
            // SAFETY: row `r` of the tile of C has COLUMNS elements.
            let row = unsafe { &mut *c.start.add(r * c.stride).cast::<[f32; COLUMNS]>() };
            for (value, sum) in row.iter_mut().zip(sums) {
                *value = if c.add { *value + sum } else { *sum };
            }
        }
    }
}
