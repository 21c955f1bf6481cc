//! A slice in the clear, as it is encrypted for its prover.
//!
//! ```text
//! {"format":"oml-slice","version":1,"part":i,"parts":n,"root":hex,"count":pairs of the whole set,
//!  "indices":[numbers in the whole set],"proofs":[[hex, …], …],"set":{an oml-fingerprint-set, numbered from 0}}
//! ```
//!
//! Every proof is verified while the file is read. Who writes it to disk encrypts it.

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::field::{Hex, List, Text};
use super::fingerprint_file::{MAX_BYTES, SetFile};
use super::{FileError, Kind};
use crate::fingerprint::MAX_COUNT;
use crate::slice::Slice;

/// Most hashes of a proof: more than a tree of [`MAX_COUNT`] leaves has levels.
pub(super) const MAX_PROOF: usize = 32;
const KIND: Kind = Kind {
    format: "oml-slice",
    version: 1,
    max_bytes: MAX_BYTES,
};

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SliceFile {
    format: Text<64>,
    version: u32,
    part: usize,
    parts: usize,
    root: Hex<32>,
    count: usize,
    indices: List<usize, MAX_COUNT>,
    proofs: List<List<Hex<32>, MAX_PROOF>, MAX_COUNT>,
    set: SetFile,
}

/// The bytes of a slice, not encrypted.
///
/// # Errors
/// [`FileError::TooLarge`] for a slice that no reader would accept.
pub fn render(slice: &Slice) -> Result<Zeroizing<Vec<u8>>, FileError> {
    let proof = |proof: &Vec<_>| List(proof.iter().copied().map(Hex).collect());
    let file = SliceFile {
        format: Text(KIND.format.into()),
        version: KIND.version,
        part: slice.part,
        parts: slice.parts,
        root: Hex(slice.root),
        count: slice.count,
        indices: List(slice.indices().to_vec()),
        proofs: List(slice.proofs().iter().map(proof).collect()),
        set: slice.set().into(),
    };
    let bytes = serde_json::to_vec(&file).map_err(|error| FileError::json(KIND.format, &error))?;
    let bytes = Zeroizing::new(bytes);
    KIND.judge_size(bytes.len())?;
    Ok(bytes)
}

/// Reads a decrypted slice.
///
/// # Errors
/// Any fault of the file, a proof that does not lead to the root included.
pub fn parse(bytes: &[u8]) -> Result<Slice, FileError> {
    let file: SliceFile = KIND.parse(bytes)?;
    let proof = |proof: List<Hex<32>, MAX_PROOF>| proof.0.into_iter().map(|hash| hash.0).collect();
    Slice::new(
        (file.part, file.parts),
        (file.root.0, file.count),
        file.indices.0,
        file.proofs.0.into_iter().map(proof).collect(),
        file.set.try_into()?,
    )
    .map_err(|source| FileError::Set {
        file: KIND.format,
        source,
    })
}
