//! One file per command: its flags and what it does.

mod answers;
mod asked;
pub(crate) mod attack;
pub(crate) mod audit;
pub(crate) mod bench;
pub(crate) mod check;
pub(crate) mod claim;
pub(crate) mod completions;
pub(crate) mod copies;
pub(crate) mod demo;
pub(crate) mod embed;
pub(crate) mod eval;
pub(crate) mod fingerprints;
pub(crate) mod generate;
pub(crate) mod keygen;
pub(crate) mod man;
pub(crate) mod model;
mod passphrase;
pub(crate) mod permit;
mod prompts;
pub(crate) mod receipt;
pub(crate) mod relate;
pub(crate) mod report;
pub(crate) mod serve;
mod stealth;
mod stored_type;
pub(crate) mod sums;
pub(crate) mod trace;
mod usage;
pub(crate) mod watermark;
mod workbench;

use crate::cli::{Cli, Command};
use crate::error::ExitStatus;
use crate::printer::Printer;

/// Runs the command.
///
/// # Errors
/// When the command cannot do its work; "no" as an answer is not an error.
pub(crate) fn run(cli: Cli, printer: &Printer) -> anyhow::Result<ExitStatus> {
    let global = &cli.global;
    match cli.command {
        Command::Demo(args) => demo::run(&args, global, printer),
        Command::Model(command) => model::run(&command, printer),
        Command::Keygen(args) => keygen::run(&args, printer),
        Command::Generate(args) => generate::run(&args, global, printer),
        Command::Embed(args) => embed::run(&args, global, printer),
        Command::Check(args) => check::run(&args, global, printer),
        Command::Audit(args) => audit::run(&args, global, printer),
        Command::Report(args) => report::run(&args, printer),
        Command::Trace(args) => trace::run(&args, global, printer),
        Command::Relate(args) => relate::run(&args, global, printer),
        Command::Eval(args) => eval::run(&args, global, printer),
        Command::Claim(command) => claim::run(&command, global, printer),
        Command::Fingerprints(command) => fingerprints::run(&command, global, printer),
        Command::Permit(command) => permit::run(&command, global, printer),
        Command::Receipt(command) => receipt::run(&command, printer),
        Command::Serve(args) => serve::run(&args, global, printer),
        Command::Usage(args) => sums::run(&args, printer),
        Command::Watermark(command) => watermark::run(&command, global, printer),
        Command::Attack(command) => attack::run(&command, global, printer),
        Command::Bench(command) => bench::run(&command, global, printer),
        Command::Completions(args) => completions::run(&args, printer),
        Command::Man(args) => man::run(&args, printer),
    }
}
