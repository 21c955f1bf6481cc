//! The one place, beside the owner's seed, that draws from the system's randomness.

use anyhow::anyhow;

/// Random bytes.
///
/// # Errors
/// When the system has none.
pub(crate) fn bytes<const N: usize>() -> anyhow::Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| anyhow!("cannot draw random bytes: {error}"))?;
    Ok(bytes)
}

/// A random number.
///
/// # Errors
/// When the system has none.
pub(crate) fn number() -> anyhow::Result<u64> {
    bytes().map(u64::from_le_bytes)
}
