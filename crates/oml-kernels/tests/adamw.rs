//! AdamW steps against f64, on every instruction set of this processor, at sizes that no vector divides.

mod support;

use oml_kernels::{AdamWStep, adamw};
use support::{available, random};

const SIZES: [usize; 12] = [0, 1, 2, 7, 8, 15, 16, 17, 31, 33, 100, 1023];
const STEPS: u32 = 12;

fn plain(step: u32) -> AdamWStep {
    AdamWStep {
        learning_rate: 0.01,
        beta1: 0.9,
        beta2: 0.99,
        epsilon: 1e-8,
        weight_decay: 0.0,
        gradient_scale: 1.0,
        distance: 0.0,
        average: 0.0,
        step,
    }
}

/// The same in f64, by the formulas as they are written.
struct Reference {
    theta: Vec<f64>,
    m: Vec<f64>,
    v: Vec<f64>,
}

impl Reference {
    fn step(&mut self, s: &AdamWStep, g: &[f32], base: Option<&[f32]>) {
        let [rate, beta1, beta2, epsilon, decay, scale, distance, average] = [
            s.learning_rate,
            s.beta1,
            s.beta2,
            s.epsilon,
            s.weight_decay,
            s.gradient_scale,
            s.distance,
            s.average,
        ]
        .map(f64::from);
        for i in 0..g.len() {
            let g = f64::from(g[i]) * scale;
            self.m[i] = beta1 * self.m[i] + (1.0 - beta1) * g;
            self.v[i] = beta2 * self.v[i] + (1.0 - beta2) * g * g;
            let m = self.m[i] / (1.0 - beta1.powi(s.step as i32));
            let v = self.v[i] / (1.0 - beta2.powi(s.step as i32));
            let mut theta = self.theta[i] * (1.0 - rate * decay) - rate * m / (v.sqrt() + epsilon);
            if let Some(base) = base {
                let base = f64::from(base[i]);
                theta -= rate * distance * (theta - base);
                theta = (1.0 - average) * theta + average * base;
            }
            self.theta[i] = theta;
        }
    }
}

fn close(what: &str, expected: &[f64], got: &[f32], tolerance: f64) {
    for (i, (e, g)) in expected.iter().zip(got).enumerate() {
        assert!(
            (e - f64::from(*g)).abs() <= tolerance,
            "{what} {i}: {e} {g}"
        );
    }
}

fn check(options: &dyn Fn(u32) -> AdamWStep, with_base: bool) {
    for isa in available() {
        for n in SIZES {
            let start = random(n, 1);
            let base = random(n, 2);
            let base = with_base.then_some(&base[..]);
            let (mut theta, mut m, mut v) = (start.clone(), vec![0.0; n], vec![0.0; n]);
            let mut reference = Reference {
                theta: start.iter().map(|t| f64::from(*t)).collect(),
                m: vec![0.0; n],
                v: vec![0.0; n],
            };
            for step in 1..=STEPS {
                let (s, g) = (options(step), random(n, 10 + u64::from(step)));
                adamw(isa, &s, &mut theta, &mut m, &mut v, &g, base);
                reference.step(&s, &g, base);
            }
            let what = format!("{isa} {n}");
            close(&format!("{what} theta"), &reference.theta, &theta, 2e-6);
            close(&format!("{what} m"), &reference.m, &m, 1e-6);
            close(&format!("{what} v"), &reference.v, &v, 1e-6);
            let moved = start.iter().zip(&theta).all(|(a, b)| (a - b).abs() > 1e-5);
            assert!(moved, "{what}");
        }
    }
}

#[test]
fn a_plain_step_is_that_of_f64() {
    check(&plain, false);
}

#[test]
fn every_constant_counts() {
    let all = |step| AdamWStep {
        weight_decay: 0.1,
        gradient_scale: 0.25,
        epsilon: 1e-2,
        distance: 3.0,
        average: 0.05,
        ..plain(step)
    };
    check(&all, true);
    check(
        &|step| AdamWStep {
            average: 0.0,
            ..all(step)
        },
        true,
    );
    check(
        &|step| AdamWStep {
            distance: 0.0,
            ..all(step)
        },
        true,
    );
    check(&all, false);
}

#[test]
fn a_pull_ends_at_the_base() {
    for isa in available() {
        for n in SIZES {
            let base = random(n, 3);
            let (mut theta, mut m, mut v) = (random(n, 4), vec![0.0; n], vec![0.0; n]);
            let pull = |step| AdamWStep {
                average: 0.5,
                ..plain(step)
            };
            for step in 1..=60 {
                adamw(
                    isa,
                    &pull(step),
                    &mut theta,
                    &mut m,
                    &mut v,
                    &vec![0.0; n],
                    Some(&base),
                );
            }
            let wanted: Vec<f64> = base.iter().map(|b| f64::from(*b)).collect();
            close(&format!("{isa} {n}"), &wanted, &theta, 1e-6);
        }
    }
}

#[test]
fn only_the_parameters_given_are_changed() {
    // the gradient's slice may be longer than the part that is stepped
    for isa in available() {
        let (mut theta, mut m, mut v) = (random(40, 5), vec![0.0; 40], vec![0.0; 40]);
        let (before, g) = (theta.clone(), random(40, 6));
        adamw(isa, &plain(1), &mut theta[..23], &mut m, &mut v, &g, None);
        assert_eq!(theta[23..], before[23..]);
        assert!(m[23..].iter().chain(&v[23..]).all(|x| *x == 0.0));
        assert!(theta[..23].iter().zip(&before).all(|(a, b)| a != b));
    }
}
