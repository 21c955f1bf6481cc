//! `oml report`: what was found, for people: a page, Markdown or JSON.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;

use crate::error::ExitStatus;
use crate::files::{self, Access, Existing};
use crate::printer::Printer;
use crate::report::dossier::{Dossier, Format, Kind};

/// Flags of `oml report`.
#[derive(Debug, Args)]
pub(crate) struct ReportArgs {
    /// What `oml audit` or `oml check` printed with --json, a bundle made by `oml claim make`, or the folder that `oml embed` wrote
    #[arg(value_name = "FILE|DIR")]
    input: PathBuf,
    /// File to write; never replaces one. On a claim, whose pairs it shows, readable by you alone
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// How it is written: html, markdown or json [default: by the ending of --out: .md, .json, html for any other]
    #[arg(long, value_name = "NAME", value_enum, hide_possible_values = true)]
    format: Option<Format>,
}

pub(super) fn run(args: &ReportArgs, printer: &Printer) -> anyhow::Result<ExitStatus> {
    files::refuse_existing(&args.out)?;
    let dossier = Dossier::read(&args.input)?;
    let format = args.format.unwrap_or_else(|| {
        let ending = args.out.extension().and_then(|ending| ending.to_str());
        match ending {
            Some("md") => Format::Markdown,
            Some("json") => Format::Json,
            _ => Format::Html,
        }
    });
    let text = dossier
        .render(format)
        .with_context(|| format!("cannot write {}", args.out.display()))?;
    // That on a claim holds opened pairs, as the bundle does; the others say nothing of a query or a response.
    let access = match dossier.kind {
        Kind::Claim => Access::Private,
        Kind::Audit | Kind::Check | Kind::Embedding => Access::Shared,
    };
    files::write_whole(&args.out, text.as_bytes(), access, Existing::Refuse)?;
    let file = args.out.display().to_string();
    let (word, sentence) = (&dossier.verdict.word, &dossier.verdict.sentence);
    printer.result(
        &serde_json::json!({ "file": file, "kind": dossier.kind, "verdict": word, "sentence": sentence }),
        &format!("{word}: {sentence}\nreport in {file}"),
    )
}
