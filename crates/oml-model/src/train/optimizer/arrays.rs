//! An optimizer's state as arrays of bytes in an order of their own, for files and comparisons.

use oml_kernels::MomentBlock;

use super::{Optimizer, State};
use crate::backend::Cpu;

/// Bytes of one block of 8-bit moments: codes of either, then the two scales.
const BLOCK_BYTES: usize = size_of::<MomentBlock>();

/// What an array holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Values {
    /// Finite f32.
    Floats,
    /// Finite f32 of at least 0.
    Squares,
    /// Blocks of 8-bit moments, whose scales are finite and at least 0.
    Blocks,
    /// Indices (u64), each above the one before.
    Indices,
}

/// An array of the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Array {
    /// What it is.
    pub(crate) name: &'static str,
    pub(crate) values: Values,
    /// Number of values.
    pub(crate) length: usize,
}

impl Array {
    /// Bytes of one value.
    pub(crate) fn unit(&self) -> usize {
        match self.values {
            Values::Floats | Values::Squares => 4,
            Values::Blocks => BLOCK_BYTES,
            Values::Indices => 8,
        }
    }

    /// The first number in `bytes` that cannot be, as the index of its value and what it is. Indices are not numbers.
    pub(crate) fn fault(&self, bytes: &[u8]) -> Option<(usize, f32)> {
        let squares = self.values != Values::Floats;
        let wrong = |v: f32| !v.is_finite() || (squares && v < 0.0);
        let scales = match self.values {
            Values::Floats | Values::Squares => 0,
            Values::Blocks => BLOCK_BYTES - 8,
            Values::Indices => return None,
        };
        bytes
            .chunks_exact(self.unit())
            .enumerate()
            .find_map(|(index, unit)| {
                let (numbers, _) = unit[scales..].as_chunks::<4>();
                let mut numbers = numbers.iter().map(|bytes| f32::from_le_bytes(*bytes));
                numbers.find(|v| wrong(*v)).map(|v| (index, v))
            })
    }
}

impl Optimizer<Cpu> {
    /// The arrays of the state, in their order.
    pub(crate) fn arrays(&self) -> Vec<Array> {
        let array = |name, values, length| Array {
            name,
            values,
            length,
        };
        let n = self.length;
        match self.state {
            State::AdamW(..) => vec![
                array("first moments", Values::Floats, n),
                array("second moments", Values::Squares, n),
            ],
            State::AdamW8bit(_) => {
                let blocks = n.div_ceil(oml_kernels::QUANTISED_BLOCK);
                vec![array("moments in 8 bits", Values::Blocks, blocks)]
            }
            State::Adafactor(_) => {
                vec![array(
                    "factors of second moments",
                    Values::Squares,
                    self.factors(),
                )]
            }
            State::Sgd(_) => vec![array("momentum", Values::Floats, n)],
        }
    }

    /// The whole state as it lies in files.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (n, array) in self.arrays().iter().enumerate() {
            self.read(n, 0, array.length, &mut bytes);
        }
        bytes
    }

    /// Values `start..start + count` of an array, appended as bytes.
    pub(crate) fn read(&self, array: usize, start: usize, count: usize, bytes: &mut Vec<u8>) {
        let floats = match (&self.state, array) {
            (State::AdamW(m, _), 0) => m,
            (State::AdamW(_, v), _) => v,
            (State::Adafactor(values) | State::Sgd(values), _) => values,
            (State::AdamW8bit(blocks), _) => {
                for block in &blocks[start..][..count] {
                    bytes.extend_from_slice(&block.first);
                    bytes.extend_from_slice(&block.second);
                    bytes.extend(block.scales.iter().flat_map(|scale| scale.to_le_bytes()));
                }
                return;
            }
        };
        let values = &floats[start..][..count];
        bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
    }

    /// Puts bytes in place of an array's values from `start` on.
    pub(crate) fn write(&mut self, array: usize, start: usize, bytes: &[u8]) {
        let floats = match (&mut self.state, array) {
            (State::AdamW(m, _), 0) => m,
            (State::AdamW(_, v), _) => v,
            (State::Adafactor(values) | State::Sgd(values), _) => values,
            (State::AdamW8bit(blocks), _) => {
                let units = bytes.chunks_exact(BLOCK_BYTES);
                for (block, unit) in blocks[start..].iter_mut().zip(units) {
                    let (first, rest) = unit.split_at(block.first.len());
                    let (second, scales) = rest.split_at(block.second.len());
                    block.first.copy_from_slice(first);
                    block.second.copy_from_slice(second);
                    let (scales, _) = scales.as_chunks::<4>();
                    for (scale, bytes) in block.scales.iter_mut().zip(scales) {
                        *scale = f32::from_le_bytes(*bytes);
                    }
                }
                return;
            }
        };
        let (values, _) = bytes.as_chunks::<4>();
        for (value, bytes) in floats[start..].iter_mut().zip(values) {
            *value = f32::from_le_bytes(*bytes);
        }
    }
}
