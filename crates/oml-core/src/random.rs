//! A deterministic stream of random numbers: the ChaCha20 key stream (RFC 8439) under a derived key.
//!
//! Key: the 32 derived bytes; nonce: 12 zero bytes; block counter from 0. The key stream is read as consecutive
//! little-endian `u64`. `uniform_below(n)` takes the next `u64` x, rejects it while x ≥ ⌊2⁶⁴ / n⌋ · n, and returns
//! x mod n: exactly uniform.

use chacha20::ChaCha20;
use chacha20::cipher::{KeyIvInit, StreamCipher};

use crate::secret::DerivedKey;

/// Random numbers determined by one derived key.
pub struct Stream(ChaCha20);

impl Stream {
    /// The stream of `key`, from its beginning.
    #[must_use]
    pub fn new(key: &DerivedKey) -> Self {
        Self(ChaCha20::new(key.expose().into(), &[0; 12].into()))
    }

    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        let mut bytes = [0; 8];
        self.0.apply_keystream(&mut bytes);
        u64::from_le_bytes(bytes)
    }

    /// A number in `0..bound`, each with the same probability; 0 when `bound` is 0.
    pub fn uniform_below(&mut self, bound: u64) -> u64 {
        if bound == 0 {
            return 0;
        }
        // 2⁶⁴ mod bound values at the top would favour small remainders.
        let excess = (u64::MAX % bound + 1) % bound;
        loop {
            let x = self.next_u64();
            if x <= u64::MAX - excess {
                return x % bound;
            }
        }
    }

    /// An index in `0..length`, each with the same probability; 0 when `length` is 0.
    pub fn index(&mut self, length: usize) -> usize {
        self.uniform_below(length as u64) as usize
    }

    /// Puts `items` in an order that is uniform over all orders (Fisher–Yates from the front).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in 0..items.len() {
            let j = i + self.index(items.len() - i);
            items.swap(i, j);
        }
    }
}
