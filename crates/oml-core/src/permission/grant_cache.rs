//! Who signed the grants that were verified before, so that a grant which comes with every call costs one recovery and not one per call.
//!
//! Two generations: entries go into the young one; when it is full it becomes the old one, and what was in that is forgotten unless it
//! was asked for meanwhile. Only grants of tokens that were accepted go in, so strangers cannot push others out. Key: the digest, which
//! holds the domain and every field, with the signature.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};

use crate::merkle::Hash;
use crate::signing::{Address, Signature};

type Key = (Hash, [u8; 65]);

/// Signers of known grants; shared by any number of verifiers.
#[derive(Debug)]
pub struct GrantCache {
    generation: usize,
    generations: RwLock<Generations>,
}

#[derive(Debug, Default)]
struct Generations {
    young: HashMap<Key, Address>,
    old: HashMap<Key, Address>,
}

impl GrantCache {
    /// Room for at least half of `capacity` grants and at most `capacity`; 0 keeps none.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self {
            generation: capacity / 2,
            generations: RwLock::default(),
        }
    }

    /// Who signed, if that is known.
    pub(super) fn get(&self, digest: &Hash, signature: &Signature) -> Option<Address> {
        let key = (*digest, signature.0);
        let (signer, is_old) = {
            let generations = self.generations.read();
            let generations = generations.unwrap_or_else(PoisonError::into_inner);
            match generations.young.get(&key) {
                Some(signer) => (*signer, false),
                None => (*generations.old.get(&key)?, true),
            }
        };
        if is_old {
            self.insert(key, signer);
        }
        Some(signer)
    }

    /// Remembers who signed.
    pub(super) fn put(&self, digest: &Hash, signature: &Signature, signer: Address) {
        self.insert((*digest, signature.0), signer);
    }

    fn insert(&self, key: Key, signer: Address) {
        if self.generation == 0 {
            return;
        }
        let generations = self.generations.write();
        let mut generations = generations.unwrap_or_else(PoisonError::into_inner);
        if generations.young.len() >= self.generation && !generations.young.contains_key(&key) {
            generations.old = std::mem::take(&mut generations.young);
        }
        generations.young.insert(key, signer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIGNATURE: Signature = Signature([9; 65]);
    const SIGNER: Address = Address([5; 20]);

    #[test]
    fn what_is_asked_for_stays_and_the_rest_is_forgotten() {
        let cache = GrantCache::new(8);
        for number in 0..100 {
            cache.put(&[number; 32], &SIGNATURE, SIGNER);
            assert_eq!(cache.get(&[0; 32], &SIGNATURE), Some(SIGNER), "{number}");
        }
        let kept = (0..100).filter(|number| cache.get(&[*number; 32], &SIGNATURE).is_some());
        let kept = kept.count();
        assert!((4..=8).contains(&kept), "{kept}");
        assert_eq!(cache.get(&[0; 32], &Signature([8; 65])), None);
    }

    #[test]
    fn no_room_keeps_nothing() {
        let cache = GrantCache::new(1);
        cache.put(&[0; 32], &SIGNATURE, SIGNER);
        assert_eq!(cache.get(&[0; 32], &SIGNATURE), None);
    }
}
