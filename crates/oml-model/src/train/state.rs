//! The state of a run on disk, from which it goes on exactly as if it had never stopped.
//!
//! ```text
//! 8 bytes   length n of the header, little-endian
//! n bytes   JSON header: format, version, identity, progress, and the number of elements of each array
//! arrays    f32 little-endian: parameters, first moments, second moments, and the best parameters where there are any
//! 32 bytes  SHA-256 of all before
//! ```
//! The file is written beside its place, synced and renamed. `identity` names what the run depends on; another run's state is refused.
//! A state is read twice: once to hold it against its checksum, once to take it over.

mod header;

use std::{
    fs::File,
    io::{BufReader, BufWriter, ErrorKind, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use sha2::{Digest, Sha256};
use thiserror::Error;

use super::{Embedder, trainer::Part};
use header::{Fault, Header, Run};

const MAX_HEADER: u64 = 64 << 20;
const CHECKSUM: u64 = 32;
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
    /// The run has given up what it would go on with.
    #[error("training state '{path}': the run is finished")]
    Finished {
        /// The file.
        path: PathBuf,
    },
    /// Not a state, damaged, or of another version or run.
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

impl Embedder {
    /// Writes the state of the run. Of a finished run that is what it keeps, with moments of zero: there is nothing left to train.
    ///
    /// # Errors
    /// Whatever the file system refuses, and the earlier state stays.
    pub fn save_state(&self, path: &Path, identity: &str) -> Result<(), StateError> {
        let io = |source| StateError::Io {
            path: path.to_owned(),
            source,
        };
        let (parameters, (m, v)) = (self.trainer().parameters(), self.trainer().moments());
        let best = if self.is_finished() {
            self.progress().best.map(|_| &parameters[..])
        } else {
            self.best()
        };
        let steps = self.trainer().steps();
        let header = Header::new(identity, parameters.len(), steps, self.progress());
        let header = serde_json::to_vec(&header).map_err(|e| io(e.into()))?;
        let folder = path
            .parent()
            .filter(|p| !p.as_os_str().is_empty())
            .unwrap_or(Path::new("."));
        let beside = tempfile::NamedTempFile::new_in(folder).map_err(io)?;
        let mut file = Hashed::new(BufWriter::new(beside.as_file()));
        let mut write = || -> std::io::Result<()> {
            file.write_all(&(header.len() as u64).to_le_bytes())?;
            file.write_all(&header)?;
            write_floats(&mut file, parameters)?;
            if self.is_finished() {
                write_zeros(&mut file, 2 * parameters.len())?;
            } else {
                write_floats(&mut file, m)?;
                write_floats(&mut file, v)?;
            }
            if let Some(best) = best {
                write_floats(&mut file, best)?;
            }
            let checksum = file.checksum();
            file.inner.write_all(&checksum)?;
            file.inner.flush()?;
            file.inner.get_ref().sync_all()
        };
        write().map_err(io)?;
        drop(file);
        beside.persist(path).map_err(|e| io(e.error))?;
        Ok(())
    }

    /// Goes back to a saved state; `false` where there is none.
    ///
    /// # Errors
    /// A file that cannot be read, is not a state of this version, is damaged, or belongs to another run; a run that is finished.
    pub fn load_state(&mut self, path: &Path, identity: &str) -> Result<bool, StateError> {
        if self.is_finished() {
            return Err(StateError::Finished {
                path: path.to_owned(),
            });
        }
        let io = |source| StateError::Io {
            path: path.to_owned(),
            source,
        };
        let bad = |fault: Fault| StateError::Format {
            path: path.to_owned(),
            field: fault.field,
            expected: fault.expected,
            got: fault.got,
        };
        let file = match File::open(path) {
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(false),
            file => file.map_err(io)?,
        };
        let size = file.metadata().map_err(io)?.len();
        let mut file = Hashed::new(BufReader::with_capacity(4 * CHUNK, file));
        let mut length = [0; 8];
        file.read_exact(&mut length).map_err(io)?;
        let length = u64::from_le_bytes(length);
        let fault = |field, expected: String, got: String| {
            bad(Fault {
                field,
                expected,
                got,
            })
        };
        let most = MAX_HEADER.min(size);
        if length > most {
            let expected = format!("at most {most}");
            return Err(fault("header length", expected, length.to_string()));
        }
        let mut header = vec![0; length as usize];
        file.read_exact(&mut header).map_err(io)?;
        let header: Header = serde_json::from_slice(&header)
            .map_err(|e| fault("header", "a state of this version".into(), e.to_string()))?;
        let elements = self.trainer().parameters().len();
        let run = Run {
            identity,
            elements,
            items: self.progress().losses.len(),
            epochs: self.recipe().epochs,
            steps_per_epoch: self.steps_per_epoch(),
        };
        header.check(&run).map_err(bad)?;
        let expected = 8 + length + header.arrays() * elements as u64 * 4 + CHECKSUM;
        if size != expected {
            return Err(fault("size", expected.to_string(), size.to_string()));
        }

        let mut first = None;
        for part in Array::ALL.into_iter().take(header.arrays() as usize) {
            let found = part.check(&mut file, elements).map_err(io)?;
            first = first.or(found);
        }
        let got = file.checksum();
        let mut expected = [0; CHECKSUM as usize];
        file.inner.read_exact(&mut expected).map_err(io)?;
        if got != expected {
            let [expected, got] = [expected, got].map(|sum| format!("{:02x?}", &sum[..8]));
            return Err(fault("checksum", expected, got));
        }
        if let Some(first) = first {
            return Err(bad(first));
        }

        let mut file = file.inner;
        file.seek(SeekFrom::Start(8 + length)).map_err(io)?;
        let trainer = self.trainer_mut();
        for part in [Part::Parameters, Part::FirstMoments, Part::SecondMoments] {
            read_floats(&mut file, elements, &mut |start, values| {
                trainer.put(part, start, values);
            })
            .map_err(io)?;
        }
        trainer.set_steps(header.optimizer_steps());
        let mut best = Vec::new();
        if header.has_best() {
            best.reserve_exact(elements);
            let mut keep = |_, values: &[f32]| best.extend_from_slice(values);
            read_floats(&mut file, elements, &mut keep).map_err(io)?;
        }
        let best = header.has_best().then_some(best);
        self.go_on_from(header.into_progress(), best);
        Ok(true)
    }
}

/// An array of the file, in its order.
#[derive(Clone, Copy)]
enum Array {
    Parameters,
    FirstMoments,
    SecondMoments,
    Best,
}

impl Array {
    const ALL: [Self; 4] = [
        Self::Parameters,
        Self::FirstMoments,
        Self::SecondMoments,
        Self::Best,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Parameters => "parameters",
            Self::FirstMoments => "first moments",
            Self::SecondMoments => "second moments",
            Self::Best => "best parameters",
        }
    }

    /// Reads past the array; its first number that cannot be.
    fn check(self, file: &mut impl Read, elements: usize) -> std::io::Result<Option<Fault>> {
        let squares = matches!(self, Self::SecondMoments);
        let mut found = None;
        read_floats(file, elements, &mut |start, values| {
            let wrong = |v: &f32| !v.is_finite() || (squares && *v < 0.0);
            if found.is_none()
                && let Some(index) = values.iter().position(wrong)
            {
                found = Some((start + index, values[index]));
            }
        })?;
        Ok(found.map(|(index, value)| Fault {
            field: self.name(),
            expected: if squares {
                "finite numbers of at least 0".into()
            } else {
                "finite numbers".into()
            },
            got: format!("{value} at {index}"),
        }))
    }
}

/// What passes through is hashed.
struct Hashed<T> {
    inner: T,
    hash: Sha256,
}

impl<T> Hashed<T> {
    fn new(inner: T) -> Self {
        Self {
            inner,
            hash: Sha256::new(),
        }
    }

    /// Of all that passed through so far.
    fn checksum(&self) -> [u8; CHECKSUM as usize] {
        self.hash.clone().finalize().into()
    }
}

impl<W: Write> Write for Hashed<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let count = self.inner.write(bytes)?;
        self.hash.update(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.inner.flush()
    }
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, bytes: &mut [u8]) -> std::io::Result<usize> {
        let count = self.inner.read(bytes)?;
        self.hash.update(&bytes[..count]);
        Ok(count)
    }
}

fn write_zeros(file: &mut impl Write, elements: usize) -> std::io::Result<()> {
    let zeros = [0; 4 * 4096];
    let mut left = 4 * elements;
    while left > 0 {
        let part = left.min(zeros.len());
        file.write_all(&zeros[..part])?;
        left -= part;
    }
    Ok(())
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

/// Hands `count` numbers on in parts, each with the place of its first.
fn read_floats(
    file: &mut impl Read,
    count: usize,
    take: &mut dyn FnMut(usize, &[f32]),
) -> std::io::Result<()> {
    let mut bytes = vec![0; CHUNK * 4];
    let mut values = Vec::with_capacity(CHUNK);
    for start in (0..count).step_by(CHUNK) {
        let part = CHUNK.min(count - start) * 4;
        file.read_exact(&mut bytes[..part])?;
        values.clear();
        let (numbers, _) = bytes[..part].as_chunks::<4>();
        values.extend(numbers.iter().map(|b| f32::from_le_bytes(*b)));
        take(start, &values);
    }
    Ok(())
}
