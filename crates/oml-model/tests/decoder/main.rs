//! The decoder, its training and its files, through the crate's public interface.

#![allow(clippy::unwrap_used, reason = "a failed helper is a failed test")]
#![allow(clippy::print_stderr, reason = "a skipped test says why")]

mod detours;
mod dora;
mod embedding;
mod equalities;
mod families;
mod goldens;
mod gradients;
mod measures;
mod memory;
mod model;
mod optimizers;
mod resume;
mod run;
mod smollm2;
mod state;
mod subnetwork;
mod watermark;
