//! Reading of GGUF's primitives, each held against the bytes that are left.

use std::io::Read;
use std::path::Path;

use super::{MAX_ELEMENTS, Metadata};
use crate::checkpoint::CheckpointError;

/// Bytes of one text (the longest are chat templates).
const MAX_TEXT_BYTES: u64 = 4 << 20;

/// A header being read: where it is, where it must end, and whose it is.
pub(super) struct Source<'a, R> {
    reader: R,
    position: u64,
    limit: u64,
    length: u64,
    file: &'a Path,
}

impl<'a, R: Read> Source<'a, R> {
    /// `limit` is the last byte a header may reach in a file of `length` bytes.
    pub(super) fn new(reader: R, limit: u64, length: u64, file: &'a Path) -> Self {
        Self {
            reader,
            position: 0,
            limit,
            length,
            file,
        }
    }

    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// Takes note of `bytes` to come, which must be within the limit.
    fn announce(&mut self, field: &str, bytes: u64) -> Result<(), CheckpointError> {
        let left = self.limit - self.position;
        if bytes <= left {
            self.position += bytes;
            return Ok(());
        }
        if self.limit < self.length {
            return Err(CheckpointError::HeaderLength {
                file: self.file.to_owned(),
                expected: self.limit,
                got: self.position.saturating_add(bytes),
            });
        }
        Err(CheckpointError::Truncated {
            file: self.file.to_owned(),
            field: field.to_owned(),
            expected: bytes,
            got: left,
        })
    }

    fn fill(&mut self, field: &str, buffer: &mut [u8]) -> Result<(), CheckpointError> {
        self.announce(field, buffer.len() as u64)?;
        self.reader
            .read_exact(buffer)
            .map_err(CheckpointError::io(self.file, "read header"))
    }

    pub(super) fn bytes<const N: usize>(
        &mut self,
        field: &str,
    ) -> Result<[u8; N], CheckpointError> {
        let mut bytes = [0; N];
        self.fill(field, &mut bytes)?;
        Ok(bytes)
    }

    pub(super) fn u32(&mut self, field: &str) -> Result<u32, CheckpointError> {
        Ok(u32::from_le_bytes(self.bytes(field)?))
    }

    pub(super) fn u64(&mut self, field: &str) -> Result<u64, CheckpointError> {
        Ok(u64::from_le_bytes(self.bytes(field)?))
    }

    pub(super) fn count(&mut self, field: &str, most: u64) -> Result<u64, CheckpointError> {
        let count = self.u64(field)?;
        if count > most {
            return Err(CheckpointError::Count {
                file: self.file.to_owned(),
                field: field.to_owned(),
                expected: most,
                got: count,
            });
        }
        Ok(count)
    }

    pub(super) fn text(&mut self, field: &str, most: u64) -> Result<String, CheckpointError> {
        let length = self.count(field, most)?;
        let left = self.limit - self.position;
        if length > left {
            self.announce(field, length)?;
        }
        let mut bytes = vec![0; length as usize];
        self.fill(field, &mut bytes)?;
        String::from_utf8(bytes).map_err(|error| CheckpointError::Field {
            file: self.file.to_owned(),
            field: field.to_owned(),
            expected: "UTF-8".into(),
            got: error.to_string(),
        })
    }

    /// A type and the value after it.
    pub(super) fn value(&mut self, key: &str) -> Result<Metadata, CheckpointError> {
        let kind = self.u32(key)?;
        Ok(match kind {
            0 => Metadata::Integer(i128::from(self.bytes::<1>(key)?[0])),
            1 => Metadata::Integer(i128::from(i8::from_le_bytes(self.bytes(key)?))),
            2 => Metadata::Integer(i128::from(u16::from_le_bytes(self.bytes(key)?))),
            3 => Metadata::Integer(i128::from(i16::from_le_bytes(self.bytes(key)?))),
            4 => Metadata::Integer(i128::from(self.u32(key)?)),
            5 => Metadata::Integer(i128::from(i32::from_le_bytes(self.bytes(key)?))),
            6 => Metadata::Float(f64::from(f32::from_le_bytes(self.bytes(key)?))),
            7 => Metadata::Flag(self.bytes::<1>(key)?[0] != 0),
            8 => Metadata::Text(self.text(key, MAX_TEXT_BYTES)?),
            9 => self.array(key)?,
            10 => Metadata::Integer(i128::from(self.u64(key)?)),
            11 => Metadata::Integer(i128::from(i64::from_le_bytes(self.bytes(key)?))),
            12 => Metadata::Float(f64::from_le_bytes(self.bytes(key)?)),
            other => return Err(self.unknown_type(key, other)),
        })
    }

    fn array(&mut self, key: &str) -> Result<Metadata, CheckpointError> {
        let kind = self.u32(key)?;
        let count = self.count(key, MAX_ELEMENTS)?;
        let width: u64 = match kind {
            0 | 1 | 7 => 1,
            2 | 3 => 2,
            4..=6 => 4,
            8 | 10 | 11 | 12 => 8,
            other => return Err(self.unknown_type(key, other)),
        };
        if count * width > self.limit - self.position {
            self.announce(key, count * width)?;
        }
        Ok(match kind {
            8 => {
                let texts = (0..count).map(|_| self.text(key, MAX_TEXT_BYTES));
                Metadata::Texts(texts.collect::<Result<_, _>>()?)
            }
            4 => {
                let numbers = (0..count).map(|_| Ok(i64::from(self.u32(key)?)));
                Metadata::Integers(numbers.collect::<Result<_, _>>()?)
            }
            5 => {
                let numbers =
                    (0..count).map(|_| Ok(i64::from(i32::from_le_bytes(self.bytes(key)?))));
                Metadata::Integers(numbers.collect::<Result<_, _>>()?)
            }
            6 => {
                let numbers = (0..count).map(|_| Ok(f32::from_le_bytes(self.bytes(key)?)));
                Metadata::Floats(numbers.collect::<Result<_, _>>()?)
            }
            _ => {
                for _ in 0..count * width {
                    self.bytes::<1>(key)?;
                }
                Metadata::Skipped
            }
        })
    }

    fn unknown_type(&self, key: &str, got: u32) -> CheckpointError {
        CheckpointError::Field {
            file: self.file.to_owned(),
            field: key.to_owned(),
            expected: "a metadata type from 0 to 12, not nested".into(),
            got: format!("type {got}"),
        }
    }
}
