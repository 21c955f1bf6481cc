//! The plain export: what other tools read, a JSON list with one object per (query, response), unencrypted.
//!
//! `[{"query": text, "response": text, "query_ids": [ids], "response_ids": [ids]}, …]`, one object per line.

use serde::Serialize;

use super::FileError;
use crate::fingerprint::FingerprintSet;

#[derive(Serialize)]
struct Pair<'a> {
    query: &'a str,
    response: &'a str,
    query_ids: &'a [u32],
    response_ids: &'a [u32],
}

/// Every query with each of its valid responses, in order.
///
/// # Errors
/// [`FileError::Json`], which a correct serialiser never gives.
pub fn render(set: &FingerprintSet) -> Result<Vec<u8>, FileError> {
    let mut out = b"[".to_vec();
    let mut separator: &[u8] = b"\n";
    for fingerprint in set.fingerprints() {
        for response in &fingerprint.responses {
            let pair = Pair {
                query: &fingerprint.query,
                response: &response.text,
                query_ids: &fingerprint.query_ids,
                response_ids: &response.ids,
            };
            out.extend_from_slice(separator);
            separator = b",\n";
            serde_json::to_writer(&mut out, &pair)
                .map_err(|error| FileError::json("plain export", &error))?;
        }
    }
    out.extend_from_slice(b"\n]\n");
    Ok(out)
}
