//! How often a grant may be used in a minute: a bucket of calls for each grant, filled steadily.
//!
//! Counted by this gateway alone. Buckets that are full again are forgotten, so memory holds the grants of the last minute.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use oml_core::merkle::Hash;

const MINUTE: f64 = 60.0;
/// Buckets at which the full ones are looked for.
const MANY: usize = 4_096;

/// The buckets.
#[derive(Debug, Default)]
pub(crate) struct Rates(Mutex<HashMap<Hash, Bucket>>);

#[derive(Debug, Clone, Copy)]
struct Bucket {
    calls: f64,
    limit: f64,
    time: f64,
}

impl Bucket {
    fn at(self, time: f64) -> Self {
        let passed = (time - self.time).max(0.0);
        let calls = (self.calls + passed * self.limit / MINUTE).min(self.limit);
        Self {
            calls,
            time,
            ..self
        }
    }
}

impl Rates {
    /// Takes one call from every grant in `limits` (calls in a minute), or from none. `time` is in seconds and never goes back.
    pub(crate) fn take(&self, limits: &[(Hash, u32)], time: f64) -> bool {
        if limits.is_empty() {
            return true;
        }
        let mut buckets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() >= MANY {
            buckets.retain(|_, bucket| bucket.at(time).calls < bucket.limit);
        }
        let filled = |(grant, limit): &(Hash, u32)| {
            let limit = f64::from(*limit);
            let full = Bucket {
                calls: limit,
                limit,
                time,
            };
            let known = buckets.get(grant).filter(|known| known.limit == limit);
            (*grant, known.map_or(full, |known| known.at(time)))
        };
        let filled: Vec<(Hash, Bucket)> = limits.iter().map(filled).collect();
        if filled.iter().any(|(_, bucket)| bucket.calls < 1.0) {
            return false;
        }
        for (grant, mut bucket) in filled {
            bucket.calls -= 1.0;
            buckets.insert(grant, bucket);
        }
        true
    }

    /// Gives back a call that was not made after all.
    pub(crate) fn give_back(&self, limits: &[(Hash, u32)]) {
        let mut buckets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (grant, _) in limits {
            if let Some(bucket) = buckets.get_mut(grant) {
                bucket.calls = (bucket.calls + 1.0).min(bucket.limit);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Rates;

    #[test]
    fn calls_come_back_with_time() {
        let rates = Rates::default();
        let limits = [([1; 32], 2), ([2; 32], 60)];
        assert!(rates.take(&limits, 0.0));
        assert!(rates.take(&limits, 0.0));
        assert!(!rates.take(&limits, 0.0));
        assert!(!rates.take(&limits, 29.0));
        assert!(rates.take(&limits, 30.0));
        assert!(!rates.take(&limits, 30.0));
        // The refused calls took nothing from the other grant.
        for _ in 0..59 {
            assert!(rates.take(&limits[1..], 30.0));
        }
    }
}
