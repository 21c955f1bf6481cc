//! Safe data-parallel loops over disjoint pieces of slices, on a [`Pool`].

use crate::Pool;

struct Base<T>(*mut T);
// SAFETY: a `Base` is only handed to the tasks of one `Pool::run`, each of which forms a slice of its own disjoint range.
unsafe impl<T: Send> Sync for Base<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Send for Base<T> {}

impl<T> Base<T> {
    /// # Safety
    /// `start..end` lies inside the slice this was made from and no other task's range overlaps it.
    #[allow(clippy::mut_from_ref)]
    unsafe fn piece<'a>(&self, start: usize, end: usize) -> &'a mut [T] {
        // SAFETY: the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.0.add(start), end - start) }
    }
}

/// Calls `work(i, piece)` for every chunk of `chunk` elements (the last may be shorter).
pub fn for_each_chunk<T: Send>(
    pool: &Pool,
    data: &mut [T],
    chunk: usize,
    work: impl Fn(usize, &mut [T]) + Sync,
) {
    let chunk = chunk.max(1);
    let length = data.len();
    let base = Base(data.as_mut_ptr());
    pool.run(length.div_ceil(chunk), &|i| {
        let start = i * chunk;
        // SAFETY: chunks of one slice do not overlap, and `end` is capped by its length.
        work(i, unsafe { base.piece(start, (start + chunk).min(length)) });
    });
}

/// As [`for_each_chunk`] over two slices that are cut into the same number of chunks.
///
/// # Panics
/// If the numbers of chunks differ.
pub fn for_each_chunk2<T: Send, U: Send>(
    pool: &Pool,
    (a, chunk_a): (&mut [T], usize),
    (b, chunk_b): (&mut [U], usize),
    work: impl Fn(usize, &mut [T], &mut [U]) + Sync,
) {
    let (chunk_a, chunk_b) = (chunk_a.max(1), chunk_b.max(1));
    let (length_a, length_b) = (a.len(), b.len());
    assert_eq!(
        length_a.div_ceil(chunk_a),
        length_b.div_ceil(chunk_b),
        "slices of different chunk counts"
    );
    let (base_a, base_b) = (Base(a.as_mut_ptr()), Base(b.as_mut_ptr()));
    pool.run(length_a.div_ceil(chunk_a), &|i| {
        let (start_a, start_b) = (i * chunk_a, i * chunk_b);
        // SAFETY: as in `for_each_chunk`, for either slice.
        let (a, b) = unsafe {
            (
                base_a.piece(start_a, (start_a + chunk_a).min(length_a)),
                base_b.piece(start_b, (start_b + chunk_b).min(length_b)),
            )
        };
        work(i, a, b);
    });
}

/// As [`for_each_chunk2`] over three slices of one length and one chunk size, the shape of an optimizer's sweep.
///
/// # Panics
/// If the lengths differ.
pub fn for_each_chunk3<T: Send>(
    pool: &Pool,
    [a, b, c]: [&mut [T]; 3],
    chunk: usize,
    work: impl Fn(usize, &mut [T], &mut [T], &mut [T]) + Sync,
) {
    let length = a.len();
    assert!(
        b.len() == length && c.len() == length,
        "slices of different lengths"
    );
    let bases = [
        Base(a.as_mut_ptr()),
        Base(b.as_mut_ptr()),
        Base(c.as_mut_ptr()),
    ];
    pool.run(length.div_ceil(chunk), &|i| {
        let [a, b, c] = &bases;
        let (start, end) = (i * chunk, (i * chunk + chunk).min(length));
        // SAFETY: as in `for_each_chunk`, for each slice.
        let (a, b, c) = unsafe {
            (
                a.piece(start, end),
                b.piece(start, end),
                c.piece(start, end),
            )
        };
        work(i, a, b, c);
    });
}

/// Calls `work(i, piece)` with `data[bounds[i] .. bounds[i+1]]` for every i.
///
/// # Panics
/// If `bounds` is not ascending or exceeds the slice.
pub fn for_each_range<T: Send>(
    pool: &Pool,
    data: &mut [T],
    bounds: &[usize],
    work: impl Fn(usize, &mut [T]) + Sync,
) {
    assert!(
        bounds.is_sorted() && bounds.last().is_none_or(|&end| end <= data.len()),
        "bounds outside the slice"
    );
    let base = Base(data.as_mut_ptr());
    pool.run(bounds.len().saturating_sub(1), &|i| {
        // SAFETY: the bounds ascend and end inside the slice, so the pieces are disjoint and within it.
        work(i, unsafe { base.piece(bounds[i], bounds[i + 1]) });
    });
}
