//! `oml claim`: evidence for others, and its verification, one file per command.

mod again;
mod challenge;
mod correct;
mod line;
mod make;
mod respond;
mod verify;

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use clap::Subcommand;
use oml_core::bundle::Bundle;
use oml_core::manifest::bundle_archive::MAX_BYTES;
use oml_core::manifest::{bundle_file, challenge_file};
use oml_core::merkle::Hash;
use sha2::{Digest as _, Sha256};

use crate::cli::GlobalArgs;
use crate::error::ExitStatus;
use crate::files;
use crate::printer::Printer;

/// What can be done with a claim.
#[derive(Debug, Subcommand)]
pub(crate) enum ClaimCommand {
    /// Print the line that is published, time-stamped or committed before a model goes out: the set's root and the owner's address
    Line(line::LineArgs),
    /// Make a signed bundle of an audit for a judge, which opens the pairs that were asked
    Make(make::MakeArgs),
    /// Does a bundle hold? Needs nothing secret, and says what it could not check
    Verify(Box<verify::VerifyArgs>),
    /// Correct the results of several suspects or sets for being several (Holm)
    Correct(correct::CorrectArgs),
    /// Draw fingerprints that the owner has to open, over the whole set
    Challenge(challenge::ChallengeArgs),
    /// Open the fingerprints of a judge's challenge, which spends them
    Respond(respond::RespondArgs),
}

pub(super) fn run(
    command: &ClaimCommand,
    global: &GlobalArgs,
    printer: &Printer,
) -> anyhow::Result<ExitStatus> {
    match command {
        ClaimCommand::Line(args) => line::run(args, printer),
        ClaimCommand::Make(args) => make::run(args, global, printer),
        ClaimCommand::Verify(args) => verify::run(args, global, printer),
        ClaimCommand::Correct(args) => correct::run(args, printer),
        ClaimCommand::Challenge(args) => challenge::run(args, printer),
        ClaimCommand::Respond(args) => respond::run(args, printer),
    }
}

/// The bytes of a bundle.
fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    files::read(path, MAX_BYTES)
}

/// The bundle in `bytes`, which were read from `path`.
fn parse<'a>(path: &Path, bytes: &'a [u8]) -> anyhow::Result<Bundle<'a>> {
    bundle_file::parse(bytes).with_context(|| format!("cannot read {}", path.display()))
}

/// A challenge with the SHA-256 of its file.
fn read_challenge(path: &Path) -> anyhow::Result<(oml_core::bundle::Challenge, Hash)> {
    let bytes = files::read(path, challenge_file::MAX_BYTES)?;
    let challenge = challenge_file::parse(&bytes);
    let challenge = challenge.with_context(|| format!("cannot read {}", path.display()))?;
    Ok((challenge, Sha256::digest(&bytes).into()))
}

/// Seconds since 1970.
fn now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |since| since.as_secs())
}
