//! Which layer of the model is held against which layer of the suspect.
//!
//! Equal numbers of layers are paired one to one. Otherwise every layer of the shorter model gets one of the longer, in
//! order, so that the sum of similarities is largest: `best[a][b] = max(best[a−1][b], best[a][b−1], best[a−1][b−1] + s[a,b])`,
//! where s is the mean of the best cosines of a sample of the model's units. No layer is used twice.

use oml_kernels::for_each_chunk;

use crate::checkpoint::Checkpoint;

use super::RelateError;
use super::frame::Frame;
use super::matrix::{Matrix, Products};
use super::units;

/// Units of each layer of the model that are compared with all of each layer of the suspect.
const SAMPLE: usize = 64;

/// Pairs of layers, in order.
pub(super) fn pair(
    products: &Products,
    model: &Checkpoint,
    suspect: &Checkpoint,
    frame: &Frame,
) -> Result<Vec<(usize, usize)>, RelateError> {
    let layers = |checkpoint: &Checkpoint| checkpoint.config().num_hidden_layers;
    let (own, other) = (layers(model), layers(suspect));
    if own == other {
        return Ok((0..own).map(|layer| (layer, layer)).collect());
    }
    let units = model.config().intermediate_size;
    let step = units.div_ceil(SAMPLE);
    let mut samples = Matrix::zeros(0, model.config().hidden_size);
    for layer in 0..own {
        let first = units::first(model, layer)?;
        for unit in (0..units).step_by(step) {
            samples.values.extend_from_slice(first.row(unit));
            samples.rows += 1;
        }
    }
    let sampled = samples.rows / own;
    let mut similarity = vec![vec![0.0; other]; own];
    for b in 0..other {
        let all = frame.rows(products, samples.clone(), units::first(suspect, b)?);
        let best = best_of_rows(products, &all);
        for (a, best) in best.chunks_exact(sampled).enumerate() {
            similarity[a][b] = best.iter().sum::<f64>() / sampled as f64;
        }
    }
    Ok(best_pairing(&similarity))
}

/// The largest number of each row.
pub(super) fn best_of_rows(products: &Products, matrix: &Matrix) -> Vec<f64> {
    let mut best = vec![0.0; matrix.rows];
    for_each_chunk(&products.pool, &mut best, 1, |row, best| {
        best[0] = f64::from(matrix.row(row).iter().copied().fold(-1.0, f32::max));
    });
    best
}

/// The pairs in order, as many as there can be, with the largest sum.
fn best_pairing(similarity: &[Vec<f64>]) -> Vec<(usize, usize)> {
    let (own, other) = (similarity.len(), similarity.first().map_or(0, Vec::len));
    // best[a][b]: (pairs, sum) among the first a and b layers
    let mut best = vec![vec![(0usize, 0.0f64); other + 1]; own + 1];
    for a in 1..=own {
        for b in 1..=other {
            let (pairs, sum) = best[a - 1][b - 1];
            let taken = (pairs + 1, sum + similarity[a - 1][b - 1]);
            best[a][b] = [best[a - 1][b], best[a][b - 1]]
                .into_iter()
                .fold(taken, |most, left| if left > most { left } else { most });
        }
    }
    let (mut a, mut b) = (own, other);
    let mut pairs = Vec::new();
    while a > 0 && b > 0 {
        if best[a][b] == best[a - 1][b] {
            a -= 1;
        } else if best[a][b] == best[a][b - 1] {
            b -= 1;
        } else {
            (a, b) = (a - 1, b - 1);
            pairs.push((a, b));
        }
    }
    pairs.reverse();
    pairs
}

#[cfg(test)]
mod tests {
    use super::best_pairing;

    #[test]
    fn the_shorter_models_layers_find_theirs() {
        let like = |a: usize, b: usize| if a == b { 1.0 } else { 0.2 };
        let kept = [0, 1, 3, 4, 7];
        let similarity: Vec<Vec<f64>> = (0..8)
            .map(|a| kept.iter().map(|b| like(a, *b)).collect())
            .collect();
        let expected: Vec<_> = kept.into_iter().zip(0..).collect();
        assert_eq!(best_pairing(&similarity), expected);
        let turned: Vec<Vec<f64>> = kept
            .iter()
            .map(|a| (0..8).map(|b| like(*a, b)).collect())
            .collect();
        let expected: Vec<_> = (0..).zip(kept).collect();
        assert_eq!(best_pairing(&turned), expected);
    }

    #[test]
    fn every_layer_of_the_shorter_model_is_used_once() {
        let similarity = vec![vec![-0.5, -0.1, -0.3], vec![-0.2, -0.9, -0.4]];
        let pairs = best_pairing(&similarity);
        assert_eq!(pairs, [(0, 1), (1, 2)]);
        assert_eq!(best_pairing(&[]), []);
    }
}
