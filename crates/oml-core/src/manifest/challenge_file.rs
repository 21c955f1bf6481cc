//! A judge's challenge to a claim.
//!
//! ```text
//! {"format":"oml-challenge","version":1,"claim":hex,"root":hex,"leaves":number,"count":number,"seed":hex,"time":seconds since 1970}
//! claim   SHA-256 of the claim's `claim.json`; which fingerprints to open follows from it and the seed
//! ```

use serde::{Deserialize, Serialize};

use super::field::{Hex, Text};
use super::{FileError, Kind};
use crate::bundle::{Challenge, ChallengeError};

/// Most bytes of a challenge.
pub const MAX_BYTES: usize = 4096;
const KIND: Kind = Kind {
    format: "oml-challenge",
    version: 1,
    max_bytes: MAX_BYTES,
};

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ChallengeFile {
    format: Text<64>,
    version: u32,
    claim: Hex<32>,
    root: Hex<32>,
    leaves: u64,
    count: u64,
    seed: Hex<32>,
    time: u64,
}

/// The bytes of a challenge.
///
/// # Errors
/// A challenge that cannot be met.
pub fn render(challenge: &Challenge) -> Result<Vec<u8>, FileError> {
    challenge.validate().map_err(fault)?;
    let file = ChallengeFile {
        format: Text(KIND.format.into()),
        version: KIND.version,
        claim: Hex(challenge.claim),
        root: Hex(challenge.root),
        leaves: challenge.leaves,
        count: challenge.count,
        seed: Hex(challenge.seed),
        time: challenge.time,
    };
    let json = |error| FileError::json(KIND.format, &error);
    let mut bytes = serde_json::to_vec(&file).map_err(json)?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// Reads a challenge.
///
/// # Errors
/// Any fault of the file.
pub fn parse(bytes: &[u8]) -> Result<Challenge, FileError> {
    let file: ChallengeFile = KIND.parse(bytes)?;
    let challenge = Challenge {
        claim: file.claim.0,
        root: file.root.0,
        leaves: file.leaves,
        count: file.count,
        seed: file.seed.0,
        time: file.time,
    };
    challenge.validate().map_err(fault)?;
    Ok(challenge)
}

fn fault(error: ChallengeError) -> FileError {
    FileError::Field {
        file: KIND.format,
        field: error.field,
        expected: format!("1 to {}", error.most),
        got: error.got.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_challenge_comes_back_and_an_impossible_one_is_refused() {
        let challenge = Challenge {
            claim: [1; 32],
            root: [2; 32],
            leaves: 9,
            count: 3,
            seed: [3; 32],
            time: 1_700_000_000,
        };
        let bytes = render(&challenge).unwrap();
        assert_eq!(parse(&bytes).unwrap(), challenge);
        let text = String::from_utf8(bytes).unwrap();
        for (old, new, expected) in [
            (
                "\"count\":3",
                "\"count\":10",
                "oml-challenge count: expected 1 to 9, got 10",
            ),
            (
                "\"leaves\":9",
                "\"leaves\":0",
                "oml-challenge leaves: expected 1 to 262144, got 0",
            ),
        ] {
            let error = parse(text.replace(old, new).as_bytes()).unwrap_err();
            assert_eq!(error.to_string(), expected);
        }
    }
}
