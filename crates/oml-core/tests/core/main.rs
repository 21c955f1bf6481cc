//! Tests of the domain through its public interface.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a failed helper is a failed test, and a skipped one says so"
)]

mod audit;
mod bundle;
mod check;
mod commitment;
mod copies;
mod double;
mod evidence;
mod exchange;
mod files;
mod permission;
mod prompts;
mod receipt;
mod signing;
mod strategy;
mod time_proof;
mod watermark;
