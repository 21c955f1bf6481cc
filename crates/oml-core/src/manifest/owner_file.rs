//! The owner's key file: `{"format":"oml-owner","version":1,"seed":"64 hexadecimal digits"}`.
//!
//! It is the one secret everything else is derived from. Who writes it to disk gives it mode 0600.

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::field::{Hex, Text};
use super::{FileError, Kind};
use crate::secret::OwnerSeed;

const KIND: Kind = Kind {
    format: "oml-owner",
    version: 1,
    max_bytes: 4096,
};

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct OwnerFile {
    format: Text<64>,
    version: u32,
    seed: Hex<32>,
}

/// The bytes of the owner's key file.
///
/// # Errors
/// [`FileError::Json`], which a correct serialiser never gives.
pub fn render(owner: &OwnerSeed) -> Result<Zeroizing<Vec<u8>>, FileError> {
    let seed = Zeroizing::new(Hex(*owner.expose()));
    let file = OwnerFile {
        format: Text(KIND.format.into()),
        version: KIND.version,
        seed: *seed,
    };
    // Room for the whole file, so that growing leaves no copy of the seed behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(256));
    serde_json::to_writer(&mut *bytes, &file)
        .map_err(|error| FileError::json(KIND.format, &error))?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// Reads the owner's key file.
///
/// # Errors
/// Any fault of the file; none of them shows the seed.
pub fn parse(bytes: &[u8]) -> Result<OwnerSeed, FileError> {
    let file: OwnerFile = KIND.parse(bytes)?;
    let seed = Zeroizing::new(file.seed);
    Ok(OwnerSeed::new(seed.0))
}
