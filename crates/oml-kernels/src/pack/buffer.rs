//! Memory aligned to cache lines that grows and is then reused.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ptr::NonNull;

const ALIGNMENT: usize = 64;

/// A block of zero-initialised bytes, 64-byte aligned.
pub(crate) struct Buffer {
    start: NonNull<u8>,
    capacity: usize,
}

// SAFETY: the block is owned; all access goes through references to the owner or through `Sink`, which states its rules.
unsafe impl Send for Buffer {}
// SAFETY: as above.
unsafe impl Sync for Buffer {}

impl Buffer {
    pub(crate) fn new() -> Buffer {
        Buffer {
            start: NonNull::dangling(),
            capacity: 0,
        }
    }

    pub(crate) fn capacity(&self) -> usize {
        self.capacity
    }

    pub(crate) fn start(&self) -> *mut u8 {
        self.start.as_ptr()
    }

    /// Makes room for `bytes`; what was inside is lost when it has to grow.
    pub(crate) fn reserve(&mut self, bytes: usize) {
        if bytes <= self.capacity {
            return;
        }
        self.release();
        let capacity = bytes.next_multiple_of(ALIGNMENT);
        let layout = layout(capacity);
        // SAFETY: the layout has a size above zero, since `bytes` is above the old capacity.
        let start = unsafe { alloc_zeroed(layout) };
        self.start = NonNull::new(start).unwrap_or_else(|| handle_alloc_error(layout));
        self.capacity = capacity;
    }

    fn release(&mut self) {
        if self.capacity > 0 {
            // SAFETY: `start` came from `alloc_zeroed` with this layout and is freed once, here.
            unsafe { dealloc(self.start.as_ptr(), layout(self.capacity)) };
            self.start = NonNull::dangling();
            self.capacity = 0;
        }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.release();
    }
}

#[allow(clippy::expect_used)]
fn layout(capacity: usize) -> Layout {
    Layout::from_size_align(capacity, ALIGNMENT)
        .expect("a packed operand fits into the address space")
}
