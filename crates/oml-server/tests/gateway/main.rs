//! The gateway over real sockets: what is answered, what is refused and by which code, and what survives.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "helpers of tests, outside of test functions; a skipped test says why"
)]

mod answers;
mod hostile;
mod postgres;
mod refusals;
mod server;
mod stores;
mod upstream;
