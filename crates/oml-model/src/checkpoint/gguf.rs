//! The GGUF header, versions 2 and 3, little-endian.
//!
//! A file is: `GGUF`; version u32; tensor count u64; metadata count u64; then per metadata field a key, a type u32 and
//! a value; per tensor a name, the number of dimensions u32, the dimensions u64 (fastest first: the reverse of a
//! Hugging Face shape), the stored type u32 and an offset u64; then, at the next multiple of `general.alignment`
//! (32 by default), the data that the offsets count from. A text is its length u64 and its bytes. Offsets are
//! multiples of the alignment. Format: <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>.
//!
//! Every announced length is held against the bytes left in the file before anything of that size is allocated.

mod config;
mod read;
mod tokenizer;

use std::collections::HashMap;
use std::io::Read;
use std::path::Path;

use super::{CheckpointError, DType, element_count};
use read::Source;

pub(super) use config::{RopeFactors, hugging_face_config, map_tensors};
pub(super) use tokenizer::{generation_config, tokenizer_files};

const MAX_HEADER_BYTES: u64 = 64 << 20;
const MAX_FIELDS: u64 = 1 << 14;
const MAX_TENSORS: u64 = 1 << 18;
const MAX_NAME_BYTES: u64 = 1 << 12;
const MAX_ELEMENTS: u64 = 1 << 22;
const MAX_DIMENSIONS: u32 = 4;
const MAX_ALIGNMENT: u64 = 1 << 20;

/// A metadata value. Arrays of other types than these are passed over.
#[derive(Debug, Clone, PartialEq)]
pub enum Metadata {
    /// Any whole number.
    Integer(i128),
    /// Either float type.
    Float(f64),
    /// A truth value.
    Flag(bool),
    /// A text.
    Text(String),
    /// An array of texts.
    Texts(Vec<String>),
    /// An array of 32-bit whole numbers.
    Integers(Vec<i64>),
    /// An array of 32-bit floats.
    Floats(Vec<f32>),
    /// An array that nothing here reads.
    Skipped,
}

impl Metadata {
    fn kind(&self) -> &'static str {
        match self {
            Self::Integer(_) => "a whole number",
            Self::Float(_) => "a float",
            Self::Flag(_) => "a truth value",
            Self::Text(_) => "a text",
            Self::Texts(_) => "texts",
            Self::Integers(_) => "whole numbers",
            Self::Floats(_) => "floats",
            Self::Skipped => "another array",
        }
    }
}

/// A tensor as the header describes it, under GGUF's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeaderTensor {
    /// GGUF's name.
    pub name: String,
    /// Its stored type.
    pub dtype: DType,
    /// Its shape, rows first.
    pub shape: Vec<usize>,
    /// Its first byte in the file.
    pub offset: u64,
    /// Its length in bytes.
    pub length: u64,
}

/// What a GGUF file says before its data.
#[derive(Debug)]
pub struct Header {
    /// Metadata by key.
    pub metadata: HashMap<String, Metadata>,
    /// Tensors by offset.
    pub tensors: Vec<HeaderTensor>,
}

/// Reads the header of a file of `length` bytes from its beginning. `file` names it in errors.
///
/// # Errors
/// Another magic or version, counts and lengths over their caps or the file, a name twice, an unknown type, a shape
/// that does not fill blocks, offsets that are unaligned, outside the file or shared.
pub fn read_header(source: impl Read, length: u64, file: &Path) -> Result<Header, CheckpointError> {
    let mut source = Source::new(source, length.min(MAX_HEADER_BYTES), length, file);
    let magic: [u8; 4] = source.bytes("magic")?;
    if &magic != b"GGUF" {
        return Err(CheckpointError::Magic {
            file: file.to_owned(),
            expected: "GGUF",
            got: String::from_utf8_lossy(&magic).into_owned(),
        });
    }
    let version = source.u32("version")?;
    if !(2..=3).contains(&version) {
        return Err(CheckpointError::Version {
            file: file.to_owned(),
            got: version,
        });
    }
    let tensor_count = source.count("tensor count", MAX_TENSORS)?;
    let field_count = source.count("metadata count", MAX_FIELDS)?;
    let mut metadata = HashMap::new();
    for _ in 0..field_count {
        let key = source.text("metadata key", MAX_NAME_BYTES)?;
        let value = source.value(&key)?;
        if metadata.insert(key.clone(), value).is_some() {
            return Err(CheckpointError::DuplicateName {
                file: file.to_owned(),
                name: key,
            });
        }
    }
    let alignment = alignment(&metadata, file)?;
    let mut tensors = Vec::new();
    for _ in 0..tensor_count {
        tensors.push(read_tensor(&mut source, alignment, file)?);
    }
    let start = source.position().next_multiple_of(alignment);
    check_layout(&mut tensors, length.saturating_sub(start), file)?;
    for tensor in &mut tensors {
        tensor.offset += start;
    }
    Ok(Header { metadata, tensors })
}

fn alignment(metadata: &HashMap<String, Metadata>, file: &Path) -> Result<u64, CheckpointError> {
    const DEFAULT: u64 = 32;
    let field = "general.alignment";
    let Some(value) = metadata.get(field) else {
        return Ok(DEFAULT);
    };
    let valid = |alignment: &u64| alignment.is_power_of_two() && *alignment <= MAX_ALIGNMENT;
    let alignment = match value {
        Metadata::Integer(alignment) => u64::try_from(*alignment).ok().filter(valid),
        _ => None,
    };
    alignment.ok_or_else(|| CheckpointError::Field {
        file: file.to_owned(),
        field: field.into(),
        expected: format!("a power of two up to {MAX_ALIGNMENT}"),
        got: match value {
            Metadata::Integer(alignment) => alignment.to_string(),
            other => other.kind().into(),
        },
    })
}

fn read_tensor(
    source: &mut Source<'_, impl Read>,
    alignment: u64,
    file: &Path,
) -> Result<HeaderTensor, CheckpointError> {
    let name = source.text("tensor name", MAX_NAME_BYTES)?;
    let dimensions = source.u32(&name)?;
    if dimensions > MAX_DIMENSIONS {
        return Err(CheckpointError::Count {
            file: file.to_owned(),
            field: format!("{name}: dimensions"),
            expected: u64::from(MAX_DIMENSIONS),
            got: u64::from(dimensions),
        });
    }
    let mut dims = Vec::new();
    for _ in 0..dimensions {
        dims.push(source.u64(&name)?);
    }
    dims.reverse();
    let kind = source.u32(&name)?;
    let Some(dtype) = DType::from_gguf(kind) else {
        return Err(CheckpointError::UnknownDtype {
            file: file.to_owned(),
            tensor: name,
            expected: DType::GGUF,
            got: format!("ggml type {kind}"),
        });
    };
    let (numbers, bytes) = dtype.block();
    let (shape, elements) = element_count(&name, &dims, bytes, file)?;
    if !shape.last().unwrap_or(&1).is_multiple_of(numbers) {
        return Err(CheckpointError::ShapeForm {
            file: file.to_owned(),
            tensor: name,
            expected: format!("rows of a multiple of {numbers} for {}", dtype.name()),
            got: dims,
        });
    }
    let offset = source.u64(&name)?;
    if !offset.is_multiple_of(alignment) {
        return Err(CheckpointError::Offset {
            file: file.to_owned(),
            tensor: name,
            expected: format!("a multiple of {alignment}"),
            got: offset,
        });
    }
    Ok(HeaderTensor {
        name,
        dtype,
        shape,
        offset,
        length: elements / numbers as u64 * bytes as u64,
    })
}

/// Sorts by offset; no tensor may share bytes with another, repeat its name or reach past the `data` bytes.
fn check_layout(
    tensors: &mut [HeaderTensor],
    data: u64,
    file: &Path,
) -> Result<(), CheckpointError> {
    let mut names: Vec<&str> = tensors.iter().map(|tensor| tensor.name.as_str()).collect();
    names.sort_unstable();
    if let Some(pair) = names.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(CheckpointError::DuplicateName {
            file: file.to_owned(),
            name: pair[0].to_owned(),
        });
    }
    tensors.sort_by_key(|tensor| (tensor.offset, tensor.length));
    let mut previous: Option<(&HeaderTensor, u64)> = None;
    for tensor in tensors.iter() {
        let end = tensor
            .offset
            .checked_add(tensor.length)
            .filter(|end| *end <= data);
        let Some(end) = end else {
            return Err(CheckpointError::OutOfFile {
                file: file.to_owned(),
                tensor: tensor.name.clone(),
                expected: data,
                got: tensor.offset.saturating_add(tensor.length),
            });
        };
        if let Some((other, other_end)) = previous
            && tensor.offset < other_end
        {
            return Err(CheckpointError::Overlap {
                file: file.to_owned(),
                tensor: tensor.name.clone(),
                other: other.name.clone(),
            });
        }
        previous = Some((tensor, end));
    }
    Ok(())
}
