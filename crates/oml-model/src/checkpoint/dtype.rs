//! How weights are stored: plain numbers, or blocks of small integers with shared scales.

/// A stored type. The quantised ones are GGUF's, read only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(non_camel_case_types, reason = "the names of the format")]
pub enum DType {
    /// IEEE binary32.
    F32,
    /// IEEE binary16.
    F16,
    /// The upper half of a binary32.
    BF16,
    /// 4-bit integers, one scale per 32.
    Q4_0,
    /// 4-bit integers, one scale and one minimum per 32.
    Q4_1,
    /// 5-bit integers, one scale per 32.
    Q5_0,
    /// 5-bit integers, one scale and one minimum per 32.
    Q5_1,
    /// 8-bit integers, one scale per 32.
    Q8_0,
    /// 2-bit integers, 4-bit scales and minima per 16 in super-blocks of 256.
    Q2_K,
    /// 3-bit integers, 6-bit scales per 16 in super-blocks of 256.
    Q3_K,
    /// 4-bit integers, 6-bit scales and minima per 32 in super-blocks of 256.
    Q4_K,
    /// 5-bit integers, otherwise as `Q4_K`.
    Q5_K,
    /// 6-bit integers, 8-bit scales per 16 in super-blocks of 256.
    Q6_K,
    /// Sixteen values that are not evenly spaced, one scale per 32.
    IQ4_NL,
    /// The same values, 6-bit scales per 32 in super-blocks of 256.
    IQ4_XS,
}

impl DType {
    /// The types of safetensors files that are read.
    pub(crate) const SAFETENSORS: &'static str = "F32, F16, BF16";
    /// The types of GGUF files that are read.
    pub(crate) const GGUF: &'static str = "F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q2_K, Q3_K, Q4_K, Q5_K, Q6_K, IQ4_NL, IQ4_XS";

    /// The name in a safetensors header, and GGUF's for the quantised types.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "F32",
            Self::F16 => "F16",
            Self::BF16 => "BF16",
            Self::Q4_0 => "Q4_0",
            Self::Q4_1 => "Q4_1",
            Self::Q5_0 => "Q5_0",
            Self::Q5_1 => "Q5_1",
            Self::Q8_0 => "Q8_0",
            Self::Q2_K => "Q2_K",
            Self::Q3_K => "Q3_K",
            Self::Q4_K => "Q4_K",
            Self::Q5_K => "Q5_K",
            Self::Q6_K => "Q6_K",
            Self::IQ4_NL => "IQ4_NL",
            Self::IQ4_XS => "IQ4_XS",
        }
    }

    pub(crate) fn from_safetensors(name: &str) -> Option<Self> {
        [Self::F32, Self::F16, Self::BF16]
            .into_iter()
            .find(|dtype| dtype.name() == name)
    }

    /// From GGUF's `ggml_type`.
    pub(crate) fn from_gguf(kind: u32) -> Option<Self> {
        Some(match kind {
            0 => Self::F32,
            1 => Self::F16,
            2 => Self::Q4_0,
            3 => Self::Q4_1,
            6 => Self::Q5_0,
            7 => Self::Q5_1,
            8 => Self::Q8_0,
            10 => Self::Q2_K,
            11 => Self::Q3_K,
            12 => Self::Q4_K,
            13 => Self::Q5_K,
            14 => Self::Q6_K,
            20 => Self::IQ4_NL,
            23 => Self::IQ4_XS,
            30 => Self::BF16,
            _ => return None,
        })
    }

    /// The name in `config.json`; none for the quantised types.
    pub fn torch_name(self) -> Option<&'static str> {
        match self {
            Self::F32 => Some("float32"),
            Self::F16 => Some("float16"),
            Self::BF16 => Some("bfloat16"),
            _ => None,
        }
    }

    /// Numbers in a block and bytes of a block.
    pub(crate) fn block(self) -> (usize, usize) {
        match self {
            Self::F32 => (1, 4),
            Self::F16 | Self::BF16 => (1, 2),
            Self::Q4_0 | Self::IQ4_NL => (32, 18),
            Self::Q4_1 => (32, 20),
            Self::Q5_0 => (32, 22),
            Self::Q5_1 => (32, 24),
            Self::Q8_0 => (32, 34),
            Self::Q2_K => (256, 84),
            Self::Q3_K => (256, 110),
            Self::Q4_K => (256, 144),
            Self::Q5_K => (256, 176),
            Self::Q6_K => (256, 210),
            Self::IQ4_XS => (256, 136),
        }
    }
}
