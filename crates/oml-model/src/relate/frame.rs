//! How the streams of two models are compared.
//!
//! ```text
//! anchors     A `[n, dA]`, B `[n, dB]`: embeddings of n tokens that both models know, of length 1, less their means
//! T `[dA, dB]`  minimises |A T − B|² + λ |T|²:  (AᵀA + λ) T = AᵀB,  λ = 10⁻⁴ of the mean square of A's columns
//! rows        functionals: a · x_A and b · x_B = b · Tᵀ x_A, so a is compared with T b
//! columns     vectors: a and b in streams of which x_A T is x_B, so aᵀ T is compared with b
//! CKA         |AᵀB|² / (|AᵀA| · |BᵀB|), Frobenius norms
//! ```
//!
//! T undoes a rotation of the stream or a choice of its coordinates, and compares streams of different widths; embeddings
//! decide it, which training after the start moves little. They are scaled to length 1 first, so that a few tokens that
//! nobody uses cannot be blown up to decide it. Where both streams have one width, plain coordinates (T = 1) are
//! tried as well, on the first layer, and the frame with the larger cosines is taken. Linear CKA is the figure of REEF
//! (Zhang and others, arXiv 2410.14273), which takes it of activations.

use std::collections::HashMap;

use oml_core::relatedness::{Pair, Sense, mutual_nearest};
use oml_kernels::for_each_chunk;

use crate::checkpoint::{Checkpoint, CheckpointError};

use super::RelateError;
use super::layers::best_of_rows;
use super::matrix::{Matrix, Products, normalise};
use super::units;

/// Tokens used at least, per coordinate of the wider stream.
const LEAST_TOKENS: usize = 2;
/// Tokens used at most: this many, or [`MOST_PER_COORDINATE`] per coordinate of the wider stream.
const MOST_TOKENS: usize = 1 << 13;
const MOST_PER_COORDINATE: usize = 4;
/// λ, as a share of the mean square.
const RIDGE: f64 = 1e-4;

/// How the streams of two models were compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameName {
    /// By a map fitted on the embeddings of common tokens.
    Tokens,
    /// Coordinate by coordinate.
    Coordinates,
}

impl FrameName {
    /// Its name in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tokens => "tokens",
            Self::Coordinates => "coordinates",
        }
    }
}

/// How rows of two embeddings were paired.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenBasis {
    /// The tokenizers are one.
    SameTokenizer,
    /// The tokens that two tokenizers both have.
    SharedTokens,
    /// A tokenizer is missing, and the vocabularies have one size.
    RowNumbers,
}

impl TokenBasis {
    /// Its name in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::SameTokenizer => "same tokenizer",
            Self::SharedTokens => "tokens of both tokenizers",
            Self::RowNumbers => "row numbers, for want of a tokenizer",
        }
    }
}

/// What the embeddings of common tokens say.
pub(super) struct Anchors {
    pub(super) basis: TokenBasis,
    pub(super) tokens: usize,
    pub(super) cka: f64,
    /// Coordinates of the streams that are each other's nearest over all tokens.
    pub(super) coordinate_pairs: Vec<Pair>,
    /// Tᵀ `[dB, dA]`, where it could be fitted.
    map: Option<Matrix>,
}

impl Anchors {
    /// `None` where too few tokens are shared.
    pub(super) fn new(
        products: &Products,
        model: &Checkpoint,
        suspect: &Checkpoint,
    ) -> Result<Option<Self>, CheckpointError> {
        let (basis, pairs) = common_tokens(model, suspect)?;
        let widest = model.config().hidden_size.max(suspect.config().hidden_size);
        if pairs.len() < LEAST_TOKENS * widest {
            return Ok(None);
        }
        let most = MOST_TOKENS.max(MOST_PER_COORDINATE * widest);
        let pairs: Vec<_> = spread(&pairs, most);
        let own = embeddings(model, pairs.iter().map(|pair| pair.0))?;
        let other = embeddings(suspect, pairs.iter().map(|pair| pair.1))?;
        let gram = products.of_transposed(&own, &own);
        let cross = products.of_transposed(&own, &other);
        let other_gram = products.of_transposed(&other, &other);
        let squares = |m: &Matrix| -> f64 { m.values.iter().map(|x| f64::from(*x).powi(2)).sum() };
        let norms = (squares(&gram) * squares(&other_gram)).sqrt();
        let cka = if norms > 0.0 {
            squares(&cross) / norms
        } else {
            0.0
        };
        let mut correlation = cross.clone();
        let lengths =
            |m: &Matrix| -> Vec<f32> { (0..m.rows).map(|i| m.row(i)[i].max(0.0).sqrt()).collect() };
        let (own_lengths, other_lengths) = (lengths(&gram), lengths(&other_gram));
        for (row, a) in correlation
            .values
            .chunks_exact_mut(cross.columns)
            .zip(&own_lengths)
        {
            for (x, b) in row.iter_mut().zip(&other_lengths) {
                let product = a * b;
                *x = if product > 0.0 { *x / product } else { 0.0 };
            }
        }
        Ok(Some(Self {
            basis,
            tokens: pairs.len(),
            cka,
            coordinate_pairs: mutual_nearest(&correlation.values, cross.columns, Sense::Blind),
            map: least_squares(products, &gram, &cross),
        }))
    }
}

/// A way to compare streams.
pub(super) struct Frame {
    pub(super) name: FrameName,
    /// Tᵀ `[dB, dA]`; `None` is T = 1.
    map: Option<Matrix>,
}

impl Frame {
    /// Cosines of the model's units with the suspect's, as functionals of the stream. All rows have length 1.
    pub(super) fn rows(&self, products: &Products, own: Matrix, other: Matrix) -> Matrix {
        let other = match &self.map {
            None => other,
            Some(map) => {
                let mut pulled = products.plain(&other, map);
                drop(other);
                products.normalise(&mut pulled);
                pulled
            }
        };
        products.with_transposed(&own, &other)
    }

    /// Cosines of the model's units with the suspect's, as vectors in the stream. All rows have length 1.
    pub(super) fn columns(&self, products: &Products, own: Matrix, other: Matrix) -> Matrix {
        let own = match &self.map {
            None => own,
            Some(map) => {
                let mut pushed = products.with_transposed(&own, map);
                drop(own);
                products.normalise(&mut pushed);
                pushed
            }
        };
        products.with_transposed(&own, &other)
    }
}

/// The frame in which the first layers' units are nearer to each other.
pub(super) fn choose(
    products: &Products,
    model: &Checkpoint,
    suspect: &Checkpoint,
    anchors: Option<&Anchors>,
) -> Result<Frame, RelateError> {
    let widths = (model.config().hidden_size, suspect.config().hidden_size);
    let plain = (widths.0 == widths.1).then_some(Frame {
        name: FrameName::Coordinates,
        map: None,
    });
    let fitted = anchors.and_then(|anchors| anchors.map.clone());
    let fitted = fitted.map(|map| Frame {
        name: FrameName::Tokens,
        map: Some(map),
    });
    match (fitted, plain) {
        (Some(fitted), None) => Ok(fitted),
        (None, Some(plain)) => Ok(plain),
        (Some(fitted), Some(plain)) => {
            let (own, other) = (units::first(model, 0)?, units::first(suspect, 0)?);
            let nearness = |frame: &Frame| {
                let all = frame.rows(products, own.clone(), other.clone());
                best_of_rows(products, &all).iter().sum::<f64>()
            };
            Ok(if nearness(&fitted) > nearness(&plain) {
                fitted
            } else {
                plain
            })
        }
        (None, None) => Err(RelateError::Frame {
            path: suspect.path().to_owned(),
            other: model.path().to_owned(),
            expected: widths.0,
            got: widths.1,
            least: LEAST_TOKENS * widths.0.max(widths.1),
            tokens: anchors.map_or(common_tokens(model, suspect)?.1.len(), |a| a.tokens),
        }),
    }
}

/// Rows of the two embeddings that belong to one token, by the model's.
fn common_tokens(
    model: &Checkpoint,
    suspect: &Checkpoint,
) -> Result<(TokenBasis, Vec<(usize, usize)>), CheckpointError> {
    let tokenizer = |checkpoint: &Checkpoint| match checkpoint.tokenizer() {
        Ok(tokenizer) => Ok(Some(tokenizer)),
        Err(CheckpointError::MissingTokenizer { .. }) => Ok(None),
        Err(error) => Err(error),
    };
    let (Some(own), Some(other)) = (tokenizer(model)?, tokenizer(suspect)?) else {
        let rows = model.config().vocab_size;
        let rows = if suspect.config().vocab_size == rows {
            rows
        } else {
            0
        };
        return Ok((TokenBasis::RowNumbers, (0..rows).map(|i| (i, i)).collect()));
    };
    if own.hash() == other.hash() {
        let rows = own.vocabulary_size();
        return Ok((
            TokenBasis::SameTokenizer,
            (0..rows).map(|i| (i, i)).collect(),
        ));
    }
    let named = (0..other.vocabulary_size()).filter_map(|id| {
        let token = other.token(u32::try_from(id).ok()?)?;
        Some((token, id))
    });
    let rows: HashMap<String, usize> = named.collect();
    let pairs = (0..own.vocabulary_size()).filter_map(|id| {
        let token = own.token(u32::try_from(id).ok()?)?;
        Some((id, *rows.get(&token)?))
    });
    Ok((TokenBasis::SharedTokens, pairs.collect()))
}

/// At most `most` of them, evenly spread.
fn spread(pairs: &[(usize, usize)], most: usize) -> Vec<(usize, usize)> {
    let count = pairs.len().min(most);
    (0..count).map(|i| pairs[i * pairs.len() / count]).collect()
}

/// Rows of the embedding, each scaled to length 1, less their mean.
fn embeddings(
    checkpoint: &Checkpoint,
    tokens: impl Iterator<Item = usize>,
) -> Result<Matrix, CheckpointError> {
    let config = checkpoint.config();
    let width = config.hidden_size;
    let mut all = vec![0.0; config.vocab_size * width];
    let name = format!("{}.weight", config.family.names.embedding);
    checkpoint.read_f32(&name, &mut all)?;
    let mut picked = Matrix::zeros(0, width);
    for token in tokens {
        picked
            .values
            .extend_from_slice(&all[token * width..][..width]);
        picked.rows += 1;
    }
    drop(all);
    let mut means = vec![0.0f64; width];
    for row in picked.values.chunks_exact_mut(width) {
        normalise(row);
        for (mean, x) in means.iter_mut().zip(row) {
            *mean += f64::from(*x) / picked.rows as f64;
        }
    }
    for row in picked.values.chunks_exact_mut(width) {
        for (mean, x) in means.iter().zip(row) {
            *x = (f64::from(*x) - mean) as f32;
        }
    }
    Ok(picked)
}

/// Tᵀ from AᵀA and AᵀB by Cholesky's decomposition in f64; `None` where AᵀA has none.
fn least_squares(products: &Products, gram: &Matrix, cross: &Matrix) -> Option<Matrix> {
    let n = gram.rows;
    let trace: f64 = (0..n).map(|i| f64::from(gram.row(i)[i])).sum();
    let ridge = RIDGE * trace / n as f64;
    if !(ridge > 0.0 && ridge.is_finite()) {
        return None;
    }
    let factor = cholesky(gram, ridge)?;
    let mut map = Matrix::zeros(cross.columns, n);
    for_each_chunk(&products.pool, &mut map.values, n, |j, out| {
        let mut x: Vec<f64> = (0..n).map(|i| f64::from(cross.row(i)[j])).collect();
        for i in 0..n {
            let row = &factor[i * n..][..=i];
            let sum: f64 = row.iter().zip(&x[..i]).map(|(l, x)| l * x).sum();
            x[i] = (x[i] - sum) / row[i];
        }
        for i in (0..n).rev() {
            let row = &factor[i * n..][..=i];
            x[i] /= row[i];
            let solved = x[i];
            for (x, l) in x[..i].iter_mut().zip(row) {
                *x -= solved * l;
            }
        }
        for (out, x) in out.iter_mut().zip(x) {
            *out = x as f32;
        }
    });
    map.values.iter().all(|x| x.is_finite()).then_some(map)
}

/// The lower triangle L of `gram` + `ridge` = L Lᵀ, in whole rows.
fn cholesky(gram: &Matrix, ridge: f64) -> Option<Vec<f64>> {
    let n = gram.rows;
    let mut factor = vec![0.0; n * n];
    for i in 0..n {
        let (done, rest) = factor.split_at_mut(i * n);
        let row = &mut rest[..n];
        for j in 0..=i {
            let above = if j < i { &done[j * n..][..n] } else { &[] };
            let dot: f64 = if j < i {
                row[..j].iter().zip(&above[..j]).map(|(a, b)| a * b).sum()
            } else {
                row[..j].iter().map(|a| a * a).sum()
            };
            let value = f64::from(gram.row(i)[j]) - dot;
            if j < i {
                row[j] = value / above[j];
            } else {
                let value = value + ridge;
                if value.is_nan() || value <= 0.0 {
                    return None;
                }
                row[i] = value.sqrt();
            }
        }
    }
    Some(factor)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Engine;
    use crate::sampler::SequenceRandom;

    fn random(rows: usize, columns: usize, seed: u64) -> Matrix {
        let mut random = SequenceRandom::new(seed);
        let values = (0..rows * columns).map(|_| random.uniform() as f32 - 0.5);
        Matrix {
            rows,
            columns,
            values: values.collect(),
        }
    }

    #[test]
    fn the_map_between_streams_is_found() {
        let products = Products::new(&Engine::default());
        let (own, map) = (random(400, 24, 1), random(24, 10, 2));
        let other = products.plain(&own, &map);
        let gram = products.of_transposed(&own, &own);
        let cross = products.of_transposed(&own, &other);
        let found = least_squares(&products, &gram, &cross).unwrap();
        for i in 0..24 {
            for j in 0..10 {
                let (got, expected) = (found.row(j)[i], map.row(i)[j]);
                assert!((got - expected).abs() < 2e-3, "{got}, expected {expected}");
            }
        }
    }

    #[test]
    fn embeddings_that_span_nothing_give_no_map() {
        let products = Products::new(&Engine::default());
        let zero = Matrix::zeros(6, 6);
        assert_eq!(least_squares(&products, &zero, &zero), None);
    }

    #[test]
    fn rows_and_columns_are_carried_the_right_way() {
        let products = Products::new(&Engine::default());
        // x_B = x_A T with an orthogonal T: a rotation by a quarter in the first two coordinates
        let turned = Matrix {
            rows: 3,
            columns: 3,
            values: vec![0.0, 1.0, 0.0, -1.0, 0.0, 0.0, 0.0, 0.0, 1.0],
        };
        let frame = Frame {
            name: FrameName::Tokens,
            map: Some(products.with_transposed(
                &Matrix {
                    rows: 3,
                    columns: 3,
                    values: vec![1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0],
                },
                &turned,
            )),
        };
        let map = frame.map.clone().unwrap();
        let mut own = random(5, 3, 3);
        products.normalise(&mut own);
        // as a functional b = Tᵀ a and as a vector b = aᵀ T: one, for an orthogonal T
        let other = products.with_transposed(&own, &map);
        let rows = frame.rows(&products, own.clone(), other.clone());
        let columns = frame.columns(&products, own, other);
        for i in 0..5 {
            assert!((rows.row(i)[i] - 1.0).abs() < 1e-5);
            assert!((columns.row(i)[i] - 1.0).abs() < 1e-5);
        }
    }

    #[test]
    fn tokens_are_spread_over_all() {
        let pairs: Vec<_> = (0..10).map(|i| (i, i)).collect();
        assert_eq!(spread(&pairs, 3), [(0, 0), (3, 3), (6, 6)]);
        assert_eq!(spread(&pairs, 30).len(), 10);
        assert_eq!(spread(&[], 3), []);
    }
}
