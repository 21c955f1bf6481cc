//! Times on the command line: seconds since 1970, RFC 3339, a day, or a span from now such as `15m` or `30d`.

use std::str::FromStr;

use oml_core::time_proof::parse_rfc3339;

/// A time as it was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum When {
    /// Seconds since 1970.
    At(u64),
    /// Seconds from now.
    After(u64),
}

impl When {
    /// Seconds since 1970, where it is `now`.
    pub(super) const fn resolve(self, now: u64) -> u64 {
        match self {
            Self::At(time) => time,
            Self::After(span) => now.saturating_add(span),
        }
    }
}

impl FromStr for When {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let fault = || {
            "expected seconds since 1970, YYYY-MM-DD, YYYY-MM-DDThh:mm:ssZ, or a span from now such as 15m or 30d (s, m, h, d, w)"
                .to_owned()
        };
        if let Some(time) = parse_rfc3339(text) {
            return Ok(Self::At(time));
        }
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        let number: u64 = number.parse().map_err(|_| fault())?;
        let seconds = match unit {
            "" => return Ok(Self::At(number)),
            "s" => 1,
            "m" => 60,
            "h" => 3600,
            "d" => 86_400,
            "w" => 604_800,
            _ => return Err(fault()),
        };
        number
            .checked_mul(seconds)
            .map(Self::After)
            .ok_or_else(fault)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read() {
        for (text, expected) in [
            ("1800000000", When::At(1_800_000_000)),
            ("1970-01-02", When::At(86_400)),
            ("1970-01-01T00:01:00Z", When::At(60)),
            ("90s", When::After(90)),
            ("15m", When::After(900)),
            ("2h", When::After(7200)),
            ("30d", When::After(2_592_000)),
            ("1w", When::After(604_800)),
        ] {
            assert_eq!(text.parse(), Ok(expected), "{text}");
        }
        for wrong in [
            "",
            "d",
            "1.5h",
            "-1",
            "1y",
            "15 m",
            "2023-02-29",
            "99999999999999999999",
            "99999999999999999w",
        ] {
            assert!(wrong.parse::<When>().is_err(), "{wrong}");
        }
        assert_eq!(When::After(u64::MAX).resolve(1), u64::MAX);
    }
}
