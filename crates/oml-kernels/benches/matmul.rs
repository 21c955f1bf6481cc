//! Products and packing on the shapes of a SmolLM2-135M step, for every instruction set of this processor.
//!
//! Throughput is in floating-point operations for products and bytes of f32 source for packing. Operands are hot.

#![allow(missing_docs)]

use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use oml_kernels::{Floats, Form, Isa, Packed, Pool, matmul, matmul_narrow, pack};

/// m × k × n and whether C accumulates: a weight gradient with transposed A, otherwise a layer with transposed B.
const SHAPES: &[(usize, usize, usize, bool)] = &[
    (768, 576, 576, false),
    (768, 576, 960, false),
    (768, 576, 1536, false),
    (768, 576, 3072, false),
    (768, 1536, 576, false),
    (3072, 768, 576, true),
    (576, 768, 1536, true),
    (8192, 576, 3072, false),
    (256, 576, 4096, false),
    (16, 576, 3072, false),
    (1, 576, 49152, false),
];

fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn operand(pool: &Pool, isa: Isa, form: Form, outer: usize, inner: usize) -> Packed {
    let (rows, columns) = match form {
        Form::Left | Form::RightTransposed => (outer, inner),
        Form::LeftTransposed | Form::Right => (inner, outer),
    };
    let source: Vec<f32> = (0..rows * columns)
        .map(|i| (i % 251) as f32 / 251.0 - 0.5)
        .collect();
    let mut packed = Packed::new(isa, form);
    pack(pool, &source, rows, columns, columns, &mut [&mut packed]);
    packed
}

fn products(criterion: &mut Criterion) {
    let pool = Pool::new(threads());
    for isa in Isa::ALL.into_iter().filter(|isa| isa.is_available()) {
        let mut group = criterion.benchmark_group(format!("matmul/{isa}"));
        group
            .sample_size(10)
            .warm_up_time(Duration::from_millis(200))
            .measurement_time(Duration::from_millis(800));
        // One shape is enough to compare the slow ones.
        let shapes = if isa < Isa::Avx512 {
            &SHAPES[..1]
        } else {
            SHAPES
        };
        for &(m, k, n, add) in shapes {
            let (left, right) = if add {
                (Form::LeftTransposed, Form::Right)
            } else {
                (Form::Left, Form::RightTransposed)
            };
            let (a, b) = (
                operand(&pool, isa, left, m, k),
                operand(&pool, isa, right, n, k),
            );
            let mut c = Floats::zeroed(m * n);
            let name = format!("{m}x{k}x{n}{}", if add { "+=" } else { "" });
            group.throughput(Throughput::Elements(2 * (m * k * n) as u64));
            group.bench_function(BenchmarkId::new("stored", &name), |bencher| {
                bencher.iter(|| matmul(&pool, &a, &b, &mut c, n, add));
            });
            if !add {
                group.bench_function(BenchmarkId::new("narrow", &name), |bencher| {
                    let mut c = vec![0; m * n];
                    bencher.iter(|| matmul_narrow(&pool, &a, &b, &mut c));
                });
            }
        }
    }
}

fn packing(criterion: &mut Criterion) {
    let pool = Pool::new(threads());
    let (rows, columns) = (768, 1536);
    let source: Vec<f32> = (0..rows * columns).map(|i| i as f32).collect();
    for isa in Isa::ALL.into_iter().filter(|isa| isa.is_available()) {
        let mut group = criterion.benchmark_group(format!("pack/{isa}"));
        group
            .sample_size(10)
            .warm_up_time(Duration::from_millis(100))
            .measurement_time(Duration::from_millis(400));
        group.throughput(Throughput::Bytes(
            (rows * columns * size_of::<f32>()) as u64,
        ));
        for forms in [
            &[Form::Left][..],
            &[Form::LeftTransposed],
            &[Form::Right],
            &[Form::RightTransposed],
            &[Form::RightTransposed, Form::Right],
        ] {
            let mut packed: Vec<Packed> =
                forms.iter().map(|form| Packed::new(isa, *form)).collect();
            group.bench_function(format!("{rows}x{columns} {forms:?}"), |bencher| {
                bencher.iter(|| {
                    let mut targets: Vec<&mut Packed> = packed.iter_mut().collect();
                    pack(&pool, &source, rows, columns, columns, &mut targets);
                });
            });
        }
    }
}

criterion_group!(benches, products, packing);
criterion_main!(benches);
