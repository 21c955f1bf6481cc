//! Elementary functions written so that they vectorise: no branches, no tables.

use crate::dispatch::madd;

/// `exp(x)` for f32, relative error below 2e-7 on [-87, 88]; smaller arguments give 0 or a subnormal's neighbourhood, larger ones are clamped.
///
/// Range reduction `x = n·ln 2 + r`, |r| ≤ ln 2 / 2, a degree-6 polynomial for `exp(r)`, and `2ⁿ` by exponent bits.
#[inline(always)]
pub(crate) fn exp<const FMA: bool>(x: f32) -> f32 {
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    const ROUND: f32 = 12_582_912.0; // 1.5 · 2²³: adding and subtracting it rounds to an integer
    let x = x.clamp(-87.0, 88.0);
    let n = madd::<FMA>(x, std::f32::consts::LOG2_E, ROUND) - ROUND;
    let r = madd::<FMA>(n, -LN2_LOW, madd::<FMA>(n, -LN2_HIGH, x));
    let mut p = 1.0 / 720.0;
    for c in [1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
        p = madd::<FMA>(p, r, c);
    }
    // The bits of `n + ROUND` hold the integer in their low half; shifted, they are the exponent's increment.
    let bits = (n + ROUND).to_bits() << 23;
    f32::from_bits(p.to_bits().wrapping_add(bits))
}

/// `1 / (1 + exp(-x))`.
#[inline(always)]
pub(crate) fn sigmoid<const FMA: bool>(x: f32) -> f32 {
    1.0 / (1.0 + exp::<FMA>(-x))
}

/// `tanh(x)`, relative error below 4e-7: a series near zero, where `1 − 2 / (1 + exp(2x))` would cancel.
#[inline(always)]
pub(crate) fn tanh<const FMA: bool>(x: f32) -> f32 {
    let (a, s) = (x.abs(), x * x);
    let mut series = 62.0 / 2835.0;
    for c in [-17.0 / 315.0, 2.0 / 15.0, -1.0 / 3.0, 1.0] {
        series = madd::<FMA>(series, s, c);
    }
    let far = 1.0 - 2.0 / (1.0 + exp::<FMA>(2.0 * a));
    if a < 0.25 {
        x * series
    } else {
        far.copysign(x)
    }
}

/// `(Φ(x), φ(x))`: the standard normal distribution and its density, relative error of both below 1e-6 within three deviations.
///
/// `Φ(−a) = exp(−a²/2)·P(t)`, `t = 1 / (1 + 0.35 a)`, P of degree 9 without a constant, fitted to the scaled complementary error
/// function on [0, 13] by weighted least squares (relative error 3e-8).
#[inline(always)]
pub(crate) fn normal<const FMA: bool>(x: f32) -> (f32, f32) {
    const INVERSE_ROOT_TAU: f32 = 0.398_942_3;
    let a = x.abs();
    let t = 1.0 / (1.0 + 0.35 * a);
    let mut p = -0.029_093_815;
    for c in [
        0.143_713_73,
        -0.255_171_03,
        0.158_540_3,
        -0.022_663_007,
        0.105_313_785,
        0.119_883_52,
        0.139_854_65,
        0.139_621_84,
    ] {
        p = madd::<FMA>(p, t, c);
    }
    let e = exp::<FMA>(-0.5 * a * a);
    let tail = e * p * t;
    (
        if x < 0.0 { tail } else { 1.0 - tail },
        e * INVERSE_ROOT_TAU,
    )
}

/// Sum in sixteen lanes: an order that does not depend on the instruction set.
#[inline(always)]
pub(crate) fn lane_sum(values: &[f32]) -> f32 {
    let mut lanes = [0f32; 16];
    let (blocks, rest) = values.as_chunks::<16>();
    for block in blocks {
        for l in 0..16 {
            lanes[l] += block[l];
        }
    }
    for (lane, v) in lanes.iter_mut().zip(rest) {
        *lane += v;
    }
    halves(lanes)
}

/// Sum of sixteen lanes by halves: four additions one after the other instead of sixteen.
#[inline(always)]
pub(crate) fn halves(mut lanes: [f32; 16]) -> f32 {
    for width in [8, 4, 2, 1] {
        for l in 0..width {
            lanes[l] += lanes[l + width];
        }
    }
    lanes[0]
}

#[cfg(test)]
mod tests {
    #[test]
    fn exp_is_close_to_f64() {
        let mut worst = 0f64;
        for i in -86_000..=87_000 {
            let x = i as f32 * 1e-3;
            let exact = f64::from(x).exp();
            for got in [super::exp::<true>(x), super::exp::<false>(x)] {
                worst = worst.max((f64::from(got) - exact).abs() / exact);
            }
        }
        assert!(worst < 3e-7, "relative error {worst}");
    }

    #[test]
    fn tanh_is_close_to_f64() {
        let mut worst = 0f64;
        for i in -200_000..=200_000 {
            let x = i as f32 * 1e-4;
            let exact = f64::from(x).tanh();
            for got in [super::tanh::<true>(x), super::tanh::<false>(x)] {
                worst = worst.max((f64::from(got) - exact).abs() / exact.abs().max(1e-30));
            }
        }
        assert!(worst < 4e-7, "relative error {worst}");
    }

    #[test]
    fn normal_is_the_integral_of_its_density() {
        // Simpson's rule from −40, where nothing is left, in f64
        let density = |x: f64| (-0.5 * x * x).exp() / (2.0 * std::f64::consts::PI).sqrt();
        let (mut exact, step) = (0f64, 1e-3);
        for i in -40_000..3_000 {
            let x = f64::from(i) * step;
            if i >= -3_000 && i % 10 == 0 {
                for (phi, d) in [
                    super::normal::<true>(x as f32),
                    super::normal::<false>(x as f32),
                ] {
                    let error = (f64::from(phi) / exact - 1.0).abs();
                    assert!(error < 1e-6, "{x}: {phi} {exact}");
                    let error = (f64::from(d) / density(x) - 1.0).abs();
                    assert!(error < 1e-6, "density at {x}");
                }
            }
            let parts = density(x) + 4.0 * density(x + 0.5 * step) + density(x + step);
            exact += parts * step / 6.0;
        }
    }
}
