//! `oml man`: one man page per command, generated from the definitions.

use std::path::PathBuf;

use clap::{Args, Command, CommandFactory as _};

use crate::cli::Cli;
use crate::error::ExitStatus;
use crate::files::{self, Access, Existing};
use crate::printer::Printer;

/// Flags of `oml man`.
#[derive(Debug, Args)]
pub(crate) struct ManArgs {
    /// Folder for the pages; made where missing, pages of the same name are replaced
    folder: PathBuf,
}

pub(super) fn run(args: &ManArgs, printer: &Printer) -> anyhow::Result<ExitStatus> {
    let mut root = Cli::command();
    root.build();
    let mut written = Vec::new();
    write(&root, args, &mut written)?;
    printer.result(
        &serde_json::json!({ "pages": written }),
        &written.join("\n"),
    )
}

fn write(command: &Command, args: &ManArgs, written: &mut Vec<String>) -> anyhow::Result<()> {
    // After `build`, the display name of a subcommand is the whole path with hyphens.
    let name = command
        .get_display_name()
        .unwrap_or_else(|| command.get_name())
        .to_owned();
    let mut page = Vec::new();
    clap_mangen::Man::new(command.clone().name(name.clone())).render(&mut page)?;
    let path = args.folder.join(format!("{name}.1"));
    files::write_whole(&path, &page, Access::Shared, Existing::Replace)?;
    written.push(path.display().to_string());
    command
        .get_subcommands()
        .filter(|sub| !sub.is_hide_set())
        .try_for_each(|sub| write(sub, args, written))
}
