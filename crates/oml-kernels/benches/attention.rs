//! Attention on one thread with the heads of SmolLM2-135M, for every instruction set of this processor.
//!
//! Throughput is in floating-point operations of the causal half: of the products, what the mask leaves.

#![allow(missing_docs)]

use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use oml_kernels::{AttentionScratch, AttentionShape, Isa, attention, attention_backward};

const SHAPE: AttentionShape = AttentionShape::new(9, 3, 64, 0.125);
const QUERY: usize = SHAPE.heads * SHAPE.head_dim;
const KEY: usize = SHAPE.kv_heads * SHAPE.head_dim;
const WIDTH: usize = QUERY + 2 * KEY;

fn sequences(criterion: &mut Criterion) {
    for isa in Isa::ALL.into_iter().filter(|isa| isa.is_available()) {
        let mut group = criterion.benchmark_group(format!("attention/{isa}"));
        group
            .sample_size(10)
            .warm_up_time(Duration::from_millis(100))
            .measurement_time(Duration::from_millis(400));
        for tokens in [17, 48, 512] {
            let qkv: Vec<f32> = (0..tokens * WIDTH)
                .map(|i| (i % 251) as f32 / 251.0 - 0.5)
                .collect();
            let mut out = vec![0.0; tokens * QUERY];
            let mut gradient = vec![0.0; tokens * WIDTH];
            let mut scratch = AttentionScratch::default();
            let pairs = tokens * (tokens + 1) / 2;
            let product = (2 * QUERY * pairs) as u64;
            group.throughput(Throughput::Elements(2 * product));
            group.bench_function(BenchmarkId::new("forward", tokens), |bencher| {
                bencher.iter(|| {
                    attention(
                        isa,
                        &SHAPE,
                        &mut scratch,
                        0,
                        tokens,
                        &qkv,
                        WIDTH,
                        &qkv[QUERY..],
                        &qkv[QUERY + KEY..],
                        WIDTH,
                        &mut out,
                        QUERY,
                    );
                });
            });
            group.throughput(Throughput::Elements(5 * product));
            group.bench_function(BenchmarkId::new("backward", tokens), |bencher| {
                bencher.iter(|| {
                    attention_backward(isa, &SHAPE, &mut scratch, tokens, &qkv, &out, &mut gradient)
                });
            });
        }
    }
}

criterion_group!(benches, sequences);
criterion_main!(benches);
