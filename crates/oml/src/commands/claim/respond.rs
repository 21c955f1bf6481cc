//! `oml claim respond`: the owner opens the fingerprints that a judge drew, and signs.

use std::path::PathBuf;

use anyhow::{Context as _, ensure};
use clap::Args;
use oml_core::bundle::{self, Opened};
use oml_core::signing::SigningKey;
use oml_core::usage::Event;

use crate::cli::OwnerArgs;
use crate::commands::asked::Asked;
use crate::commands::{usage, workbench};
use crate::error::ExitStatus;
use crate::files::{self, Access, Existing};
use crate::printer::Printer;

/// Flags of `oml claim respond`.
#[derive(Debug, Args)]
pub(crate) struct RespondArgs {
    /// Bundle that the challenge is to
    #[arg(long, value_name = "FILE")]
    bundle: PathBuf,
    /// Challenge made by `oml claim challenge`
    #[arg(long, value_name = "FILE")]
    challenge: PathBuf,
    /// Fingerprints file made by `oml generate`
    #[arg(long, value_name = "FILE")]
    fingerprints: PathBuf,
    #[command(flatten)]
    owner: OwnerArgs,
    /// File to write, readable by you alone
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

pub(super) fn run(args: &RespondArgs, printer: &Printer) -> anyhow::Result<ExitStatus> {
    files::refuse_existing(&args.out)?;
    files::check_writable(&args.out)?;
    let bytes = super::read(&args.bundle)?;
    let claim = super::parse(&args.bundle, &bytes)?;
    let (challenge, digest) = super::read_challenge(&args.challenge)?;
    let owner = workbench::owner(&workbench::owner_path(&args.owner)?)?;
    let asked = Asked::whole(workbench::fingerprints(&args.fingerprints, &owner)?);
    let key = SigningKey::derive(&owner);
    let (challenged, file) = (args.challenge.display(), args.bundle.display());
    ensure!(
        challenge.claim == claim.digest && challenge.root == claim.statement.root,
        "{challenged}: expected a challenge to {file}, got one to another claim"
    );
    ensure!(
        asked.root() == claim.statement.root && asked.count() as u64 == challenge.leaves,
        "{}: expected the set of {file}, got another",
        args.fingerprints.display()
    );
    ensure!(
        key.address() == claim.statement.owner,
        "--owner: expected {}, who signed {file}, got {}",
        claim.statement.owner,
        key.address()
    );
    let indices = challenge.indices();
    let numbers: Vec<usize> = indices.iter().map(|index| *index as usize).collect();
    let opened = numbers.iter().map(|index| {
        let (opening, proof) = asked
            .opening(*index)
            .context("cannot open the challenged pairs")?;
        Ok(Opened { opening, proof })
    });
    let opened: Vec<Opened> = opened.collect::<anyhow::Result<_>>()?;
    let response = bundle::respond(&challenge, &digest, &opened, super::now(), &key)?;
    usage::record(&args.fingerprints, asked.root(), Event::Open, &numbers)?;
    files::write_whole(&args.out, &response, Access::Private, Existing::Refuse)?;
    let file = args.out.display().to_string();
    let text = format!(
        "response in {file}: {} fingerprints, which are spent",
        opened.len()
    );
    printer.result(
        &serde_json::json!({ "file": file, "count": opened.len(), "indices": indices }),
        &text,
    )
}
