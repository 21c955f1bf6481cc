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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stream_is_chacha20() {
        // RFC 8439, appendix A.1, test vector 1: 76 b8 e0 ad a0 f1 3d 90 40 5d 6a e5 53 86 bd 28 …
        let mut stream = Stream::new(&DerivedKey::new([0; 32]));
        assert_eq!(stream.next_u64(), 0x903d_f1a0_ade0_b876);
        assert_eq!(stream.next_u64(), 0x28bd_8653_e56a_5d40);
    }

    #[test]
    fn small_numbers_are_uniform() {
        let mut stream = Stream::new(&DerivedKey::new([1; 32]));
        for bound in [2_u64, 3, 7, 10] {
            let mut counts = vec![0_f64; bound as usize];
            for _ in 0..10_000 {
                counts[stream.uniform_below(bound) as usize] += 1.0;
            }
            let expected = 10_000.0 / bound as f64;
            let chi_square: f64 = counts
                .iter()
                .map(|n| (n - expected).powi(2) / expected)
                .sum();
            // 99.9 % quantile with nine degrees of freedom, above those with fewer.
            assert!(chi_square < 27.9, "{bound}: {counts:?}");
        }
    }

    #[test]
    fn bounds_that_do_not_divide_the_range_are_kept() {
        let mut stream = Stream::new(&DerivedKey::new([2; 32]));
        for bound in [1, (1 << 63) + 1, u64::MAX] {
            assert!((0..100).all(|_| stream.uniform_below(bound) < bound));
        }
        assert_eq!(stream.uniform_below(0), 0);
    }

    #[test]
    fn a_shuffle_is_a_permutation() {
        let mut items: Vec<u32> = (0..50).collect();
        Stream::new(&DerivedKey::new([3; 32])).shuffle(&mut items);
        assert_ne!(items, (0..50).collect::<Vec<_>>());
        items.sort_unstable();
        assert_eq!(items, (0..50).collect::<Vec<_>>());
    }
}
