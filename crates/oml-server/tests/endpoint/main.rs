//! The clients against real HTTP servers on loopback: what they send, what they make of answers, and every way they can be bad.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "helpers of tests, outside of test functions; a skipped test says why"
)]

mod asker;
mod real;
mod server;
mod way;
mod writer;
