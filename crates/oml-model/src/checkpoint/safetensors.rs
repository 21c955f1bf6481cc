//! The safetensors header.
//!
//! A file is: 8 bytes, the header's length `n`, little-endian; `n` bytes of JSON, beginning with `{`, possibly padded
//! with spaces; then the tensors' bytes. The JSON maps each name to `dtype`, `shape` (rows first) and `data_offsets`
//! `[begin, end)` from the end of the header; `__metadata__` is a map of texts and is ignored. Every byte after the
//! header belongs to exactly one tensor. Format: <https://github.com/huggingface/safetensors>, section Format.
//!
//! The JSON is read here rather than by the `safetensors` crate, which keeps the last of two equal names and does not
//! say which tensor is bad.

use std::fmt;
use std::io::Read;
use std::path::Path;

use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Serialize};

use super::{CheckpointError, DType, element_count};

/// Bytes of a header that are read at most, as in the reference implementation.
pub const MAX_HEADER_BYTES: u64 = 100_000_000;

/// A tensor as the header describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeaderTensor {
    /// Its name.
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

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Entry {
    pub(super) dtype: String,
    pub(super) shape: Vec<u64>,
    pub(super) data_offsets: (u64, u64),
}

struct Entries(Vec<(String, Entry)>);

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Names;
        impl<'de> Visitor<'de> for Names {
            type Value = Entries;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a map from tensor names to dtype, shape and data_offsets")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries, A::Error> {
                let mut entries = Vec::new();
                while let Some(name) = map.next_key::<String>()? {
                    if name == "__metadata__" {
                        map.next_value::<IgnoredAny>()?;
                    } else {
                        entries.push((name, map.next_value()?));
                    }
                }
                Ok(Entries(entries))
            }
        }
        deserializer.deserialize_map(Names)
    }
}

/// Reads the header of a file of `length` bytes from its beginning. `file` names it in errors.
///
/// # Errors
/// A length over the cap or the file, another syntax, a name twice, an unknown type, a shape that contradicts the
/// offsets, offsets outside the file, shared or ownerless bytes.
pub fn read_header(
    mut source: impl Read,
    length: u64,
    file: &Path,
) -> Result<Vec<HeaderTensor>, CheckpointError> {
    let read = CheckpointError::io(file, "read header");
    if length < 8 {
        return Err(CheckpointError::Truncated {
            file: file.to_owned(),
            field: "header length".into(),
            expected: 8,
            got: length,
        });
    }
    let mut prefix = [0; 8];
    source
        .read_exact(&mut prefix)
        .map_err(CheckpointError::io(file, "read header length"))?;
    let announced = u64::from_le_bytes(prefix);
    let most = MAX_HEADER_BYTES.min(length - 8);
    if announced > most {
        return Err(CheckpointError::HeaderLength {
            file: file.to_owned(),
            expected: most,
            got: announced,
        });
    }
    let mut json = vec![0; announced as usize];
    source.read_exact(&mut json).map_err(read)?;
    if json.first() != Some(&b'{') {
        return Err(CheckpointError::Magic {
            file: file.to_owned(),
            expected: "{",
            got: String::from_utf8_lossy(&json[..json.len().min(4)]).into_owned(),
        });
    }
    let Entries(entries) =
        serde_json::from_slice(&json).map_err(|source| CheckpointError::Json {
            file: file.to_owned(),
            source,
        })?;
    let start = 8 + announced;
    let mut tensors = Vec::with_capacity(entries.len());
    for (name, entry) in entries {
        tensors.push(check_entry(name, entry, length - start, file)?);
    }
    check_names(&tensors, file)?;
    check_layout(&mut tensors, length - start, file)?;
    for tensor in &mut tensors {
        tensor.offset += start;
    }
    Ok(tensors)
}

fn check_entry(
    name: String,
    entry: Entry,
    data: u64,
    file: &Path,
) -> Result<HeaderTensor, CheckpointError> {
    let Some(dtype) = DType::from_safetensors(&entry.dtype) else {
        return Err(CheckpointError::UnknownDtype {
            file: file.to_owned(),
            tensor: name,
            expected: DType::SAFETENSORS,
            got: entry.dtype,
        });
    };
    let (begin, end) = entry.data_offsets;
    if end < begin {
        return Err(CheckpointError::Offset {
            file: file.to_owned(),
            tensor: name,
            expected: format!("an end of at least {begin}"),
            got: end,
        });
    }
    let (_, bytes) = dtype.block();
    let (shape, elements) = element_count(&name, &entry.shape, bytes, file)?;
    let expected = elements * bytes as u64;
    if expected != end - begin {
        return Err(CheckpointError::Length {
            file: file.to_owned(),
            tensor: name,
            expected,
            got: end - begin,
        });
    }
    if end > data {
        return Err(CheckpointError::OutOfFile {
            file: file.to_owned(),
            tensor: name,
            expected: data,
            got: end,
        });
    }
    Ok(HeaderTensor {
        name,
        dtype,
        shape,
        offset: begin,
        length: end - begin,
    })
}

fn check_names(tensors: &[HeaderTensor], file: &Path) -> Result<(), CheckpointError> {
    let mut names: Vec<&str> = tensors.iter().map(|tensor| tensor.name.as_str()).collect();
    names.sort_unstable();
    match names.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(CheckpointError::DuplicateName {
            file: file.to_owned(),
            name: pair[0].to_owned(),
        }),
        None => Ok(()),
    }
}

/// Sorts by offset; every one of the `data` bytes must belong to exactly one tensor.
fn check_layout(
    tensors: &mut [HeaderTensor],
    data: u64,
    file: &Path,
) -> Result<(), CheckpointError> {
    tensors.sort_by_key(|tensor| (tensor.offset, tensor.length));
    let gap = |before: &str, got| {
        Err(CheckpointError::Gap {
            file: file.to_owned(),
            before: before.to_owned(),
            got,
        })
    };
    let mut end = 0;
    let mut previous: Option<&HeaderTensor> = None;
    for tensor in tensors.iter() {
        if tensor.offset > end {
            return gap(&tensor.name, tensor.offset - end);
        }
        if tensor.offset < end {
            return Err(CheckpointError::Overlap {
                file: file.to_owned(),
                tensor: tensor.name.clone(),
                other: previous.map_or_else(String::new, |other| other.name.clone()),
            });
        }
        end += tensor.length;
        previous = Some(tensor);
    }
    if end < data {
        return gap("the end", data - end);
    }
    Ok(())
}
