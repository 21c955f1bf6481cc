//! `oml completions`: a completion script, generated from the definitions.

use clap::{Args, CommandFactory as _};
use clap_complete::Shell;

use crate::cli::Cli;
use crate::error::ExitStatus;
use crate::printer::Printer;

/// Flags of `oml completions`.
#[derive(Debug, Args)]
pub(crate) struct CompletionsArgs {
    /// The shell the script is for
    shell: Shell,
}

pub(super) fn run(args: &CompletionsArgs, printer: &Printer) -> anyhow::Result<ExitStatus> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "oml", &mut script);
    printer.raw(&script)
}
