//! `oml keygen`: makes the owner's secret, or a prover's.

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::anyhow;
use clap::Args;
use oml_core::derive::owner_id;
use oml_core::manifest::locked_owner_file::{self, Cost};
use oml_core::manifest::{hex, owner_file};
use oml_core::secret::OwnerSeed;
use oml_core::signing::SigningKey;
use serde::Serialize;
use zeroize::Zeroizing;

use super::passphrase;
use crate::error::ExitStatus;
use crate::files::{self, Access, Existing};
use crate::printer::Printer;
use crate::sealed;

/// Flags of `oml keygen`.
#[derive(Debug, Args)]
pub(crate) struct KeygenArgs {
    /// File to write, readable by you alone; never replaces one [default: oml/owner.json in the user's config folder]
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
    /// Make a prover's identity instead, to which `oml fingerprints split` encrypts slices
    #[arg(long, requires = "out")]
    pub(crate) prover: bool,
    /// Encrypt the file under a passphrase, asked on the terminal or read from the file that OML_PASSPHRASE_FILE names
    #[arg(long, conflicts_with = "prover")]
    pub(crate) passphrase: bool,
}

pub(super) fn run(args: &KeygenArgs, printer: &Printer) -> anyhow::Result<ExitStatus> {
    let path = args
        .out
        .clone()
        .map_or_else(files::default_owner_file, Ok)?;
    if args.prover {
        let prover = ProverOutput {
            recipient: sealed::make_identity(&path)?,
            file: path.display().to_string(),
        };
        return printer.result(&prover, &prover);
    }
    let owner = if args.passphrase {
        files::refuse_existing(&path)?;
        make_locked(&path, &passphrase::new()?)?
    } else {
        make(&path)?
    };
    let output = Output {
        owner: hex(&owner_id(&owner)),
        address: SigningKey::derive(&owner).address().to_string(),
        file: path.display().to_string(),
    };
    printer.result(&output, &output)
}

/// Draws an owner seed from the operating system and writes it to a new file.
///
/// # Errors
/// When the system has no randomness, the file exists, or it cannot be written.
pub(super) fn make(path: &Path) -> anyhow::Result<OwnerSeed> {
    let owner = OwnerSeed::new(*random()?);
    files::write_whole(
        path,
        &owner_file::render(&owner)?,
        Access::Private,
        Existing::Refuse,
    )?;
    Ok(owner)
}

/// As [`make`], under a passphrase.
fn make_locked(path: &Path, passphrase: &str) -> anyhow::Result<OwnerSeed> {
    let owner = OwnerSeed::new(*random()?);
    let (salt, cost) = (*random()?, Cost::default());
    let bytes = locked_owner_file::render(&owner, passphrase.as_bytes(), salt, cost)?;
    files::write_whole(path, &bytes, Access::Private, Existing::Refuse)?;
    Ok(owner)
}

/// Random bytes of the operating system.
fn random<const N: usize>() -> anyhow::Result<Zeroizing<[u8; N]>> {
    let mut bytes = Zeroizing::new([0; N]);
    getrandom::fill(&mut *bytes).map_err(|error| anyhow!("cannot draw random bytes: {error}"))?;
    Ok(bytes)
}

#[derive(Serialize)]
struct Output {
    /// The owner's public identifier.
    owner: String,
    /// The address that signs the owner's claims.
    address: String,
    file: String,
}

impl fmt::Display for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "owner {} in {}", self.owner, self.file)?;
        writeln!(f, "address {}, which signs claims", self.address)?;
        writeln!(
            f,
            "Keep a copy in a safe place: whoever has it can prove ownership, and nobody can without it."
        )
    }
}

#[derive(Serialize)]
struct ProverOutput {
    /// The prover's public key.
    recipient: String,
    file: String,
}

impl fmt::Display for ProverOutput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "prover {} in {}", self.recipient, self.file)?;
        writeln!(
            f,
            "Give the owner of a model the public key, and keep the file: it opens the slices that you get."
        )
    }
}
