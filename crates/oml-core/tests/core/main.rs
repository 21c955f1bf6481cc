//! Tests of the domain through its public interface.

#![allow(clippy::unwrap_used, reason = "a failed helper is a failed test")]

mod check;
mod commitment;
mod copies;
mod double;
mod files;
mod strategy;
