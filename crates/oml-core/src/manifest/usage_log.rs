//! The usage log beside a set: one JSON object per line, appended before anything is shown.
//!
//! ```text
//! {"format":"oml-usage","version":1,"time":seconds since 1970,"root":hex,"event":"check","suspect":path,"pairs":[[first,last],…]}
//!                                                                        "event":"slice","to":"age1…",
//!                                                                        "event":"audit","suspect":URL,
//!                                                                        "event":"open",
//! ```
//!
//! A line that a killed run left torn is passed over and counted, and the next line begins after it.

use serde::{Deserialize, Serialize};

use super::field::{Hex, List, Text};
use super::{FileError, Kind};
use crate::fingerprint::MAX_COUNT;
use crate::usage::{Event, Tally, Usage};

/// Most bytes of a log that is read.
pub const MAX_BYTES: usize = 256 << 20;
/// Most bytes of a suspect's path.
const MAX_NAME: usize = 4096;
const KIND: Kind = Kind {
    format: "oml-usage",
    version: 1,
    max_bytes: MAX_BYTES,
};

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    format: Text<64>,
    version: u32,
    time: u64,
    root: Hex<32>,
    event: Text<64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    suspect: Option<Text<MAX_NAME>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<Text<MAX_NAME>>,
    pairs: List<(usize, usize), MAX_COUNT>,
}

/// One line, with its end.
///
/// # Errors
/// [`FileError::Json`], which a correct serialiser never gives.
pub fn render(usage: &Usage) -> Result<Vec<u8>, FileError> {
    let cut = |text: &String| Text(text[..text.floor_char_boundary(MAX_NAME)].to_owned());
    let (event, suspect, to) = match &usage.event {
        Event::Check { suspect } => ("check", Some(cut(suspect)), None),
        Event::Slice { to } => ("slice", None, Some(cut(to))),
        Event::Audit { suspect } => ("audit", Some(cut(suspect)), None),
        Event::Open => ("open", None, None),
    };
    let line = Line {
        format: Text(KIND.format.into()),
        version: KIND.version,
        time: usage.time,
        root: Hex(usage.root),
        event: Text(event.into()),
        suspect,
        to,
        pairs: List(usage.pairs.clone()),
    };
    let json = |error| FileError::json(KIND.format, &error);
    let mut bytes = serde_json::to_vec(&line).map_err(json)?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// Adds every line of a log to `tally`; returns how many could not be read.
///
/// # Errors
/// [`FileError::TooLarge`].
pub fn read(bytes: &[u8], tally: &mut Tally) -> Result<usize, FileError> {
    KIND.judge_size(bytes.len())?;
    let mut unreadable = 0;
    for line in bytes.split(|byte| *byte == b'\n') {
        if line.is_empty() {
            continue;
        }
        match parse(line) {
            Some(usage) => tally.add(usage),
            None => unreadable += 1,
        }
    }
    Ok(unreadable)
}

fn parse(line: &[u8]) -> Option<Usage> {
    let line: Line = KIND.parse(line).ok()?;
    let event = match (line.event.0.as_str(), line.suspect, line.to) {
        ("check", Some(suspect), None) => Event::Check { suspect: suspect.0 },
        ("slice", None, Some(to)) => Event::Slice { to: to.0 },
        ("audit", Some(suspect), None) => Event::Audit { suspect: suspect.0 },
        ("open", None, None) => Event::Open,
        _ => return None,
    };
    Some(Usage {
        time: line.time,
        root: line.root.0,
        event,
        pairs: line.pairs.0,
    })
}
