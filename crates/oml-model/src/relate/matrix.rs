//! Matrices in rows, and their products in f32 on all threads.

use oml_kernels::{Form, Isa, Packed, Pool, for_each_chunk, matmul, pack};

use crate::engine::Engine;

/// A row-major matrix.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Matrix {
    pub(super) rows: usize,
    pub(super) columns: usize,
    pub(super) values: Vec<f32>,
}

impl Matrix {
    pub(super) fn zeros(rows: usize, columns: usize) -> Self {
        Self {
            rows,
            columns,
            values: vec![0.0; rows * columns],
        }
    }

    pub(super) fn row(&self, row: usize) -> &[f32] {
        &self.values[row * self.columns..][..self.columns]
    }
}

/// Makes products.
pub(super) struct Products {
    isa: Isa,
    pub(super) pool: Pool,
}

impl Products {
    /// The engine's instructions, or AVX-512 instead of AMX: bf16 is too coarse for the frame.
    pub(super) fn new(engine: &Engine) -> Self {
        Self {
            isa: match engine.isa() {
                Isa::Amx => Isa::Avx512,
                isa => isa,
            },
            pool: Pool::new(engine.threads()),
        }
    }

    /// A·Bᵀ.
    pub(super) fn with_transposed(&self, a: &Matrix, b: &Matrix) -> Matrix {
        self.product((a, Form::Left), (b, Form::RightTransposed), a.rows, b.rows)
    }

    /// A·B.
    pub(super) fn plain(&self, a: &Matrix, b: &Matrix) -> Matrix {
        self.product((a, Form::Left), (b, Form::Right), a.rows, b.columns)
    }

    /// Aᵀ·B.
    pub(super) fn of_transposed(&self, a: &Matrix, b: &Matrix) -> Matrix {
        self.product(
            (a, Form::LeftTransposed),
            (b, Form::Right),
            a.columns,
            b.columns,
        )
    }

    fn product(
        &self,
        (a, left): (&Matrix, Form),
        (b, right): (&Matrix, Form),
        m: usize,
        n: usize,
    ) -> Matrix {
        let packed = |source: &Matrix, form| {
            let mut packed = Packed::new(self.isa, form);
            let (rows, columns) = (source.rows, source.columns);
            let targets = &mut [&mut packed];
            pack(&self.pool, &source.values, rows, columns, columns, targets);
            packed
        };
        let mut product = Matrix::zeros(m, n);
        let (a, b) = (packed(a, left), packed(b, right));
        matmul(&self.pool, &a, &b, &mut product.values, n, false);
        product
    }

    /// Scales every row to length 1; a row of zeros stays one.
    pub(super) fn normalise(&self, matrix: &mut Matrix) {
        let columns = matrix.columns;
        for_each_chunk(&self.pool, &mut matrix.values, columns, |_, row| {
            normalise(row)
        });
    }
}

/// Scales a row to length 1, whatever its size; what has no length becomes zeros.
pub(super) fn normalise(row: &mut [f32]) {
    let square: f64 = row.iter().map(|x| f64::from(*x) * f64::from(*x)).sum();
    let length = square.sqrt();
    if length > 0.0 && length.is_finite() {
        let scale = 1.0 / length;
        row.iter_mut()
            .for_each(|x| *x = (f64::from(*x) * scale) as f32);
    } else {
        row.fill(0.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_are_those_of_the_definition() {
        let products = Products::new(&Engine {
            isa: None,
            threads: Some(2),
        });
        let matrix = |rows: usize, columns: usize, seed: usize| Matrix {
            rows,
            columns,
            values: (0..rows * columns)
                .map(|i| ((i * 7 + seed) % 11) as f32 - 5.0)
                .collect(),
        };
        let (a, b) = (matrix(3, 5, 1), matrix(5, 4, 2));
        let transposed = |m: &Matrix| {
            let mut t = Matrix::zeros(m.columns, m.rows);
            for r in 0..m.rows {
                for c in 0..m.columns {
                    t.values[c * m.rows + r] = m.values[r * m.columns + c];
                }
            }
            t
        };
        let mut expected = Matrix::zeros(3, 4);
        for i in 0..3 {
            for j in 0..4 {
                expected.values[i * 4 + j] = (0..5).map(|k| a.row(i)[k] * b.row(k)[j]).sum();
            }
        }
        assert_eq!(products.plain(&a, &b), expected);
        assert_eq!(products.with_transposed(&a, &transposed(&b)), expected);
        assert_eq!(products.of_transposed(&transposed(&a), &b), expected);
    }

    #[test]
    fn rows_of_any_size_get_length_one() {
        for size in [1e-38_f32, 1.0, 1e38] {
            let mut row = [3.0 * size, 4.0 * size / 2.0 * 2.0];
            row[1] = 4.0 * (size / 2.0) * 2.0;
            if size > 1.0 {
                row = [0.3 * size, 0.4 * size];
            }
            normalise(&mut row);
            assert!(
                (row[0] - 0.6).abs() < 1e-3 && (row[1] - 0.8).abs() < 1e-3,
                "{row:?}"
            );
        }
        let mut zero = [0.0; 3];
        normalise(&mut zero);
        assert_eq!(zero, [0.0; 3]);
    }
}
