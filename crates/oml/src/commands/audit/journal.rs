//! The transcript's file: appended and synced before a query leaves, appended after an answer came.

use std::fs::{File, OpenOptions};
use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, anyhow};
use oml_core::audit::{Event, Terms};
use oml_core::manifest::transcript_file::{self, MAX_BYTES, Transcript};

use crate::error::WithHint as _;
use crate::files;

/// A transcript and the file that holds it.
pub(super) struct Journal {
    transcript: Transcript,
    file: File,
    path: PathBuf,
}

/// Milliseconds since 1970.
pub(super) fn now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(0))
}

impl Journal {
    /// A new file that begins with `terms`.
    ///
    /// # Errors
    /// When the terms make no sense, or there is such a file.
    pub(super) fn begin(path: &Path, terms: Terms) -> anyhow::Result<Self> {
        let (transcript, line) = Transcript::begin(terms)?;
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        private(&mut options);
        let file = options
            .open(path)
            .with_context(|| format!("cannot make {}", path.display()))?;
        let mut journal = Self {
            transcript,
            file,
            path: path.to_owned(),
        };
        journal.write(&line)?;
        journal.sync()?;
        files::sync_folder_of(path)?;
        Ok(journal)
    }

    /// The file of an audit that was stopped; a torn last line is cut off.
    ///
    /// # Errors
    /// When it is missing or was altered.
    pub(super) fn resume(path: &Path) -> anyhow::Result<Self> {
        let bytes = files::read(path, MAX_BYTES)?;
        let recovered = transcript_file::recover(&bytes);
        let (transcript, whole) =
            recovered.with_context(|| format!("cannot read {}", path.display()))?;
        let opening = || format!("cannot write {}", path.display());
        let file = OpenOptions::new().write(true).open(path);
        let mut file = file.with_context(opening)?;
        file.set_len(whole as u64).with_context(opening)?;
        file.seek(SeekFrom::End(0)).with_context(opening)?;
        Ok(Self {
            transcript,
            file,
            path: path.to_owned(),
        })
    }

    /// What the file says.
    pub(super) const fn transcript(&self) -> &Transcript {
        &self.transcript
    }

    /// Appends what happens now.
    ///
    /// # Errors
    /// When the system refuses; then nothing may leave.
    pub(super) fn push(&mut self, event: Event) -> anyhow::Result<()> {
        let line = self.transcript.push(now(), event)?;
        self.write(&line)
    }

    /// Makes what was appended last.
    ///
    /// # Errors
    /// When the system refuses; then nothing may leave.
    pub(super) fn sync(&self) -> anyhow::Result<()> {
        self.file
            .sync_data()
            .with_context(|| format!("cannot write {}", self.path.display()))
    }

    fn write(&mut self, line: &[u8]) -> anyhow::Result<()> {
        self.file
            .write_all(line)
            .with_context(|| format!("cannot write {}", self.path.display()))
    }
}

/// Refuses a file that is there, with a hint that it may be gone on with.
///
/// # Errors
/// When it is there.
pub(super) fn refuse_existing(path: &Path) -> anyhow::Result<()> {
    if !path.exists() {
        return files::check_writable(path);
    }
    let there: anyhow::Result<()> = Err(anyhow!("{} already exists", path.display()));
    there.hint("Go on with that audit by --resume, or name another --out.")
}

fn private(options: &mut OpenOptions) {
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        options.mode(0o600);
    }
    let _ = options;
}
