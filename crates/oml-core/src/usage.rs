//! What a set was used for: which pairs were asked of whom, given to whom, and opened.
//!
//! A pair is *unused* until something happens to it. A check shows it to whoever runs the suspect (on weights at hand that
//! is the owner alone), a slice gives it to a prover; an audit of a live endpoint and an opening burn it: whoever saw it can filter it.

use std::collections::BTreeMap;

use crate::merkle::Hash;

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Event {
    /// A suspect was asked.
    Check {
        /// Where the suspect is.
        suspect: String,
    },
    /// A prover got a slice.
    Slice {
        /// Public key of the prover.
        to: String,
    },
    /// A live endpoint was asked, whose operator can keep what it sees.
    Audit {
        /// Where it is.
        suspect: String,
    },
    /// The pairs were shown as evidence.
    Open,
}

/// One use of some pairs of a set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Usage {
    /// Seconds since 1970.
    pub time: u64,
    /// Merkle root of the set.
    pub root: Hash,
    /// What happened.
    pub event: Event,
    /// The pairs, as ranges of numbers in the set: first and last.
    pub pairs: Vec<(usize, usize)>,
}

/// Numbers that rise, as ranges.
#[must_use]
pub fn ranges(indices: &[usize]) -> Vec<(usize, usize)> {
    let mut ranges: Vec<(usize, usize)> = Vec::new();
    for &index in indices {
        match ranges.last_mut() {
            Some((_, last)) if last.checked_add(1) == Some(index) => *last = index,
            _ => ranges.push((index, index)),
        }
    }
    ranges
}

/// What became of the pairs of one set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tally {
    /// Per event, how often it happened and to which pairs, as ranges that may overlap.
    events: BTreeMap<Event, (usize, Vec<(usize, usize)>)>,
    /// Uses of other sets, which count for nothing here.
    pub others: usize,
    count: usize,
    root: Hash,
}

impl Tally {
    /// No use yet of the `count` pairs behind `root`.
    #[must_use]
    pub const fn new(root: Hash, count: usize) -> Self {
        Self {
            events: BTreeMap::new(),
            others: 0,
            count,
            root,
        }
    }

    /// Counts one use; the same use twice changes no pair's state.
    pub fn add(&mut self, usage: Usage) {
        if usage.root != self.root {
            self.others += 1;
            return;
        }
        let (times, pairs) = self.events.entry(usage.event).or_default();
        *times += 1;
        pairs.extend(usage.pairs);
    }

    /// Every event, how often it happened, and to how many pairs.
    pub fn events(&self) -> impl Iterator<Item = (&Event, usize, usize)> {
        self.events.iter().map(|(event, (times, pairs))| {
            let sizes = self.merged(pairs.clone()).into_iter();
            (
                event,
                *times,
                sizes.map(|(first, last)| last - first + 1).sum(),
            )
        })
    }

    /// Numbers of the pairs to which any event happened that `which` accepts, rising.
    pub fn pairs(&self, which: impl Fn(&Event) -> bool) -> Vec<usize> {
        let events = self.events.iter().filter(|(event, _)| which(event));
        let ranges = events.flat_map(|(_, (_, pairs))| pairs).copied();
        let merged = self.merged(ranges.collect()).into_iter();
        merged.flat_map(|(first, last)| first..=last).collect()
    }

    /// Numbers of the pairs that were shown as evidence, rising.
    #[must_use]
    pub fn opened(&self) -> Vec<usize> {
        self.pairs(|event| *event == Event::Open)
    }

    /// The same numbers as ranges that rise, do not touch, and lie within the set.
    fn merged(&self, mut ranges: Vec<(usize, usize)>) -> Vec<(usize, usize)> {
        ranges.retain(|(first, last)| first <= last && *first < self.count);
        ranges.sort_unstable();
        let mut merged: Vec<(usize, usize)> = Vec::new();
        for (first, last) in ranges {
            let last = last.min(self.count - 1);
            match merged.last_mut() {
                Some((_, end)) if first <= *end + 1 => *end = last.max(*end),
                _ => merged.push((first, last)),
            }
        }
        merged
    }
}
