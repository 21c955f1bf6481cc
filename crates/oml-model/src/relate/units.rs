//! The two views of a layer's feed-forward units: what each reads from the stream, or what it reads and what it writes.
//!
//! A row r of a map behind a norm with weights γ reads γ ⊙ r of the normed stream, so that is compared: folding γ into the
//! map changes nothing. LayerNorm takes the mean of its input away, so only the part of γ ⊙ r counts whose sum is 0.

use crate::checkpoint::{Checkpoint, CheckpointError};
use crate::config::NormKind;

use super::RelateError;
use super::matrix::{Matrix, normalise};

/// The units of a layer, each a row of length 1.
pub(super) struct Views {
    /// Gate rows; without a gate, rows into the block.
    pub(super) first: Matrix,
    /// Up rows; without a gate, columns out of the block.
    pub(super) second: Matrix,
    /// Whether there is a gate.
    pub(super) gated: bool,
}

/// Refuses two models whose feed-forward blocks have nothing to compare.
///
/// # Errors
/// [`RelateError::Experts`], [`RelateError::Gate`].
pub(super) fn ensure_comparable(
    model: &Checkpoint,
    suspect: &Checkpoint,
) -> Result<(), RelateError> {
    for checkpoint in [model, suspect] {
        let config = checkpoint.config();
        if config.family.names.experts.is_some() {
            return Err(RelateError::Experts {
                path: checkpoint.path().to_owned(),
                got: config.num_local_experts,
            });
        }
    }
    let kind = |checkpoint: &Checkpoint| match checkpoint.config().family.gated {
        true => "a gate",
        false => "no gate",
    };
    if kind(model) != kind(suspect) {
        return Err(RelateError::Gate {
            path: suspect.path().to_owned(),
            other: model.path().to_owned(),
            expected: kind(model),
            got: kind(suspect),
        });
    }
    Ok(())
}

/// Reads the units of a layer.
pub(super) fn read(checkpoint: &Checkpoint, layer: usize) -> Result<Views, CheckpointError> {
    let config = checkpoint.config();
    if !config.family.gated {
        return Ok(Views {
            first: first(checkpoint, layer)?,
            second: columns_out(checkpoint, layer)?,
            gated: false,
        });
    }
    let (units, width) = (config.intermediate_size, config.hidden_size);
    let mut second = Matrix::zeros(units, width);
    match config.family.names.up {
        [both] => {
            let mut fused = vec![0.0; 2 * units * width];
            checkpoint.read_f32(&tensor(checkpoint, layer, both), &mut fused)?;
            second.values.copy_from_slice(&fused[units * width..]);
        }
        names => {
            let up = names.last().copied().unwrap_or_default();
            checkpoint.read_f32(&tensor(checkpoint, layer, up), &mut second.values)?;
        }
    }
    fold(checkpoint, layer, &mut second)?;
    Ok(Views {
        first: first(checkpoint, layer)?,
        second,
        gated: true,
    })
}

/// The first view of a layer's units alone.
pub(super) fn first(checkpoint: &Checkpoint, layer: usize) -> Result<Matrix, CheckpointError> {
    let config = checkpoint.config();
    let (units, width) = (config.intermediate_size, config.hidden_size);
    let names = config.family.names.up;
    let name = tensor(
        checkpoint,
        layer,
        names.first().copied().unwrap_or_default(),
    );
    let mut rows = Matrix::zeros(units, width);
    if config.family.gated && names.len() == 1 {
        // the fused map has the gate's rows first
        rows.values.resize(2 * units * width, 0.0);
        checkpoint.read_f32(&name, &mut rows.values)?;
        rows.values.truncate(units * width);
    } else {
        checkpoint.read_f32(&name, &mut rows.values)?;
    }
    fold(checkpoint, layer, &mut rows)?;
    Ok(rows)
}

/// What each unit of a block without a gate adds to the stream.
fn columns_out(checkpoint: &Checkpoint, layer: usize) -> Result<Matrix, CheckpointError> {
    let config = checkpoint.config();
    let (units, width) = (config.intermediate_size, config.hidden_size);
    let mut stored = vec![0.0; units * width];
    let name = tensor(checkpoint, layer, config.family.names.down);
    checkpoint.read_f32(&name, &mut stored)?;
    let mut columns = Matrix::zeros(units, width);
    for (unit, column) in columns.values.chunks_exact_mut(width).enumerate() {
        for (x, row) in column.iter_mut().zip(stored.chunks_exact(units)) {
            *x = row[unit];
        }
        normalise(column);
    }
    Ok(columns)
}

fn tensor(checkpoint: &Checkpoint, layer: usize, part: &str) -> String {
    let layers = checkpoint.config().family.names.layers;
    format!("{layers}.{layer}.{part}.weight")
}

/// Folds the norm before the block into rows that read from it, and scales them to length 1.
fn fold(checkpoint: &Checkpoint, layer: usize, rows: &mut Matrix) -> Result<(), CheckpointError> {
    let config = checkpoint.config();
    let mut weights = vec![0.0; config.hidden_size];
    let name = tensor(checkpoint, layer, config.family.names.mlp_norm);
    checkpoint.read_f32(&name, &mut weights)?;
    let offset = match config.family.norm {
        NormKind::Rms { offset } => offset,
        NormKind::Layer => 0.0,
    };
    for row in rows.values.chunks_exact_mut(rows.columns) {
        // to length 1 first, so that no product is too large
        normalise(row);
        for (x, weight) in row.iter_mut().zip(&weights) {
            *x *= weight + offset;
        }
        if config.family.norm == NormKind::Layer {
            let sum: f64 = row.iter().map(|x| f64::from(*x)).sum();
            let mean = (sum / row.len() as f64) as f32;
            row.iter_mut().for_each(|x| *x -= mean);
        }
        normalise(row);
    }
    Ok(())
}
