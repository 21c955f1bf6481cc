//! Operations of a decoder against f64, and their gradients against central differences of the f64 reference, on every
//! instruction set of this processor.

mod support;

use oml_kernels::{
    AttentionScratch, AttentionShape, attention, attention_backward, divergence, dot, exp_scaled,
    log_sum_exp, max, narrow, rms_norm, rms_norm_backward_input, rms_norm_backward_weight, rotate,
    swiglu, swiglu_backward, swiglu_backward_bf16, swiglu_bf16, widen,
};
use support::available;

const WIDTHS: [usize; 8] = [1, 2, 15, 16, 33, 64, 100, 576];
const EPS: f32 = 1e-5;
/// Step of the central differences.
const H: f64 = 1e-5;

/// Uniform in [-2, 2), from a seed.
fn random(count: usize, seed: u64) -> Vec<f32> {
    let values = support::random(count, seed);
    values.into_iter().map(|value| 2.0 * value).collect()
}
fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|v| f64::from(*v)).collect()
}

fn weighted(y: &[f64], dy: &[f32]) -> f64 {
    y.iter().zip(dy).map(|(y, d)| y * f64::from(*d)).sum()
}

/// d/dx[i] of `f`, for each chosen i.
fn slopes(
    x: &[f32],
    chosen: impl Iterator<Item = usize>,
    f: &dyn Fn(&[f64]) -> f64,
) -> Vec<(usize, f64)> {
    let mut x = wide(x);
    let mut slope = |i: usize| {
        let start = x[i];
        x[i] = start + H;
        let above = f(&x);
        x[i] = start - H;
        let below = f(&x);
        x[i] = start;
        (i, (above - below) / (2.0 * H))
    };
    chosen.map(&mut slope).collect()
}

/// The chosen elements, within `tolerance` of the largest expected magnitude (or of 1).
fn check(what: &str, expected: &[(usize, f64)], got: &[f32], tolerance: f64) {
    let scale = expected.iter().fold(1f64, |a, (_, e)| a.max(e.abs()));
    for (i, e) in expected {
        let g = f64::from(got[*i]);
        assert!(
            (g - e).abs() <= tolerance * scale,
            "{what}[{i}]: expected {e}, got {g}"
        );
    }
}

fn all(values: &[f64]) -> Vec<(usize, f64)> {
    values.iter().copied().enumerate().collect()
}

fn norm(x: &[f64], weight: &[f64]) -> Vec<f64> {
    let mean = x.iter().map(|x| x * x).sum::<f64>() / x.len() as f64;
    let r = 1.0 / (mean + f64::from(EPS)).sqrt();
    x.iter().zip(weight).map(|(x, w)| x * r * w).collect()
}

#[test]
fn rms_norm_and_its_gradients() {
    for n in WIDTHS {
        let (x, weight, dy) = (random(n, 1), random(n, 2), random(n, 3));
        let (wide_x, wide_weight) = (wide(&x), wide(&weight));
        let y = norm(&wide_x, &wide_weight);
        let dx = slopes(&x, 0..n, &|x| weighted(&norm(x, &wide_weight), &dy));
        let dw = slopes(&weight, 0..n, &|w| weighted(&norm(&wide_x, w), &dy));
        for isa in available() {
            let mut out = vec![f32::NAN; n];
            rms_norm(isa, &x, &weight, EPS, &mut out);
            check(&format!("{isa} {n} y"), &all(&y), &out, 1e-6);
            // Both gradients are added to what is there.
            let mut out = vec![0.5; n];
            rms_norm_backward_input(isa, &x, &weight, EPS, &dy, &mut out);
            out.iter_mut().for_each(|v| *v -= 0.5);
            check(&format!("{isa} {n} dx"), &dx, &out, 2e-6);
            let mut out = vec![0.5; n];
            rms_norm_backward_weight(isa, &x, EPS, &dy, &mut out);
            out.iter_mut().for_each(|v| *v -= 0.5);
            check(&format!("{isa} {n} dw"), &dw, &out, 2e-6);
        }
    }
}

fn gated(gate: &[f64], up: &[f64]) -> Vec<f64> {
    let silu = |g: f64| g / (1.0 + (-g).exp());
    gate.iter().zip(up).map(|(g, u)| silu(*g) * u).collect()
}

#[test]
fn swiglu_and_its_gradients() {
    for n in WIDTHS {
        let mut gate = random(n, 4);
        gate.iter_mut().step_by(3).for_each(|g| *g *= 20.0);
        let (up, da) = (random(n, 5), random(n, 6));
        let (wide_gate, wide_up) = (wide(&gate), wide(&up));
        let y = gated(&wide_gate, &wide_up);
        let d_gate = slopes(&gate, 0..n, &|g| weighted(&gated(g, &wide_up), &da));
        let d_up = slopes(&up, 0..n, &|u| weighted(&gated(&wide_gate, u), &da));
        for isa in available() {
            let mut out = vec![f32::NAN; n];
            swiglu(isa, &gate, &up, &mut out);
            check(&format!("{isa} {n} y"), &all(&y), &out, 1e-6);
            let (mut first, mut second) = (vec![f32::NAN; n], vec![f32::NAN; n]);
            swiglu_backward(isa, &gate, &up, &da, &mut first, &mut second);
            check(&format!("{isa} {n} dg"), &d_gate, &first, 1e-6);
            check(&format!("{isa} {n} du"), &d_up, &second, 1e-6);
        }
        let (mut gate_bits, mut up_bits) = (vec![0; n], vec![0; n]);
        for isa in available() {
            narrow(isa, &gate, &mut gate_bits);
            narrow(isa, &up, &mut up_bits);
            let (mut gate, mut up) = (vec![0.0; n], vec![0.0; n]);
            widen(isa, &gate_bits, &mut gate);
            widen(isa, &up_bits, &mut up);
            let mut out = [vec![f32::NAN; n], vec![f32::NAN; n]];
            swiglu(isa, &gate, &up, &mut out[0]);
            swiglu_bf16(isa, &gate_bits, &up_bits, &mut out[1]);
            assert_eq!(out[0], out[1], "{isa} {n} from bf16");
            let (mut first, mut second) = (out.clone(), out);
            swiglu_backward(isa, &gate, &up, &da, &mut first[0], &mut second[0]);
            swiglu_backward_bf16(
                isa,
                &gate_bits,
                &up_bits,
                &da,
                &mut first[1],
                &mut second[1],
            );
            assert_eq!(
                (&first[0], &second[0]),
                (&first[1], &second[1]),
                "{isa} {n} from bf16"
            );
        }
    }
}

fn turned(x: &[f64], cos: &[f32], sin: &[f32]) -> Vec<f64> {
    let half = cos.len();
    let at = |i: usize| {
        let (c, s) = (f64::from(cos[i % half]), f64::from(sin[i % half]));
        if i < half {
            x[i] * c - x[i + half] * s
        } else {
            x[i] * c + x[i - half] * s
        }
    };
    (0..x.len()).map(at).collect()
}

#[test]
fn rotation_its_inverse_and_its_gradient() {
    for half in [1, 3, 7, 16, 32, 50] {
        let angles = random(half, 7);
        let (sin, cos): (Vec<f32>, Vec<f32>) = angles.iter().map(|a| a.sin_cos()).unzip();
        let (x, dy) = (random(2 * half, 8), random(2 * half, 9));
        let y = turned(&wide(&x), &cos, &sin);
        let dx = slopes(&x, 0..2 * half, &|x| weighted(&turned(x, &cos, &sin), &dy));
        for isa in available() {
            let mut out = x.clone();
            rotate(isa, &mut out, &cos, &sin, 1.0);
            check(&format!("{isa} {half} y"), &all(&y), &out, 1e-6);
            rotate(isa, &mut out, &cos, &sin, -1.0);
            check(&format!("{isa} {half} back"), &all(&wide(&x)), &out, 1e-6);
            let mut out = dy.clone();
            rotate(isa, &mut out, &cos, &sin, -1.0);
            check(&format!("{isa} {half} dx"), &dx, &out, 1e-6);
        }
    }
}

/// Causal attention of rows `[heads queries | kv_heads keys | kv_heads values]`, the later rows' queries only from `first`.
fn attended(shape: &AttentionShape, first: usize, tokens: usize, qkv: &[f64]) -> Vec<f64> {
    let (d, group) = (shape.head_dim, shape.heads / shape.kv_heads);
    let stride = (shape.heads + 2 * shape.kv_heads) * d;
    let mut out = Vec::with_capacity((tokens - first) * shape.heads * d);
    for t in first..tokens {
        for head in 0..shape.heads {
            let kv = head / group;
            let q = &qkv[t * stride + head * d..][..d];
            let key = |s: usize| &qkv[s * stride + (shape.heads + kv) * d..][..d];
            let value =
                |s: usize| &qkv[s * stride + (shape.heads + shape.kv_heads + kv) * d..][..d];
            let score = |s: usize| {
                let product: f64 = q.iter().zip(key(s)).map(|(q, k)| q * k).sum();
                product * f64::from(shape.scale)
            };
            let scores: Vec<f64> = (0..=t).map(score).collect();
            let top = scores.iter().fold(f64::NEG_INFINITY, |a, b| a.max(*b));
            let total: f64 = scores.iter().map(|s| (s - top).exp()).sum();
            out.extend((0..d).map(|i| {
                let part = |(s, score): (usize, &f64)| (score - top).exp() * value(s)[i];
                scores.iter().enumerate().map(part).sum::<f64>() / total
            }));
        }
    }
    out
}

const SHAPES: [[usize; 3]; 5] = [[1, 1, 8], [6, 2, 6], [3, 3, 20], [4, 1, 64], [9, 3, 33]];

fn shape([heads, kv_heads, head_dim]: [usize; 3]) -> AttentionShape {
    AttentionShape {
        heads,
        kv_heads,
        head_dim,
        scale: 1.0 / (head_dim as f32).sqrt(),
    }
}

#[test]
fn attention_and_its_gradient() {
    for shape in SHAPES.map(shape) {
        // One scratch for all lengths, longest in the middle: what an earlier call left must not matter.
        let mut scratch = AttentionScratch::default();
        for tokens in [1, 2, 31, 65, 32, 33] {
            let (width, stride) = (
                shape.heads * shape.head_dim,
                (shape.heads + 2 * shape.kv_heads) * shape.head_dim,
            );
            let (qkv, d_out) = (random(tokens * stride, 10), random(tokens * width, 11));
            let y = attended(&shape, 0, tokens, &wide(&qkv));
            let step = (qkv.len() / 61).max(1);
            let chosen = (0..qkv.len()).step_by(step);
            let expected = slopes(&qkv, chosen, &|x| {
                weighted(&attended(&shape, 0, tokens, x), &d_out)
            });
            for isa in available() {
                let what = format!("{isa} {shape:?} {tokens}");
                let (k, v) = (
                    &qkv[width..],
                    &qkv[width + shape.kv_heads * shape.head_dim..],
                );
                let mut out = vec![f32::NAN; tokens * width];
                attention(
                    isa,
                    &shape,
                    &mut scratch,
                    0,
                    tokens,
                    &qkv,
                    stride,
                    k,
                    v,
                    stride,
                    &mut out,
                    width,
                );
                check(&format!("{what} y"), &all(&y), &out, 5e-6);
                let mut out = vec![f32::NAN; qkv.len()];
                attention_backward(isa, &shape, &mut scratch, tokens, &qkv, &d_out, &mut out);
                assert!(out.iter().all(|v| v.is_finite()), "{what}");
                check(&format!("{what} d"), &expected, &out, 1e-5);
            }
        }
    }
}

#[test]
fn attention_of_later_queries_over_a_cache() {
    for shape in SHAPES.map(shape) {
        let mut scratch = AttentionScratch::default();
        for (first, queries) in [(0, 1), (1, 1), (40, 1), (30, 2), (7, 33), (64, 5)] {
            let (width, kv_width) = (
                shape.heads * shape.head_dim,
                shape.kv_heads * shape.head_dim,
            );
            let stride = width + 2 * kv_width;
            let tokens = first + queries;
            let qkv = random(tokens * stride, 12);
            let y = attended(&shape, first, tokens, &wide(&qkv));
            // Keys and values lie in a cache of their own, rows one gap apart.
            let cache_stride = 2 * kv_width + 3;
            let mut cache = vec![f32::NAN; tokens * cache_stride];
            for (row, qkv) in cache.chunks_mut(cache_stride).zip(qkv.chunks(stride)) {
                row[..2 * kv_width].copy_from_slice(&qkv[width..]);
            }
            for isa in available() {
                let mut out = vec![f32::NAN; queries * width];
                let (q, v) = (&qkv[first * stride..], &cache[kv_width..]);
                attention(
                    isa,
                    &shape,
                    &mut scratch,
                    first,
                    queries,
                    q,
                    stride,
                    &cache,
                    v,
                    cache_stride,
                    &mut out,
                    width,
                );
                check(
                    &format!("{isa} {shape:?} {first}+{queries}"),
                    &all(&y),
                    &out,
                    5e-6,
                );
            }
        }
    }
}

fn log_softmax(z: &[f64]) -> Vec<f64> {
    let top = z.iter().fold(f64::NEG_INFINITY, |a, b| a.max(*b));
    let total = top + z.iter().map(|z| (z - top).exp()).sum::<f64>().ln();
    z.iter().map(|z| z - total).collect()
}

fn kl(t: &[f64], z: &[f64]) -> f64 {
    let (p, q) = (log_softmax(t), log_softmax(z));
    p.iter().zip(&q).map(|(p, q)| p.exp() * (p - q)).sum()
}

#[test]
fn divergence_and_its_gradient() {
    for n in [1, 2, 17, 64, 1000, 9001] {
        let scaled = |seed| {
            random(n, seed)
                .iter()
                .map(|v| 5.0 * v + 30.0)
                .collect::<Vec<f32>>()
        };
        let (t, z) = (scaled(13), scaled(14));
        let wide_t = wide(&t);
        let expected = kl(&wide_t, &wide(&z));
        let slopes = slopes(&z, (0..n).step_by((n / 40).max(1)), &|z| kl(&wide_t, z));
        for isa in available() {
            let normalisers = [&t, &z].map(|x| log_sum_exp(isa, x));
            let got = divergence(isa, &t, normalisers[0], &z, normalisers[1]);
            assert!(
                (f64::from(got) - expected).abs() < 2e-6 * expected + 2e-5,
                "{isa} {n}: {got}, not {expected}"
            );
            let own = divergence(isa, &z, normalisers[1], &z, normalisers[1]);
            assert!(own.abs() < 1e-6, "{isa} {n}: {own}");
            // The gradient is softmax(z) − softmax(t), as the loss forms it.
            let (mut q, mut p) = (vec![f32::NAN; n], vec![f32::NAN; n]);
            exp_scaled(isa, &z, normalisers[1], 1.0, &mut q);
            exp_scaled(isa, &t, normalisers[0], -1.0, &mut p);
            let gradient: Vec<f32> = q.iter().zip(&p).map(|(q, p)| q + p).collect();
            check(&format!("{isa} {n}"), &slopes, &gradient, 5e-6);
        }
    }
}

#[test]
fn pieces_of_the_softmax() {
    for n in [1, 2, 31, 33, 64, 5000] {
        let (x, y) = (random(n, 15), random(n, 16));
        let top = x.iter().fold(f32::NEG_INFINITY, |a, b| a.max(*b));
        let sum: f64 = wide(&x).iter().map(|x| x.exp()).sum();
        let product: f64 = wide(&x).iter().zip(wide(&y)).map(|(x, y)| x * y).sum();
        let scaled: Vec<f64> = wide(&x).iter().map(|x| (x - 0.75).exp() * -3.0).collect();
        for isa in available() {
            assert_eq!(max(isa, &x), top);
            assert!(
                (f64::from(log_sum_exp(isa, &x)) - sum.ln()).abs() < 2e-6,
                "{isa} {n}"
            );
            assert!(
                (f64::from(dot(isa, &x, &y)) - product).abs() < 2e-6 * n as f64,
                "{isa} {n}"
            );
            let mut out = vec![f32::NAN; n];
            exp_scaled(isa, &x, 0.75, -3.0, &mut out);
            check(&format!("{isa} {n}"), &all(&scaled), &out, 1e-6);
        }
    }
    for isa in available() {
        assert_eq!(max(isa, &[]), f32::NEG_INFINITY);
        // Far below the shift there is nothing left, and no NaN.
        let mut out = [f32::NAN; 3];
        exp_scaled(isa, &[-1e30, f32::MIN, 0.0], 0.0, 1.0, &mut out);
        assert!(out[0] < 1e-37 && out[1] < 1e-37 && (out[2] - 1.0).abs() < 1e-6);
    }
}
