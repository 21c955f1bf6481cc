//! `oml fingerprints open`: shows one pair as evidence, which burns it.

use std::path::PathBuf;

use anyhow::{Context as _, anyhow};
use clap::Args;
use oml_core::manifest::opening_file;
use oml_core::usage::Event;

use crate::commands::asked::{self, AskedArgs};
use crate::commands::usage;
use crate::error::ExitStatus;
use crate::files::{self, Access, Existing};
use crate::printer::Printer;

/// Flags of `oml fingerprints open`.
#[derive(Debug, Args)]
pub(crate) struct OpenArgs {
    #[command(flatten)]
    pub(crate) asked: AskedArgs,
    /// Number of the fingerprint in the whole set, from 0
    #[arg(long, value_name = "N")]
    pub(crate) index: usize,
    /// File to write, readable by you alone [default: standard output]
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
}

pub(super) fn run(args: &OpenArgs, printer: &Printer) -> anyhow::Result<ExitStatus> {
    let asked = asked::read(&args.asked, None)?;
    let file = &args.asked.fingerprints;
    let (opening, proof) = asked.opening(args.index).with_context(|| match &asked {
        asked::Asked::Whole { set, .. } => anyhow!(
            "--index: expected a number below {}, got {}",
            set.count(),
            args.index
        ),
        asked::Asked::Part(_) => anyhow!(
            "--index: expected a fingerprint of {}, got {}, which is not in it",
            file.display(),
            args.index
        ),
    })?;
    let bytes = opening_file::render(&opening, &proof)?;
    if let Some(path) = &args.out {
        files::refuse_existing(path)?;
        files::check_writable(path)?;
    }
    let (tally, _) = usage::tally(file, &asked)?;
    if tally.opened().contains(&args.index) {
        printer.note(format!("{} was opened before.", args.index));
    }
    usage::record(file, asked.root(), Event::Open, &[args.index])?;
    match &args.out {
        None => printer.raw(&bytes),
        Some(path) => {
            files::write_whole(path, &bytes, Access::Private, Existing::Refuse)?;
            let file = path.display().to_string();
            let text = format!("fingerprint {} in {file}; it is spent", args.index);
            printer.result(
                &serde_json::json!({ "index": args.index, "file": file }),
                &text,
            )
        }
    }
}
