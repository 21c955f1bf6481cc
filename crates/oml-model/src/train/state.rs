//! The state of a run on disk, from which it goes on exactly as if it had never stopped.
//!
//! ```text
//! 8 bytes   length n of the header, little-endian
//! n bytes   JSON header: format, version, identity, progress, and the number of elements of each array
//! rest      f32 little-endian: parameters, first moments, second moments, and the best parameters where there are any
//! ```
//! The file is written beside its place, synced and renamed. `identity` names what the run depends on; another run's state is refused.

use std::{
    fs::File,
    io::{BufReader, BufWriter, ErrorKind, Read, Write},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{Embedder, Measured, Progress};

const FORMAT: &str = "oml-embed-state";
const VERSION: u32 = 1;
const MAX_HEADER: u64 = 64 << 20;
const CHUNK: usize = 1 << 16;

/// A state that could not be written or read.
#[derive(Debug, Error)]
pub enum StateError {
    /// The file system refused.
    #[error("training state '{path}': {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The run gave up what a state consists of.
    #[error("training state '{path}': the run is finished")]
    Finished {
        /// The file.
        path: PathBuf,
    },
    /// Not a state, or of another version.
    #[error("training state '{path}': {field}: expected {expected}, got {got}")]
    Format {
        /// The file.
        path: PathBuf,
        /// The field.
        field: &'static str,
        /// What it should be.
        expected: String,
        /// What it is.
        got: String,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    format: String,
    version: u32,
    identity: String,
    elements: u64,
    has_best: bool,
    optimizer_steps: u32,
    epoch: u32,
    steps: usize,
    order: Vec<usize>,
    /// f32 bits: a loss may be infinite, which JSON cannot say.
    losses: Vec<u32>,
    hits: Vec<bool>,
    reached: Option<u32>,
    best: Option<(f64, f64)>,
}

impl Embedder {
    /// Writes the state of the run.
    ///
    /// # Errors
    /// Whatever the file system refuses; the earlier state stays. A run that is finished.
    pub fn save_state(&self, path: &Path, identity: &str) -> Result<(), StateError> {
        self.ensure_unfinished(path)?;
        let io = |source| StateError::Io {
            path: path.to_owned(),
            source,
        };
        let (parameters, (m, v)) = (self.trainer().parameters(), self.trainer().moments());
        let progress = self.progress();
        let header = Header {
            format: FORMAT.into(),
            version: VERSION,
            identity: identity.into(),
            elements: parameters.len() as u64,
            has_best: self.best().is_some(),
            optimizer_steps: self.trainer().steps(),
            epoch: progress.epoch,
            steps: progress.steps,
            order: progress.order.clone(),
            losses: progress.losses.iter().map(|l| l.to_bits()).collect(),
            hits: progress.hits.clone(),
            reached: progress.reached,
            best: progress.best.map(|b| (b.recall, b.divergence)),
        };
        let header = serde_json::to_vec(&header).map_err(|e| io(e.into()))?;
        let folder = path
            .parent()
            .filter(|p| !p.as_os_str().is_empty())
            .unwrap_or(Path::new("."));
        let beside = tempfile::NamedTempFile::new_in(folder).map_err(io)?;
        let mut file = BufWriter::new(beside.as_file());
        let mut write = || -> std::io::Result<()> {
            file.write_all(&(header.len() as u64).to_le_bytes())?;
            file.write_all(&header)?;
            for values in [&parameters[..], m, v].into_iter().chain(self.best()) {
                write_floats(&mut file, values)?;
            }
            file.flush()?;
            file.get_ref().sync_all()
        };
        write().map_err(io)?;
        drop(file);
        beside.persist(path).map_err(|e| io(e.error))?;
        Ok(())
    }

    /// Goes back to a saved state; `false` where there is none.
    ///
    /// # Errors
    /// A file that cannot be read, is not a state of this version, or belongs to another run.
    pub fn load_state(&mut self, path: &Path, identity: &str) -> Result<bool, StateError> {
        self.ensure_unfinished(path)?;
        let io = |source| StateError::Io {
            path: path.to_owned(),
            source,
        };
        let bad = |field, expected: String, got: String| StateError::Format {
            path: path.to_owned(),
            field,
            expected,
            got,
        };
        let file = match File::open(path) {
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(false),
            file => file.map_err(io)?,
        };
        let size = file.metadata().map_err(io)?.len();
        let mut file = BufReader::new(file);
        let mut length = [0; 8];
        file.read_exact(&mut length).map_err(io)?;
        let length = u64::from_le_bytes(length);
        if length > MAX_HEADER.min(size) {
            return Err(bad(
                "header length",
                format!("at most {}", MAX_HEADER.min(size)),
                length.to_string(),
            ));
        }
        let mut header = vec![0; length as usize];
        file.read_exact(&mut header).map_err(io)?;
        let header: Header = serde_json::from_slice(&header)
            .map_err(|e| bad("header", "a state of this version".into(), e.to_string()))?;
        if header.format != FORMAT || header.version != VERSION {
            return Err(bad(
                "format",
                format!("{FORMAT} {VERSION}"),
                format!("{} {}", header.format, header.version),
            ));
        }
        if header.identity != identity {
            return Err(bad("identity", identity.into(), header.identity));
        }
        let (elements, items) = (
            self.trainer().parameters().len(),
            self.progress().losses.len(),
        );
        if header.elements != elements as u64 {
            return Err(bad(
                "elements",
                elements.to_string(),
                header.elements.to_string(),
            ));
        }
        let lengths = [header.losses.len(), header.hits.len()];
        if lengths != [items; 2] || header.order.iter().any(|i| *i >= items) {
            return Err(bad(
                "fingerprints",
                items.to_string(),
                format!("{lengths:?}"),
            ));
        }
        let arrays = if header.has_best { 4 } else { 3 };
        let expected = 8 + length + arrays * elements as u64 * 4;
        if size != expected {
            return Err(bad("size", expected.to_string(), size.to_string()));
        }
        let mut next = || read_floats(&mut file, elements).map_err(io);
        let (parameters, m, v) = (next()?, next()?, next()?);
        let best = if header.has_best { Some(next()?) } else { None };
        let progress = Progress {
            epoch: header.epoch,
            order: header.order,
            steps: header.steps,
            losses: header.losses.into_iter().map(f32::from_bits).collect(),
            hits: header.hits,
            reached: header.reached,
            best: header
                .best
                .map(|(recall, divergence)| Measured { recall, divergence }),
        };
        self.restore(
            progress,
            &parameters,
            (&m, &v),
            header.optimizer_steps,
            best,
        );
        Ok(true)
    }
}

impl Embedder {
    fn ensure_unfinished(&self, path: &Path) -> Result<(), StateError> {
        if self.is_finished() {
            return Err(StateError::Finished {
                path: path.to_owned(),
            });
        }
        Ok(())
    }
}

fn write_floats(file: &mut impl Write, values: &[f32]) -> std::io::Result<()> {
    let mut bytes = Vec::with_capacity(CHUNK * 4);
    for chunk in values.chunks(CHUNK) {
        bytes.clear();
        bytes.extend(chunk.iter().flat_map(|v| v.to_le_bytes()));
        file.write_all(&bytes)?;
    }
    Ok(())
}

fn read_floats(file: &mut impl Read, count: usize) -> std::io::Result<Vec<f32>> {
    let mut values = Vec::with_capacity(count);
    let mut bytes = vec![0; CHUNK * 4];
    while values.len() < count {
        let part = CHUNK.min(count - values.len()) * 4;
        file.read_exact(&mut bytes[..part])?;
        values.extend(
            bytes[..part]
                .as_chunks::<4>()
                .0
                .iter()
                .map(|b| f32::from_le_bytes(*b)),
        );
    }
    Ok(values)
}
