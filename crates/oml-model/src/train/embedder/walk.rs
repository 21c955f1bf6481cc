//! The walk from a trained state back towards the base.

use super::{EmbedError, Embedder, Measured};
use crate::{checkpoint::Checkpoint, decoder::LoadError};

/// Sixteenths of the way from the base that are kept beyond what recall needs, so that rounding and later training do not undo it.
const MARGIN: u32 = 2;
/// Parameters blended at a time.
const BLEND: usize = 1 << 16;

/// The straight way from the base (0) to the best state (16), as far as it was measured.
#[derive(Clone, Debug, PartialEq)]
pub struct Walk {
    /// Sixteenths of the way that are kept.
    pub kept: u32,
    /// Sixteenths of the way and what was measured there, in ascending order: the frontier between recall and divergence.
    pub points: Vec<(u32, Measured)>,
}

impl Embedder {
    /// Walks from the best state back towards the base as far as recall holds, less a margin, and keeps the state it ends at: the same
    /// fingerprints with less divergence from the base (WiSE-FT, arXiv 2109.01903, applied after training).
    ///
    /// Returns what was measured on the way; `None` where no state was measured before. What training alone needs is freed first, so the
    /// run is finished: it does not train any more.
    ///
    /// # Errors
    /// Whatever the base checkpoint refuses.
    pub fn interpolate(&mut self, base: &Checkpoint) -> Result<Option<Walk>, EmbedError> {
        self.finish();
        let (Some(best), Some(start)) = (self.best.take(), self.progress.best) else {
            return Ok(None);
        };
        let base = self.base_parameters(base, &best)?;
        let mut values = vec![0.0; BLEND.min(best.len())];
        let mut points = vec![(16, start)];
        let mut blend = |embedder: &mut Self, sixteenths: u32| {
            let share = sixteenths as f32 / 16.0;
            for (part, (best, base)) in best.chunks(BLEND).zip(base.chunks(BLEND)).enumerate() {
                let values = &mut values[..best.len()];
                for (value, (own, base)) in values.iter_mut().zip(best.iter().zip(base)) {
                    *value = base + share * (own - base);
                }
                embedder.trainer.put(part * BLEND, values);
            }
            let measured = embedder.evaluate()?;
            points.retain(|(point, _)| *point != sixteenths);
            points.push((sixteenths, measured));
            Ok::<_, EmbedError>(measured)
        };
        let (plain, inside) = (
            self.recipe.target_recall,
            self.recipe.target_prompted_recall,
        );
        let wanted = |target: f64, start: f64, got: f64| got >= start.min(target);
        let holds_there = |got: &Measured| {
            wanted(plain, start.recall, got.recall)
                && start
                    .prompted
                    .zip(got.prompted)
                    .is_none_or(|(start, got)| wanted(inside, start, got))
        };
        let (mut fails, mut holds) = (0, 16);
        while holds - fails > 1 {
            let middle = (fails + holds) / 2;
            if holds_there(&blend(self, middle)?) {
                holds = middle
            } else {
                fails = middle
            }
        }
        // Recall need not be monotone along the way: the share that is kept is measured itself.
        let mut share = (holds + MARGIN).min(16);
        let mut measured = blend(self, share)?;
        if !holds_there(&measured) {
            share = 16;
            measured = blend(self, share)?;
        }
        self.progress.best = Some(measured);
        points.sort_by_key(|(point, _)| *point);
        Ok(Some(Walk {
            kept: share,
            points,
        }))
    }

    /// The base in the shape of what is trained: its weights, or adapters that change nothing.
    fn base_parameters(&self, base: &Checkpoint, best: &[f32]) -> Result<Vec<f32>, LoadError> {
        match &self.trainer.decoder.adapters {
            None => {
                let mut values = vec![0.0; best.len()];
                if let Some(subset) = self.trainer.subset() {
                    for entry in &subset.map().entries {
                        let mut tensor = vec![0.0; entry.range().len()];
                        base.read_f32(&entry.name, &mut tensor)?;
                        subset.extract(&entry.name, &tensor, &mut values);
                    }
                    return Ok(values);
                }
                for entry in &self.trainer.decoder.weights.map.entries {
                    base.read_f32(&entry.name, &mut values[entry.range()])?;
                }
                Ok(values)
            }
            Some(adapters) => {
                let mut values = best.to_vec();
                adapters.neutralise(&mut values);
                Ok(values)
            }
        }
    }
}
