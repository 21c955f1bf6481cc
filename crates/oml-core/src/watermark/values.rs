//! What the key says of every token after a context: one pseudo-random `u64` per token id.
//!
//! ```text
//! k_c      = HKDF-Expand(watermark key, "oml.watermark.v1" (16 bytes ASCII) ‖ context ids as u32 little-endian, oldest first, 32)
//! value(x) = bytes 8x .. 8x + 8 of the ChaCha20 key stream under k_c (nonce 12 zero bytes, counter from 0), little-endian
//! ```
//!
//! A stream cipher since the values of many tokens are wanted under one context: a block gives eight, and any block can be had alone.
//!
//! Sources: RFC 5869, RFC 8439.

use chacha20::ChaCha20;
use chacha20::cipher::{KeyIvInit, StreamCipher, StreamCipherSeek};
use hkdf::Hkdf;
use sha2::Sha256;
use zeroize::Zeroizing;

use super::key::WatermarkKey;

const DOMAIN: &[u8] = b"oml.watermark.v1";
/// Whole streams are computed faster than single blocks, by about this much.
const DENSE: usize = 32;

/// The values after one context.
pub struct Values(ChaCha20);

impl Values {
    /// The values after `context`.
    #[must_use]
    pub fn new(key: &WatermarkKey, context: &[u32]) -> Self {
        let ids: Vec<u8> = context.iter().flat_map(|id| id.to_le_bytes()).collect();
        let mut bytes = Zeroizing::new([0; 32]);
        // A key of 32 bytes is long enough, and 32 bytes are one block: neither can be refused.
        let expanded = Hkdf::<Sha256>::from_prk(key.expose())
            .map(|hkdf| hkdf.expand_multi_info(&[DOMAIN, &ids], &mut bytes[..]));
        debug_assert!(matches!(expanded, Ok(Ok(()))));
        Self(ChaCha20::new((&*bytes).into(), &[0; 12].into()))
    }

    /// The value of one token.
    #[must_use]
    pub fn at(&mut self, id: u32) -> u64 {
        let mut bytes = [0; 8];
        self.0.seek(u64::from(id) * 8);
        self.0.apply_keystream(&mut bytes);
        u64::from_le_bytes(bytes)
    }

    /// The values of `ids`.
    #[must_use]
    pub fn of(&mut self, ids: &[u32]) -> Vec<u64> {
        let end = ids.iter().max().map_or(0, |id| *id as usize + 1);
        if end / DENSE > ids.len() {
            return ids.iter().map(|id| self.at(*id)).collect();
        }
        let mut stream = vec![0; 8 * end];
        self.0.seek(0u64);
        self.0.apply_keystream(&mut stream);
        let (words, _) = stream.as_chunks::<8>();
        ids.iter()
            .map(|id| u64::from_le_bytes(words[*id as usize]))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::OwnerSeed;

    fn key() -> WatermarkKey {
        WatermarkKey::derive(&OwnerSeed::new(std::array::from_fn(|i| i as u8)), "synthid")
    }

    #[test]
    fn values_equal_an_independent_cipher() {
        // Python's hmac and a ChaCha20 of its own, after the layout in the module's documentation.
        let mut values = Values::new(&key(), &[1, 2, 3, 49_151]);
        assert_eq!(
            [0, 7, 8, 49_151].map(|id| values.at(id)),
            [
                0x4e70_504f_9ac6_5e42,
                0x35d6_5193_27dd_39ce,
                0x4d8b_fe9d_99f7_b180,
                0xf4c0_e52e_604f_3b91,
            ]
        );
    }

    #[test]
    fn dense_and_sparse_are_alike() {
        let mut values = Values::new(&key(), &[5, 6]);
        let dense: Vec<u32> = (0..3000).rev().collect();
        let all = values.of(&dense);
        for (id, value) in dense.iter().zip(all).step_by(97) {
            assert_eq!(values.at(*id), value);
        }
        let sparse = [4_000_000, 3, u32::MAX];
        assert_eq!(values.of(&sparse), sparse.map(|id| values.at(id)));
        assert!(values.of(&[]).is_empty());
        assert_ne!(Values::new(&key(), &[6, 5]).at(0), values.at(0));
    }
}
