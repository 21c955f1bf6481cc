//! bfloat16 storage: conversion with round to nearest even.

use crate::dispatch::versions;

#[inline(always)]
fn narrow_body<const FMA: bool>(source: &[f32], target: &mut [u16]) {
    for (t, s) in target.iter_mut().zip(source) {
        let bits = s.to_bits();
        *t = (bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) >> 16) as u16;
    }
}

#[inline(always)]
fn widen_body<const FMA: bool>(source: &[u16], target: &mut [f32]) {
    for (t, s) in target.iter_mut().zip(source) {
        *t = f32::from_bits(u32::from(*s) << 16);
    }
}

versions! {
    /// Rounds finite f32 values to bf16 bits. The shorter slice decides the count.
    pub fn narrow = narrow_body(source: &[f32], target: &mut [u16])
}
versions! {
    /// Widens bf16 bits to f32, exactly. The shorter slice decides the count.
    pub fn widen = widen_body(source: &[u16], target: &mut [f32])
}
