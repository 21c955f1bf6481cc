//! What models that never saw the fingerprints answered to them: the basis of a measured null rate.

use crate::check::Control;
use crate::merkle::Hash;
use crate::usage::ranges;

/// One control, fingerprint by fingerprint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ControlResult {
    /// What it is called.
    pub name: String,
    /// Digest of its tensors.
    pub digest: Hash,
    /// Numbers of the fingerprints that it was asked, as ranges that rise: first and last.
    pub asked: Vec<(usize, usize)>,
    /// Numbers of those that it answered as the owner's model does, likewise.
    pub hits: Vec<(usize, usize)>,
}

impl ControlResult {
    /// The result of a control that was asked the fingerprints with the numbers `asked` and answered those of `hits`; both rise.
    #[must_use]
    pub fn new(name: String, digest: Hash, asked: &[usize], hits: &[usize]) -> Self {
        Self {
            name,
            digest,
            asked: ranges(asked),
            hits: ranges(hits),
        }
    }

    /// The numbers alone, as a null rate is computed from them.
    #[must_use]
    pub fn control(&self) -> Control {
        Control {
            name: self.name.clone(),
            count: usize::try_from(self.count()).unwrap_or(usize::MAX),
            hits: usize::try_from(self.hit_count()).unwrap_or(usize::MAX),
        }
    }

    /// Fingerprints asked.
    #[must_use]
    pub fn count(&self) -> u64 {
        count(&self.asked)
    }

    /// Fingerprints answered.
    #[must_use]
    pub fn hit_count(&self) -> u64 {
        count(&self.hits)
    }

    /// Whether it was asked fingerprint `index`.
    #[must_use]
    pub fn was_asked(&self, index: usize) -> bool {
        holds(&self.asked, index)
    }

    /// Whether it answered fingerprint `index`.
    #[must_use]
    pub fn is_hit(&self, index: usize) -> bool {
        holds(&self.hits, index)
    }
}

fn count(ranges: &[(usize, usize)]) -> u64 {
    let lengths = ranges.iter().map(|(first, last)| (last - first + 1) as u64);
    lengths.sum()
}

fn holds(ranges: &[(usize, usize)], index: usize) -> bool {
    let place = ranges.partition_point(|(_, last)| *last < index);
    ranges.get(place).is_some_and(|(first, _)| *first <= index)
}

/// Whether every number of `inner` is one of `outer`; both are ranges that rise and do not touch.
pub(crate) fn within(inner: &[(usize, usize)], outer: &[(usize, usize)]) -> bool {
    inner.iter().all(|(first, last)| {
        let place = outer.partition_point(|(_, end)| end < first);
        let around = outer.get(place);
        around.is_some_and(|(begin, end)| begin <= first && last <= end)
    })
}
