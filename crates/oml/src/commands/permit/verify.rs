//! `oml permit verify`: the checks that a host makes, without a network and without counting anything.

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};
use clap::Args;
use oml_core::manifest::{issuers_file, revocations_file};
use oml_core::permission::{
    Call, FileAuthority, GrantCache, Input, ModelId, Refusal, SignedRevocations, Token, Verified,
    input_of_request,
};
use oml_core::signing::Address;
use serde::Serialize;

use super::when::When;
use super::{ModelArgs, address, now, read, read_token, word};
use crate::error::ExitStatus;
use crate::files;
use crate::printer::Printer;

/// Flags of `oml permit verify`.
#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    /// File of a permission with its salt, as `oml permit issue` writes it, or as JSON; - is standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Line of the file, where it holds several
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    line: u32,
    /// Issuers that you trust (oml-issuers)
    #[arg(long, value_name = "FILE")]
    issuers: PathBuf,
    /// Revocation list of an issuer, made by `oml permit revoke` (repeatable)
    #[arg(long, value_name = "FILE")]
    revocations: Vec<PathBuf>,
    #[command(flatten)]
    model: ModelArgs,
    /// Address of the host that would answer [default: the permission's, unchecked]
    #[arg(long, value_name = "0x…", value_parser = address)]
    host: Option<Address>,
    /// The request, as JSON with messages or a prompt
    #[arg(long, value_name = "FILE")]
    input: Option<PathBuf>,
    /// Purpose that the caller names
    #[arg(long, value_name = "TEXT")]
    purpose: Option<String>,
    /// Region where the host stands
    #[arg(long, value_name = "TEXT")]
    region: Option<String>,
    /// Version of the model that would answer
    #[arg(long, value_name = "TEXT")]
    model_version: Option<String>,
    /// Most tokens that the answer would have
    #[arg(long, value_name = "N")]
    max_tokens: Option<u32>,
    /// Time of the call [default: now]
    #[arg(long, value_name = "TIME")]
    at: Option<When>,
    /// Seconds by which clocks may differ
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    skew: u64,
}

pub(super) fn run(args: &VerifyArgs, printer: &Printer) -> anyhow::Result<ExitStatus> {
    let authority = authority(&args.issuers, &args.revocations)?;
    let input = args.input.as_deref().map(read_input).transpose()?;
    let (token, salt) = read_token(&args.file, args.line as usize)?;
    let named = args.model.id()?;
    let verify = |token: &Token| {
        let input = input.as_deref().zip(salt.as_ref());
        let now = now();
        let call = Call {
            model: named.unwrap_or(token.permission.model),
            host: args.host.unwrap_or(token.permission.host),
            now: args.at.map_or(now, |when| when.resolve(now)),
            skew: args.skew,
            input: input.map(|(canonical, salt)| Input { canonical, salt }),
            purpose: args.purpose.as_deref(),
            region: args.region.as_deref(),
            model_version: args.model_version.as_deref(),
            max_tokens: args.max_tokens,
        };
        token.verify(&call, &authority, &GrantCache::new(0))
    };
    let verified = token.and_then(|token| verify(&token));
    let output = Output::new(args, named, verified);
    printer.result(&output, &output)?;
    Ok(if output.valid {
        ExitStatus::Yes
    } else {
        ExitStatus::No
    })
}

fn authority(issuers: &Path, lists: &[PathBuf]) -> anyhow::Result<FileAuthority> {
    let bytes = files::read(issuers, issuers_file::MAX_BYTES)?;
    let parsed = issuers_file::parse(&bytes);
    let parsed = parsed.with_context(|| format!("cannot read {}", issuers.display()))?;
    let lists: Vec<SignedRevocations> = lists
        .iter()
        .map(|path| read_list(path))
        .collect::<anyhow::Result<_>>()?;
    Ok(FileAuthority::new(&parsed, &lists)?)
}

/// Reads a revocation list.
///
/// # Errors
/// Whatever is wrong with the file.
pub(super) fn read_list(path: &Path) -> anyhow::Result<SignedRevocations> {
    let bytes = files::read(path, revocations_file::MAX_BYTES)?;
    revocations_file::parse(&bytes).with_context(|| format!("cannot read {}", path.display()))
}

/// Canonical bytes of a request's input.
///
/// # Errors
/// When the file is no JSON, or no request.
pub(in crate::commands) fn read_input(path: &Path) -> anyhow::Result<Vec<u8>> {
    let bytes = read(path)?;
    let request = serde_json::from_slice(&bytes).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        anyhow!(
            "{}: expected JSON, got none from line {line}, column {column} on",
            path.display()
        )
    })?;
    input_of_request(&request).with_context(|| path.display().to_string())
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
    /// What was taken as the permission says.
    unchecked: Vec<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    permission: Option<PermissionOutput>,
}

#[derive(Serialize)]
struct PermissionOutput {
    id: String,
    issuer: String,
    licensee: String,
    signer: String,
    /// What a host counts nonces and promises under.
    budget_key: String,
    nonce: String,
    cumulative: String,
    deadline: u64,
}

impl Output {
    fn new(args: &VerifyArgs, model: Option<ModelId>, verified: Result<Verified, Refusal>) -> Self {
        let asked = [("model", model.is_some()), ("host", args.host.is_some())];
        let unchecked = asked.into_iter().filter(|(_, named)| !named);
        let reason = verified.as_ref().err();
        Self {
            file: args.file.display().to_string(),
            valid: verified.is_ok(),
            code: reason.map_or("valid", Refusal::code),
            reason: reason.map(ToString::to_string),
            unchecked: unchecked.map(|(name, _)| name).collect(),
            permission: verified.ok().map(|verified| PermissionOutput {
                id: word(verified.id),
                issuer: verified.issuer.to_string(),
                licensee: verified.licensee.to_string(),
                signer: verified.signer.to_string(),
                budget_key: word(verified.budget_key),
                nonce: verified.nonce.to_string(),
                cumulative: verified.cumulative.to_string(),
                deadline: verified.deadline,
            }),
        }
    }
}

impl fmt::Display for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(reason) = &self.reason {
            return writeln!(f, "{}: refused, {}: {reason}", self.file, self.code);
        }
        writeln!(f, "{}: valid", self.file)?;
        if let Some(permission) = &self.permission {
            writeln!(f, "  permission  {}", permission.id)?;
            writeln!(f, "  issuer      {}", permission.issuer)?;
            writeln!(f, "  licensee    {}", permission.licensee)?;
            writeln!(f, "  signed by   {}", permission.signer)?;
        }
        if !self.unchecked.is_empty() {
            writeln!(
                f,
                "Taken as the permission says: {}.",
                self.unchecked.join(", ")
            )?;
        }
        writeln!(
            f,
            "Whether it was used before, and what is left of budgets, its host counts."
        )
    }
}
