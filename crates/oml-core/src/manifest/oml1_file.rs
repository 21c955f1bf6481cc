//! The fingerprints file of the OML 1.0 reference implementation, unencrypted: `[{"key": text, "response": text}, …]`.
//!
//! Source: OML 1.0 (arXiv 2411.03887), reference implementation. It knows one response per query.

use serde::Serialize;

use super::{FileError, lines};
use crate::fingerprint::{Fingerprint, FingerprintSet};

const FILE: &str = "oml1 export";

#[derive(Serialize)]
struct Pair<'a> {
    key: &'a str,
    response: &'a str,
}

/// Every query with its response, in order, one object per line.
///
/// # Errors
/// [`FileError::Entry`] for a query with several responses, which this form cannot hold.
pub fn render(set: &FingerprintSet) -> Result<Vec<u8>, FileError> {
    lines(FILE, set.fingerprints().iter().map(pair))
}

fn pair(fingerprint: &Fingerprint) -> Result<Pair<'_>, FileError> {
    match fingerprint.responses.as_slice() {
        [response] => Ok(Pair {
            key: &fingerprint.query,
            response: &response.text,
        }),
        several => Err(FileError::Entry {
            file: FILE,
            entry: fingerprint.index,
            field: "response",
            expected: "one response per query".into(),
            got: several.len().to_string(),
        }),
    }
}
