//! The file of a bundle: a tar archive that has one spelling.
//!
//! ```text
//! entry     one ustar header (512 bytes: mode 0644, user and group 0, no names of them, time 0, a plain file), its bytes, zeros to a
//!           multiple of 512
//! archive   the entries in the order of ENTRIES, each at most once; 1,024 zeros; nothing else
//! ```
//!
//! A reader takes the entries out and writes the archive again: whatever differs from that, in any byte, is refused. So there is no
//! place for a link, a sparse map, an extended header, a path or a byte that no check looks at. Source: POSIX.1-1988 (ustar).

use tar::{Archive, Builder, EntryType, Header};

/// Names of what a bundle may hold, in this order.
pub const ENTRIES: [&str; 8] = [
    STATEMENT, OPENINGS, TRANSCRIPT, CONTROLS, RFC3161, GIT, LEDGER, SIGNATURE,
];
/// What is claimed.
pub const STATEMENT: &str = "claim.json";
/// The opened fingerprints.
pub const OPENINGS: &str = "openings.jsonl";
/// The audit.
pub const TRANSCRIPT: &str = "transcript.jsonl";
/// What the controls answered.
pub const CONTROLS: &str = "controls.json";
/// A time stamp of the root.
pub const RFC3161: &str = "time/rfc3161.tsr";
/// A commit that holds the root.
pub const GIT: &str = "time/git.objects";
/// A transaction that holds the root.
pub const LEDGER: &str = "time/ledger.json";
/// The owner's signature.
pub const SIGNATURE: &str = "signature.json";

/// Most bytes of a bundle.
pub const MAX_BYTES: usize = 1 << 30;

/// One way an archive can be wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ArchiveError {
    /// More bytes than a bundle has.
    #[error("bundle: expected at most {MAX_BYTES} bytes, got {got}")]
    TooLarge {
        /// Bytes found.
        got: usize,
    },
    /// Not a tar archive.
    #[error("bundle: expected a tar archive, got other or cut bytes at {at}")]
    Broken {
        /// Where it ceases to be one.
        at: usize,
    },
    /// A link, a folder, an extended header, a sparse file.
    #[error("bundle entry {entry}: expected a plain file, got tar type {got:?}")]
    Kind {
        /// Number of the entry.
        entry: usize,
        /// The type, as the header has it.
        got: char,
    },
    /// A name that no bundle has.
    #[error("bundle entry {entry}: expected one of {}, got another name", ENTRIES.join(", "))]
    Name {
        /// Number of the entry.
        entry: usize,
    },
    /// The same name twice.
    #[error("bundle entry {entry}: expected each name once, got {name} again")]
    Repeated {
        /// Number of the entry.
        entry: usize,
        /// The name.
        name: &'static str,
    },
    /// Names in another order.
    #[error("bundle entry {entry}: expected the order {}, got {name} after a later one", ENTRIES.join(", "))]
    Order {
        /// Number of the entry.
        entry: usize,
        /// The name.
        name: &'static str,
    },
    /// The same entries are written differently.
    #[error("bundle: expected the one spelling of its entries, got another byte at {at}")]
    Spelling {
        /// The first byte that differs.
        at: usize,
    },
    /// An entry that a bundle must have.
    #[error("bundle: expected {name}, got none")]
    Missing {
        /// The name.
        name: &'static str,
    },
}

/// An entry: its name and its bytes.
pub type Entry<'a> = (&'static str, &'a [u8]);

/// The archive of `entries`, which are in order.
///
/// # Errors
/// [`ArchiveError::TooLarge`], which a reader would give too.
pub fn render(entries: &[Entry<'_>]) -> Result<Vec<u8>, ArchiveError> {
    let size: usize = entries.iter().map(|(_, bytes)| bytes.len() + 1024).sum();
    let mut builder = Builder::new(Vec::with_capacity(size + 1024));
    for (name, bytes) in entries {
        let mut header = Header::new_ustar();
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(bytes.len() as u64);
        header.set_entry_type(EntryType::Regular);
        // Writing into memory fails for names that are too long, which these are not.
        let appended = builder.append_data(&mut header, name, *bytes);
        appended.map_err(|_| ArchiveError::Missing { name })?;
    }
    let archive = builder.into_inner().unwrap_or_default();
    if archive.len() > MAX_BYTES {
        return Err(ArchiveError::TooLarge { got: archive.len() });
    }
    Ok(archive)
}

/// The entries of an archive, in order.
///
/// # Errors
/// The first fault found.
pub fn parse(bytes: &[u8]) -> Result<Vec<Entry<'_>>, ArchiveError> {
    if bytes.len() > MAX_BYTES {
        return Err(ArchiveError::TooLarge { got: bytes.len() });
    }
    let mut archive = Archive::new(bytes);
    let broken = |at| ArchiveError::Broken { at };
    let entries = archive.entries().map_err(|_| broken(0))?;
    let (mut found, mut at) = (Vec::<Entry<'_>>::new(), 0);
    // Raw: extended headers are entries of a type of their own, and not obeyed.
    for entry in entries.raw(true) {
        let entry = entry.map_err(|_| broken(at))?;
        let number = found.len();
        let kind = entry.header().entry_type();
        if kind != EntryType::Regular {
            let got = char::from(kind.as_byte());
            return Err(ArchiveError::Kind { entry: number, got });
        }
        let path = entry.header().path_bytes();
        let place = ENTRIES.iter().position(|name| name.as_bytes() == &*path);
        let place = place.ok_or(ArchiveError::Name { entry: number })?;
        let name = ENTRIES[place];
        if found.iter().any(|(earlier, _)| *earlier == name) {
            return Err(ArchiveError::Repeated {
                entry: number,
                name,
            });
        }
        let later = |(other, _): &Entry<'_>| ENTRIES[place..].contains(other);
        if found.iter().any(later) {
            return Err(ArchiveError::Order {
                entry: number,
                name,
            });
        }
        let begin = usize::try_from(entry.raw_file_position()).map_err(|_| broken(at))?;
        let size = usize::try_from(entry.size()).map_err(|_| broken(begin))?;
        let rest = bytes.get(begin..).ok_or_else(|| broken(begin))?;
        let (contents, _) = rest.split_at_checked(size).ok_or_else(|| broken(begin))?;
        at = begin + size;
        found.push((name, contents));
    }
    let again = render(&found)?;
    if again != bytes {
        let same = again.iter().zip(bytes).take_while(|(a, b)| a == b);
        return Err(ArchiveError::Spelling { at: same.count() });
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO: [Entry<'static>; 2] = [(STATEMENT, b"one"), (SIGNATURE, b"two")];

    /// An archive of one entry that `change` may make unusual.
    fn archive_with(change: impl FnOnce(&mut Header)) -> Vec<u8> {
        let mut header = Header::new_ustar();
        header.set_mode(0o644);
        header.set_mtime(0);
        header.set_uid(0);
        header.set_gid(0);
        header.set_path(STATEMENT).unwrap();
        header.set_size(3);
        header.set_entry_type(EntryType::Regular);
        change(&mut header);
        header.set_cksum();
        [header.as_bytes(), &b"one"[..], &[0; 509], &[0; 1024]].concat()
    }

    #[test]
    fn entries_come_back() {
        let bytes = render(&TWO).unwrap();
        assert_eq!(parse(&bytes).unwrap(), TWO);
        assert_eq!(bytes.len(), 2 * 1024 + 1024);
        assert_eq!(parse(&render(&[]).unwrap()).unwrap(), []);
        assert_eq!(
            parse(&archive_with(|_| ())).unwrap(),
            [(STATEMENT, &b"one"[..])]
        );
    }

    #[test]
    fn unusual_entries_are_refused() {
        for (kind, got) in [
            (EntryType::Symlink, '2'),
            (EntryType::Link, '1'),
            (EntryType::Directory, '5'),
            (EntryType::Fifo, '6'),
            (EntryType::GNUSparse, 'S'),
            (EntryType::GNULongName, 'L'),
            (EntryType::GNULongLink, 'K'),
            (EntryType::XHeader, 'x'),
            (EntryType::XGlobalHeader, 'g'),
            (EntryType::Continuous, '7'),
        ] {
            let bytes = archive_with(|header| header.set_entry_type(kind));
            assert_eq!(parse(&bytes), Err(ArchiveError::Kind { entry: 0, got }));
        }
        for name in [
            "../claim.json",
            "/claim.json",
            "./claim.json",
            "claim.json/",
            "time/../claim.json",
            "Claim.json",
            "",
        ] {
            let bytes = archive_with(|header| {
                let field = &mut header.as_ustar_mut().unwrap().name;
                field.fill(0);
                field[..name.len()].copy_from_slice(name.as_bytes());
            });
            assert_eq!(
                parse(&bytes),
                Err(ArchiveError::Name { entry: 0 }),
                "{name}"
            );
        }
        let prefixed = archive_with(|header| {
            header.as_ustar_mut().unwrap().prefix[0] = b'a';
        });
        assert_eq!(parse(&prefixed), Err(ArchiveError::Name { entry: 0 }));
    }

    #[test]
    fn another_spelling_is_refused() {
        let changes: [fn(&mut Header); 7] = [
            |header| header.set_mode(0o600),
            |header| header.set_uid(1000),
            |header| header.set_gid(1000),
            |header| header.set_mtime(1),
            |header| header.set_username("root").unwrap(),
            |header| header.set_device_minor(1).unwrap(),
            |header| header.set_link_name("x").unwrap(),
        ];
        for change in changes {
            let fault = parse(&archive_with(change)).unwrap_err();
            assert!(matches!(fault, ArchiveError::Spelling { .. }), "{fault}");
        }
        let whole = render(&TWO).unwrap();
        for longer in [&[0][..], &[0; 512], b"x"] {
            let bytes = [&whole, longer].concat();
            let at = whole.len();
            assert_eq!(parse(&bytes), Err(ArchiveError::Spelling { at }));
        }
        for shorter in [whole.len() - 1, whole.len() - 512, whole.len() - 1024] {
            let fault = parse(&whole[..shorter]).unwrap_err();
            assert!(
                matches!(
                    fault,
                    ArchiveError::Spelling { .. } | ArchiveError::Broken { .. }
                ),
                "{fault}"
            );
        }
    }

    #[test]
    fn entries_have_one_order_and_no_company() {
        let swapped = render(&[TWO[1], TWO[0]]).unwrap();
        let name = STATEMENT;
        assert_eq!(parse(&swapped), Err(ArchiveError::Order { entry: 1, name }));
        let twice = render(&[TWO[0], TWO[0]]).unwrap();
        assert_eq!(
            parse(&twice),
            Err(ArchiveError::Repeated { entry: 1, name })
        );
        let huge = archive_with(|header| header.set_size(1 << 40));
        assert_eq!(parse(&huge), Err(ArchiveError::Broken { at: 512 }));
        // Zeros that nobody touches take no memory.
        let got = MAX_BYTES + 1;
        assert_eq!(parse(&vec![0; got]), Err(ArchiveError::TooLarge { got }));
        assert!(matches!(
            parse(b"no archive"),
            Err(ArchiveError::Broken { .. })
        ));
    }

    #[test]
    fn every_byte_counts() {
        let bytes = render(&TWO).unwrap();
        for at in 0..bytes.len() {
            for bit in [1, 0x80] {
                let mut changed = bytes.clone();
                changed[at] ^= bit;
                assert_ne!(parse(&changed).as_deref(), Ok(&TWO[..]), "{at}");
            }
        }
    }
}
