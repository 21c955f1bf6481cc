//! The OML domain: fingerprints, commitments, statistics and file formats, without I/O, clock or global randomness.
//!
//! Everything here is a function of its arguments: the same inputs give the same bytes out. Language models and
//! tokenizers are reached through the traits of [`model`] and [`tokenizer`].

pub mod audit;
pub mod bundle;
pub mod check;
pub mod claim;
pub mod commitment;
pub mod copies;
pub mod derive;
pub mod eip712;
pub mod fingerprint;
pub mod import;
pub mod manifest;
pub mod merkle;
pub mod model;
pub mod permission;
pub mod prompt;
pub mod random;
pub mod receipt;
pub mod relatedness;
pub mod secret;
pub mod serving;
pub mod signing;
pub mod slice;
pub mod strategy;
pub mod time_proof;
pub mod tokenizer;
pub mod usage;
pub mod watermark;
