//! `oml receipt`: what a host signed of an answer, held against what is at hand.

use std::fmt;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use oml_core::manifest::receipt_file;
use oml_core::permission::{Input, TextError};
use oml_core::receipt::{Expected, ReceiptRefusal, SignedReceipt};
use oml_core::signing::Address;
use oml_core::time_proof::rfc3339;
use serde::Serialize;

use super::permit::verify::read_input;
use super::permit::{DomainArgs, Found, ModelArgs, address, find, read_token, word};
use crate::error::{ExitStatus, WithHint as _};
use crate::files;
use crate::printer::Printer;

/// Most bytes of an answer.
const OUTPUT_LIMIT: usize = 64 << 20;

/// What can be done with receipts.
#[derive(Debug, Subcommand)]
pub(crate) enum ReceiptCommand {
    /// Did the host that a receipt names sign it, for this permission, input and answer? Says why not by a code
    Verify(Box<VerifyArgs>),
}

/// Flags of `oml receipt verify`.
#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    /// File of a receipt, as text or JSON; - is standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    model: ModelArgs,
    /// Address of the host that answered [default: the receipt's, unchecked]
    #[arg(long, value_name = "0x…", value_parser = address)]
    host: Option<Address>,
    /// Permission under which it answered, with its salt as `oml permit issue` writes it
    #[arg(long, value_name = "FILE")]
    permission: Option<PathBuf>,
    /// Line of the permission's file, where it holds several
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    line: u32,
    /// The request, as JSON with messages or a prompt; needs the permission's salt
    #[arg(long, value_name = "FILE", requires = "permission")]
    input: Option<PathBuf>,
    /// The answer's text
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    domain: DomainArgs,
}

pub(super) fn run(command: &ReceiptCommand, printer: &Printer) -> anyhow::Result<ExitStatus> {
    let ReceiptCommand::Verify(args) = command;
    let signed = args.receipt()?;
    let refused = match &signed {
        Ok(signed) => args.verify(signed)?,
        Err(fault) => Err(fault.clone().into()),
    };
    let output = Output::new(args, signed.ok().as_ref(), &refused)?;
    printer.result(&output, &output)?;
    Ok(if output.valid {
        ExitStatus::Yes
    } else {
        ExitStatus::No
    })
}

impl VerifyArgs {
    fn receipt(&self) -> anyhow::Result<Result<SignedReceipt, TextError>> {
        match find(&self.file, 1)? {
            Found::Text(text, _) => Ok(SignedReceipt::from_text(&text)),
            Found::Json(bytes) => {
                let signed = receipt_file::parse(&bytes);
                Ok(Ok(signed.with_context(|| {
                    format!("cannot read {}", self.file.display())
                })?))
            }
        }
    }

    fn verify(&self, signed: &SignedReceipt) -> anyhow::Result<Result<(), ReceiptRefusal>> {
        let (token, salt) = match &self.permission {
            None => (None, None),
            Some(path) => {
                let (token, salt) = read_token(path, self.line as usize)?;
                let token = token.with_context(|| format!("cannot read {}", path.display()))?;
                (Some(token), salt)
            }
        };
        let input = match (&self.input, &salt) {
            (None, _) => None,
            (Some(path), Some(salt)) => Some((read_input(path)?, salt)),
            (Some(_), None) => {
                let missing: anyhow::Result<_> = Err(anyhow::anyhow!(
                    "--input: expected the salt beside the permission"
                ));
                return missing
                    .hint("Name a file that holds the permission and its salt on one line.");
            }
        };
        let output = self.output.as_deref();
        let output = output
            .map(|path| files::read(path, OUTPUT_LIMIT))
            .transpose()?;
        Ok(signed.verify(&Expected {
            domain: self.domain.domain(),
            model: self.model.id()?,
            host: self.host,
            token: token.as_ref(),
            input: input
                .as_ref()
                .map(|(canonical, salt)| Input { canonical, salt }),
            output: output.as_deref(),
        }))
    }
}

/// What came out.
#[derive(Serialize)]
struct Output {
    file: String,
    valid: bool,
    /// `valid`, or the reason as machines name it.
    code: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// What nobody held the receipt against.
    unchecked: Vec<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    receipt: Option<ReceiptOutput>,
}

#[derive(Serialize)]
struct ReceiptOutput {
    id: String,
    model: String,
    host: String,
    permission_id: String,
    issued_at: u64,
}

impl Output {
    fn new(
        args: &VerifyArgs,
        signed: Option<&SignedReceipt>,
        refused: &Result<(), ReceiptRefusal>,
    ) -> anyhow::Result<Self> {
        let asked = [
            ("model", args.model.id()?.is_some()),
            ("host", args.host.is_some()),
            ("permission", args.permission.is_some()),
            ("input", args.input.is_some()),
            ("output", args.output.is_some()),
        ];
        let unchecked = asked.into_iter().filter(|(_, named)| !named);
        let reason = refused.as_ref().err();
        Ok(Self {
            file: args.file.display().to_string(),
            valid: reason.is_none(),
            code: reason.map_or("valid", ReceiptRefusal::code),
            reason: reason.map(ToString::to_string),
            unchecked: unchecked.map(|(name, _)| name).collect(),
            receipt: signed.map(|signed| ReceiptOutput {
                id: word(signed.id()),
                model: signed.receipt.model.to_string(),
                host: signed.receipt.host.to_string(),
                permission_id: word(signed.receipt.permission_id),
                issued_at: signed.receipt.issued_at,
            }),
        })
    }
}

impl fmt::Display for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.reason {
            Some(reason) => writeln!(f, "{}: refused, {}: {reason}", self.file, self.code)?,
            None => writeln!(f, "{}: valid", self.file)?,
        }
        if let Some(receipt) = &self.receipt {
            writeln!(f, "  receipt     {}", receipt.id)?;
            writeln!(f, "  model       {}", receipt.model)?;
            writeln!(f, "  host        {}", receipt.host)?;
            writeln!(f, "  permission  {}", receipt.permission_id)?;
            writeln!(f, "  issued at   {}", rfc3339(receipt.issued_at))?;
        }
        if !self.unchecked.is_empty() {
            writeln!(f, "Not checked: {}.", self.unchecked.join(", "))?;
        }
        Ok(())
    }
}
