//! Weights on the CPU, and the packed form of each that a product reads.

use oml_kernels::{Packed, Pool, pack, pack_with};

/// A weight `[outputs, inputs]`.
pub enum Weight {
    /// Values in a flat parameter buffer.
    Trainable {
        /// First element in the buffer.
        offset: usize,
        /// Rows.
        outputs: usize,
        /// Columns.
        inputs: usize,
    },
    /// Packed values for each direction.
    Frozen {
        /// Wᵀ as the right operand of `x·Wᵀ`.
        forward: Packed,
        /// W as the right operand of `dy·W`.
        backward: Option<Packed>,
    },
}

impl Weight {
    /// `(outputs, inputs)`.
    pub fn shape(&self) -> (usize, usize) {
        match self {
            Self::Trainable {
                outputs, inputs, ..
            } => (*outputs, *inputs),
            Self::Frozen { forward, .. } => (forward.rows(), forward.columns()),
        }
    }

    /// The packed values of a frozen weight.
    ///
    /// # Panics
    /// If the weight is trainable: a teacher never is.
    pub(super) fn frozen(&self) -> &Packed {
        match self {
            Self::Frozen { forward, .. } => forward,
            Self::Trainable { .. } => unreachable!("a teacher's head is frozen"),
        }
    }

    /// The weight as the right operand of `x·Wᵀ`.
    pub(super) fn forward<'a>(
        &'a self,
        pool: &Pool,
        parameters: &[f32],
        scratch: &'a mut Packed,
    ) -> &'a Packed {
        match self {
            Self::Frozen { forward, .. } => forward,
            Self::Trainable { .. } => self.packed(pool, parameters, scratch),
        }
    }

    /// The weight as the right operand of `dy·W`.
    pub(super) fn backward<'a>(
        &'a self,
        pool: &Pool,
        parameters: &[f32],
        scratch: &'a mut Packed,
    ) -> &'a Packed {
        match self {
            Self::Frozen {
                backward: Some(backward),
                ..
            } => backward,
            Self::Frozen {
                forward,
                backward: None,
            } => {
                let (rows, columns) = (forward.rows(), forward.columns());
                let fill = |r: usize, row: &mut [f32]| forward.row(r, row);
                pack_with(pool, rows, columns, &fill, &mut [&mut *scratch]);
                scratch
            }
            Self::Trainable { .. } => self.packed(pool, parameters, scratch),
        }
    }

    /// A trainable weight's present values in the form of the scratch.
    fn packed<'a>(&self, pool: &Pool, parameters: &[f32], scratch: &'a mut Packed) -> &'a Packed {
        if let Self::Trainable {
            offset,
            outputs,
            inputs,
        } = *self
        {
            let values = &parameters[offset..][..outputs * inputs];
            pack(pool, values, outputs, inputs, inputs, &mut [&mut *scratch]);
        }
        scratch
    }
}
