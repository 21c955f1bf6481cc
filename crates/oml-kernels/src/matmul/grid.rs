//! How C is cut into rectangles, in panels of the operands.

use std::ops::Range;

/// A product in panels: `rows` panels of `height` rows of A, `columns` panels of `width` columns of B, `k` inner indices.
#[derive(Clone, Copy)]
pub(super) struct Extent {
    pub(super) rows: usize,
    pub(super) columns: usize,
    pub(super) height: usize,
    pub(super) width: usize,
    pub(super) k: usize,
}

/// Equal rectangles of panels; the last of a band and of a column may be smaller.
pub(super) struct Grid {
    extent: Extent,
    rows: usize,
    columns: usize,
}

/// The most rows and columns of a rectangle: its C and the slices of A and B in use stay in L2.
const SIDE: usize = 384;
/// Rectangles for each thread, where there is work for them.
const SHARE: usize = 4;
/// Multiply-adds that are worth a task, some ten microseconds.
const WORK: usize = 8 << 20;

impl Grid {
    /// Rectangles of about equal work.
    pub(super) fn new(extent: Extent, threads: usize) -> Grid {
        let Extent {
            height, width, k, ..
        } = extent;
        let rows = even(extent.rows, SIDE / height).next_multiple_of(32 / height);
        let bands = extent.rows.div_ceil(rows);
        let wanted = (SHARE * threads).div_ceil(bands);
        let least = WORK.div_ceil(rows.min(extent.rows) * height * width * k);
        let columns = (extent.columns / wanted)
            .max(least)
            .min(SIDE / width)
            .max(1);
        let columns = even(extent.columns, columns);
        Grid {
            extent,
            rows,
            columns,
        }
    }

    pub(super) fn tasks(&self) -> usize {
        self.bands() * self.extent.columns.div_ceil(self.columns)
    }

    /// Panels of A and of B in one rectangle. Consecutive tasks share columns, so B stays near.
    pub(super) fn rectangle(&self, task: usize) -> (Range<usize>, Range<usize>) {
        let (row, column) = (
            task % self.bands() * self.rows,
            task / self.bands() * self.columns,
        );
        (
            row..self.extent.rows.min(row + self.rows),
            column..self.extent.columns.min(column + self.columns),
        )
    }

    fn bands(&self) -> usize {
        self.extent.rows.div_ceil(self.rows)
    }
}

/// The length of a part when `count` is cut into equal parts of at most `most`.
fn even(count: usize, most: usize) -> usize {
    count.div_ceil(count.div_ceil(most))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rectangles_cover_every_panel_once() {
        for (rows, columns, height, width, k) in [
            (1, 1, 32, 32, 1),
            (24, 48, 32, 32, 576),
            (96, 12, 8, 48, 3072),
            (1, 1536, 32, 32, 576),
            (7, 5, 4, 8, 9),
        ] {
            let extent = Extent {
                rows,
                columns,
                height,
                width,
                k,
            };
            for threads in [1, 2, 16] {
                let grid = Grid::new(extent, threads);
                let mut seen = vec![0; rows * columns];
                for task in 0..grid.tasks() {
                    let (r, c) = grid.rectangle(task);
                    r.for_each(|r| c.clone().for_each(|c| seen[r * columns + c] += 1));
                }
                assert!(
                    seen.iter().all(|count| *count == 1),
                    "{rows} × {columns} on {threads}"
                );
            }
        }
    }
}
