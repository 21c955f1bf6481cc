//! The bundle of a claim: what an owner shows a judge, and the checks that the judge makes.
//!
//! ```text
//! set, audit, controls, time proofs ──make, sign──▶ bundle ──▶ judge: checks, each with its meaning
//!                                       bundle ──▶ judge: challenge ──▶ owner: response ──▶ judge: more checks
//! ```
//!
//! The file is in [`crate::manifest::bundle_file`]. What a claim proves and what not is in `docs/concepts/claims.md`.

mod challenge;
mod check;
mod controls;
mod dates;
mod judge;
mod message;
mod openings;
mod respond;
mod statement;

pub use challenge::{Challenge, ChallengeError, MAX_CHALLENGED};
pub use check::{Check, Outcome, holds};
pub use controls::ControlResult;
pub(crate) use controls::within;
pub use judge::Judge;
pub use message::{ClaimMessage, ResponseMessage};
pub use openings::{Opened, OpeningsError, check_openings};
pub use respond::{check_response, respond};
pub use statement::{Figures, Statement};

use crate::manifest::transcript_file::Transcript;
use crate::merkle::Hash;
use crate::signing::{Address, Signature};

/// A bundle as it was read.
#[derive(Debug, Clone)]
pub struct Bundle<'a> {
    /// What is claimed.
    pub statement: Statement,
    /// SHA-256 of the statement's file, which is signed.
    pub digest: Hash,
    /// The opened fingerprints.
    pub opened: Vec<Opened>,
    /// The audit.
    pub transcript: Transcript,
    /// What controls answered.
    pub controls: Vec<ControlResult>,
    /// A time stamp after RFC 3161.
    pub rfc3161: Option<&'a [u8]>,
    /// The objects of a git commit.
    pub git: Option<&'a [u8]>,
    /// A transaction in a block.
    pub ledger: Option<&'a [u8]>,
    /// Who signed, as the signature's file says.
    pub signer: Address,
    /// The signature.
    pub signature: Signature,
    /// SHA-256 of every entry except statement and signature, in their order.
    pub contents: Vec<(&'static str, Hash)>,
}
