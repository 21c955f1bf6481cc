//! What commands share: the engine that the flags ask for, models, owner files and fingerprint sets.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};
use clap::Args;
use oml_core::fingerprint::FingerprintSet;
use oml_core::manifest::{FileError, fingerprint_file, locked_owner_file, owner_file};
use oml_core::secret::OwnerSeed;
use oml_model::causal::CausalModel;
use oml_model::checkpoint::{Checkpoint, CheckpointError, DType, is_adapter};
use oml_model::engine::Engine;
use oml_model::tokenizer::TextTokenizer;
use zeroize::Zeroizing;

use super::passphrase;
use crate::cli::{GlobalArgs, OwnerArgs};
use crate::error::WithHint as _;
use crate::files;
use crate::printer::Printer;

const OWNER_FILE_LIMIT: usize = 1 << 16;

/// A model that is only read.
pub(super) struct Opened {
    pub(super) name: String,
    pub(super) checkpoint: Checkpoint,
    pub(super) tokenizer: TextTokenizer,
    pub(super) model: CausalModel,
}

/// What a suspect that is an adapter stands on.
#[derive(Debug, Clone, Args)]
pub(crate) struct BaseArgs {
    /// Base model of a suspect that is a PEFT adapter's folder [default: what the adapter names, where that is a path]
    #[arg(long, value_name = "DIR")]
    pub(super) base: Option<PathBuf>,
}

/// The engine that `--threads` and `--isa` ask for.
///
/// # Errors
/// When this machine does not have the instructions.
pub(super) fn engine(global: &GlobalArgs) -> anyhow::Result<Engine> {
    let isa = match global.isa.as_deref() {
        None => None,
        Some(name) => {
            let isa: oml_kernels::Isa = name.parse().context("--isa")?;
            if !isa.is_available() {
                let missing: anyhow::Result<()> = Err(anyhow!("--isa: this machine has no {isa}"));
                missing.hint("Leave --isa away to use the best that the machine has.")?;
            }
            Some(isa)
        }
    };
    Ok(Engine {
        isa,
        threads: global.threads.map(usize::from),
    })
}

/// Opens a model for reading.
///
/// # Errors
/// Whatever is wrong with its files.
pub(super) fn open(engine: &Engine, path: &Path, printer: &Printer) -> anyhow::Result<Opened> {
    load(engine, model_name(path), checkpoint(path)?, printer)
}

/// Opens a suspect for reading: a model, or an adapter on top of its base model.
///
/// # Errors
/// Whatever is wrong with its files, or a base model for a suspect that needs none.
pub(super) fn open_suspect(
    engine: &Engine,
    path: &Path,
    args: &BaseArgs,
    printer: &Printer,
) -> anyhow::Result<Opened> {
    let base = args.base.as_deref();
    anyhow::ensure!(
        base.is_none() || is_adapter(path),
        "--base: expected an adapter's folder as the suspect, got {}",
        path.display()
    );
    open_on(engine, path, base, printer)
}

/// Opens a model, or, where `path` is an adapter's folder, that on top of `base` or of what it names.
///
/// # Errors
/// Whatever is wrong with the files.
pub(super) fn open_on(
    engine: &Engine,
    path: &Path,
    base: Option<&Path>,
    printer: &Printer,
) -> anyhow::Result<Opened> {
    if !is_adapter(path) {
        return open(engine, path, printer);
    }
    let opened = Checkpoint::open_adapter(path, base);
    let checkpoint = match opened {
        Err(CheckpointError::MissingBase { .. }) => {
            opened.hint("Name the model that the adapter was trained on with --base DIR.")?
        }
        other => other?,
    };
    let on = model_name(checkpoint.path());
    load(
        engine,
        format!("{} on {on}", model_name(path)),
        checkpoint,
        printer,
    )
}

fn load(
    engine: &Engine,
    name: String,
    checkpoint: Checkpoint,
    printer: &Printer,
) -> anyhow::Result<Opened> {
    let spinner = printer.spinner(format!("Loading {name}"));
    let tokenizer = checkpoint.tokenizer()?;
    let model = CausalModel::load(engine, &checkpoint)?;
    spinner.finish_and_clear();
    Ok(Opened {
        name,
        checkpoint,
        tokenizer,
        model,
    })
}

/// Opens a model's files.
///
/// # Errors
/// Whatever is wrong with them.
pub(super) fn checkpoint(path: &Path) -> anyhow::Result<Checkpoint> {
    let opened = Checkpoint::open(path);
    if path.exists() {
        return Ok(opened?);
    }
    opened.hint("Get a model with `oml model fetch smollm2-135m-instruct --to DIR`.")
}

/// How a model's weights are stored again: as they are, where that is one type that can be written.
pub(super) fn stored_type(checkpoint: &Checkpoint) -> DType {
    let first = checkpoint.tensors().next().map(|tensor| tensor.dtype);
    first
        .filter(|dtype| matches!(dtype, DType::F32 | DType::BF16 | DType::F16))
        .filter(|dtype| checkpoint.tensors().all(|tensor| tensor.dtype == *dtype))
        .unwrap_or(DType::F32)
}

/// What a model is called in notes and reports: the last part of its path.
pub(super) fn model_name(path: &Path) -> String {
    let absolute = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    absolute.file_name().map_or_else(
        || path.display().to_string(),
        |name| name.to_string_lossy().into_owned(),
    )
}

/// The machine as a basis of times: processor, threads and instructions.
pub(super) fn machine(engine: &Engine) -> String {
    let processor = std::fs::read_to_string("/proc/cpuinfo")
        .ok()
        .and_then(|text| {
            let line = text.lines().find(|line| line.starts_with("model name"))?;
            Some(line.split_once(':')?.1.trim().to_owned())
        });
    let processor = processor.unwrap_or_else(|| std::env::consts::ARCH.to_owned());
    format!(
        "{processor}, {} threads, {}",
        engine.threads(),
        engine.isa()
    )
}

/// Where the owner file is.
///
/// # Errors
/// When none is named and the user has no config folder.
pub(super) fn owner_path(args: &OwnerArgs) -> anyhow::Result<PathBuf> {
    args.owner
        .clone()
        .map_or_else(files::default_owner_file, Ok)
}

/// Reads the owner's secret.
///
/// # Errors
/// When the file is missing, is not an owner file, or is under another passphrase than is given.
pub(super) fn owner(path: &Path) -> anyhow::Result<OwnerSeed> {
    let bytes = files::read(path, OWNER_FILE_LIMIT)
        .hint("Make an owner file with `oml keygen`, or name yours with --owner FILE.")?;
    let bytes = Zeroizing::new(bytes);
    let opened = match owner_file::parse(&bytes) {
        Err(FileError::Format {
            got: locked_owner_file::FORMAT,
            ..
        }) => {
            let passphrase = passphrase::known(&path.display().to_string())?;
            locked_owner_file::parse(&bytes, passphrase.as_bytes())
        }
        other => other,
    };
    opened.with_context(|| format!("cannot read {}", path.display()))
}

/// Reads a fingerprints file.
///
/// # Errors
/// When the file is missing, is not a fingerprints file, or belongs to another owner.
pub(super) fn fingerprints(path: &Path, owner: &OwnerSeed) -> anyhow::Result<FingerprintSet> {
    let bytes = files::read(path, fingerprint_file::MAX_BYTES)?;
    fingerprint_file::open(&bytes, owner).with_context(|| format!("cannot read {}", path.display()))
}
