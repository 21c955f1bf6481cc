//! `oml fingerprints export`: shows a set in a form that other programs read.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use oml_core::manifest::{oml1_file, perinucleus_file, plain_file};

use crate::cli::OwnerArgs;
use crate::commands::workbench;
use crate::error::{ExitStatus, WithHint as _};
use crate::files::{self, Access, Existing};
use crate::printer::Printer;

/// Forms of an export.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ExportFormat {
    /// JSON list of objects with query, response, query_ids and response_ids
    Plain,
    /// The fingerprints file of OML 1.0: key and response
    Oml1,
    /// The file of Scalable Fingerprinting: key, effective_key, response and response_prob
    Perinucleus,
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

pub(super) fn run(args: &ExportArgs, printer: &Printer) -> anyhow::Result<ExitStatus> {
    let owner = workbench::owner(&workbench::owner_path(&args.owner)?)?;
    let set = workbench::fingerprints(&args.fingerprints, &owner)?;
    let exported = match args.format {
        ExportFormat::Plain => plain_file::render(&set)?,
        ExportFormat::Oml1 => oml1_file::render(&set)
            .with_context(|| format!("cannot export {}", args.fingerprints.display()))
            .hint(
                "Take --format perinucleus or plain for a set with several responses per query.",
            )?,
        ExportFormat::Perinucleus => perinucleus_file::render(&set)?,
    };
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
