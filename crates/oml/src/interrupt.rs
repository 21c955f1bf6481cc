//! Ctrl-C: the first asks the running work to stop at a place it can resume from, the second ends the process at once.
//!
//! SIGTERM is heard as well, and SIGHUP unless the process was told to ignore it, as by `nohup`.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use anyhow::Context as _;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag as signal_flag;

static REQUESTED: OnceLock<Arc<AtomicBool>> = OnceLock::new();

/// Shell convention for "ended by SIGINT".
const EXIT_AT_ONCE: i32 = 130;

/// Starts listening; a process listens once, however often this is called.
///
/// # Errors
/// When the operating system refuses a signal handler.
pub(crate) fn listen() -> anyhow::Result<()> {
    let requested = Arc::default();
    match REQUESTED.set(Arc::clone(&requested)) {
        Ok(()) => hear(&requested).context("cannot listen for Ctrl-C"),
        Err(_) => Ok(()),
    }
}

fn hear(requested: &Arc<AtomicBool>) -> io::Result<()> {
    let mut signals = vec![SIGINT, SIGTERM];
    #[cfg(unix)]
    if is_ignored(signal_hook::consts::SIGHUP) == Some(false) {
        signals.push(signal_hook::consts::SIGHUP);
    }
    for signal in signals {
        // In this order: the first signal finds the flag down.
        signal_flag::register_conditional_shutdown(signal, EXIT_AT_ONCE, Arc::clone(requested))?;
        signal_flag::register(signal, Arc::clone(requested))?;
    }
    Ok(())
}

/// Whether this process ignores a signal; `None` where the system does not tell.
#[cfg(unix)]
fn is_ignored(signal: i32) -> Option<bool> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let mask = status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))?;
    let mask = u64::from_str_radix(mask.trim(), 16).ok()?;
    Some(mask >> (signal - 1) & 1 == 1)
}

/// True after the first Ctrl-C.
pub(crate) fn requested() -> bool {
    REQUESTED
        .get()
        .is_some_and(|requested| requested.load(Ordering::SeqCst))
}

/// The flag that the first Ctrl-C sets, for work that waits; one that nothing sets where nobody listens.
pub(crate) fn flag() -> Arc<AtomicBool> {
    REQUESTED.get().map(Arc::clone).unwrap_or_default()
}

/// Stops between two phases of which neither leaves anything to go on from.
///
/// # Errors
/// After the first Ctrl-C.
pub(crate) fn check() -> anyhow::Result<()> {
    anyhow::ensure!(!requested(), "stopped by Ctrl-C");
    Ok(())
}
