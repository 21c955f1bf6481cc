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
}
