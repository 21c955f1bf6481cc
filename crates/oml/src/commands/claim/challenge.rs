//! `oml claim challenge`: the judge draws which fingerprints the owner has to open.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use oml_core::bundle::{Challenge, MAX_CHALLENGED};
use oml_core::manifest::challenge_file;

use crate::error::ExitStatus;
use crate::files::{self, Access, Existing};
use crate::printer::Printer;
use crate::random;

/// Flags of `oml claim challenge`.
#[derive(Debug, Args)]
pub(crate) struct ChallengeArgs {
    /// Bundle made by `oml claim make`
    #[arg(long, value_name = "FILE")]
    bundle: PathBuf,
    /// Fingerprints to be opened
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u64).range(1..=MAX_CHALLENGED))]
    count: u64,
    /// File to write, to be sent to the owner and kept for `oml claim verify`
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

pub(super) fn run(args: &ChallengeArgs, printer: &Printer) -> anyhow::Result<ExitStatus> {
    files::refuse_existing(&args.out)?;
    let bytes = super::read(&args.bundle)?;
    let bundle = super::parse(&args.bundle, &bytes)?;
    let challenge = Challenge {
        claim: bundle.digest,
        root: bundle.statement.root,
        leaves: bundle.statement.leaves,
        count: args.count,
        seed: random::bytes()?,
        time: super::now(),
    };
    let file = challenge_file::render(&challenge).context("--count")?;
    files::write_whole(&args.out, &file, Access::Shared, Existing::Refuse)?;
    let file = args.out.display().to_string();
    let indices = challenge.indices();
    let text = format!(
        "challenge in {file}: {} of {} fingerprints, drawn at random",
        args.count, challenge.leaves
    );
    printer.result(
        &serde_json::json!({ "file": file, "count": args.count, "leaves": challenge.leaves, "indices": indices }),
        &text,
    )
}
