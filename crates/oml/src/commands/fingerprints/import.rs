//! `oml fingerprints import`: makes an encrypted set of the pairs of another tool.

use std::fmt;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use oml_core::derive::Scope;
use oml_core::import::{self, ImportOptions, Imported};
use oml_core::manifest::pairs_file::{self, MAX_BYTES};
use serde::Serialize;

use crate::cli::{GlobalArgs, OwnerArgs};
use crate::commands::generate::{self, ChoiceArgs};
use crate::commands::workbench;
use crate::error::ExitStatus;
use crate::files;
use crate::printer::Printer;

/// Flags of `oml fingerprints import`.
#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    /// JSON list of pairs of OML 1.0, of Scalable Fingerprinting, or of ours; where it has queries alone, your seed chooses the responses
    #[arg(long, value_name = "FILE")]
    pub(crate) from: PathBuf,
    /// Base model, whose tokenizer gives the ids: a Hugging Face folder or a GGUF file
    #[arg(long, value_name = "DIR")]
    pub(crate) model: PathBuf,
    #[command(flatten)]
    pub(crate) owner: OwnerArgs,
    /// Fingerprints file to write, which must not exist
    #[arg(long, value_name = "FILE")]
    pub(crate) out: PathBuf,
    /// Name of the licensee's copy that the set is for; empty for your own
    #[arg(
        long,
        value_name = "NAME",
        default_value = "",
        hide_default_value = true
    )]
    pub(crate) copy_id: String,
}

pub(super) fn run(
    args: &ImportArgs,
    global: &GlobalArgs,
    printer: &Printer,
) -> anyhow::Result<ExitStatus> {
    files::refuse_existing(&args.out)?;
    let engine = workbench::engine(global)?;
    let owner = workbench::owner(&workbench::owner_path(&args.owner)?)?;
    let bytes = files::read(&args.from, MAX_BYTES)?;
    let reading = || format!("cannot read {}", args.from.display());
    let pairs = pairs_file::parse(&bytes).with_context(reading)?;
    let queries = pairs_file::queries(&pairs).with_context(reading)?;
    files::check_writable(&args.out)?;
    let mut opened = workbench::open(&engine, &args.model, printer)?;
    let imported = match queries {
        Some(queries) => {
            printer.note(format!(
                "{} has no responses: your seed chooses them, as in `oml generate --strategy custom`.",
                args.from.display()
            ));
            let choice = ChoiceArgs::of_queries(&args.from, &args.copy_id);
            let set = generate::make(&mut opened, &owner, &choice, queries, printer)?;
            let measured = set.continuations().len();
            Imported {
                set,
                agreeing: 0,
                measured,
            }
        }
        None => {
            let digest = opened.checkpoint.digest()?;
            let options = ImportOptions {
                scope: Scope {
                    model_digest: &digest,
                    copy_id: &args.copy_id,
                },
                longest: opened.model.longest_sequence(),
            };
            let imported =
                import::import(&mut opened.model, &opened.tokenizer, &owner, options, pairs);
            imported.with_context(|| {
                format!("cannot use {} with {}", args.from.display(), opened.name)
            })?
        }
    };
    generate::write(&imported.set, &owner, &args.out)?;
    let output = Output {
        model: opened.name,
        strategy: imported.set.header().strategy.name(),
        count: imported.set.count(),
        responses: imported.agreeing + imported.measured,
        agreeing: imported.agreeing,
        merkle_root: generate::root(&imported.set),
        file: args.out.display().to_string(),
    };
    printer.result(&output, &output)
}

/// What `oml fingerprints import` prints.
#[derive(Serialize)]
struct Output {
    model: String,
    strategy: &'static str,
    count: usize,
    responses: usize,
    /// Responses whose probabilities in the file are those of the model.
    agreeing: usize,
    merkle_root: String,
    file: String,
}

impl fmt::Display for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} {} fingerprints for {} in {}",
            self.count, self.strategy, self.model, self.file
        )?;
        writeln!(
            f,
            "  probabilities of responses  {} of {} as in the file, the others measured on the model",
            self.agreeing, self.responses
        )?;
        writeln!(f, "  Merkle root  {}", self.merkle_root)?;
        if self.strategy == "imported" {
            writeln!(
                f,
                "Publish the root before the model, and check with a --control: no seed chose these responses."
            )?;
        }
        Ok(())
    }
}
