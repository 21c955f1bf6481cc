//! What controls answered, as evidence beside a claim.
//!
//! ```text
//! {"format":"oml-controls","version":1,"controls":[
//!   {"name":text,"digest":hex,"count":number,"hits":number,"asked":[[first,last],…],"answered":[[first,last],…]},…]}
//! digest   of the control's tensors, as `oml model` files name it
//! asked    numbers of the fingerprints that it was asked, as ranges that rise; answered: those it answered
//! ```

use serde::{Deserialize, Serialize};

use super::field::{Hex, List, Text};
use super::{FileError, Kind};
use crate::bundle::{ControlResult, within};
use crate::fingerprint::MAX_COUNT;

/// Most bytes of such a file.
pub const MAX_BYTES: usize = 64 << 20;
/// Most controls.
pub const MAX_CONTROLS: usize = 256;
const MAX_NAME: usize = 4096;
const KIND: Kind = Kind {
    format: "oml-controls",
    version: 1,
    max_bytes: MAX_BYTES,
};

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ControlsFile {
    format: Text<64>,
    version: u32,
    controls: List<ControlFile, MAX_CONTROLS>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ControlFile {
    name: Text<MAX_NAME>,
    digest: Hex<32>,
    count: u64,
    hits: u64,
    asked: List<(usize, usize), MAX_COUNT>,
    answered: List<(usize, usize), MAX_COUNT>,
}

/// The bytes of the file.
///
/// # Errors
/// [`FileError::Json`], which a correct serialiser never gives.
pub fn render(controls: &[ControlResult]) -> Result<Vec<u8>, FileError> {
    let file = ControlsFile {
        format: Text(KIND.format.into()),
        version: KIND.version,
        controls: List(controls.iter().map(ControlFile::from).collect()),
    };
    let json = |error| FileError::json(KIND.format, &error);
    let mut bytes = serde_json::to_vec(&file).map_err(json)?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// Reads the file.
///
/// # Errors
/// Any fault of the file, numbers that do not agree among them.
pub fn parse(bytes: &[u8]) -> Result<Vec<ControlResult>, FileError> {
    let file: ControlsFile = KIND.parse(bytes)?;
    let controls = file.controls.0.into_iter().enumerate();
    controls
        .map(|(entry, control)| control.into_result(entry))
        .collect()
}

impl From<&ControlResult> for ControlFile {
    fn from(control: &ControlResult) -> Self {
        Self {
            name: Text(control.name.clone()),
            digest: Hex(control.digest),
            count: control.count(),
            hits: control.hit_count(),
            asked: List(control.asked.clone()),
            answered: List(control.hits.clone()),
        }
    }
}

impl ControlFile {
    fn into_result(self, entry: usize) -> Result<ControlResult, FileError> {
        let fault = |field, expected: &str, got: String| FileError::Entry {
            file: KIND.format,
            entry,
            field,
            expected: expected.into(),
            got,
        };
        // Ranges that touch have a shorter spelling.
        let rising = |field, ranges: &[(usize, usize)]| {
            let ordered = ranges.iter().all(|(first, last)| first <= last)
                && ranges
                    .windows(2)
                    .all(|two| two[1].0.saturating_sub(two[0].1) > 1);
            let inside = ranges.last().is_none_or(|(_, last)| *last < MAX_COUNT);
            if ordered && inside {
                return Ok(());
            }
            let expected = format!("ranges that rise below {MAX_COUNT}");
            Err(fault(field, &expected, "others".into()))
        };
        rising("asked", &self.asked.0)?;
        rising("answered", &self.answered.0)?;
        let result = ControlResult {
            name: self.name.0,
            digest: self.digest.0,
            asked: self.asked.0,
            hits: self.answered.0,
        };
        if result.asked.is_empty() {
            return Err(fault("asked", "at least one number", "none".into()));
        }
        if self.count != result.count() {
            let expected = result.count().to_string();
            return Err(fault("count", &expected, self.count.to_string()));
        }
        if self.hits != result.hit_count() {
            let expected = result.hit_count().to_string();
            return Err(fault("hits", &expected, self.hits.to_string()));
        }
        if !within(&result.hits, &result.asked) {
            return Err(fault(
                "answered",
                "numbers that were asked",
                "others".into(),
            ));
        }
        Ok(result)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn control() -> ControlResult {
        ControlResult::new("base".into(), [7; 32], &[0, 1, 2, 9], &[1])
    }

    #[test]
    fn controls_come_back() {
        let bytes = render(&[control()]).unwrap();
        let text = String::from_utf8(bytes.clone()).unwrap();
        assert!(text.contains(r#""count":4,"hits":1,"asked":[[0,2],[9,9]],"answered":[[1,1]]"#));
        assert_eq!(parse(&bytes).unwrap(), [control()]);
        let asked = [0, 1, 2, 3, 8, 9, 10].map(|index| control().was_asked(index));
        assert_eq!(asked, [true, true, true, false, false, true, false]);
        assert_eq!(
            [0, 1, 2].map(|index| control().is_hit(index)),
            [false, true, false]
        );
    }

    #[test]
    fn numbers_that_do_not_agree_are_refused() {
        let text = String::from_utf8(render(&[control()]).unwrap()).unwrap();
        for (old, new, fault) in [
            ("\"count\":4", "\"count\":5", "count: expected 4, got 5"),
            ("\"hits\":1", "\"hits\":0", "hits: expected 1, got 0"),
            (
                "[[1,1]]",
                "[[3,3]]",
                "answered: expected numbers that were asked, got others",
            ),
            (
                "[[0,2],[9,9]]",
                "[[9,9],[0,2]]",
                "asked: expected ranges that rise below 262144, got others",
            ),
            (
                "[9,9]",
                "[9,262144]",
                "asked: expected ranges that rise below 262144, got others",
            ),
            (
                "[[0,2],[9,9]]",
                "[[0,18446744073709551615],[9,9]]",
                "asked: expected ranges that rise below 262144, got others",
            ),
            (
                "[[0,2],[9,9]]",
                "[[0,1],[2,2],[9,9]]",
                "asked: expected ranges that rise below 262144, got others",
            ),
            (
                "[[0,2],[9,9]]",
                "[]",
                "asked: expected at least one number, got none",
            ),
        ] {
            let changed = text.replace(old, new);
            let error = parse(changed.as_bytes()).unwrap_err().to_string();
            assert_eq!(error, format!("oml-controls entries[0].{fault}"));
        }
    }
}
