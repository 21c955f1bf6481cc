//! Causal attention over packed sequences and over a cache: which task takes which rows.

use std::cell::RefCell;

use oml_kernels::{
    AttentionScratch, AttentionShape, Isa, Pool, attention, attention_backward, for_each_range,
    rotate,
};

use super::super::{CachedRows, Heads, Layout, RopeTable};
use super::Compact;

/// Queries that one task of attention takes.
const QUERIES: usize = 64;

thread_local! {
    static SCRATCH: RefCell<(AttentionScratch, Vec<f32>)> = RefCell::default();
}

/// Turns the query and key heads of consecutive rows of `qkv`; `direction` −1 turns them back.
pub(super) fn turn(
    isa: Isa,
    heads: &Heads,
    table: &RopeTable,
    positions: &[u32],
    rows: &mut [f32],
    direction: f32,
) {
    let d = heads.shape.head_dim;
    for (row, position) in rows.chunks_mut(heads.qkv_width()).zip(positions) {
        let (cos, sin) = table.at(*position as usize);
        for start in heads.queries_and_keys().into_iter().flatten() {
            let head = &mut row[start..][..d];
            rotate(isa, &mut head[..2 * cos.len()], cos, sin, direction);
        }
    }
}

pub(super) fn forward(
    isa: Isa,
    pool: &Pool,
    qkv: &[f32],
    layout: &Layout,
    heads: &Heads,
    out: &mut [f32],
) {
    let (width, query, shape) = (heads.qkv_width(), heads.query_width(), heads.shape);
    // Long sequences are cut into blocks of queries, so that one sequence keeps every thread busy.
    let blocks: Vec<(usize, usize, usize)> = layout
        .sequences()
        .flat_map(|(start, length)| {
            (0..length)
                .step_by(QUERIES)
                .map(move |first| (start, first, QUERIES.min(length - first)))
        })
        .collect();
    let mut bounds: Vec<usize> = blocks
        .iter()
        .map(|(start, first, _)| (start + first) * query)
        .collect();
    bounds.push(layout.tokens() * query);
    for_each_range(pool, out, &bounds, |i, out| {
        let (start, first, rows) = blocks[i];
        let row = &qkv[start * width..][..(first + rows) * width];
        let (k, v) = (&row[shape.keys_at..], &row[shape.values_at..]);
        let q = &row[first * width..];
        SCRATCH.with_borrow_mut(|(scratch, _)| {
            attention(
                isa, &shape, scratch, first, rows, q, width, k, v, width, out, query,
            );
        });
    });
}

#[allow(clippy::too_many_arguments)]
pub(super) fn backward(
    isa: Isa,
    pool: &Pool,
    qkv: &Compact,
    layout: &Layout,
    positions: &[u32],
    heads: &Heads,
    table: &RopeTable,
    d_out: &[f32],
    d_qkv: &mut [f32],
) {
    let (width, query, shape) = (heads.qkv_width(), heads.query_width(), heads.shape);
    let bounds: Vec<usize> = layout.starts.iter().map(|s| s * width).collect();
    for_each_range(pool, d_qkv, &bounds, |i, d| {
        let (start, rows) = (layout.starts[i], layout.starts[i + 1] - layout.starts[i]);
        let d_out = &d_out[start * query..][..rows * query];
        SCRATCH.with_borrow_mut(|(scratch, wide)| {
            let qkv = qkv.read(isa, start * width, rows * width, wide);
            attention_backward(isa, &shape, scratch, rows, qkv, d_out, d);
        });
        turn(isa, heads, table, &positions[start..], d, -1.0);
    });
}

pub(super) fn cached(
    isa: Isa,
    pool: &Pool,
    qkv: &[f32],
    cache: &mut [f32],
    sequences: &[CachedRows],
    heads: &Heads,
    out: &mut [f32],
) {
    let (width, shape) = (heads.qkv_width(), heads.shape);
    let (query, kv, d) = (heads.query_width(), heads.kv_width(), shape.head_dim);
    let row = 2 * kv;
    for s in sequences {
        for t in 0..s.rows {
            let new = &qkv[(s.start + t) * width..][..width];
            let place = &mut cache[(s.slot + s.past + t) * row..][..row];
            for (to, from) in [(0, shape.keys_at), (kv, shape.values_at)] {
                for head in 0..shape.kv_heads {
                    let from = &new[from + head * shape.kv_step..][..d];
                    place[to + head * d..][..d].copy_from_slice(from);
                }
            }
        }
    }
    let cache = &*cache;
    // In the cache keys lie beside keys.
    let shape = AttentionShape {
        kv_step: d,
        ..shape
    };
    let mut bounds: Vec<usize> = sequences.iter().map(|s| s.start * query).collect();
    bounds.push(sequences.last().map_or(0, |s| (s.start + s.rows) * query));
    for_each_range(pool, out, &bounds, |i, out| {
        let s = sequences[i];
        let cached = &cache[s.slot * row..][..(s.past + s.rows) * row];
        SCRATCH.with_borrow_mut(|(scratch, _)| {
            attention(
                isa,
                &shape,
                scratch,
                s.past,
                s.rows,
                &qkv[s.start * width..],
                width,
                cached,
                &cached[kv..],
                row,
                out,
                query,
            );
        });
    });
}
