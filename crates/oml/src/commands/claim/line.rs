//! `oml claim line`: what an owner publishes, has stamped or commits, so that a claim can be dated.

use std::path::PathBuf;

use clap::Args;
use oml_core::commitment::Commitment;
use oml_core::signing::SigningKey;
use oml_core::time_proof;

use crate::cli::OwnerArgs;
use crate::commands::workbench;
use crate::error::ExitStatus;
use crate::files::{self, Access, Existing};
use crate::printer::Printer;

/// Flags of `oml claim line`.
#[derive(Debug, Args)]
pub(crate) struct LineArgs {
    /// Fingerprints file made by `oml generate`
    #[arg(long, value_name = "FILE")]
    fingerprints: PathBuf,
    #[command(flatten)]
    owner: OwnerArgs,
    /// File to write [default: standard output]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

pub(super) fn run(args: &LineArgs, printer: &Printer) -> anyhow::Result<ExitStatus> {
    let owner = workbench::owner(&workbench::owner_path(&args.owner)?)?;
    let set = workbench::fingerprints(&args.fingerprints, &owner)?;
    let root = Commitment::new(&set).root();
    let line = time_proof::line(&root, &SigningKey::derive(&owner).address());
    let Some(path) = &args.out else {
        return printer.result(&serde_json::json!({ "line": line }), &line);
    };
    files::write_whole(path, line.as_bytes(), Access::Shared, Existing::Refuse)?;
    let file = path.display().to_string();
    printer.result(
        &serde_json::json!({ "line": line, "file": file }),
        &format!("{}in {file}", line),
    )
}
