//! Ctrl-C: the first asks the running work to stop at a place it can resume from, the second ends the process at once.

use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context as _;

static REQUESTED: AtomicBool = AtomicBool::new(false);

/// Shell convention for "ended by SIGINT".
const EXIT_AT_ONCE: i32 = 130;

/// Starts listening; a process listens once, however often this is called.
///
/// # Errors
/// When the operating system refuses a signal handler.
pub(crate) fn listen() -> anyhow::Result<()> {
    let installed = ctrlc::try_set_handler(|| {
        if REQUESTED.swap(true, Ordering::SeqCst) {
            std::process::exit(EXIT_AT_ONCE);
        }
    });
    match installed {
        Ok(()) | Err(ctrlc::Error::MultipleHandlers) => Ok(()),
        Err(error) => Err(error).context("cannot listen for Ctrl-C"),
    }
}

/// True after the first Ctrl-C.
pub(crate) fn requested() -> bool {
    REQUESTED.load(Ordering::SeqCst)
}

/// Stops between two phases of which neither leaves anything to go on from.
///
/// # Errors
/// After the first Ctrl-C.
pub(crate) fn check() -> anyhow::Result<()> {
    anyhow::ensure!(!requested(), "stopped by Ctrl-C");
    Ok(())
}
