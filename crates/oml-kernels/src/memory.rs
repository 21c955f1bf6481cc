//! Memory for large arrays: zeroed, 64-byte aligned, and on huge pages where Linux offers them.
//!
//! The AMX kernel stores C in rows of 64 bytes: rows that straddle cache lines halve its speed, and since a tile of C
//! touches 32 pages of 4 KiB at once, more than the store TLB holds, huge pages are worth another tenth.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

const ALIGNMENT: usize = 64;

/// An owned block of bytes.
pub(crate) struct Memory {
    start: NonNull<u8>,
    bytes: usize,
    mapped: bool,
}

// SAFETY: the block is owned; what shares it between threads (`pack::Sink`) states its own rules.
unsafe impl Send for Memory {}
// SAFETY: as above.
unsafe impl Sync for Memory {}

impl Memory {
    /// Zeroed bytes, aligned to 64. Pages of large blocks are made when they are first touched.
    pub(crate) fn zeroed(bytes: usize) -> Memory {
        if let Some(start) = map(bytes) {
            return Memory {
                start,
                bytes,
                mapped: true,
            };
        }
        let layout = layout(bytes);
        // SAFETY: the size is above zero.
        let start = unsafe { alloc_zeroed(layout) };
        Memory {
            start: NonNull::new(start).unwrap_or_else(|| handle_alloc_error(layout)),
            bytes,
            mapped: false,
        }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn start(&self) -> *mut u8 {
        self.start.as_ptr()
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        if self.mapped {
            unmap(self.start, self.bytes);
        } else {
            // SAFETY: `start` came from `alloc_zeroed` with this layout and is freed once.
            unsafe { dealloc(self.start.as_ptr(), layout(self.bytes)) };
        }
    }
}

#[allow(clippy::expect_used)]
fn layout(bytes: usize) -> Layout {
    Layout::from_size_align(bytes.max(1), ALIGNMENT).expect("an array fits into the address space")
}

#[cfg(target_os = "linux")]
const HUGE_PAGE: usize = 2 << 20;

/// A private anonymous mapping that starts at a huge page, for blocks of at least one.
#[cfg(target_os = "linux")]
fn map(bytes: usize) -> Option<NonNull<u8>> {
    if bytes < HUGE_PAGE {
        return None;
    }
    let room = bytes
        .checked_next_multiple_of(4096)?
        .checked_add(HUGE_PAGE)?;
    // SAFETY: a new anonymous mapping at an address of the kernel's choice touches nothing that exists; the parts cut
    // off before and after the aligned block are inside it. MADV_HUGEPAGE is advice and may fail.
    unsafe {
        let (access, kind) = (
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
        );
        let whole = libc::mmap(std::ptr::null_mut(), room, access, kind, -1, 0);
        if whole == libc::MAP_FAILED {
            return None;
        }
        let whole = whole.cast::<u8>();
        let before = whole.align_offset(HUGE_PAGE);
        let start = whole.add(before);
        if before > 0 {
            libc::munmap(whole.cast(), before);
        }
        let after = room - before - (room - HUGE_PAGE);
        if after > 0 {
            libc::munmap(start.add(room - HUGE_PAGE).cast(), after);
        }
        libc::madvise(start.cast(), room - HUGE_PAGE, libc::MADV_HUGEPAGE);
        NonNull::new(start)
    }
}

#[cfg(target_os = "linux")]
fn unmap(start: NonNull<u8>, bytes: usize) {
    // SAFETY: the block `map` left mapped, unmapped once.
    unsafe { libc::munmap(start.as_ptr().cast(), bytes.next_multiple_of(4096)) };
}

#[cfg(not(target_os = "linux"))]
fn map(_bytes: usize) -> Option<NonNull<u8>> {
    None
}

#[cfg(not(target_os = "linux"))]
fn unmap(_start: NonNull<u8>, _bytes: usize) {}

/// A fixed number of f32 in memory that the kernels like: aligned to cache lines, on huge pages when large. Use it for C
/// and for large states; it starts as zeros, and its pages are made when they are first touched.
pub struct Floats {
    memory: Memory,
    len: usize,
}

impl Floats {
    /// `len` zeros.
    ///
    /// # Panics
    /// When that many do not fit into the address space.
    pub fn zeroed(len: usize) -> Floats {
        assert!(
            len <= isize::MAX as usize / size_of::<f32>(),
            "{len} floats"
        );
        Floats {
            memory: Memory::zeroed(len * size_of::<f32>()),
            len,
        }
    }
}

impl Deref for Floats {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        // SAFETY: `len` f32 of owned memory, zeroed at first, aligned to 64.
        unsafe { std::slice::from_raw_parts(self.memory.start().cast(), self.len) }
    }
}

impl DerefMut for Floats {
    fn deref_mut(&mut self) -> &mut [f32] {
        // SAFETY: as in `deref`, and `self` is borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(self.memory.start().cast(), self.len) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrays_of_any_size_are_zero_aligned_and_writable() {
        for len in [
            0,
            1,
            1000,
            (2 << 20) / 4 - 1,
            (2 << 20) / 4,
            (5 << 20) / 4 + 3,
        ] {
            let mut array = Floats::zeroed(len);
            assert_eq!((array.len(), array.as_ptr() as usize % 64), (len, 0));
            assert!(array.iter().all(|value| *value == 0.0));
            array.fill(1.0);
            assert_eq!(array.iter().filter(|value| **value == 1.0).count(), len);
        }
    }
}
