//! `oml fingerprints verify-opening`: says whether a pair that was shown belongs to the set behind a published root.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use oml_core::manifest::opening_file::{self, MAX_BYTES};
use oml_core::manifest::parse_hash;
use oml_core::merkle::Hash;

use crate::error::ExitStatus;
use crate::files;
use crate::printer::Printer;

/// Flags of `oml fingerprints verify-opening`.
#[derive(Debug, Args)]
pub(crate) struct VerifyOpeningArgs {
    /// Opening made by `oml fingerprints open`
    #[arg(long, value_name = "FILE")]
    pub(crate) opening: PathBuf,
    /// Merkle root, as the owner published it: 64 hexadecimal digits, with or without 0x
    #[arg(long, value_name = "HEX", value_parser = root)]
    pub(crate) root: Hash,
}

pub(super) fn run(args: &VerifyOpeningArgs, printer: &Printer) -> anyhow::Result<ExitStatus> {
    let bytes = files::read(&args.opening, MAX_BYTES)?;
    let (opening, proof) = opening_file::parse(&bytes)
        .with_context(|| format!("cannot read {}", args.opening.display()))?;
    let verified = opening.verify(&args.root, &proof);
    let file = args.opening.display();
    let text = if verified {
        format!("{file}: fingerprint {} belongs to the root", opening.index)
    } else {
        format!("{file}: no pair of the set behind this root")
    };
    printer.result(
        &serde_json::json!({ "index": opening.index, "verified": verified }),
        &text,
    )?;
    Ok(if verified {
        ExitStatus::Yes
    } else {
        ExitStatus::No
    })
}

fn root(text: &str) -> Result<Hash, String> {
    let digits = text.strip_prefix("0x").unwrap_or(text);
    parse_hash(digits).ok_or_else(|| "expected 64 lower-case hexadecimal digits".to_owned())
}
