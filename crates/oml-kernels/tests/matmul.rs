//! Products, packing and reading back against f64, on every instruction set of this processor.

mod support;

use oml_kernels::{Form, Isa, Packed, Pool, matmul, matmul_narrow, narrow, pack, pack_with};
use proptest::prelude::*;
use support::{available, random};

/// What the instruction set stores for a value: bf16, rounded to nearest even, for AMX.
fn stored(isa: Isa, value: f32) -> f32 {
    if isa != Isa::Amx {
        return value;
    }
    let bits = value.to_bits();
    f32::from_bits((bits + 0x7fff + (bits >> 16 & 1)) & 0xffff_0000)
}

/// A `[rows × columns]` source as the operand `form`, with the element (outer, inner) of that operand.
struct Operand {
    packed: Packed,
    source: Vec<f32>,
    rows: usize,
    columns: usize,
}

impl Operand {
    fn new(pool: &Pool, isa: Isa, form: Form, outer: usize, inner: usize, seed: u64) -> Operand {
        let (rows, columns) = if matches!(form, Form::Left | Form::RightTransposed) {
            (outer, inner)
        } else {
            (inner, outer)
        };
        let source = random(rows * columns, seed);
        let mut packed = Packed::new(isa, form);
        pack(pool, &source, rows, columns, columns, &mut [&mut packed]);
        Operand {
            packed,
            source,
            rows,
            columns,
        }
    }

    /// `[outer × inner]` as stored.
    fn rows_f64(&self, outer: usize, inner: usize) -> Vec<f64> {
        let direct = matches!(self.packed.form(), Form::Left | Form::RightTransposed);
        let at = |o: usize, i: usize| {
            if direct {
                o * self.columns + i
            } else {
                i * self.columns + o
            }
        };
        let element = |o, i| f64::from(stored(self.packed.isa(), self.source[at(o, i)]));
        (0..outer)
            .flat_map(|o| (0..inner).map(move |i| (o, i)))
            .map(|(o, i)| element(o, i))
            .collect()
    }

    fn check_rows(&self) {
        let mut row = vec![0.0; self.columns];
        for r in 0..self.rows {
            self.packed.row(r, &mut row);
            for (c, value) in row.iter().enumerate() {
                assert_eq!(
                    *value,
                    stored(self.packed.isa(), self.source[r * self.columns + c])
                );
            }
        }
    }
}

fn check(
    pool: &Pool,
    isa: Isa,
    forms: (Form, Form),
    (m, n, k): (usize, usize, usize),
    accumulate: bool,
) {
    let a = Operand::new(pool, isa, forms.0, m, k, 1);
    let b = Operand::new(pool, isa, forms.1, n, k, 2);
    a.check_rows();
    b.check_rows();
    let stride = n + 3;
    let before = random(m * stride, 3);
    let mut c = before.clone();
    matmul(pool, &a.packed, &b.packed, &mut c, stride, accumulate);
    let (a, b) = (a.rows_f64(m, k), b.rows_f64(n, k));
    let tolerance = 4e-6 * (k as f64).sqrt().max(1.0);
    for (i, (old, new)) in before.chunks(stride).zip(c.chunks(stride)).enumerate() {
        assert_eq!(
            old[n..],
            new[n..],
            "{isa} {forms:?} {m}×{k}×{n}: wrote past row {i}"
        );
        for j in 0..n {
            let products = a[i * k..(i + 1) * k]
                .iter()
                .zip(&b[j * k..(j + 1) * k])
                .map(|(a, b)| a * b);
            let expected = products.sum::<f64>() + if accumulate { f64::from(old[j]) } else { 0.0 };
            assert!(
                (f64::from(new[j]) - expected).abs() <= tolerance,
                "{isa} {forms:?} {m}×{k}×{n} accumulate {accumulate}: C[{i}][{j}] = {}, expected {expected}",
                new[j]
            );
        }
    }
}

const FORMS: [(Form, Form); 4] = [
    (Form::Left, Form::Right),
    (Form::Left, Form::RightTransposed),
    (Form::LeftTransposed, Form::Right),
    (Form::LeftTransposed, Form::RightTransposed),
];

#[test]
fn products_of_odd_sizes_match_f64() {
    let pool = Pool::new(2);
    let sizes = [
        (1, 1, 1),
        (3, 5, 7),
        (8, 48, 16),
        (16, 32, 32),
        (17, 33, 31),
        (32, 32, 64),
        (33, 49, 65),
        (47, 95, 129),
        (64, 96, 700),
        (100, 130, 1300),
        (1, 200, 576),
        (200, 1, 33),
        (40, 60, 2048),
    ];
    for isa in available() {
        for forms in FORMS {
            for size in sizes {
                for accumulate in [false, true] {
                    check(&pool, isa, forms, size, accumulate);
                }
            }
        }
    }
}

#[test]
fn empty_products_do_nothing_and_empty_sums_are_zero() {
    let pool = Pool::new(2);
    for isa in available() {
        for forms in FORMS {
            for size in [(0, 4, 4), (4, 0, 4), (4, 4, 0), (0, 0, 0)] {
                check(&pool, isa, forms, size, false);
                check(&pool, isa, forms, size, true);
            }
        }
    }
}

#[test]
fn a_row_does_not_depend_on_the_number_of_rows_or_threads() {
    let (n, k) = (100, 1500);
    let x = random(300 * k, 4);
    let w = random(n * k, 5);
    for isa in available() {
        let product = |pool: &Pool, first: usize, m: usize| {
            let (mut a, mut b) = (
                Packed::new(isa, Form::Left),
                Packed::new(isa, Form::RightTransposed),
            );
            pack(pool, &x[first * k..], m, k, k, &mut [&mut a]);
            pack(pool, &w, n, k, k, &mut [&mut b]);
            let mut c = vec![0.0; m * n];
            matmul(pool, &a, &b, &mut c, n, false);
            c
        };
        let all = product(&Pool::new(2), 0, 300);
        assert_eq!(all, product(&Pool::new(1), 0, 300), "{isa}: threads");
        assert_eq!(all, product(&Pool::new(2), 0, 300), "{isa}: twice");
        for (first, m) in [(0, 1), (7, 1), (5, 16), (31, 40), (299, 1)] {
            assert_eq!(
                all[first * n..(first + m) * n],
                product(&Pool::new(2), first, m),
                "{isa}: {m} rows at {first}"
            );
        }
    }
}

#[test]
fn one_fill_packs_all_forms_and_memory_is_reused() {
    let pool = Pool::new(2);
    let forms = [
        Form::Left,
        Form::LeftTransposed,
        Form::Right,
        Form::RightTransposed,
    ];
    for isa in available() {
        let mut targets = forms.map(|form| Packed::new(isa, form));
        let mut bytes = None;
        for (rows, columns) in [(101, 77), (33, 150), (64, 64), (5, 3)] {
            let source = random(rows * columns, rows as u64);
            let fill = |r: usize, row: &mut [f32]| {
                row.copy_from_slice(&source[r * columns..(r + 1) * columns])
            };
            pack_with(&pool, rows, columns, &fill, &mut targets.each_mut());
            let mut row = vec![0.0; columns];
            for (target, form) in targets.iter().zip(forms) {
                assert_eq!(
                    (target.rows(), target.columns(), target.form()),
                    (rows, columns, form)
                );
                for r in 0..rows {
                    target.row(r, &mut row);
                    let expected: Vec<f32> = source[r * columns..(r + 1) * columns]
                        .iter()
                        .map(|value| stored(isa, *value))
                        .collect();
                    assert_eq!(row, expected, "{isa} {form:?} row {r}");
                }
            }
            let held: usize = targets.iter().map(Packed::bytes).sum();
            assert!(bytes.replace(held).is_none_or(|before| held >= before));
        }
    }
}

#[test]
fn stale_memory_does_not_leak_into_padding() {
    let pool = Pool::new(2);
    for isa in available() {
        for forms in FORMS {
            let (mut a, mut b) = (Packed::new(isa, forms.0), Packed::new(isa, forms.1));
            for size in [100, 13] {
                let source = vec![if size == 13 { 1.0 } else { f32::NAN }; size * size];
                pack(&pool, &source, size, size, size, &mut [&mut a]);
                pack(&pool, &source, size, size, size, &mut [&mut b]);
            }
            let mut c = vec![0.0; 13 * 13];
            matmul(&pool, &a, &b, &mut c, 13, false);
            assert!(c.iter().all(|value| *value == 13.0), "{isa} {forms:?}");
        }
    }
}

#[test]
fn narrow_products_are_the_same_rounded_once() {
    let pool = Pool::new(2);
    for isa in available() {
        for (m, n, k) in [
            (1, 2, 3),
            (100, 66, 40),
            (65, 1000, 33),
            (300, 130, 70),
            (40, 64, 0),
            (0, 4, 4),
            (3, 0, 2),
        ] {
            let a = Operand::new(&pool, isa, Form::Left, m, k, 1);
            let b = Operand::new(&pool, isa, Form::RightTransposed, n, k, 2);
            let mut exact = vec![0.0; m * n];
            matmul(&pool, &a.packed, &b.packed, &mut exact, n, false);
            let mut rounded = vec![0; m * n];
            narrow(isa, &exact, &mut rounded);
            let mut c = vec![1; m * n];
            matmul_narrow(&pool, &a.packed, &b.packed, &mut c);
            assert_eq!(c, rounded, "{isa} {m}×{k}×{n}");
        }
    }
}

#[test]
#[should_panic(expected = "k of A and of B")]
fn different_k_is_refused() {
    let pool = Pool::new(1);
    let a = Operand::new(&pool, Isa::Portable, Form::Left, 4, 5, 1);
    let b = Operand::new(&pool, Isa::Portable, Form::Right, 4, 6, 1);
    matmul(&pool, &a.packed, &b.packed, &mut [0.0; 16], 4, false);
}

#[test]
#[should_panic(expected = "do not fit into 15 elements")]
fn a_small_result_is_refused() {
    let pool = Pool::new(1);
    let a = Operand::new(&pool, Isa::Portable, Form::Left, 4, 5, 1);
    let b = Operand::new(&pool, Isa::Portable, Form::Right, 4, 5, 1);
    matmul(&pool, &a.packed, &b.packed, &mut [0.0; 15], 4, false);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn products_of_any_size_match_f64(m in 0usize..90, n in 0usize..120, k in 0usize..200, forms in 0usize..4, accumulate: bool) {
        let pool = Pool::new(2);
        for isa in available() {
            check(&pool, isa, FORMS[forms], (m, n, k), accumulate);
        }
    }
}
