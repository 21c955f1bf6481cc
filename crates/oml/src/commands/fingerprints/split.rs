//! `oml fingerprints split`: deals a set to provers, each slice encrypted to its prover.

use std::fmt;
use std::path::PathBuf;

use anyhow::{Context as _, bail};
use clap::Args;
use oml_core::manifest::{hex, slice_file};
use oml_core::slice;
use oml_core::usage::Event;
use serde::Serialize;

use crate::cli::OwnerArgs;
use crate::commands::asked::{self, Asked, AskedArgs};
use crate::commands::{usage, workbench};
use crate::error::ExitStatus;
use crate::files::{self, Access, Existing};
use crate::printer::Printer;
use crate::sealed;

/// Flags of `oml fingerprints split`.
#[derive(Debug, Args)]
pub(crate) struct SplitArgs {
    /// Fingerprints file made by `oml generate`
    #[arg(long, value_name = "FILE")]
    pub(crate) fingerprints: PathBuf,
    #[command(flatten)]
    pub(crate) owner: OwnerArgs,
    /// Number of slices; no two have a fingerprint in common
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) parts: u32,
    /// Public key of the prover that a slice is encrypted to (repeat it, once per slice in their order)
    #[arg(long, value_name = "age1…", required = true, value_parser = sealed::recipient)]
    pub(crate) to: Vec<String>,
    /// Folder to write `slice-0.age` and so on into; nothing is overwritten
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
}

pub(super) fn run(args: &SplitArgs, printer: &Printer) -> anyhow::Result<ExitStatus> {
    let parts = args.parts as usize;
    if args.to.len() != parts {
        bail!(
            "--to: expected {parts}, one per slice, got {}",
            args.to.len()
        );
    }
    let owner = workbench::owner(&workbench::owner_path(&args.owner)?)?;
    let asked = asked::read(
        &AskedArgs {
            fingerprints: args.fingerprints.clone(),
            owner: args.owner.clone(),
            identity: None,
        },
        None,
    )?;
    let slices = slice::deal(asked.set(), &owner, parts)
        .with_context(|| format!("cannot split {}", args.fingerprints.display()))?;
    let path = |part: usize| args.out.join(format!("slice-{part}.age"));
    for part in 0..parts {
        files::refuse_existing(&path(part))?;
    }
    let mut outputs = Vec::with_capacity(parts);
    for (slice, to) in slices.into_iter().zip(&args.to) {
        let path = path(slice.part);
        let sealed = sealed::seal(&slice_file::render(&slice)?, to)?;
        let event = Event::Slice { to: to.clone() };
        usage::record(&args.fingerprints, slice.root, event, slice.indices())?;
        files::write_whole(&path, &sealed, Access::Private, Existing::Refuse)?;
        outputs.push(SliceOutput {
            file: path.display().to_string(),
            count: slice.set().count(),
            to: to.clone(),
        });
    }
    let output = Output {
        count: asked.count(),
        merkle_root: root(&asked),
        slices: outputs,
    };
    printer.result(&output, &output)
}

/// The root of the whole set, as printed.
fn root(asked: &Asked) -> String {
    format!("0x{}", hex(&asked.root()))
}

/// What `oml fingerprints split` prints.
#[derive(Serialize)]
struct Output {
    count: usize,
    merkle_root: String,
    slices: Vec<SliceOutput>,
}

#[derive(Serialize)]
struct SliceOutput {
    file: String,
    count: usize,
    to: String,
}

impl fmt::Display for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} fingerprints in {} slices",
            self.count,
            self.slices.len()
        )?;
        for slice in &self.slices {
            writeln!(f, "  {}  {} for {}", slice.file, slice.count, slice.to)?;
        }
        writeln!(f, "  Merkle root  {}", self.merkle_root)?;
        writeln!(
            f,
            "A prover asks with `oml check --fingerprints SLICE --identity FILE`, and can show its own pairs."
        )
    }
}
