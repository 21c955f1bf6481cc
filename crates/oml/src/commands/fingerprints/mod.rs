//! `oml fingerprints`: what can be done with a set, one file per command.

mod export;
mod import;
mod open;
mod split;
mod status;
mod verify_opening;

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
    /// Deal a set to provers: slices that each can check and open on its own
    Split(split::SplitArgs),
    /// Show one pair with its proof as evidence, which spends it
    Open(open::OpenArgs),
    /// Does a pair that was shown belong to the set behind a published root?
    VerifyOpening(verify_opening::VerifyOpeningArgs),
    /// Say how many pairs are unused, asked, given to provers and spent
    Status(status::StatusArgs),
}

pub(super) fn run(
    command: &FingerprintsCommand,
    global: &GlobalArgs,
    printer: &Printer,
) -> anyhow::Result<ExitStatus> {
    match command {
        FingerprintsCommand::Export(args) => export::run(args, printer),
        FingerprintsCommand::Import(args) => import::run(args, global, printer),
        FingerprintsCommand::Split(args) => split::run(args, printer),
        FingerprintsCommand::Open(args) => open::run(args, printer),
        FingerprintsCommand::VerifyOpening(args) => verify_opening::run(args, printer),
        FingerprintsCommand::Status(args) => status::run(args, printer),
    }
}
