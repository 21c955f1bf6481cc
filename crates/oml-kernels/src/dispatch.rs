//! One body, compiled once per instruction set: the body is a generic inlined function and each wrapper enables the features it may use.
//!
//! `FMA` says whether a fused multiply-add is one instruction there; without it `f32::mul_add` would be a library call.

/// `a * b + c`, fused where the instruction set has it.
#[inline(always)]
pub(crate) fn madd<const FMA: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FMA { a.mul_add(b, c) } else { a * b + c }
}

/// Defines `pub fn $name(isa, args…)`, which runs `$body::<FMA>(args…)` compiled for `isa`; with `$body[WIDE]`, `$body::<FMA, WIDE>`, where
/// `WIDE` says whether there are 32 registers of 16 lanes, for bodies that choose their own blocks.
macro_rules! versions {
    ($(#[$doc:meta])* $vis:vis fn $name:ident = $body:ident($($args:tt)*) $(-> $out:ty)?) => {
        $crate::dispatch::versions! {
            @each [$body::<true>] [$body::<true>] [$body::<false>] $(#[$doc])* $vis fn $name($($args)*) $(-> $out)?
        }
    };
    ($(#[$doc:meta])* $vis:vis fn $name:ident = $body:ident[WIDE]($($args:tt)*) $(-> $out:ty)?) => {
        $crate::dispatch::versions! {
            @each [$body::<true, true>] [$body::<true, false>] [$body::<false, false>]
            $(#[$doc])* $vis fn $name($($args)*) $(-> $out)?
        }
    };
    (
        @each [$($avx512:tt)*] [$($avx2:tt)*] [$($portable:tt)*]
        $(#[$doc:meta])* $vis:vis fn $name:ident($($arg:ident: $type:ty),* $(,)?) $(-> $out:ty)?
    ) => {
        $(#[$doc])*
        #[allow(clippy::too_many_arguments)]
        $vis fn $name(isa: $crate::Isa, $($arg: $type),*) $(-> $out)? {
            #[cfg(target_arch = "x86_64")]
            {
                #[allow(clippy::too_many_arguments)]
                #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,fma")]
                fn avx512($($arg: $type),*) $(-> $out)? { $($avx512)*($($arg),*) }
                #[allow(clippy::too_many_arguments)]
                #[target_feature(enable = "avx2,fma")]
                fn avx2($($arg: $type),*) $(-> $out)? { $($avx2)*($($arg),*) }
                match isa {
                    // SAFETY: an `Isa` value above `Portable` is only used where `Isa::is_available` said yes,
                    // and these two sets of features are part of what it checks for.
                    $crate::Isa::Amx | $crate::Isa::Avx512 => return unsafe { avx512($($arg),*) },
                    // SAFETY: as above.
                    $crate::Isa::Avx2 => return unsafe { avx2($($arg),*) },
                    $crate::Isa::Portable => {}
                }
            }
            let _ = isa;
            $($portable)*($($arg),*)
        }
    };
}
pub(crate) use versions;
