//! Stored blocks to f32.
//!
//! A block holds small integers `q` and scales; all scales `d`, `m` are binary16, little-endian. With nibbles low
//! half first (byte `j` holds `q[j]` below and `q[j+16]` above, 32 numbers):
//!
//! | type | block | value |
//! |---|---|---|
//! | Q4_0 | d, 16 bytes | `d (q - 8)` |
//! | Q4_1 | d, m, 16 bytes | `d q + m` |
//! | Q5_0 | d, 4 bytes of fifth bits, 16 bytes | `d (q - 16)` |
//! | Q5_1 | d, m, the same | `d q + m` |
//! | Q8_0 | d, 32 signed bytes | `d q` |
//! | Q2_K | 16 bytes of 4-bit `s` and `t`, 64 bytes, d, m | `(d s) q - (m t)` per 16 |
//! | Q3_K | 32 bytes of third bits, 64 bytes, 12 bytes of 6-bit `s[16]`, d | `(d (s - 32)) q` per 16, q less 4 without its third bit |
//! | Q4_K | d, m, 12 bytes of 6-bit `s[8]`, `t[8]`, 128 bytes | `(d s) q - (m t)` per 32 |
//! | Q5_K | d, m, the same 12 bytes, 32 bytes of fifth bits, 128 bytes | the same |
//! | Q6_K | 128 bytes low, 64 bytes high, 16 signed `s`, d | `(d s) (q - 32)` per 16 |
//! | IQ4_NL | d, 16 bytes | `d VALUES[q]` |
//! | IQ4_XS | d, 2 bytes high and 4 bytes low of 6-bit `s[8]`, 128 bytes | `(d (s - 32)) VALUES[q]` per 32 |
//!
//! The layouts are those of llama.cpp's ggml; the order of multiplications follows its Python package `gguf`, so that
//! values are equal to the bit.

use half::{bf16, f16};

use super::DType;

/// Decodes whole blocks: `stored.len() / bytes per block == out.len() / numbers per block`.
pub(crate) fn dequantise(dtype: DType, stored: &[u8], out: &mut [f32]) {
    let (numbers, bytes) = dtype.block();
    let blocks = stored
        .chunks_exact(bytes)
        .zip(out.chunks_exact_mut(numbers));
    match dtype {
        DType::F32 => blocks.for_each(|(from, to)| {
            to[0] = f32::from_le_bytes([from[0], from[1], from[2], from[3]])
        }),
        DType::F16 => blocks.for_each(|(from, to)| to[0] = half_at(from, 0)),
        DType::BF16 => {
            blocks.for_each(|(from, to)| to[0] = bf16::from_le_bytes([from[0], from[1]]).to_f32())
        }
        DType::Q4_0 => blocks.for_each(|(from, to)| q4_0(from, to)),
        DType::Q4_1 => blocks.for_each(|(from, to)| q4_1(from, to)),
        DType::Q5_0 => blocks.for_each(|(from, to)| q5_0(from, to)),
        DType::Q5_1 => blocks.for_each(|(from, to)| q5_1(from, to)),
        DType::Q8_0 => blocks.for_each(|(from, to)| q8_0(from, to)),
        DType::Q2_K => blocks.for_each(|(from, to)| q2_k(from, to)),
        DType::Q3_K => blocks.for_each(|(from, to)| q3_k(from, to)),
        DType::Q4_K => blocks.for_each(|(from, to)| q4_k(from, to)),
        DType::Q5_K => blocks.for_each(|(from, to)| q5_k(from, to)),
        DType::Q6_K => blocks.for_each(|(from, to)| q6_k(from, to)),
        DType::IQ4_NL => blocks.for_each(|(from, to)| iq4(half_at(from, 0), &from[2..], to)),
        DType::IQ4_XS => blocks.for_each(|(from, to)| iq4_xs(from, to)),
    }
}

/// The values of the types that are not linear.
const VALUES: [f32; 16] = [
    -127.0, -104.0, -83.0, -65.0, -49.0, -35.0, -22.0, -10.0, 1.0, 13.0, 25.0, 38.0, 53.0, 69.0,
    89.0, 113.0,
];

fn half_at(block: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([block[at], block[at + 1]]).to_f32()
}

fn q4_0(block: &[u8], out: &mut [f32]) {
    let d = half_at(block, 0);
    for (j, byte) in block[2..].iter().enumerate() {
        out[j] = d * (f32::from(byte & 15) - 8.0);
        out[j + 16] = d * (f32::from(byte >> 4) - 8.0);
    }
}

fn q4_1(block: &[u8], out: &mut [f32]) {
    let (d, m) = (half_at(block, 0), half_at(block, 2));
    for (j, byte) in block[4..].iter().enumerate() {
        out[j] = d * f32::from(byte & 15) + m;
        out[j + 16] = d * f32::from(byte >> 4) + m;
    }
}

/// Number `j` of a block of 32, from its nibbles and its fifth bits.
fn five_bits(bits: &[u8], nibbles: &[u8], j: usize) -> f32 {
    let nibble = nibbles[j % 16] >> (j / 16 * 4) & 15;
    f32::from(nibble | (bits[j / 8] >> (j % 8) & 1) << 4)
}

fn q5_0(block: &[u8], out: &mut [f32]) {
    let d = half_at(block, 0);
    for (j, to) in out.iter_mut().enumerate() {
        *to = d * (five_bits(&block[2..6], &block[6..], j) - 16.0);
    }
}

fn q5_1(block: &[u8], out: &mut [f32]) {
    let (d, m) = (half_at(block, 0), half_at(block, 2));
    for (j, to) in out.iter_mut().enumerate() {
        *to = d * five_bits(&block[4..8], &block[8..], j) + m;
    }
}

fn q8_0(block: &[u8], out: &mut [f32]) {
    let d = half_at(block, 0);
    for (to, byte) in out.iter_mut().zip(&block[2..]) {
        *to = d * f32::from(*byte as i8);
    }
}

/// The eight 6-bit pairs of a K super-block: four whole in the low bits of bytes 0..8, four split over bytes 8..12
/// (low nibbles) and the top two bits of bytes 0..8.
fn scale_and_minimum(packed: &[u8], group: usize) -> (f32, f32) {
    let (scale, minimum) = if group < 4 {
        (packed[group] & 63, packed[group + 4] & 63)
    } else {
        let low = packed[group + 4];
        (
            low & 15 | (packed[group - 4] >> 6) << 4,
            low >> 4 | (packed[group] >> 6) << 4,
        )
    };
    (f32::from(scale), f32::from(minimum))
}

/// Pair of bits `at` of 256: 128 numbers share 32 bytes.
fn two_bits(bytes: &[u8], at: usize) -> u8 {
    bytes[at / 128 * 32 + at % 32] >> (at / 32 % 4 * 2) & 3
}

fn q2_k(block: &[u8], out: &mut [f32]) {
    let (d, m) = (half_at(block, 80), half_at(block, 82));
    for (at, to) in out.iter_mut().enumerate() {
        let scale = block[at / 16];
        let (step, shift) = (d * f32::from(scale & 15), m * f32::from(scale >> 4));
        *to = step * f32::from(two_bits(&block[16..80], at)) - shift;
    }
}

fn q3_k(block: &[u8], out: &mut [f32]) {
    let (third, low, scales) = (&block[..32], &block[32..96], &block[96..108]);
    let d = half_at(block, 108);
    for (at, to) in out.iter_mut().enumerate() {
        let group = at / 16;
        let nibble = scales[group % 8] >> (group / 8 * 4) & 15;
        let top = scales[8 + group % 4] >> (group / 4 * 2) & 3;
        let scale = d * (f32::from(nibble | top << 4) - 32.0);
        let missing = 4.0 * f32::from(1 ^ third[at % 32] >> (at / 32) & 1);
        *to = scale * (f32::from(two_bits(low, at)) - missing);
    }
}

fn q4_k(block: &[u8], out: &mut [f32]) {
    k_groups(block, &block[16..], |_, _| 0, out);
}

fn q5_k(block: &[u8], out: &mut [f32]) {
    let fifth = &block[16..48];
    k_groups(
        block,
        &block[48..],
        |group, j| (fifth[j] >> group & 1) << 4,
        out,
    );
}

/// Q4_K and Q5_K: `high(group, j)` is what the fifth bit adds to number `j` of a group of 32.
fn k_groups(block: &[u8], nibbles: &[u8], high: impl Fn(usize, usize) -> u8, out: &mut [f32]) {
    let (d, m) = (half_at(block, 0), half_at(block, 2));
    for (group, out) in out.chunks_exact_mut(32).enumerate() {
        let (scale, minimum) = scale_and_minimum(&block[4..16], group);
        let (step, shift) = (d * scale, m * minimum);
        let bytes = &nibbles[group / 2 * 32..][..32];
        for (j, (to, byte)) in out.iter_mut().zip(bytes).enumerate() {
            let low = if group % 2 == 0 { byte & 15 } else { byte >> 4 };
            *to = step * f32::from(low | high(group, j)) - shift;
        }
    }
}

fn q6_k(block: &[u8], out: &mut [f32]) {
    let (low, rest) = block.split_at(128);
    let (high, scales) = rest.split_at(64);
    let d = half_at(block, 208);
    for (at, to) in out.iter_mut().enumerate() {
        // 128 numbers share 64 low and 32 high bytes: quarter 0 and 1 in the low nibbles, 2 and 3 in the high ones
        let (half, quarter, j) = (at / 128, at / 32 % 4, at % 32);
        let nibble = low[half * 64 + quarter % 2 * 32 + j] >> (quarter / 2 * 4) & 15;
        let top = high[half * 32 + j] >> (quarter * 2) & 3;
        let scale = d * f32::from(scales[at / 16] as i8);
        *to = scale * (f32::from(nibble | top << 4) - 32.0);
    }
}

/// A block of 32 numbers out of [`VALUES`].
fn iq4(d: f32, nibbles: &[u8], out: &mut [f32]) {
    for (j, byte) in nibbles.iter().enumerate() {
        out[j] = d * VALUES[usize::from(byte & 15)];
        out[j + 16] = d * VALUES[usize::from(byte >> 4)];
    }
}

fn iq4_xs(block: &[u8], out: &mut [f32]) {
    let d = half_at(block, 0);
    let high = u16::from_le_bytes([block[2], block[3]]);
    for (group, out) in out.chunks_exact_mut(32).enumerate() {
        let low = block[4 + group / 2] >> (group % 2 * 4) & 15;
        let top = (high >> (2 * group) & 3) as u8;
        let scale = d * (f32::from(low | top << 4) - 32.0);
        iq4(scale, &block[8 + 16 * group..][..16], out);
    }
}

#[cfg(test)]
mod tests {
    use data_encoding::BASE64;
    use serde_json::Value;

    use super::*;

    #[test]
    fn values_are_those_of_the_gguf_package() {
        let goldens: Value =
            serde_json::from_str(include_str!("../../tests/goldens/dequantise.json")).unwrap();
        let types = [
            DType::Q4_0,
            DType::Q4_1,
            DType::Q8_0,
            DType::Q4_K,
            DType::Q5_K,
            DType::Q6_K,
            DType::Q5_0,
            DType::Q5_1,
            DType::Q2_K,
            DType::Q3_K,
            DType::IQ4_NL,
            DType::IQ4_XS,
        ];
        for dtype in types {
            let bytes = |field: &str| {
                let text = goldens[dtype.name()][field].as_str().unwrap();
                BASE64.decode(text.as_bytes()).unwrap()
            };
            let expected: Vec<u32> = bytes("values")
                .chunks_exact(4)
                .map(|value| u32::from_le_bytes(value.try_into().unwrap()))
                .collect();
            let mut out = vec![0.0; expected.len()];
            dequantise(dtype, &bytes("stored"), &mut out);
            let out: Vec<u32> = out.iter().map(|value| value.to_bits()).collect();
            assert_eq!(out, expected, "{dtype:?}");
        }
    }

    #[test]
    fn halves_are_exact() {
        let mut out = [0.0; 3];
        dequantise(DType::F16, &[0x00, 0x3c, 0x01, 0x00, 0xff, 0xfb], &mut out);
        assert_eq!(out, [1.0, 5.960_464_5e-8, -65504.0]);
        dequantise(DType::BF16, &[0x80, 0x3f, 0x01, 0x00, 0x7f, 0xff], &mut out);
        assert_eq!(
            out,
            [
                1.0,
                f32::from_bits(0x0001_0000),
                f32::from_bits(0xff7f_0000)
            ]
        );
    }
}
