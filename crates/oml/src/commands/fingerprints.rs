//! `oml fingerprints export`: shows a set in a form that other programs read.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use oml_core::manifest::plain_file;

use super::workbench;
use crate::cli::OwnerArgs;
use crate::error::ExitStatus;
use crate::files::{self, Access, Existing};
use crate::printer::Printer;

/// What can be done with a fingerprints file.
#[derive(Debug, Subcommand)]
pub(crate) enum FingerprintsCommand {
    /// Print the pairs in the clear: keep the output as secret as the owner file
    Export(ExportArgs),
}

/// Forms of an export.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ExportFormat {
    /// JSON list of objects with query, response, query_ids and response_ids
    Plain,
}

/// Flags of `oml fingerprints export`.
#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    /// Fingerprints file made by `oml generate`
    #[arg(long, value_name = "FILE")]
    pub(crate) fingerprints: PathBuf,
    #[command(flatten)]
    pub(crate) owner: OwnerArgs,
    /// Form of the export
    #[arg(long, value_name = "NAME", default_value = "plain")]
    pub(crate) format: ExportFormat,
    /// File to write, readable by you alone [default: standard output]
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
}

pub(super) fn run(command: &FingerprintsCommand, printer: &Printer) -> anyhow::Result<ExitStatus> {
    let FingerprintsCommand::Export(args) = command;
    let owner = workbench::owner(&workbench::owner_path(&args.owner)?)?;
    let set = workbench::fingerprints(&args.fingerprints, &owner)?;
    let ExportFormat::Plain = args.format;
    let exported = plain_file::render(&set)?;
    match &args.out {
        None => printer.raw(&exported),
        Some(path) => {
            files::write_whole(path, &exported, Access::Private, Existing::Refuse)?;
            let file = path.display().to_string();
            let text = format!("{} fingerprints in the clear in {file}", set.count());
            printer.result(
                &serde_json::json!({ "count": set.count(), "file": file }),
                &text,
            )
        }
    }
}
