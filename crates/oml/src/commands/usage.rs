//! The usage log beside a file of pairs: lines are appended and synced before anything is shown.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use oml_core::manifest::usage_log::{self, MAX_BYTES};
use oml_core::merkle::Hash;
use oml_core::usage::{Event, Tally, Usage, ranges};

use super::asked::{Asked, log_path};
use crate::files;
use crate::printer::Printer;

/// A log that is open for appending.
pub(super) struct Log {
    file: File,
    path: PathBuf,
    root: Hash,
}

impl Log {
    /// The log beside the file `fingerprints` of pairs of the set behind `root`; made where there is none.
    ///
    /// # Errors
    /// When the system refuses.
    pub(super) fn open(fingerprints: &Path, root: Hash) -> anyhow::Result<Self> {
        let path = log_path(fingerprints);
        let fault = || format!("cannot write {}", path.display());
        let mut options = OpenOptions::new();
        options.read(true).append(true).create(true);
        #[cfg(unix)]
        {
            use std::os::unix::fs::OpenOptionsExt as _;
            options.mode(0o600);
        }
        let file = options.open(&path).with_context(fault)?;
        files::sync_folder_of(&path)?;
        Ok(Self { file, path, root })
    }

    /// Appends that `event` happens to the pairs with the numbers `indices` in the whole set, which rise. It lasts once it is [synced](Self::sync).
    ///
    /// # Errors
    /// When the system refuses; then nothing may be shown.
    pub(super) fn push(&mut self, event: Event, indices: &[usize]) -> anyhow::Result<()> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let usage = Usage {
            time: now.map_or(0, |since| since.as_secs()),
            root: self.root,
            event,
            pairs: ranges(indices),
        };
        let line = usage_log::render(&usage)?;
        append(&mut self.file, line)
            .with_context(|| format!("cannot write {}", self.path.display()))
    }

    /// Makes what was appended last.
    ///
    /// # Errors
    /// When the system refuses; then nothing may be shown.
    pub(super) fn sync(&self) -> anyhow::Result<()> {
        self.file
            .sync_data()
            .with_context(|| format!("cannot write {}", self.path.display()))
    }
}

/// Writes down that `event` happens to the pairs with the numbers `indices` in the set behind `root`, for good.
///
/// # Errors
/// When the log cannot be written; then nothing may be shown.
pub(super) fn record(
    fingerprints: &Path,
    root: Hash,
    event: Event,
    indices: &[usize],
) -> anyhow::Result<()> {
    let mut log = Log::open(fingerprints, root)?;
    log.push(event, indices)?;
    log.sync()
}

/// Writes down that a model of the user's was asked all pairs, and warns of those that were opened before. It shows them to nobody but the user,
/// so a log that cannot be written does not stop it.
pub(super) fn record_asking(fingerprints: &Path, asked: &Asked, suspect: &Path, printer: &Printer) {
    let suspect = suspect
        .canonicalize()
        .unwrap_or_else(|_| suspect.to_owned());
    let event = Event::Check {
        suspect: suspect.display().to_string(),
    };
    let opened = tally(fingerprints, asked).map(|(tally, _)| tally.opened().len());
    match opened.and_then(|opened| {
        record(fingerprints, asked.root(), event, &asked.indices())?;
        Ok(opened)
    }) {
        Ok(0) => (),
        Ok(opened) => printer.warning(format!(
            "{}: pairs that were opened before: {opened}; whoever saw them can filter them",
            fingerprints.display()
        )),
        Err(error) => printer.warning(format!("this asking is not written down: {error:#}")),
    }
}

/// What the log says of the pairs, and how many of its lines cannot be read; nothing where there is no log.
///
/// # Errors
/// When the log is there and cannot be read.
pub(super) fn tally(fingerprints: &Path, asked: &Asked) -> anyhow::Result<(Tally, usize)> {
    let mut tally = Tally::new(asked.root(), asked.count());
    let path = log_path(fingerprints);
    if !path.exists() {
        return Ok((tally, 0));
    }
    let bytes = files::read(&path, MAX_BYTES)?;
    let unreadable = usage_log::read(&bytes, &mut tally)
        .with_context(|| format!("cannot read {}", path.display()))?;
    Ok((tally, unreadable))
}

/// Appends a line in one write; a line that another process left torn is ended first.
fn append(file: &mut File, mut line: Vec<u8>) -> std::io::Result<()> {
    if file.seek(SeekFrom::End(0))? > 0 {
        let mut last = [0];
        file.seek(SeekFrom::End(-1))?;
        file.read_exact(&mut last)?;
        if last != *b"\n" {
            line.insert(0, b'\n');
        }
    }
    file.write_all(&line)
}
