//! Steps of the optimizers beside AdamW against f64, on every instruction set of this processor.

mod support;

use oml_kernels::{
    AdafactorStep, AdamWStep, Isa, MomentBlock, QUANTISED_BLOCK, SgdStep, adafactor,
    adafactor_square_sums, adafactor_update_square, adamw8bit, sgd,
};
use support::{available, random};

const SIZES: [usize; 9] = [0, 1, 15, 16, 17, 255, 256, 257, 1023];

fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|v| f64::from(*v)).collect()
}

fn close(what: &str, expected: &[f64], got: &[f32], tolerance: f64) {
    assert_eq!(expected.len(), got.len());
    for (i, (e, g)) in expected.iter().zip(got).enumerate() {
        assert!(
            (e - f64::from(*g)).abs() <= tolerance,
            "{what} {i}: {e} {g}"
        );
    }
}

fn pulled(theta: f64, base: f32, rate: f32, distance: f32, average: f32) -> f64 {
    let [rate, distance, average, base] = [rate, distance, average, base].map(f64::from);
    let theta = theta - rate * distance * (theta - base);
    (1.0 - average) * theta + average * base
}

#[test]
fn gradient_descent_is_that_of_f64() {
    let step = SgdStep {
        learning_rate: 0.05,
        momentum: 0.9,
        weight_decay: 0.1,
        gradient_scale: 0.5,
        distance: 2.0,
        average: 0.03,
    };
    for isa in available() {
        for n in SIZES {
            let base = random(n, 2);
            let (mut theta, mut momentum) = (random(n, 1), vec![0.0; n]);
            let (mut wanted, mut direction) = (wide(&theta), vec![0.0; n]);
            for round in 0..10 {
                let g = random(n, 10 + round);
                sgd(isa, &step, &mut theta, &mut momentum, &g, Some(&base));
                for i in 0..n {
                    direction[i] = 0.9 * direction[i] + 0.5 * f64::from(g[i]);
                    let theta = wanted[i] * (1.0 - 0.05 * 0.1) - 0.05 * direction[i];
                    wanted[i] = pulled(theta, base[i], 0.05, 2.0, 0.03);
                }
            }
            close(&format!("{isa} {n} momentum"), &direction, &momentum, 1e-5);
            close(&format!("{isa} {n} theta"), &wanted, &theta, 1e-5);
        }
    }
}

#[test]
fn sweeps_of_adafactor_are_those_of_f64() {
    let step = AdafactorStep {
        learning_rate: 0.05,
        weight_decay: 0.1,
        gradient_scale: 0.5,
        distance: 2.0,
        average: 0.03,
        step: 3,
    };
    assert!((f64::from(step.share()) - 3_f64.powf(-0.8)).abs() < 1e-7);
    for isa in available() {
        for n in SIZES {
            let (g, base, row) = (random(n, 3), random(n, 4), 0.7_f32);
            let before = random(n, 5);
            let mut columns: Vec<f32> = before.iter().map(|c| c * c).collect();
            let mut wanted = wide(&columns);
            let mut total = 0.0;
            for (c, g) in wanted.iter_mut().zip(wide(&g)) {
                *c += g * g * 0.25;
                total += g * g * 0.25;
            }
            let sum = adafactor_square_sums(isa, &g, 0.5, &mut columns);
            close(&format!("{isa} {n} columns"), &wanted, &columns, 1e-6);
            close(&format!("{isa} {n} row"), &[total], &[sum], 1e-4);

            // one element's second moment is nothing
            if let Some(first) = columns.first_mut() {
                *first = 0.0;
            }
            let least = f64::from(f32::EPSILON).powi(2);
            let update = |i: usize| {
                let v = (f64::from(row) * f64::from(columns[i])).max(least);
                0.5 * f64::from(g[i]) / v.sqrt()
            };
            let total: f64 = (0..n).map(|i| update(i).powi(2)).sum();
            let got = adafactor_update_square(isa, &g, 0.5, row, &columns);
            assert!((total - f64::from(got)).abs() <= 1e-5 * total, "{isa} {n}");

            let (mut theta, size) = (random(n, 6), 1e-9);
            let wanted: Vec<f64> = (0..n)
                .map(|i| {
                    let theta = f64::from(theta[i]) * (1.0 - 0.05 * 0.1) - size * update(i);
                    pulled(theta, base[i], 0.05, 2.0, 0.03)
                })
                .collect();
            adafactor(
                isa,
                &step,
                size as f32,
                &mut theta,
                &g,
                row,
                &columns,
                Some(&base),
            );
            close(&format!("{isa} {n} theta"), &wanted, &theta, 1e-6);
        }
    }
}

fn adam(step: u32) -> AdamWStep {
    AdamWStep {
        learning_rate: 0.01,
        beta1: 0.9,
        beta2: 0.95,
        epsilon: 1e-8,
        weight_decay: 0.1,
        gradient_scale: 0.5,
        distance: 2.0,
        average: 0.03,
        step,
    }
}

/// Gradients of very different magnitudes side by side.
fn uneven(n: usize, seed: u64) -> Vec<f32> {
    let sizes = random(n, 99);
    let values = random(n, seed);
    let scaled = values.iter().zip(&sizes).map(|(v, s)| v * (8.0 * s).exp());
    scaled.collect()
}

/// A step from the moments that the codes stand for is AdamW's, and the new codes stand for the nearest values there are.
fn check_8bit(isa: Isa, n: usize) {
    let base = random(n, 2);
    let mut theta = random(n, 1);
    let mut moments = vec![MomentBlock::ZERO; n.div_ceil(QUANTISED_BLOCK)];
    let stored = |moments: &[MomentBlock], i: usize| {
        moments[i / QUANTISED_BLOCK]
            .get(i % QUANTISED_BLOCK)
            .map(f64::from)
    };
    for round in 1..=12 {
        let (s, g) = (adam(round), uneven(n, 20 + u64::from(round)));
        let before = moments.clone();
        let start = theta.clone();
        adamw8bit(isa, &s, &mut theta, &mut moments, &g, Some(&base));
        for i in 0..n {
            let [m, v] = stored(&before, i);
            let g = 0.5 * f64::from(g[i]);
            let (m, v) = (0.9 * m + 0.1 * g, 0.95 * v + 0.05 * g * g);
            let corrected = (v / (1.0 - 0.95_f64.powi(round as i32))).sqrt() + 1e-8;
            let move_by = 0.01 * m / (1.0 - 0.9_f64.powi(round as i32)) / corrected;
            let wanted = f64::from(start[i]) * (1.0 - 0.01 * 0.1) - move_by;
            let wanted = pulled(wanted, base[i], 0.01, 2.0, 0.03);
            let free = 1e-6 + 1e-5 * move_by.abs();
            let got = f64::from(theta[i]);
            assert!((wanted - got).abs() < free, "{isa} {n} {i}: {wanted} {got}");

            let [m_scale, v_scale] = moments[i / QUANTISED_BLOCK].scales.map(f64::from);
            let [m_got, v_got] = stored(&moments, i);
            // half a step of the map in the decade of the number, 64 steps in the first of a sign, 128 in that without
            let near = |x: f64, scale: f64, steps: f64, got: f64| {
                let decade = (x.abs() / scale).log10().floor().clamp(-7.0, -1.0) + 1.0;
                let gap = 0.9 * 2_f64.powf(-decade) / steps * 10_f64.powf(decade);
                (x - got).abs() <= scale * (0.51 * gap + 1e-7)
            };
            assert!(near(m, m_scale, 64.0, m_got), "{isa} {n} {i}: {m} {m_got}");
            assert!(near(v, v_scale, 128.0, v_got), "{isa} {n} {i}: {v} {v_got}");
            assert!(
                v_got > 0.0 || v < 1e-37,
                "{isa} {n} {i}: {v} became nothing"
            );
        }
    }
}

#[test]
fn a_step_in_8_bits_is_adamw_within_its_codes() {
    for isa in available() {
        for n in SIZES {
            check_8bit(isa, n);
        }
    }
}

#[test]
fn blocks_of_zeros_stay_zeros() {
    for isa in available() {
        let (mut theta, mut moments) = (vec![1.0; 300], vec![MomentBlock::ZERO; 2]);
        let s = AdamWStep {
            weight_decay: 0.0,
            ..adam(1)
        };
        adamw8bit(isa, &s, &mut theta, &mut moments, &[0.0; 300], None);
        assert!(theta.iter().all(|t| *t == 1.0), "{isa}");
        assert!((0..QUANTISED_BLOCK).all(|i| moments[0].get(i) == [0.0; 2]));
    }
}
