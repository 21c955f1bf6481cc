//! Models on disk: Hugging Face folders (safetensors, whole or in shards) and GGUF files.
//!
//! Opening reads headers only and holds every tensor against the configuration, so a checkpoint that opens has all
//! tensors of the model, each within its file and of the right shape. Weights are then read one tensor at a time, by
//! positioned reads (several threads may), and arrive as f32 under Hugging Face's names and in its layout. Files are
//! never mapped: one that is cut short while it is read gives an error, not a signal.

mod adapted;
mod adapter;
mod dequantise;
mod digest;
mod dtype;
mod error;
mod expand;
pub mod gguf;
mod hugging_face;
pub mod safetensors;
mod write;

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufReader, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use crate::config::ModelConfig;
use crate::tokenizer::{TextTokenizer, TokenizerFiles};
use dequantise::dequantise;
use gguf::RopeFactors;

pub use adapted::is_adapter;
pub use adapter::write_adapter;
pub use dtype::DType;
pub use error::CheckpointError;
pub use expand::{MAX_NEW_UNITS, write_expanded};
pub(crate) use hugging_face::{COMPANIONS, INDEX, WEIGHTS};
pub use write::{Supply, write_model};

/// Bytes of stored weights that are decoded at a time: a multiple of every block and of a page.
const CHUNK_BLOCKS: usize = 1 << 13;

/// A tensor of the model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    /// Hugging Face's name.
    pub name: String,
    /// Rows first.
    pub shape: Vec<usize>,
    /// How it is stored.
    pub dtype: DType,
}

impl TensorInfo {
    /// Numbers in the tensor.
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }
}

/// Where a tensor lies.
struct Place {
    file: usize,
    offset: u64,
    length: u64,
    form: Form,
}

/// How what is stored differs from what Hugging Face has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// It does not.
    Plain,
    /// The rows are those of this many heads, and within each the two halves alternate.
    Interleaved(usize),
    /// One is added to every number.
    Raised,
}

struct Found {
    info: TensorInfo,
    place: Place,
}

/// An open checkpoint.
pub struct Checkpoint {
    path: PathBuf,
    config: ModelConfig,
    /// `config.json` as it was, with the fields that this program does not know.
    config_fields: Map<String, Value>,
    files: Vec<(PathBuf, File)>,
    /// In the order of [`ModelConfig::tensor_shapes`].
    tensors: Vec<Found>,
    by_name: HashMap<String, usize>,
    /// The tokenizer's and generation's files as a Hugging Face folder has them.
    companions: Vec<(String, Vec<u8>)>,
    /// What is added to the weights as they are read.
    adapter: Option<adapted::Adapter>,
}

impl Checkpoint {
    /// Opens a Hugging Face folder or a GGUF file.
    ///
    /// # Errors
    /// Any fault of a header, of the configuration, or of a tensor against the configuration; see
    /// [`CheckpointError`].
    pub fn open(path: &Path) -> Result<Self, CheckpointError> {
        let metadata = path.metadata().map_err(CheckpointError::io(path, "open"))?;
        if metadata.is_dir() {
            if path.join("config.json").is_file() {
                return hugging_face::open(path);
            }
            return Err(CheckpointError::NotACheckpoint {
                path: path.to_owned(),
                got: match is_adapter(path) {
                    true => "an adapter without its base model",
                    false => "a folder without config.json",
                },
            });
        }
        open_gguf(path)
    }

    /// What the checkpoint was opened from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The model's shape and constants.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// The model's tensors, in the order of computation.
    pub fn tensors(&self) -> impl Iterator<Item = &TensorInfo> {
        self.tensors.iter().map(|found| &found.info)
    }

    /// Reads a tensor as f32, row after row.
    ///
    /// # Errors
    /// No such tensor, a buffer of another length, a number that is not finite, a file that can no longer be read.
    pub fn read_f32(&self, name: &str, out: &mut [f32]) -> Result<(), CheckpointError> {
        self.read_found(self.find(name)?, out)?;
        self.adapt(name, out)
    }

    fn read_found(&self, found: &Found, out: &mut [f32]) -> Result<(), CheckpointError> {
        let Found { info, place } = found;
        if out.len() != info.elements() {
            return Err(CheckpointError::Buffer {
                tensor: info.name.clone(),
                expected: info.elements(),
                got: out.len(),
            });
        }
        let (numbers, bytes) = info.dtype.block();
        let mut stored = vec![0; CHUNK_BLOCKS.min(out.len() / numbers) * bytes];
        let mut offset = place.offset;
        for out in out.chunks_mut(CHUNK_BLOCKS * numbers) {
            let stored = &mut stored[..out.len() / numbers * bytes];
            self.read_stored(place.file, offset, stored)?;
            offset += stored.len() as u64;
            dequantise(info.dtype, stored, out);
        }
        if let Some(index) = out.iter().position(|number| !number.is_finite()) {
            return Err(CheckpointError::NotFinite {
                path: self.files[place.file].0.clone(),
                tensor: info.name.clone(),
                index,
                got: out[index],
            });
        }
        match place.form {
            Form::Plain => {}
            Form::Interleaved(heads) => separate_halves(out, heads, info.shape[0]),
            Form::Raised => out.iter_mut().for_each(|number| *number -= 1.0),
        }
        Ok(())
    }

    /// The tokenizer: `tokenizer.json` with its settings, or what GGUF's metadata describes.
    ///
    /// # Errors
    /// There is none, its files are bad, or it has ids that the model's embedding has no row for.
    pub fn tokenizer(&self) -> Result<TextTokenizer, CheckpointError> {
        let files = TokenizerFiles::new(&self.companions).ok_or_else(|| {
            CheckpointError::MissingTokenizer {
                path: self.path.clone(),
            }
        })?;
        let tokenizer = TextTokenizer::new(files).map_err(|source| CheckpointError::Tokenizer {
            file: self.path.clone(),
            source,
        })?;
        if tokenizer.vocabulary_size() > self.config.vocab_size {
            return Err(CheckpointError::Vocabulary {
                path: self.path.clone(),
                expected: self.config.vocab_size,
                got: tokenizer.vocabulary_size(),
            });
        }
        Ok(tokenizer)
    }

    /// The files beside the weights that a Hugging Face folder of this model has, `config.json` excepted.
    pub fn companions(&self) -> &[(String, Vec<u8>)] {
        &self.companions
    }

    fn find(&self, name: &str) -> Result<&Found, CheckpointError> {
        let found = self.by_name.get(name).map(|index| &self.tensors[*index]);
        found.ok_or_else(|| CheckpointError::MissingTensor {
            path: self.path.clone(),
            tensor: name.to_owned(),
        })
    }

    fn read_stored(
        &self,
        file: usize,
        offset: u64,
        buffer: &mut [u8],
    ) -> Result<(), CheckpointError> {
        let (path, file) = &self.files[file];
        file.read_exact_at(buffer, offset)
            .map_err(CheckpointError::io(path, "read weights"))
    }

    /// Puts the parts together; every tensor of the configuration must be there in its shape, and no other.
    fn assemble(
        path: &Path,
        config: ModelConfig,
        config_fields: Map<String, Value>,
        files: Vec<(PathBuf, File)>,
        found: Vec<Found>,
        companions: Vec<(String, Vec<u8>)>,
    ) -> Result<Self, CheckpointError> {
        let mut found: HashMap<String, Found> = found
            .into_iter()
            .map(|found| (found.info.name.clone(), found))
            .collect();
        let mut tensors = Vec::new();
        for (name, expected) in config.tensor_shapes() {
            let Some(tensor) = found.remove(&name) else {
                return Err(CheckpointError::MissingTensor {
                    path: path.to_owned(),
                    tensor: name,
                });
            };
            if tensor.info.shape != expected {
                return Err(CheckpointError::Shape {
                    path: path.to_owned(),
                    tensor: name,
                    expected,
                    got: tensor.info.shape,
                });
            }
            tensors.push(tensor);
        }
        // a tied head may be stored again, and old files carry rotary frequencies and masks: all follow from the rest
        let head = format!("{}.weight", config.family.names.head);
        let derived = |name: &str| {
            let ends = [
                "rotary_emb.inv_freq",
                "attention.bias",
                "attention.masked_bias",
            ];
            name == head || ends.iter().any(|end| name.ends_with(end))
        };
        if let Some(tensor) = found.into_keys().filter(|name| !derived(name)).min() {
            return Err(CheckpointError::UnexpectedTensor {
                path: path.to_owned(),
                tensor,
            });
        }
        let names = tensors
            .iter()
            .enumerate()
            .map(|(index, found)| (found.info.name.clone(), index));
        Ok(Self {
            path: path.to_owned(),
            config,
            config_fields,
            by_name: names.collect(),
            files,
            tensors,
            companions,
            adapter: None,
        })
    }
}

fn open_gguf(path: &Path) -> Result<Checkpoint, CheckpointError> {
    let file = File::open(path).map_err(CheckpointError::io(path, "open"))?;
    let length = file
        .metadata()
        .map_err(CheckpointError::io(path, "open"))?
        .len();
    let header = gguf::read_header(BufReader::new(&file), length, path)?;
    let factors = |name| rope_factors(&header, name, &file, path);
    let factors = RopeFactors {
        plain: factors(RopeFactors::PLAIN)?,
        short: factors(RopeFactors::SHORT)?,
        long: factors(RopeFactors::LONG)?,
    };
    let (config, mut fields) = gguf::hugging_face_config(&header, &factors, path)?;
    fields.insert("torch_dtype".into(), json!("float32"));
    let found = gguf::map_tensors(&header, &config)
        .into_iter()
        .map(|mapped| Found {
            info: TensorInfo {
                name: mapped.tensor.name,
                shape: mapped.tensor.shape,
                dtype: mapped.tensor.dtype,
            },
            place: Place {
                file: 0,
                offset: mapped.tensor.offset,
                length: mapped.tensor.length,
                form: mapped.form,
            },
        });
    let found = found.collect();
    let mut companions = Vec::new();
    if header.metadata.contains_key("tokenizer.ggml.model") {
        companions = gguf::tokenizer_files(&header, &config, path)?;
    }
    companions.push((
        "generation_config.json".into(),
        gguf::generation_config(&config),
    ));
    Checkpoint::assemble(
        path,
        config,
        fields,
        vec![(path.to_owned(), file)],
        found,
        companions,
    )
}

/// The content of a tensor of factors on frequencies, a few f32.
fn rope_factors(
    header: &gguf::Header,
    name: &str,
    file: &File,
    path: &Path,
) -> Result<Option<Vec<f32>>, CheckpointError> {
    const MAX_FACTORS: u64 = 1 << 12;
    let Some(tensor) = header.tensors.iter().find(|tensor| tensor.name == name) else {
        return Ok(None);
    };
    if tensor.dtype != DType::F32 || tensor.length > 4 * MAX_FACTORS {
        return Err(CheckpointError::Count {
            file: path.to_owned(),
            field: format!("{}: bytes as F32", tensor.name),
            expected: 4 * MAX_FACTORS,
            got: tensor.length,
        });
    }
    let mut stored = vec![0; tensor.length as usize];
    file.read_exact_at(&mut stored, tensor.offset)
        .map_err(CheckpointError::io(path, "read rope_freqs.weight"))?;
    let mut factors = vec![0.0; stored.len() / 4];
    dequantise(DType::F32, &stored, &mut factors);
    Ok(Some(factors))
}

/// Undoes llama.cpp's order of rows: within a head, row `2 i + half` becomes row `half · d/2 + i`.
fn separate_halves(tensor: &mut [f32], heads: usize, rows: usize) {
    let (head_rows, columns) = (rows / heads, tensor.len() / rows);
    for head in tensor.chunks_exact_mut(head_rows * columns) {
        let interleaved = head.to_vec();
        for (row, from) in interleaved.chunks_exact(columns).enumerate() {
            let to = row % 2 * (head_rows / 2) + row / 2;
            head[to * columns..][..columns].copy_from_slice(from);
        }
    }
}

/// A shape in `usize` and its number of elements, both within what a file could hold.
fn element_count(
    tensor: &str,
    shape: &[u64],
    block_bytes: usize,
    file: &Path,
) -> Result<(Vec<usize>, u64), CheckpointError> {
    let form = |expected: &str| CheckpointError::ShapeForm {
        file: file.to_owned(),
        tensor: tensor.to_owned(),
        expected: expected.to_owned(),
        got: shape.to_vec(),
    };
    const MAX_DIMENSIONS: usize = 8;
    if shape.len() > MAX_DIMENSIONS {
        return Err(CheckpointError::Count {
            file: file.to_owned(),
            field: format!("{tensor}: dimensions"),
            expected: MAX_DIMENSIONS as u64,
            got: shape.len() as u64,
        });
    }
    let elements = shape
        .iter()
        .try_fold(1u64, |product, size| product.checked_mul(*size));
    let elements = elements.filter(|count| count.checked_mul(block_bytes as u64).is_some());
    let elements = elements.ok_or_else(|| form("a product within 64 bits"))?;
    let sizes = shape
        .iter()
        .map(|size| usize::try_from(*size))
        .collect::<Result<_, _>>();
    Ok((
        sizes.map_err(|_| form("sizes within the address space"))?,
        elements,
    ))
}

/// Reads a whole file of at most `most` bytes.
pub(crate) fn read_capped(path: &Path, most: u64) -> Result<Vec<u8>, CheckpointError> {
    let file = File::open(path).map_err(CheckpointError::io(path, "open"))?;
    let mut bytes = Vec::new();
    file.take(most + 1)
        .read_to_end(&mut bytes)
        .map_err(CheckpointError::io(path, "read"))?;
    if bytes.len() as u64 > most {
        let length = path
            .metadata()
            .map_or(bytes.len() as u64, |metadata| metadata.len());
        return Err(CheckpointError::TooLarge {
            file: path.to_owned(),
            expected: most,
            got: length,
        });
    }
    Ok(bytes)
}
