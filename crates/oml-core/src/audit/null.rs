//! The null rate of an audit: how often an innocent model hits one fingerprint by the audit's rule, inside any of its wraps.
//!
//! Controls are asked like the suspect, so their rate needs no correction. Without a control each wrap is a chance of its own, and the worst
//! case is the sum; where a response may stand anywhere in an answer, an answer could name all candidates, and there is no bound.

use super::matching::Mode;
use crate::check::{self, CheckError, Control, Null};
use crate::fingerprint::FingerprintSet;

/// The null rate with its basis, from `controls` or without one.
///
/// # Errors
/// A control that hit more than it was asked, or was asked nothing.
pub fn null(
    set: &FingerprintSet,
    controls: &[Control],
    wraps: usize,
    mode: Mode,
) -> Result<Null, CheckError> {
    let null = check::null(set, controls)?;
    if !controls.is_empty() {
        return Ok(null);
    }
    if mode == Mode::Contains {
        return Ok(Null {
            rate: 1.0,
            basis: "no bound without a control: an answer that may hold a response anywhere may hold all candidates".into(),
        });
    }
    let rate = (null.rate * wraps as f64).min(1.0);
    let basis = match wraps {
        1 => null.basis,
        _ => format!("{}, inside each of {wraps} wraps", null.basis),
    };
    Ok(Null { rate, basis })
}
