//! Packed batches: sequences one after another, and which rows go to the head.

use crate::backend::{Layout, Objective};

/// One sequence to train on.
#[derive(Clone, Debug, PartialEq)]
pub struct TrainingSequence {
    /// Tokens that are read.
    pub ids: Vec<u32>,
    /// `(position, objective)`: what the row at this position should predict next.
    pub objectives: Vec<(usize, Objective)>,
}

/// A packed batch.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    /// Tokens of all sequences, `[T]`.
    pub ids: Vec<u32>,
    /// Position of each token in its sequence, `[T]`.
    pub positions: Vec<u32>,
    /// Where the sequences lie.
    pub layout: Layout,
    /// Rows that go to the head, `[R]`.
    pub picked: Vec<usize>,
    /// Objectives of the picked rows, empty where only logits are wanted.
    pub objectives: Vec<Objective>,
}

impl Batch {
    /// Packs sequences of ids; `picked` lists positions inside each.
    pub fn new<'a>(sequences: impl IntoIterator<Item = (&'a [u32], Vec<usize>)>) -> Self {
        let mut batch = Self {
            layout: Layout { starts: vec![0] },
            ..Self::default()
        };
        for (ids, picked) in sequences {
            let start = batch.ids.len();
            batch.ids.extend_from_slice(ids);
            batch.positions.extend(0..ids.len() as u32);
            batch.layout.starts.push(batch.ids.len());
            batch.picked.extend(picked.into_iter().map(|p| start + p));
        }
        batch
    }

    /// Packs training sequences.
    pub fn training(sequences: &[&TrainingSequence]) -> Self {
        let positions = |s: &TrainingSequence| s.objectives.iter().map(|(p, _)| *p).collect();
        let mut batch = Self::new(sequences.iter().map(|s| (&s.ids[..], positions(s))));
        batch.objectives = sequences
            .iter()
            .flat_map(|s| s.objectives.iter().map(|(_, o)| *o))
            .collect();
        batch
    }

    /// Number of tokens, T.
    pub fn tokens(&self) -> usize {
        self.ids.len()
    }
}

/// Cuts items into consecutive groups of at most `limit` tokens each; an item longer than the limit stands alone.
pub fn groups(
    lengths: impl IntoIterator<Item = usize>,
    limit: usize,
) -> Vec<std::ops::Range<usize>> {
    let mut groups = Vec::new();
    let (mut start, mut tokens, mut count) = (0, 0, 0);
    for (i, length) in lengths.into_iter().enumerate() {
        if tokens > 0 && tokens + length > limit {
            groups.push(start..i);
            (start, tokens) = (i, 0);
        }
        tokens += length;
        count = i + 1;
    }
    if start < count {
        groups.push(start..count);
    }
    groups
}
