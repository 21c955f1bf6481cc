//! AdamW with both moments in 8 bits (arXiv 2110.02861): blocks of 256 numbers, each with its largest magnitude as f32 and one code per number.
//!
//! The codes are bitsandbytes' dynamic map: decades from 10⁻⁶ to 1, of which each has twice as many codes as the one below, as the middles
//! of equal parts of 0.1 to 1; with 0 and 1. The first moment's map has a sign. A code stands for the nearest value, but a second moment
//! above zero never becomes zero: the step divides by its root.

use std::sync::LazyLock;

use crate::adamw::{AdamWStep, step_body};
use crate::dispatch::versions;

/// Numbers that share one scale.
pub const QUANTISED_BLOCK: usize = 256;

const CODES: usize = 256;
const DECADES: usize = 7;
/// Bits of an f32 that are not looked at when the nearest code is found: the parts of a power of two that are left are finer than the codes.
const DROPPED: u32 = 15;
/// First cell of the index: magnitudes below 2⁻²⁴ are nearest to zero in both maps.
const FIRST: u32 = (127 - 24) << (23 - DROPPED);
const CELLS: usize = (24 << (23 - DROPPED)) + 1;

/// Both moments of [`QUANTISED_BLOCK`] parameters.
#[derive(Clone, Debug, PartialEq)]
pub struct MomentBlock {
    /// Codes of the first moments, in the map with a sign.
    pub first: [u8; QUANTISED_BLOCK],
    /// Codes of the second moments.
    pub second: [u8; QUANTISED_BLOCK],
    /// Largest magnitude of either.
    pub scales: [f32; 2],
}

impl MomentBlock {
    /// Moments of zero.
    pub const ZERO: Self = Self {
        first: [0; QUANTISED_BLOCK],
        second: [0; QUANTISED_BLOCK],
        scales: [0.0; 2],
    };

    /// The first and the second moment that the codes at `i` stand for.
    pub fn get(&self, i: usize) -> [f32; 2] {
        let [first, second] = self.scales;
        [
            SIGNED.values[usize::from(self.first[i])] * first,
            UNSIGNED.values[usize::from(self.second[i])] * second,
        ]
    }
}

/// What the codes stand for, and how a number finds its code.
struct Map {
    values: [f32; CODES],
    /// `middles[c]` lies between the values of c and c + 1.
    middles: [f32; CODES],
    /// The code of the least magnitude of each cell.
    index: Vec<u8>,
    /// Code of zero.
    zero: u8,
}

static SIGNED: LazyLock<Map> = LazyLock::new(|| Map::new(true));
static UNSIGNED: LazyLock<Map> = LazyLock::new(|| Map::new(false));

impl Map {
    fn new(signed: bool) -> Self {
        let mut above = Vec::with_capacity(CODES);
        for decade in 0..DECADES {
            let parts = 1_u32 << (decade + usize::from(!signed));
            let unit = 10_f64.powi(decade as i32 - (DECADES as i32 - 1));
            above.extend((0..parts).map(|part| {
                let share = (f64::from(part) + 0.5) / f64::from(parts);
                (unit * (0.1 + 0.9 * share)) as f32
            }));
        }
        let below = above.iter().rev().filter(|_| signed).map(|v| -v);
        let zero = if signed { above.len() } else { 0 };
        let mut values = [1.0; CODES];
        let ordered = below.chain([0.0]).chain(above.iter().copied());
        for (value, next) in values.iter_mut().zip(ordered) {
            *value = next;
        }
        let mut middles = [f32::INFINITY; CODES];
        for (middle, pair) in middles.iter_mut().zip(values.windows(2)) {
            *middle = 0.5 * (pair[0] + pair[1]);
        }
        let least = |cell: usize| match cell {
            0 => 0.0,
            _ => f32::from_bits((FIRST + cell as u32 - 1) << DROPPED),
        };
        let index = (0..CELLS)
            .map(|cell| (zero + middles[zero..].partition_point(|m| *m < least(cell))) as u8)
            .collect();
        Self {
            values,
            middles,
            index,
            zero: zero as u8,
        }
    }

    /// The nearest code of a magnitude of at most 1.
    #[inline(always)]
    fn above(&self, x: f32) -> u8 {
        let cell = ((x.to_bits() >> DROPPED) + 1).saturating_sub(FIRST) as usize;
        let code = self.index[cell.min(CELLS - 1)];
        code + u8::from(x > self.middles[usize::from(code)])
    }

    /// The nearest code of a number from −1 to 1, in the map with a sign, which lacks −1 alone.
    #[inline(always)]
    fn signed(&self, x: f32) -> u8 {
        let code = self.above(x.abs());
        if x < 0.0 {
            (2 * self.zero).saturating_sub(code)
        } else {
            code
        }
    }
}

#[inline(always)]
fn largest(values: &[f32]) -> f32 {
    values.iter().fold(0.0, |most, v| v.abs().max(most))
}

#[inline(always)]
fn step_blocks_body<const FMA: bool>(
    s: &AdamWStep,
    theta: &mut [f32],
    moments: &mut [MomentBlock],
    g: &[f32],
    base: Option<&[f32]>,
) {
    let (signed, unsigned) = (&*SIGNED, &*UNSIGNED);
    let (mut m, mut v) = ([0f32; QUANTISED_BLOCK], [0f32; QUANTISED_BLOCK]);
    let blocks = theta.chunks_mut(QUANTISED_BLOCK).zip(moments).enumerate();
    for (block, (theta, moments)) in blocks {
        let [m_scale, v_scale] = moments.scales;
        for i in 0..QUANTISED_BLOCK {
            m[i] = signed.values[usize::from(moments.first[i])] * m_scale;
            v[i] = unsigned.values[usize::from(moments.second[i])] * v_scale;
        }
        let (start, n) = (block * QUANTISED_BLOCK, theta.len());
        let base = base.map(|base| &base[start..][..n]);
        step_body::<FMA>(s, theta, &mut m, &mut v, &g[start..], base);
        let scales = [largest(&m[..n]), largest(&v[..n])];
        // A block of zeros has a scale of zero: any divisor gives the codes of zeros.
        let [m_divisor, v_divisor] = scales.map(|scale| if scale > 0.0 { scale } else { 1.0 });
        for i in 0..n {
            moments.first[i] = signed.signed(m[i] / m_divisor);
            let code = unsigned.above(v[i] / v_divisor);
            moments.second[i] = code.max(u8::from(v[i] > 0.0));
        }
        moments.scales = scales;
    }
}

versions! {
    /// Updates `theta` and the moments of its blocks in place; `theta` begins at a block. `base` is only read where a pull towards it is wanted.
    pub fn adamw8bit = step_blocks_body(s: &AdamWStep, theta: &mut [f32], moments: &mut [MomentBlock], g: &[f32], base: Option<&[f32]>)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nearest(values: &[f32], x: f32) -> f32 {
        let distance = |v: &f32| (f64::from(*v) - f64::from(x)).abs();
        values.iter().map(distance).fold(f64::INFINITY, f64::min) as f32
    }

    #[test]
    fn the_maps_are_those_of_the_paper() {
        for (map, zero) in [(&SIGNED, 127), (&UNSIGNED, 0)] {
            assert!(map.values.is_sorted_by(|a, b| a < b));
            assert_eq!((map.values[255], map.values[zero]), (1.0, 0.0));
            assert_eq!(usize::from(map.zero), zero);
        }
        // first value, last decade's first and last, of bitsandbytes' create_dynamic_map
        let near = |a: f32, b: f32| assert!((a / b - 1.0).abs() < 1e-6, "{a} {b}");
        near(SIGNED.values[128], 5.5e-7);
        near(SIGNED.values[0], -0.992_968_75);
        near(UNSIGNED.values[1], 3.25e-7);
        near(UNSIGNED.values[254], 0.996_484_4);
    }

    #[test]
    fn every_number_finds_its_nearest_code() {
        for i in 0..=200_000_u32 {
            // both evenly and over all magnitudes
            for x in [i as f32 / 2e5, (-(i as f32) / 1e4).exp()] {
                let got = (UNSIGNED.values[usize::from(UNSIGNED.above(x))] - x).abs();
                assert!(got <= nearest(&UNSIGNED.values, x) * 1.0001, "{x}");
                for x in [x, -x] {
                    let code = SIGNED.signed(x);
                    let got = (SIGNED.values[usize::from(code)] - x).abs();
                    assert!(got <= nearest(&SIGNED.values, x) * 1.0001, "{x}");
                }
            }
        }
    }
}
