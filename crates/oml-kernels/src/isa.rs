//! Instruction sets the kernels are written for, and which of them this processor offers.
//!
//! AMX is used only when the processor has AMX-TILE, AMX-BF16 and AVX512-BF16 and the operating system has granted
//! this process the tile state (Linux hands it out on request: `arch_prctl(ARCH_REQ_XCOMP_PERM)`, kernel 5.16).

use std::fmt;
use std::str::FromStr;

/// A family of kernels, from slowest to fastest. [`Isa::Amx`] multiplies in bf16 with f32 sums, the others in f32.
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord, Hash)]
pub enum Isa {
    /// Plain Rust, on any processor.
    Portable,
    /// x86-64 with AVX2 and FMA.
    Avx2,
    /// x86-64 with AVX-512 F and BW.
    Avx512,
    /// x86-64 with AMX-BF16 tiles and AVX512-BF16.
    Amx,
}

impl Isa {
    /// Every instruction set, slowest first.
    pub const ALL: [Isa; 4] = [Isa::Portable, Isa::Avx2, Isa::Avx512, Isa::Amx];

    /// The fastest instruction set of this processor.
    pub fn detect() -> Isa {
        Isa::ALL
            .into_iter()
            .rev()
            .find(|isa| isa.is_available())
            .unwrap_or(Isa::Portable)
    }

    /// Whether this processor and operating system can run the kernels of this instruction set.
    pub fn is_available(self) -> bool {
        match self {
            Isa::Portable => true,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => {
                Isa::Avx2.is_available()
                    && is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
            }
            #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
            Isa::Amx => {
                Isa::Avx512.is_available()
                    && is_x86_feature_detected!("avx512bf16")
                    && amx::is_granted()
            }
            #[allow(unreachable_patterns)]
            _ => false,
        }
    }
}

impl fmt::Display for Isa {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Isa::Portable => "portable",
            Isa::Avx2 => "avx2",
            Isa::Avx512 => "avx512",
            Isa::Amx => "amx",
        })
    }
}

/// The name is none of [`Isa::ALL`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown instruction set `{0}`, expected portable, avx2, avx512 or amx")]
pub struct UnknownIsa(String);

impl FromStr for Isa {
    type Err = UnknownIsa;

    fn from_str(name: &str) -> Result<Isa, UnknownIsa> {
        Isa::ALL
            .into_iter()
            .find(|isa| isa.to_string() == name)
            .ok_or_else(|| UnknownIsa(name.to_owned()))
    }
}

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod amx {
    use std::arch::x86_64::{__cpuid, __cpuid_count};
    use std::sync::OnceLock;

    const ARCH_REQ_XCOMP_PERM: libc::c_ulong = 0x1023;
    const XFEATURE_XTILEDATA: libc::c_ulong = 18;
    const AMX_BF16: u32 = 1 << 22;
    const AMX_TILE: u32 = 1 << 24;

    /// Asks once per process: the permission holds for every thread, also those started before.
    pub(super) fn is_granted() -> bool {
        static GRANTED: OnceLock<bool> = OnceLock::new();
        *GRANTED.get_or_init(|| {
            let wanted = AMX_BF16 | AMX_TILE;
            if __cpuid(0).eax < 7 || __cpuid_count(7, 0).edx & wanted != wanted {
                return false;
            }
            // SAFETY: arch_prctl with this code takes a feature number and touches no memory of ours; where the kernel
            // does not know the code it returns an error.
            unsafe {
                libc::syscall(
                    libc::SYS_arch_prctl,
                    ARCH_REQ_XCOMP_PERM,
                    XFEATURE_XTILEDATA,
                ) == 0
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        for isa in Isa::ALL {
            assert_eq!(isa.to_string().parse(), Ok(isa));
        }
        assert_eq!(
            "sse".parse::<Isa>().map_err(|error| error.to_string()),
            Err("unknown instruction set `sse`, expected portable, avx2, avx512 or amx".to_owned())
        );
    }

    #[test]
    fn detection_is_available_and_ordered() {
        assert!(Isa::detect().is_available());
        assert!(Isa::Portable < Isa::Avx2 && Isa::Avx512 < Isa::Amx);
    }
}
