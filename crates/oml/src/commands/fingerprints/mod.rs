//! `oml fingerprints`: what can be done with a set, one file per command.

mod export;
mod import;

use clap::Subcommand;

use crate::cli::GlobalArgs;
use crate::error::ExitStatus;
use crate::printer::Printer;

/// What can be done with a fingerprints file.
#[derive(Debug, Subcommand)]
pub(crate) enum FingerprintsCommand {
    /// Print the pairs in the clear: keep the output as secret as the owner file
    Export(export::ExportArgs),
    /// Make a set of the pairs of another tool
    Import(import::ImportArgs),
}

pub(super) fn run(
    command: &FingerprintsCommand,
    global: &GlobalArgs,
    printer: &Printer,
) -> anyhow::Result<ExitStatus> {
    match command {
        FingerprintsCommand::Export(args) => export::run(args, printer),
        FingerprintsCommand::Import(args) => import::run(args, global, printer),
    }
}
