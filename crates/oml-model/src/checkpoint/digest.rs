//! The digest that names a checkpoint's weights.
//!
//! SHA-256 over `"oml weights v1"` and, for each tensor in the order of names: the name's length and bytes, the stored
//! type's name likewise, the number of dimensions, the dimensions, the number of bytes, and the bytes as stored. All
//! counts are u64, little-endian. How the tensors are spread over files does not matter, nor in which order. An adapter on top
//! is hashed with the digest of what it is on top of.

use sha2::{Digest, Sha256};

use super::{Checkpoint, CheckpointError, Found};

/// What the digest of a model with an adapter begins with.
pub(super) const PREFIX_ADAPTED: &[u8] = b"oml adapted v1";
const CHUNK_BYTES: usize = 1 << 20;

impl Checkpoint {
    /// The digest of the weights.
    ///
    /// # Errors
    /// A file that can no longer be read.
    pub fn digest(&self) -> Result<[u8; 32], CheckpointError> {
        let mut hash = Sha256::new();
        hash.update(b"oml weights v1");
        add(self, &mut hash, self.tensors.iter().collect())?;
        self.adapted_digest(hash.finalize().into())
    }
}

/// Adds tensors of `checkpoint`, in the order of their names.
pub(super) fn add(
    checkpoint: &Checkpoint,
    hash: &mut Sha256,
    mut tensors: Vec<&Found>,
) -> Result<(), CheckpointError> {
    let count = |hash: &mut Sha256, number: u64| hash.update(number.to_le_bytes());
    tensors.sort_by(|a, b| a.info.name.cmp(&b.info.name));
    let mut buffer = vec![0; CHUNK_BYTES];
    for Found { info, place } in tensors {
        for text in [info.name.as_str(), info.dtype.name()] {
            count(hash, text.len() as u64);
            hash.update(text);
        }
        count(hash, info.shape.len() as u64);
        for size in &info.shape {
            count(hash, *size as u64);
        }
        count(hash, place.length);
        let end = place.offset + place.length;
        for offset in (place.offset..end).step_by(CHUNK_BYTES) {
            let buffer = &mut buffer[..CHUNK_BYTES.min((end - offset) as usize)];
            checkpoint.read_stored(place.file, offset, buffer)?;
            hash.update(buffer);
        }
    }
    Ok(())
}
