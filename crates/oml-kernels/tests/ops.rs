//! Operations of a decoder against f64, and their gradients against central differences of the f64 reference, on every
//! instruction set of this processor.

mod support;

use oml_kernels::{
    Activation, AttentionScratch, AttentionShape, activated, activated_backward,
    activated_backward_bf16, activated_bf16, attention, attention_backward, divergence, dot,
    exp_scaled, gated, gated_backward, gated_backward_bf16, gated_bf16, layer_norm,
    layer_norm_backward_input, layer_norm_backward_weight, log_sum_exp, max, narrow, rms_norm,
    rms_norm_backward_input, rms_norm_backward_weight, rotate, soft_cap, soft_cap_backward, widen,
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

fn norm(x: &[f64], weight: &[f64], offset: f64) -> Vec<f64> {
    let mean = x.iter().map(|x| x * x).sum::<f64>() / x.len() as f64;
    let r = 1.0 / (mean + f64::from(EPS)).sqrt();
    let pairs = x.iter().zip(weight);
    pairs.map(|(x, w)| x * r * (offset + w)).collect()
}

#[test]
fn rms_norm_and_its_gradients() {
    for (n, offset) in WIDTHS.into_iter().flat_map(|n| [(n, 0.0), (n, 1.0)]) {
        let (x, weight, dy) = (random(n, 1), random(n, 2), random(n, 3));
        let (wide_x, wide_weight) = (wide(&x), wide(&weight));
        let wide_offset = f64::from(offset);
        let y = norm(&wide_x, &wide_weight, wide_offset);
        let dx = slopes(&x, 0..n, &|x| {
            weighted(&norm(x, &wide_weight, wide_offset), &dy)
        });
        let dw = slopes(&weight, 0..n, &|w| {
            weighted(&norm(&wide_x, w, wide_offset), &dy)
        });
        for isa in available() {
            let mut out = vec![f32::NAN; n];
            rms_norm(isa, &x, &weight, offset, EPS, &mut out);
            check(&format!("{isa} {n} y"), &all(&y), &out, 1e-6);
            // Both gradients are added to what is there.
            let mut out = vec![0.5; n];
            rms_norm_backward_input(isa, &x, &weight, offset, EPS, &dy, &mut out);
            out.iter_mut().for_each(|v| *v -= 0.5);
            check(&format!("{isa} {n} dx"), &dx, &out, 2e-6);
            let mut out = vec![0.5; n];
            rms_norm_backward_weight(isa, &x, EPS, &dy, &mut out);
            out.iter_mut().for_each(|v| *v -= 0.5);
            check(&format!("{isa} {n} dw"), &dw, &out, 2e-6);
        }
    }
}

fn centred(x: &[f64], weight: &[f64], bias: &[f64]) -> Vec<f64> {
    let n = x.len() as f64;
    let mean = x.iter().sum::<f64>() / n;
    let variance = x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n;
    let r = 1.0 / (variance + f64::from(EPS)).sqrt();
    let pairs = x.iter().zip(weight).zip(bias);
    pairs.map(|((x, w), b)| (x - mean) * r * w + b).collect()
}

#[test]
fn layer_norm_and_its_gradients() {
    // Of one element LayerNorm leaves the bias, of two near each other noise.
    for n in WIDTHS.into_iter().filter(|n| *n > 2) {
        let (mut x, weight) = (random(n, 30), random(n, 31));
        x.iter_mut().for_each(|x| *x += 3.0);
        let (bias, dy) = (random(n, 32), random(n, 33));
        let (wide_x, wide_weight, wide_bias) = (wide(&x), wide(&weight), wide(&bias));
        let y = centred(&wide_x, &wide_weight, &wide_bias);
        let dx = slopes(&x, 0..n, &|x| {
            weighted(&centred(x, &wide_weight, &wide_bias), &dy)
        });
        let dw = slopes(&weight, 0..n, &|w| {
            weighted(&centred(&wide_x, w, &wide_bias), &dy)
        });
        let db = slopes(&bias, 0..n, &|b| {
            weighted(&centred(&wide_x, &wide_weight, b), &dy)
        });
        for isa in available() {
            let mut out = vec![f32::NAN; n];
            layer_norm(isa, &x, &weight, &bias, EPS, &mut out);
            check(&format!("{isa} {n} y"), &all(&y), &out, 2e-6);
            let mut out = vec![0.5; n];
            layer_norm_backward_input(isa, &x, &weight, EPS, &dy, &mut out);
            out.iter_mut().for_each(|v| *v -= 0.5);
            check(&format!("{isa} {n} dx"), &dx, &out, 4e-6);
            let (mut first, mut second) = (vec![0.5; n], vec![0.5; n]);
            layer_norm_backward_weight(isa, &x, EPS, &dy, &mut first, &mut second);
            for (what, expected, mut got) in [("dw", &dw, first), ("db", &db, second)] {
                got.iter_mut().for_each(|v| *v -= 0.5);
                check(&format!("{isa} {n} {what}"), expected, &got, 4e-6);
            }
        }
    }
}

/// The error function, `2/√π · exp(−x²) · Σ 2ⁿ x²ⁿ⁺¹ / (2n+1)!!`; beyond 6 it is ±1 in f64.
fn erf(x: f64) -> f64 {
    if x.abs() > 6.0 {
        return x.signum();
    }
    let (mut term, mut sum) = (x, x);
    for n in 1..200 {
        term *= 2.0 * x * x / (2.0 * f64::from(n) + 1.0);
        sum += term;
    }
    sum * (-x * x).exp() * 2.0 / std::f64::consts::PI.sqrt()
}

const ACTIVATIONS: [Activation; 3] = [Activation::Silu, Activation::Gelu, Activation::GeluTanh];

fn curve(activation: Activation, g: f64) -> f64 {
    match activation {
        Activation::Silu => g / (1.0 + (-g).exp()),
        Activation::Gelu => 0.5 * g * (1.0 + erf(g / 2f64.sqrt())),
        Activation::GeluTanh => {
            let inner = (2.0 / std::f64::consts::PI).sqrt() * (g + 0.044715 * g.powi(3));
            0.5 * g * (1.0 + inner.tanh())
        }
    }
}

#[test]
fn gated_activations_and_their_gradients() {
    for (n, activation) in WIDTHS
        .into_iter()
        .flat_map(|n| ACTIVATIONS.map(|activation| (n, activation)))
    {
        let product = |gate: &[f64], up: &[f64]| -> Vec<f64> {
            let pairs = gate.iter().zip(up);
            pairs.map(|(g, u)| curve(activation, *g) * u).collect()
        };
        let mut gate = random(n, 4);
        gate.iter_mut().step_by(3).for_each(|g| *g *= 20.0);
        let (up, da) = (random(n, 5), random(n, 6));
        let (wide_gate, wide_up) = (wide(&gate), wide(&up));
        let y = product(&wide_gate, &wide_up);
        let d_gate = slopes(&gate, 0..n, &|g| weighted(&product(g, &wide_up), &da));
        let d_up = slopes(&up, 0..n, &|u| weighted(&product(&wide_gate, u), &da));
        for isa in available() {
            let what = format!("{isa} {activation:?} {n}");
            let mut out = vec![f32::NAN; n];
            gated(isa, activation, &gate, &up, &mut out);
            check(&format!("{what} y"), &all(&y), &out, 1e-6);
            let (mut first, mut second) = (vec![f32::NAN; n], vec![f32::NAN; n]);
            gated_backward(isa, activation, &gate, &up, &da, &mut first, &mut second);
            check(&format!("{what} dg"), &d_gate, &first, 1e-6);
            check(&format!("{what} du"), &d_up, &second, 1e-6);
        }
        let (mut gate_bits, mut up_bits) = (vec![0; n], vec![0; n]);
        for isa in available() {
            let what = format!("{isa} {activation:?} {n} from bf16");
            narrow(isa, &gate, &mut gate_bits);
            narrow(isa, &up, &mut up_bits);
            let (mut gate, mut up) = (vec![0.0; n], vec![0.0; n]);
            widen(isa, &gate_bits, &mut gate);
            widen(isa, &up_bits, &mut up);
            let mut out = [vec![f32::NAN; n], vec![f32::NAN; n]];
            gated(isa, activation, &gate, &up, &mut out[0]);
            gated_bf16(isa, activation, &gate_bits, &up_bits, &mut out[1]);
            assert_eq!(out[0], out[1], "{what}");
            let (mut first, mut second) = (out.clone(), out);
            let [first_gate, second_gate] = &mut first;
            let [first_up, second_up] = &mut second;
            gated_backward(isa, activation, &gate, &up, &da, first_gate, first_up);
            gated_backward_bf16(
                isa,
                activation,
                &gate_bits,
                &up_bits,
                &da,
                second_gate,
                second_up,
            );
            assert_eq!(
                (&first_gate, &first_up),
                (&second_gate, &second_up),
                "{what}"
            );
        }
    }
}

#[test]
fn plain_activations_and_their_gradients() {
    for activation in ACTIVATIONS {
        let n = 100;
        let mut x = random(n, 34);
        x.iter_mut().step_by(3).for_each(|x| *x *= 20.0);
        let da = random(n, 35);
        let of = |x: &[f64]| -> Vec<f64> { x.iter().map(|x| curve(activation, *x)).collect() };
        let dx = slopes(&x, 0..n, &|x| weighted(&of(x), &da));
        for isa in available() {
            let what = format!("{isa} {activation:?}");
            let mut out = vec![f32::NAN; n];
            activated(isa, activation, &x, &mut out);
            check(&format!("{what} y"), &all(&of(&wide(&x))), &out, 1e-6);
            activated_backward(isa, activation, &x, &da, &mut out);
            check(&format!("{what} dx"), &dx, &out, 1e-6);
            let mut bits = vec![0; n];
            narrow(isa, &x, &mut bits);
            let mut rounded = vec![0.0; n];
            widen(isa, &bits, &mut rounded);
            let mut halves = out.clone();
            activated(isa, activation, &rounded, &mut out);
            activated_bf16(isa, activation, &bits, &mut halves);
            assert_eq!(out, halves, "{what}");
            activated_backward(isa, activation, &rounded, &da, &mut out);
            activated_backward_bf16(isa, activation, &bits, &da, &mut halves);
            assert_eq!(out, halves, "{what}");
        }
    }
}

#[test]
fn soft_caps_and_their_gradient() {
    let cap = 3.0f32;
    let (mut x, dy) = (random(100, 36), random(100, 37));
    x.iter_mut().step_by(3).for_each(|x| *x *= 20.0);
    let of = |x: &[f64]| -> Vec<f64> { x.iter().map(|x| 3.0 * (x / 3.0).tanh()).collect() };
    let dx = slopes(&x, 0..100, &|x| weighted(&of(x), &dy));
    for isa in available() {
        let mut y = x.clone();
        soft_cap(isa, &mut y, cap);
        check(&format!("{isa} y"), &all(&of(&wide(&x))), &y, 1e-6);
        let mut d = dy.clone();
        soft_cap_backward(isa, &y, cap, &mut d);
        check(&format!("{isa} dx"), &dx, &d, 1e-6);
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

/// Causal attention of rows of queries, keys and values, the later rows' queries only from `first`.
fn attended(shape: &AttentionShape, first: usize, tokens: usize, qkv: &[f64]) -> Vec<f64> {
    let (d, group) = (shape.head_dim, shape.heads / shape.kv_heads);
    let stride = shape.row();
    let mut out = Vec::with_capacity((tokens - first) * shape.heads * d);
    for t in first..tokens {
        for head in 0..shape.heads {
            let kv = head / group * shape.kv_step;
            let q = &qkv[t * stride + head * shape.query_step..][..d];
            let key = |s: usize| &qkv[s * stride + shape.keys_at + kv..][..d];
            let value = |s: usize| &qkv[s * stride + shape.values_at + kv..][..d];
            let score = |s: usize| {
                let product: f64 = q.iter().zip(key(s)).map(|(q, k)| q * k).sum();
                let score = product * f64::from(shape.scale);
                match shape.softcap.map(f64::from) {
                    Some(cap) => cap * (score / cap).tanh(),
                    None => score,
                }
            };
            let oldest = (t + 1).saturating_sub(shape.window);
            let scores: Vec<(usize, f64)> = (oldest..=t).map(|s| (s, score(s))).collect();
            let top = scores.iter().fold(f64::NEG_INFINITY, |a, b| a.max(b.1));
            let total: f64 = scores.iter().map(|(_, s)| (s - top).exp()).sum();
            out.extend((0..d).map(|i| {
                let part = |(s, score): &(usize, f64)| (score - top).exp() * value(*s)[i];
                scores.iter().map(part).sum::<f64>() / total
            }));
        }
    }
    out
}

/// Plain ones of several sizes, then windows of several lengths, soft caps, and heads that lie interleaved.
fn shapes() -> Vec<AttentionShape> {
    let plain = |heads, kv_heads, d: usize| {
        AttentionShape::new(heads, kv_heads, d, 1.0 / (d as f32).sqrt())
    };
    let mut shapes = vec![
        plain(1, 1, 8),
        plain(6, 2, 6),
        plain(3, 3, 20),
        plain(4, 1, 64),
        plain(9, 3, 33),
        AttentionShape::interleaved(3, 10, 0.3),
    ];
    for (window, softcap) in [(1, None), (5, Some(0.7)), (33, None), (40, Some(2.0))] {
        shapes.push(AttentionShape {
            window,
            softcap,
            ..plain(4, 2, 6)
        });
    }
    shapes.push(AttentionShape {
        window: 3,
        softcap: Some(1.0),
        ..AttentionShape::interleaved(2, 8, 0.4)
    });
    shapes
}

#[test]
fn attention_and_its_gradient() {
    for shape in shapes() {
        // One scratch for all lengths, longest in the middle: what an earlier call left must not matter.
        let mut scratch = AttentionScratch::default();
        for tokens in [1, 2, 31, 65, 32, 33] {
            let (width, stride) = (shape.heads * shape.head_dim, shape.row());
            let (qkv, d_out) = (random(tokens * stride, 10), random(tokens * width, 11));
            let y = attended(&shape, 0, tokens, &wide(&qkv));
            let step = (qkv.len() / 61).max(1);
            let chosen = (0..qkv.len()).step_by(step);
            let expected = slopes(&qkv, chosen, &|x| {
                weighted(&attended(&shape, 0, tokens, x), &d_out)
            });
            for isa in available() {
                let what = format!("{isa} {shape:?} {tokens}");
                let (k, v) = (&qkv[shape.keys_at..], &qkv[shape.values_at..]);
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
    for shape in shapes() {
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
            let d = shape.head_dim;
            for (row, qkv) in cache.chunks_mut(cache_stride).zip(qkv.chunks(stride)) {
                for head in 0..shape.kv_heads {
                    for (to, from) in [(0, shape.keys_at), (kv_width, shape.values_at)] {
                        let from = &qkv[from + head * shape.kv_step..][..d];
                        row[to + head * d..][..d].copy_from_slice(from);
                    }
                }
            }
            let cached = AttentionShape {
                kv_step: d,
                ..shape
            };
            for isa in available() {
                let mut out = vec![f32::NAN; queries * width];
                let (q, v) = (&qkv[first * stride..], &cache[kv_width..]);
                attention(
                    isa,
                    &cached,
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
