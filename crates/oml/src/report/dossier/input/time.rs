//! Times in files: within what a calendar has, and as people read them.

use super::field;

/// The first second of the year 10000.
const END: u64 = 253_402_300_800;
const DAY: u64 = 86_400;
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

/// `2026-11-26 17:40 UTC`.
pub(super) fn minute(seconds: u64) -> String {
    let (date, time) = (date(seconds / DAY), seconds % DAY);
    format!("{date} {:02}:{:02} UTC", time / 3600, time % 3600 / 60)
}

/// `2026-11-26 17:40:02 UTC`.
pub(super) fn second(seconds: u64) -> String {
    let (date, time) = (date(seconds / DAY), seconds % DAY);
    format!(
        "{date} {:02}:{:02}:{:02} UTC",
        time / 3600,
        time % 3600 / 60,
        time % 60
    )
}

/// The day in the Gregorian calendar; years begin in March while it is computed, so that the leap day comes last.
fn date(days: u64) -> String {
    const ERA: u64 = 146_097;
    let days = days + 719_468;
    let (era, day) = (days / ERA, days % ERA);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = 400 * era + year + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_of_the_calendar() {
        for (seconds, expected) in [
            (0, "1970-01-01 00:00:00 UTC"),
            (951_782_400, "2000-02-29 00:00:00 UTC"),
            (1_795_714_802, "2026-11-26 17:40:02 UTC"),
            (END - 1, "9999-12-31 23:59:59 UTC"),
        ] {
            assert_eq!(second(seconds), expected);
        }
        assert!(super::seconds("began", u64::MAX).is_err());
    }
}
