//! Times in files: within what a calendar has, and as people read them.

use oml_core::time_proof::rfc3339;

use super::field;

/// The first second of the year 10000.
const END: u64 = 253_402_300_800;
/// The longest time that anything took: about thirty years.
const LONGEST: f64 = 1e9;

/// Seconds since 1970 from milliseconds.
///
/// # Errors
/// When the year has five digits.
pub(super) fn seconds(name: &str, milliseconds: u64) -> anyhow::Result<u64> {
    Ok(field::at_most(name, milliseconds, 1000 * END - 1)? / 1000)
}

/// A duration in seconds.
///
/// # Errors
/// When it is negative or absurd.
pub(super) fn duration(name: &str, seconds: f64) -> anyhow::Result<f64> {
    field::number(name, seconds, 0.0, LONGEST)
}

/// `2026-11-26 17:40:02 UTC`.
pub(super) fn moment(seconds: u64) -> String {
    rfc3339(seconds).replace('T', " ").replace('Z', " UTC")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_a_calendar() {
        for (seconds, expected) in [
            (0, "1970-01-01 00:00:00 UTC"),
            (1_795_714_802, "2026-11-26 17:40:02 UTC"),
            (END - 1, "9999-12-31 23:59:59 UTC"),
        ] {
            assert_eq!(moment(seconds), expected);
        }
        assert!(super::seconds("began", u64::MAX).is_err());
    }
}
