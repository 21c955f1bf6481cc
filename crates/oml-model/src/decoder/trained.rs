//! Which of the weights are trained, and where the gradient of each goes.

use std::ops::Range;

/// Runs of trained weights.
#[derive(Clone, Debug, Default)]
pub struct Trained {
    /// Elements of the flat buffer and the place of the first one's gradient; ascending, and neighbours are one run.
    runs: Vec<(Range<usize>, usize)>,
    first_layer: usize,
}

/// Trained rows of a tensor, or of several that are one product.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TrainedRows {
    pub(super) first: usize,
    pub(super) count: usize,
    /// Where their gradient begins.
    pub(super) at: usize,
}

impl Trained {
    /// From each trained tensor's first element in the flat buffer and the range of its gradient, in ascending order. Below `first_layer`
    /// nothing is trained.
    pub fn new(tensors: impl Iterator<Item = (usize, Range<usize>)>, first_layer: usize) -> Self {
        let mut runs: Vec<(Range<usize>, usize)> = Vec::new();
        for (flat, gradient) in tensors {
            match runs.last_mut() {
                Some((run, _)) if run.end == flat => run.end += gradient.len(),
                _ => runs.push((flat..flat + gradient.len(), gradient.start)),
            }
        }
        Self { runs, first_layer }
    }

    /// The trained ones of `rows` rows of `width` elements that lie from `offset` on.
    pub(super) fn rows(
        &self,
        offset: usize,
        rows: usize,
        width: usize,
    ) -> impl Iterator<Item = TrainedRows> {
        let all = offset..offset + rows * width;
        let from = self.runs.partition_point(|(run, _)| run.end <= all.start);
        let overlapping = self.runs[from..].iter().take_while({
            let end = all.end;
            move |(run, _)| run.start < end
        });
        overlapping.map(move |(run, at)| {
            let part = run.start.max(all.start)..run.end.min(all.end);
            TrainedRows {
                first: (part.start - offset) / width,
                count: part.len() / width,
                at: at + part.start - run.start,
            }
        })
    }

    /// The layer at which the backward pass ends.
    pub(super) fn first_layer(&self) -> usize {
        self.first_layer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_are_one_run() {
        // a tensor of 4 at 0, then 6 that are frozen, then two tensors of 4 and 8
        let trained = Trained::new([(0, 0..4), (10, 4..8), (14, 8..16)].into_iter(), 0);
        let rows = |offset, rows, width| trained.rows(offset, rows, width).collect::<Vec<_>>();
        let of = |first, count, at| TrainedRows { first, count, at };
        assert_eq!(rows(0, 2, 2), [of(0, 2, 0)]);
        assert_eq!(rows(10, 6, 2), [of(0, 6, 4)]);
        assert_eq!(rows(14, 4, 2), [of(0, 4, 8)]);
        assert_eq!(rows(0, 9, 2), [of(0, 2, 0), of(5, 4, 4)]);
        assert_eq!(rows(4, 3, 2), []);
    }
}
