//! Matching the units of two models: pairs that are each other's nearest.
//!
//! ```text
//! (i, j) is a pair  ⇔  S[i,j] > S[i,j'] for all j' ≠ j,  S[i,j] > S[i',j] for all i' ≠ i,  S[i,j] > 0
//! ```
//!
//! A unit without a partner stays without one, which an assignment of all to all would not allow: after pruning it forces
//! pairs that mean nothing. Ties are no pairs, so units that are zero, constant or copies of each other match nothing. The
//! pairs depend on the units and not on their numbers, which is what the tests of order and signs rest on. One pass over S.

/// Two units that belong together.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pair {
    /// Number of the unit in the first model.
    pub first: u32,
    /// Number of the unit in the second model.
    pub second: u32,
    /// Their similarity, as it was given.
    pub similarity: f32,
}

/// Whether a similarity counts with its sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sense {
    /// Opposite units are far from each other.
    Signed,
    /// Opposite units are as near as equal ones.
    Blind,
}

/// The best of a row or a column so far.
#[derive(Clone, Copy)]
struct Best {
    value: f32,
    at: u32,
    tied: bool,
}

impl Best {
    const NONE: Self = Self {
        value: 0.0,
        at: 0,
        tied: true,
    };

    fn see(&mut self, value: f32, at: u32) {
        if value > self.value {
            *self = Self {
                value,
                at,
                tied: false,
            };
        } else if value == self.value {
            self.tied = true;
        }
    }
}

/// The pairs in `similarity`, which has a row of `columns` numbers per unit of the first model, by row. What is not a
/// number matches nothing; a last row that is cut short is left out.
#[must_use]
pub fn mutual_nearest(similarity: &[f32], columns: usize, sense: Sense) -> Vec<Pair> {
    if columns == 0 {
        return Vec::new();
    }
    let value = |s: f32| match sense {
        Sense::Signed => s,
        Sense::Blind => s.abs(),
    };
    let mut rows = Vec::with_capacity(similarity.len() / columns);
    let mut best_of_column = vec![Best::NONE; columns];
    for (i, row) in (0..).zip(similarity.chunks_exact(columns)) {
        let mut best = Best::NONE;
        for ((j, s), column) in (0..).zip(row).zip(&mut best_of_column) {
            let s = value(*s);
            best.see(s, j);
            column.see(s, i);
        }
        rows.push(best);
    }
    let mutual = |(i, best): (u32, Best)| {
        let column = best_of_column[best.at as usize];
        let pair = !best.tied && !column.tied && column.at == i;
        pair.then(|| Pair {
            first: i,
            second: best.at,
            similarity: similarity[i as usize * columns + best.at as usize],
        })
    };
    (0..).zip(rows).filter_map(mutual).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pairs(similarity: &[f32], columns: usize, sense: Sense) -> Vec<(u32, u32)> {
        let pairs = mutual_nearest(similarity, columns, sense);
        pairs.iter().map(|pair| (pair.first, pair.second)).collect()
    }

    #[test]
    fn only_each_others_nearest_are_pairs() {
        let similarity = [
            0.9, 0.1, 0.2, //
            0.8, 0.3, 0.1, //
            0.0, -0.95, 0.4,
        ];
        assert_eq!(pairs(&similarity, 3, Sense::Signed), [(0, 0), (2, 2)]);
        assert_eq!(pairs(&similarity, 3, Sense::Blind), [(0, 0), (2, 1)]);
        let found = mutual_nearest(&similarity, 3, Sense::Blind);
        assert_eq!(found[1].similarity, -0.95, "the sign stays with the pair");
    }

    #[test]
    fn ties_zeros_and_what_is_no_number_match_nothing() {
        for similarity in [
            [0.0; 4],
            [0.5; 4],
            [f32::NAN; 4],
            [-1.0; 4],
            [0.5, 0.5, 0.1, 0.2],
            [0.5, 0.1, 0.5, 0.2],
        ] {
            assert_eq!(pairs(&similarity, 2, Sense::Signed), [], "{similarity:?}");
        }
        assert_eq!(pairs(&[], 3, Sense::Signed), []);
        assert_eq!(pairs(&[], 0, Sense::Signed), []);
        assert_eq!(pairs(&[f32::NAN, 0.5], 2, Sense::Signed), [(0, 1)]);
    }

    proptest! {
        #[test]
        fn pairs_are_what_the_definition_says(
            columns in 1usize..6,
            cells in prop::collection::vec(-3i8..4, 0..36),
            blind in any::<bool>(),
        ) {
            let rows = cells.len() / columns;
            let similarity: Vec<f32> = cells[..rows * columns].iter().map(|c| f32::from(*c)).collect();
            let sense = if blind { Sense::Blind } else { Sense::Signed };
            let at = |i: usize, j: usize| {
                let s = similarity[i * columns + j];
                if blind { s.abs() } else { s }
            };
            let mut expected = Vec::new();
            for i in 0..rows {
                for j in 0..columns {
                    let row = (0..columns).all(|other| other == j || at(i, j) > at(i, other));
                    let column = (0..rows).all(|other| other == i || at(i, j) > at(other, j));
                    if at(i, j) > 0.0 && row && column {
                        expected.push((i as u32, j as u32));
                    }
                }
            }
            prop_assert_eq!(pairs(&similarity, columns, sense), expected);
        }
    }
}
