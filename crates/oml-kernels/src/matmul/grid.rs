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
/// Elements of a rectangle of whole rows: half a megabyte of C, for the same reason.
const AREA: usize = 128 << 10;
/// Rectangles for each thread, where there is work for them.
const SHARE: usize = 4;
/// Multiply-adds that are worth a task, some ten microseconds.
const WORK: usize = 8 << 20;

impl Grid {
    /// Rectangles whose columns are a multiple of `unit` panels.
    pub(super) fn new(extent: Extent, unit: usize, threads: usize) -> Grid {
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
        let columns = even(extent.columns, columns).next_multiple_of(unit);
        Grid {
            extent,
            rows,
            columns,
        }
    }

    /// Rectangles as wide as C, of a multiple of 32 rows.
    pub(super) fn of_whole_rows(extent: Extent, threads: usize) -> Grid {
        let most = AREA / (extent.columns * extent.width * extent.height);
        let most = most.min(extent.rows.div_ceil(SHARE * threads)).max(1);
        Grid {
            extent,
            rows: even(extent.rows, most).next_multiple_of(32 / extent.height),
            columns: extent.columns,
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
                for grid in [
                    Grid::new(extent, 1, threads),
                    Grid::new(extent, 2, threads),
                    Grid::of_whole_rows(extent, threads),
                ] {
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
}
