//! Proofs that a set's root existed at some time, verified offline: RFC 3161 time stamps, git commits and transactions of a ledger.
//!
//! What is stamped or committed is a file with this line and nothing else (UTF-8, ended by one line feed; 125 bytes):
//!
//! ```text
//! oml root 0x‹64 hexadecimal digits, as `oml generate` prints them› owner 0x‹40 digits, as `oml keygen` prints them›
//! ```
//!
//! The owner's address is in it so that nobody who sees opened pairs later can claim the root as their own. With that file in
//! `root.txt`, `openssl ts -query -data root.txt -sha256 -cert` makes the request for a time-stamping authority, and
//! `git cat-file --batch` the proof of a commit ([`git`]); a transaction's input holds the line itself ([`ledger`]).

mod cms;
pub mod git;
pub mod ledger;
mod reader;
pub mod rfc3161;

use std::time::Duration;

use der::DateTime;

use crate::manifest::hex;
use crate::merkle::Hash;
use crate::signing::Address;

/// The line that is stamped or committed for a set's root and its owner.
#[must_use]
pub fn line(root: &Hash, owner: &Address) -> String {
    format!("oml root 0x{} owner {owner}\n", hex(root))
}

/// What a file of a time proof seems to be; whether it is one, its parser says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A time stamp after RFC 3161.
    Rfc3161,
    /// Objects of a git repository.
    Git,
    /// A transaction in a block.
    Ledger,
}

impl Kind {
    /// Tells the kinds apart: a time stamp is an ASN.1 sequence, git's objects begin with hexadecimal digits, and a transaction's proof is JSON.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        const SEQUENCE: u8 = 0x30;
        match bytes {
            // The digit 0 is the same byte, but no length follows it.
            [SEQUENCE, b'0'..=b'9' | b'a'..=b'f', third, ..] if third.is_ascii_hexdigit() => {
                Self::Git
            }
            [SEQUENCE, ..] => Self::Rfc3161,
            [b'{', ..] => Self::Ledger,
            _ => Self::Git,
        }
    }
}

/// A time in seconds since 1970 as RFC 3339 writes it, in UTC; the seconds themselves beyond the year 9999.
#[must_use]
pub fn rfc3339(seconds: u64) -> String {
    let time = DateTime::from_unix_duration(Duration::from_secs(seconds));
    time.map_or_else(|_| format!("{seconds} s"), |time| time.to_string())
}

/// Reads `YYYY-MM-DDThh:mm:ssZ`, or a day, which is its first second.
#[must_use]
pub fn parse_rfc3339(text: &str) -> Option<u64> {
    let day = text.len() == "YYYY-MM-DD".len();
    let whole = if day {
        format!("{text}T00:00:00Z")
    } else {
        text.to_owned()
    };
    let time: DateTime = whole.parse().ok()?;
    Some(time.unix_duration().as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_and_read() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (1_709_164_800, "2024-02-29T00:00:00Z"),
            (1_795_711_199, "2026-11-26T16:39:59Z"),
        ] {
            assert_eq!(rfc3339(seconds), text);
            assert_eq!(parse_rfc3339(text), Some(seconds));
        }
        assert_eq!(parse_rfc3339("2024-02-29"), Some(1_709_164_800));
        assert_eq!(rfc3339(u64::MAX), format!("{} s", u64::MAX));
        for wrong in [
            "",
            "2023-02-29",
            "2024-02-29T00:00:00",
            "2024-02-29T00:00:00+01:00",
            "1969-12-31",
        ] {
            assert_eq!(parse_rfc3339(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn kinds_are_told_apart() {
        assert_eq!(Kind::of(&[0x30, 0x82, 0x0a]), Kind::Rfc3161);
        assert_eq!(Kind::of(&[0x30, 0x30, 0x02]), Kind::Rfc3161);
        assert_eq!(Kind::of(b"00a1b2 commit 3\n"), Kind::Git);
        assert_eq!(Kind::of(b"f0a1b2 commit 3\n"), Kind::Git);
        assert_eq!(Kind::of(b""), Kind::Git);
        assert_eq!(Kind::of(b"{}"), Kind::Ledger);
    }
}
