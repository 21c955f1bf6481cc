//! Products and packing on the shapes of a SmolLM2-135M step.

#![allow(missing_docs)]
use criterion::{Criterion, criterion_group, criterion_main};
fn all(_c: &mut Criterion) {}
criterion_group!(benches, all);
criterion_main!(benches);
