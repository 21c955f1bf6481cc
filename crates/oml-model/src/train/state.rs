//! The state of a run on disk, from which it goes on exactly as if it had never stopped.
//!
//! ```text
//! 8 bytes   length n of the header, little-endian
//! n bytes   JSON header: format, version, identity, progress, and the number of elements of each array
//! arrays    little-endian: where there is a mask, the indices of its elements among the gradients (u64); parameters (f32); the
//!           optimizer's arrays; where there are any, the best parameters (f32)
//! 32 bytes  SHA-256 of all before
//! ```
//! The file is written beside its place, synced and renamed. `identity` names what the run depends on; another run's state is refused.
//! A state is read twice: once to hold it against its checksum, once to take it over. States of earlier versions are refused.
//!
//! The optimizer's arrays: `adamw` first and second moments, `sgd` momentum, `adafactor` the factors of each tensor's second moment (rows,
//! then columns), all f32; `adamw8bit` blocks of 256 codes of first and 256 of second moments (u8) with the scale of either (f32).

mod header;

use std::{
    fs::File,
    io::{BufReader, BufWriter, ErrorKind, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use sha2::{Digest, Sha256};
use thiserror::Error;

use super::{
    Embedder, Subset,
    optimizer::{Array, Values},
};
use header::{Fault, Header, Run};

const MAX_HEADER: u64 = 64 << 20;
const CHECKSUM: u64 = 32;
/// Bytes that pass at a time.
const CHUNK: usize = 1 << 18;

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
        let elements = self.trainer().parameters().len();
        let best = if self.is_finished() {
            self.progress()
                .best
                .map(|_| &self.trainer().parameters()[..])
        } else {
            self.best()
        };
        let header = Header::new(
            identity,
            self.recipe().optimizer.as_str(),
            elements,
            self.trainer().steps(),
            self.progress(),
        );
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
            for (section, array) in self.sections(best.is_some()) {
                for_each_chunk(&array, |start, count| {
                    let mut bytes = Vec::with_capacity(count * array.unit());
                    self.read_section(section, &array, start, count, best, &mut bytes);
                    file.write_all(&bytes)
                })?;
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
        let mut file = Hashed::new(BufReader::with_capacity(CHUNK, file));
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
            optimizer: self.recipe().optimizer.as_str(),
            elements,
            items: self.progress().losses.len(),
            epochs: self.recipe().epochs,
            steps_per_epoch: self.steps_per_epoch(),
        };
        header.check(&run).map_err(bad)?;
        let sections = self.sections(header.has_best());
        let bytes = |(_, array): &(Section, Array)| (array.length * array.unit()) as u64;
        let expected = 8 + length + sections.iter().map(bytes).sum::<u64>() + CHECKSUM;
        if size != expected {
            return Err(fault("size", expected.to_string(), size.to_string()));
        }

        let gradients = self.trainer().gradients().len();
        let mut first = None;
        for (_, array) in &sections {
            let found = check(array, &mut file, gradients).map_err(io)?;
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
        let (mut mask, mut best) = (Vec::new(), Vec::new());
        for (section, array) in &sections {
            let mut bytes = Vec::new();
            for_each_chunk(array, |start, count| {
                bytes.resize(count * array.unit(), 0);
                file.read_exact(&mut bytes)?;
                match section {
                    Section::Mask => mask.extend(indices(&bytes)),
                    Section::Parameters => self.trainer_mut().put(start, &floats(&bytes)),
                    Section::Optimizer(n) => {
                        self.trainer_mut().optimizer_mut().write(*n, start, &bytes);
                    }
                    Section::Best => best.extend_from_slice(&floats(&bytes)),
                }
                Ok(())
            })
            .map_err(io)?;
            if matches!(section, Section::Mask) {
                self.trainer_mut().keep_mask(std::mem::take(&mut mask));
            }
        }
        self.trainer_mut().set_steps(header.optimizer_steps());
        let best = header.has_best().then_some(best);
        self.go_on_from(header.into_progress(), best);
        Ok(true)
    }

    /// The arrays of the file, in their order.
    fn sections(&self, has_best: bool) -> Vec<(Section, Array)> {
        let values = |name| Array {
            name,
            values: Values::Floats,
            length: self.trainer().parameters().len(),
        };
        let optimizer = self.trainer().optimizer().arrays().into_iter().enumerate();
        let mask = self.trainer().subset().and_then(Subset::mask);
        let mask = mask.map(|mask| Array {
            name: "mask",
            values: Values::Indices,
            length: mask.len(),
        });
        let mut sections: Vec<_> = mask.map(|mask| (Section::Mask, mask)).into_iter().collect();
        sections.push((Section::Parameters, values("parameters")));
        sections.extend(optimizer.map(|(n, array)| (Section::Optimizer(n), array)));
        sections.extend(has_best.then(|| (Section::Best, values("best parameters"))));
        sections
    }

    /// Values `start..start + count` of an array of the file; a finished run has an optimizer of zeros.
    fn read_section(
        &self,
        section: Section,
        array: &Array,
        start: usize,
        count: usize,
        best: Option<&[f32]>,
        bytes: &mut Vec<u8>,
    ) {
        let trainer = self.trainer();
        let mut put = |values: &[f32]| {
            let values = &values[start..][..count];
            bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        };
        match section {
            Section::Mask => {
                let mask = trainer.subset().and_then(Subset::mask).unwrap_or_default();
                let mask = &mask[start..][..count];
                bytes.extend(mask.iter().flat_map(|index| (*index as u64).to_le_bytes()));
            }
            Section::Parameters => put(trainer.parameters()),
            Section::Best => put(best.unwrap_or_default()),
            Section::Optimizer(_) if self.is_finished() => bytes.resize(count * array.unit(), 0),
            Section::Optimizer(n) => trainer.optimizer().read(n, start, count, bytes),
        }
    }
}

/// What an array of the file is.
#[derive(Clone, Copy)]
enum Section {
    Mask,
    Parameters,
    /// An array of the optimizer's.
    Optimizer(usize),
    Best,
}

/// Calls `work(start, count)` for parts of an array.
fn for_each_chunk(
    array: &Array,
    mut work: impl FnMut(usize, usize) -> std::io::Result<()>,
) -> std::io::Result<()> {
    let count = CHUNK / array.unit();
    (0..array.length)
        .step_by(count)
        .try_for_each(|start| work(start, count.min(array.length - start)))
}

/// Reads past an array; its first value that cannot be, indices being those of so many `gradients`.
fn check(array: &Array, file: &mut impl Read, gradients: usize) -> std::io::Result<Option<Fault>> {
    let mut found = None;
    let mut least = 0;
    let mut bytes = Vec::new();
    for_each_chunk(array, |start, count| {
        bytes.resize(count * array.unit(), 0);
        file.read_exact(&mut bytes)?;
        if found.is_none() {
            let number = array.fault(&bytes);
            found = number.map(|(index, got)| (start + index, got.to_string()));
        }
        if array.values == Values::Indices {
            for (i, index) in indices(&bytes).enumerate() {
                if found.is_none() && !(least..gradients).contains(&index) {
                    found = Some((start + i, index.to_string()));
                }
                least = index.saturating_add(1);
            }
        }
        Ok(())
    })?;
    Ok(found.map(|(index, got)| Fault {
        field: array.name,
        expected: match array.values {
            Values::Floats => "finite numbers".into(),
            Values::Squares | Values::Blocks => "finite numbers of at least 0".into(),
            Values::Indices => format!("ascending indices below {gradients}"),
        },
        got: format!("{got} at {index}"),
    }))
}

fn indices(bytes: &[u8]) -> impl Iterator<Item = usize> {
    let (numbers, _) = bytes.as_chunks::<8>();
    let index = |bytes: &[u8; 8]| usize::try_from(u64::from_le_bytes(*bytes));
    numbers
        .iter()
        .map(move |bytes| index(bytes).unwrap_or(usize::MAX))
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    let (numbers, _) = bytes.as_chunks::<4>();
    numbers
        .iter()
        .map(|bytes| f32::from_le_bytes(*bytes))
        .collect()
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
