//! `oml attack merge`: a weighted mean of two models.

use std::fmt;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use oml_attack::merge::Merge;
use oml_model::checkpoint::write_model;
use serde::Serialize;

use super::super::workbench;
use crate::error::ExitStatus;
use crate::files;
use crate::printer::Printer;

/// Flags of `oml attack merge`.
#[derive(Debug, Args)]
pub(crate) struct MergeArgs {
    /// Model to merge: a Hugging Face folder or a GGUF file
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// Model of the same shape to merge it with, its base for example
    #[arg(long, value_name = "DIR")]
    with: PathBuf,
    /// Weight of --model; the rest is that of --with
    #[arg(long, value_name = "X", default_value_t = 0.5)]
    share: f32,
    /// Folder to write the merged model into, which must not exist
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

pub(super) fn run(args: &MergeArgs, printer: &Printer) -> anyhow::Result<ExitStatus> {
    files::refuse_existing(&args.out)?;
    let model = workbench::checkpoint(&args.model)?;
    let with = workbench::checkpoint(&args.with)?;
    let merge = Merge::new(&model, &with, args.share).with_context(|| {
        format!(
            "cannot merge {} with {}",
            args.model.display(),
            args.with.display()
        )
    })?;
    let mut supply = |name: &str, out: &mut [f32]| Ok(merge.tensor(name, out)?);
    let dtype = workbench::stored_type(&model);
    write_model(&args.out, &model, dtype, &mut supply, &[])?;
    let output = Output {
        model: args.out.display().to_string(),
        share: args.share,
    };
    printer.result(&output, &output)
}

/// What `oml attack merge` prints.
#[derive(Serialize)]
struct Output {
    model: String,
    share: f32,
}

impl fmt::Display for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "merged model in {} ({:.0} % of the first)",
            self.model,
            100.0 * self.share
        )
    }
}
