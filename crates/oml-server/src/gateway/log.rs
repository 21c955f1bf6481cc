//! The audit log: a line for every call that was admitted, answered or refused, each with the hash of the line before it.
//!
//! ```text
//! {"number":n,"previous":SHA-256 of the line before, in hexadecimal digits,"time":seconds,"event":"admitted"|"answered"|"broke_off"|"refused",
//!  "code":text?,"permission":id?,"licensee":address?,"purpose":text?,"receipt":text?}
//! ```
//!
//! A line that was changed, taken out or put in breaks the chain behind it ([`verify_log`]); whoever keeps the last line's hash
//! elsewhere notices a cut end too. No line holds a permission that could still be used, an input or an answer.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Seek as _, SeekFrom, Write as _};
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};

use oml_core::manifest::hex;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// Lines that may wait for the disk: beyond that calls wait too, and none is lost.
const WAITING: usize = 65_536;
const MAX_LINE: usize = 1 << 16;

/// What happened.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Line {
    /// Its number, from 1.
    pub number: u64,
    /// SHA-256 of the line before, as hexadecimal digits; zeros before the first.
    pub previous: String,
    /// Seconds since 1970.
    pub time: u64,
    /// `admitted`, `answered`, `broke_off` or `refused`.
    pub event: String,
    /// Why it was refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// The permission's id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub permission: Option<String>,
    /// Whose it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub licensee: Option<String>,
    /// What the answer is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub purpose: Option<String>,
    /// The receipt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receipt: Option<String>,
}

/// Why a log does not hold.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The file cannot be read or written.
    #[error("audit log: {0}")]
    Io(#[from] io::Error),
    /// A line that is none.
    #[error("audit log, line {line}: expected a line of the log, got something else")]
    Line {
        /// Which, from 1.
        line: u64,
    },
    /// A line that does not follow the one before it.
    #[error(
        "audit log, line {line}: expected number {line} and the hash of the line before, got others"
    )]
    Chain {
        /// Which, from 1.
        line: u64,
    },
}

/// A log that is being written.
pub struct AuditLog {
    lines: Option<SyncSender<Line>>,
    writer: Option<JoinHandle<()>>,
}

impl AuditLog {
    /// Goes on with the log at `path`, whose chain is verified, or begins one.
    ///
    /// A last line without its end, which a crash leaves, is taken off.
    ///
    /// # Errors
    /// When the file cannot be read or written, or its chain is broken.
    pub fn open(path: &Path) -> Result<Self, LogError> {
        let mut file = private().append(true).open(path)?;
        let end = verify_log(&mut BufReader::new(&file))?;
        file.set_len(end.bytes)?;
        file.seek(SeekFrom::End(0))?;
        let (lines, waiting) = sync_channel(WAITING);
        let writer = thread::spawn(move || write(file, end, &waiting));
        Ok(Self {
            lines: Some(lines),
            writer: Some(writer),
        })
    }

    /// Writes a line, soon; its number and hash are filled in. `false` once the file could not be written.
    #[must_use]
    pub fn say(&self, line: Line) -> bool {
        let lines = self.lines.as_ref();
        lines.is_some_and(|lines| lines.send(line).is_ok())
    }
}

/// A file that nobody else may read, made where it is missing.
pub(super) fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).create(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

impl Drop for AuditLog {
    fn drop(&mut self) {
        self.lines = None;
        if let Some(writer) = self.writer.take() {
            let _ = writer.join();
        }
    }
}

/// Where a log ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogEnd {
    /// Whole lines.
    pub lines: u64,
    /// Their bytes.
    pub bytes: u64,
    /// SHA-256 of the last one, as hexadecimal digits.
    pub hash: String,
}

/// Follows the chain of a log to its end.
///
/// # Errors
/// The first line that is none or does not follow.
pub fn verify_log(log: &mut impl io::BufRead) -> Result<LogEnd, LogError> {
    let mut end = LogEnd {
        lines: 0,
        bytes: 0,
        hash: hex(&[0; 32]),
    };
    let mut bytes = Vec::new();
    loop {
        bytes.clear();
        let mut limited = io::Read::take(&mut *log, MAX_LINE as u64);
        if limited.read_until(b'\n', &mut bytes)? == 0 {
            return Ok(end);
        }
        let number = end.lines + 1;
        let Some(line) = bytes.strip_suffix(b"\n") else {
            if bytes.len() == MAX_LINE {
                return Err(LogError::Line { line: number });
            }
            return Ok(end);
        };
        let read: Line =
            serde_json::from_slice(line).map_err(|_| LogError::Line { line: number })?;
        if read.number != number || read.previous != end.hash {
            return Err(LogError::Chain { line: number });
        }
        end = LogEnd {
            lines: number,
            bytes: end.bytes + bytes.len() as u64,
            hash: hex(&Sha256::digest(line)),
        };
    }
}

/// Writes what waits, and syncs once for all of it.
fn write(mut file: File, mut end: LogEnd, waiting: &Receiver<Line>) {
    while let Ok(first) = waiting.recv() {
        let mut bytes = Vec::new();
        let lines = std::iter::once(first).chain(std::iter::from_fn(|| waiting.try_recv().ok()));
        for mut line in lines.take(WAITING) {
            line.number = end.lines + 1;
            line.previous = std::mem::take(&mut end.hash);
            let Ok(text) = serde_json::to_vec(&line) else {
                return;
            };
            end.lines = line.number;
            end.hash = hex(&Sha256::digest(&text));
            bytes.extend_from_slice(&text);
            bytes.push(b'\n');
        }
        // Whoever says the next line hears that nobody writes any more.
        if file
            .write_all(&bytes)
            .and_then(|()| file.sync_data())
            .is_err()
        {
            return;
        }
    }
}
