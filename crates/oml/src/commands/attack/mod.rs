//! `oml attack`: does to a model what others may do, to measure what survives.

mod merge;
mod sft;

use clap::Subcommand;

use crate::cli::GlobalArgs;
use crate::error::ExitStatus;
use crate::printer::Printer;

/// The attacks.
#[derive(Debug, Subcommand)]
pub(crate) enum AttackCommand {
    /// Merge two models of one shape: the weighted mean of their weights
    Merge(merge::MergeArgs),
    /// Fine-tune a model on instructions, all weights or adapters that are merged
    Sft(sft::SftArgs),
}

pub(super) fn run(
    command: &AttackCommand,
    global: &GlobalArgs,
    printer: &Printer,
) -> anyhow::Result<ExitStatus> {
    match command {
        AttackCommand::Merge(args) => merge::run(args, printer),
        AttackCommand::Sft(args) => sft::run(args, global, printer),
    }
}
