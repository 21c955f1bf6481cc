//! Opened fingerprints, one per line, each as `oml fingerprints open` writes it ([`super::opening_file`]).

use super::opening_file::{self, MAX_BYTES as MAX_LINE_BYTES};
use super::{FileError, Kind};
use crate::bundle::Opened;
use crate::fingerprint::MAX_COUNT;

/// Most bytes of such a file.
pub const MAX_BYTES: usize = 256 << 20;
const KIND: Kind = Kind {
    format: "oml-opening",
    version: 1,
    max_bytes: MAX_BYTES,
};

/// The lines of `opened`, in order.
///
/// # Errors
/// [`FileError::Json`], which a correct serialiser never gives.
pub fn render(opened: &[Opened]) -> Result<Vec<u8>, FileError> {
    let mut bytes = Vec::new();
    for Opened { opening, proof } in opened {
        bytes.extend(opening_file::render(opening, proof)?);
    }
    Ok(bytes)
}

/// Reads the lines; whether they belong to a set is for [`crate::bundle::check_openings`] to say.
///
/// # Errors
/// Any fault of any line, with its number.
pub fn parse(bytes: &[u8]) -> Result<Vec<Opened>, FileError> {
    KIND.judge_size(bytes.len())?;
    let mut opened = Vec::new();
    for (place, line) in bytes.split_inclusive(|byte| *byte == b'\n').enumerate() {
        if place == MAX_COUNT || line.len() > MAX_LINE_BYTES || !line.ends_with(b"\n") {
            return Err(FileError::Entry {
                file: KIND.format,
                entry: place,
                field: "line",
                expected: format!("at most {MAX_COUNT} lines, each with its end"),
                got: "another".into(),
            });
        }
        let (opening, proof) =
            opening_file::parse(line).map_err(|error| error.at_line(place + 1))?;
        opened.push(Opened { opening, proof });
    }
    Ok(opened)
}
