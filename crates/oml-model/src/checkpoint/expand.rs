//! Larger feed-forward blocks that compute the same (Net2Net, arXiv 1511.05641): new units get random weights into them and zeros
//! out of them.

use std::path::Path;

use serde_json::json;

use super::write::{Blueprint, SHARD_BYTES, write_shards};
use super::{Checkpoint, CheckpointError, DType, TensorInfo};
use crate::config::{ConfigError, MAX_WIDTH, MlpPart};
use crate::sampler::SequenceRandom;

/// Units that are added at most.
pub const MAX_NEW_UNITS: usize = 1 << 16;

/// Writes a model with `units` more units behind those of every feed-forward block of `source` into the new folder `out`, stored as
/// `dtype`. Weights into new units are normal, with the root mean square of those beside them.
///
/// # Errors
/// More than [`MAX_NEW_UNITS`], or than a model may have, or none; and those of [`super::write_model`].
pub fn write_expanded(
    out: &Path,
    source: &Checkpoint,
    units: usize,
    seed: u64,
    dtype: DType,
) -> Result<(), CheckpointError> {
    let config = source.config();
    let before = config.intermediate_size;
    let most = MAX_NEW_UNITS.min(MAX_WIDTH - before);
    if !(1..=most).contains(&units) {
        return Err(CheckpointError::Config {
            file: out.to_owned(),
            source: ConfigError::value("units", format!("1 to {most}"), units),
        });
    }
    let mut larger = config.clone();
    larger.intermediate_size += units;
    let mut blueprint = Blueprint::from(source);
    let field = json!(larger.intermediate_size);
    blueprint
        .config_fields
        .insert("intermediate_size".into(), field);
    let shapes = larger.tensor_shapes();
    blueprint.tensors = shapes
        .into_iter()
        .map(|(name, shape)| TensorInfo { name, shape, dtype })
        .collect();
    let mut random = SequenceRandom::new(seed);
    let mut supply = |name: &str, out: &mut [f32]| {
        let info = &source.find(name)?.info;
        let (elements, width) = (info.elements(), info.shape.get(1).copied());
        let grows = elements < out.len();
        let Some(part) = config.family.mlp_part(name).filter(|_| grows) else {
            return Ok(source.read_f32(name, out)?);
        };
        let mut values = vec![0.0; elements];
        source.read_f32(name, &mut values)?;
        let (old, new) = match part {
            MlpPart::Down => (before, before + units),
            MlpPart::Up => {
                let width = width.unwrap_or(1);
                (before * width, (before + units) * width)
            }
        };
        let is_drawn = part == MlpPart::Up && width.is_some();
        let square: f64 = values.iter().map(|v| f64::from(*v).powi(2)).sum();
        let scale = (square / elements as f64).sqrt();
        for (out, values) in out.chunks_mut(new).zip(values.chunks(old)) {
            let (kept, added) = out.split_at_mut(old);
            kept.copy_from_slice(values);
            for value in added.iter_mut().filter(|_| is_drawn) {
                *value = (scale * normal(&mut random)) as f32;
            }
        }
        Ok(())
    };
    write_shards(out, &blueprint, dtype, &mut supply, &[], SHARD_BYTES)
}

/// A draw from the standard normal distribution (Box and Muller).
fn normal(random: &mut SequenceRandom) -> f64 {
    let (radius, angle) = (1.0 - random.uniform(), random.uniform());
    (-2.0 * radius.ln()).sqrt() * (std::f64::consts::TAU * angle).cos()
}
