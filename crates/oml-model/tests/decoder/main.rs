//! The decoder, its training and its files, through the crate's public interface.

#![allow(clippy::unwrap_used, reason = "a failed helper is a failed test")]
#![allow(clippy::print_stderr, reason = "a skipped test says why")]

mod detours;
mod embedding;
mod equalities;
mod families;
mod goldens;
mod gradients;
mod measures;
mod model;
mod resume;
mod run;
mod smollm2;
mod state;
