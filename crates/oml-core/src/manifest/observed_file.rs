//! What was observed of a suspect elsewhere, for tracing: which fingerprints it answered.
//!
//! ```text
//! {"format":"oml-observed","version":1,"merkle_root": hex of the set's root (32 bytes),
//!  "observed":[{"index":0,"answer":"hit"},{"index":3,"answer":"miss"},{"index":4,"answer":"refused"},…]}
//! ```
//!
//! Fingerprints that are not listed were not asked. Who reads the file learns indices and answers, and nothing of the pairs.

use serde::{Deserialize, Serialize};

use super::field::{Hex, List, Text};
use super::{FileError, Kind};
use crate::copies::Observation;
use crate::fingerprint::MAX_COUNT;
use crate::merkle::Hash;

/// Most bytes of such a file.
pub const MAX_BYTES: usize = 32 << 20;
const KIND: Kind = Kind {
    format: "oml-observed",
    version: 1,
    max_bytes: MAX_BYTES,
};

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ObservedFile {
    format: Text<64>,
    version: u32,
    merkle_root: Hex<32>,
    observed: List<Answer, MAX_COUNT>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Answer {
    index: usize,
    answer: AnswerKind,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum AnswerKind {
    Hit,
    Miss,
    Refused,
}

/// The bytes of a file about `observations`, one per fingerprint of the set under `root`.
///
/// # Errors
/// [`FileError::Json`], which a correct serialiser never gives.
pub fn render(root: &Hash, observations: &[Observation]) -> Result<Vec<u8>, FileError> {
    let answer = |(index, observation): (usize, &Observation)| {
        let answer = match observation {
            Observation::Hit => AnswerKind::Hit,
            Observation::Miss => AnswerKind::Miss,
            Observation::Refused => AnswerKind::Refused,
            Observation::Unknown => return None,
        };
        Some(Answer { index, answer })
    };
    let file = ObservedFile {
        format: Text(KIND.format.into()),
        version: KIND.version,
        merkle_root: Hex(*root),
        observed: List(observations.iter().enumerate().filter_map(answer).collect()),
    };
    let mut bytes =
        serde_json::to_vec(&file).map_err(|error| FileError::json(KIND.format, &error))?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// Reads what was observed of the set of `count` fingerprints under `root`: one observation per fingerprint.
///
/// # Errors
/// Any fault of the file, another set's root, an index that the set does not have or that comes twice.
pub fn parse(bytes: &[u8], root: &Hash, count: usize) -> Result<Vec<Observation>, FileError> {
    let file: ObservedFile = KIND.parse(bytes)?;
    let field = |field, expected: String, got: String| FileError::Field {
        file: KIND.format,
        field,
        expected,
        got,
    };
    if file.merkle_root.0 != *root {
        let (expected, got) = (super::hex(root), super::hex(&file.merkle_root.0));
        return Err(field("merkle_root", expected, got));
    }
    let mut observations = vec![Observation::Unknown; count];
    for Answer { index, answer } in file.observed.0 {
        let Some(place) = observations.get_mut(index) else {
            let expected = format!("numbers below {count}");
            return Err(field("index", expected, index.to_string()));
        };
        if *place != Observation::Unknown {
            let expected = "every fingerprint once".to_owned();
            return Err(field("index", expected, format!("{index} again")));
        }
        *place = match answer {
            AnswerKind::Hit => Observation::Hit,
            AnswerKind::Miss => Observation::Miss,
            AnswerKind::Refused => Observation::Refused,
        };
    }
    Ok(observations)
}
