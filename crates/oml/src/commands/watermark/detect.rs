//! `oml watermark detect`: text in, p-value out.

use std::f64::consts::LN_10;
use std::fmt;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use clap::Args;
use oml_core::claim::ln_holm;
use oml_core::manifest::texts_file::{self, MAX_TEXT_BYTES, NamedText};
use oml_core::watermark::{Detector, NULL, Watermark};
use serde::Serialize;

use super::SchemeName;
use crate::cli::{OwnerArgs, probability};
use crate::commands::workbench;
use crate::error::ExitStatus;
use crate::files;
use crate::printer::Printer;

/// Flags of `oml watermark detect`.
#[derive(Debug, Args)]
pub(crate) struct DetectArgs {
    /// Text to test, without the question that it answers; - is standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    owner: OwnerArgs,
    /// Model whose tokenizer the text was made with: a Hugging Face folder or a GGUF file
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// Scheme of the watermark
    #[arg(long, value_name = "SCHEME", value_enum, default_value = "synthid")]
    scheme: SchemeName,
    /// Largest p-value at which the watermark is found; with several texts, corrected for their number after Holm
    #[arg(long, value_name = "P", value_parser = probability, default_value = "1e-3")]
    alpha: f64,
    /// FILE holds one JSON object per line with a `text` and perhaps an `id`; print one per line
    #[arg(long)]
    lines: bool,
}

pub(super) fn run(args: &DetectArgs, printer: &Printer) -> anyhow::Result<ExitStatus> {
    let owner = workbench::owner(&workbench::owner_path(&args.owner)?)?;
    let watermark = Watermark::new(&owner, args.scheme.scheme());
    let tokenizer = workbench::checkpoint(&args.model)?.tokenizer()?;
    let name = name(&args.file);
    let texts = texts(args, &name)?;
    let mut detector = Detector::default();
    let bar = printer.bar(texts.len() as u64, "texts");
    let mut found = Vec::with_capacity(texts.len());
    for (place, NamedText { text, .. }) in texts.iter().enumerate() {
        let fault = || match args.lines {
            true => format!("{name}: text {}", place + 1),
            false => name.clone(),
        };
        let ids = tokenizer.encode(text, false).with_context(fault)?;
        found.push(detector.detect(&watermark, &ids).with_context(fault)?);
        bar.inc(1);
    }
    bar.finish_and_clear();
    let ln: Vec<f64> = found.iter().map(|detection| detection.ln_p_value).collect();
    let corrected = ln_holm(&ln);
    let outputs: Vec<Output> = texts
        .iter()
        .zip(found.iter().zip(&corrected))
        .map(|(text, (detection, ln_corrected))| Output {
            id: text.id.clone(),
            found: *ln_corrected <= args.alpha.ln(),
            p_value: detection.p_value(),
            log10_p_value: detection.ln_p_value / LN_10,
            tokens: detection.tokens,
            scored: detection.scored,
            mean: detection.mean,
            expected: detection.expected,
        })
        .collect();
    let any = outputs.iter().any(|output| output.found);
    if args.lines {
        let mut lines = Vec::new();
        for output in &outputs {
            serde_json::to_writer(&mut lines, output).context("cannot write the result as JSON")?;
            lines.push(b'\n');
        }
        printer.raw(&lines)?;
    } else if let (Some(output), Some(detection)) = (outputs.first(), found.first()) {
        let whole = Whole {
            file: name,
            scheme: watermark.scheme().name(),
            output,
            alpha: args.alpha,
            null: NULL,
        };
        if detection.scored == 0 {
            printer.warning(format!("{}: too short to test", whole.file));
        }
        printer.result(&whole, &whole)?;
    }
    Ok(match any {
        true => ExitStatus::Yes,
        false => ExitStatus::No,
    })
}

fn texts(args: &DetectArgs, name: &str) -> anyhow::Result<Vec<NamedText>> {
    let limit = match args.lines {
        true => texts_file::MAX_BYTES,
        false => MAX_TEXT_BYTES,
    };
    let bytes = read(&args.file, limit)?;
    if args.lines {
        return texts_file::parse(&bytes).with_context(|| format!("cannot read {name}"));
    }
    let text = String::from_utf8(bytes).with_context(|| format!("{name}: expected UTF-8 text"))?;
    Ok(vec![NamedText { id: None, text }])
}

fn name(path: &Path) -> String {
    match path == Path::new("-") {
        true => "standard input".to_owned(),
        false => path.display().to_string(),
    }
}

/// Bytes of a file, or of standard input for `-`.
fn read(path: &Path, limit: usize) -> anyhow::Result<Vec<u8>> {
    if path != Path::new("-") {
        return files::read(path, limit);
    }
    let mut bytes = Vec::new();
    let mut input = std::io::stdin().lock().take(limit as u64 + 1);
    let all = input.read_to_end(&mut bytes);
    all.context("cannot read standard input")?;
    ensure!(
        bytes.len() <= limit,
        "standard input: expected at most {limit} bytes"
    );
    Ok(bytes)
}

/// What one text shows.
#[derive(Serialize)]
struct Output {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    found: bool,
    p_value: f64,
    /// Exact where `p_value` is too small for a number and printed as 0.
    log10_p_value: f64,
    tokens: usize,
    /// Tokens that count: those with a context before them, each once.
    scored: u32,
    /// Mean of what is counted.
    mean: f64,
    /// What it would be under the null.
    expected: f64,
}

#[derive(Serialize)]
struct Whole<'a> {
    file: String,
    scheme: &'static str,
    #[serde(flatten)]
    output: &'a Output,
    alpha: f64,
    null: &'static str,
}

impl fmt::Display for Whole<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { output, .. } = self;
        let verdict = match output.found {
            true => "the watermark is there",
            false => "the watermark is not shown to be there",
        };
        writeln!(f, "{}: {verdict}", self.file)?;
        writeln!(
            f,
            "  p-value  {:.1e} (found at {:e} or less)",
            output.p_value, self.alpha
        )?;
        writeln!(
            f,
            "  scheme   {}, {} of {} tokens count",
            self.scheme, output.scored, output.tokens
        )?;
        writeln!(
            f,
            "  mean     {:.3}, {:.3} expected without the watermark",
            output.mean, output.expected
        )?;
        writeln!(f, "  null     {}", self.null)
    }
}
