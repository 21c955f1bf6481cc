//! Times as people read them.

use std::time::Duration;

/// `0.4 s`, `12.3 s`, `2 min 05 s`, `1 h 03 min`.
pub(crate) fn text(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    let whole = duration.as_secs();
    match whole {
        0..=99 => format!("{seconds:.1} s"),
        100..=3599 => format!("{} min {:02} s", whole / 60, whole % 60),
        _ => format!("{} h {:02} min", whole / 3600, whole % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_grow_with_the_time() {
        for (milliseconds, expected) in [
            (420, "0.4 s"),
            (12_340, "12.3 s"),
            (125_000, "2 min 05 s"),
            (3_780_000, "1 h 03 min"),
        ] {
            assert_eq!(text(Duration::from_millis(milliseconds)), expected);
        }
    }
}
