//! `oml permit inspect`: what a permission or a chain of grants says, and who signed it; whether it counts is not asked.

use std::fmt;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use oml_core::eip712::Domain;
use oml_core::manifest::{grant_file, permission_file};
use oml_core::merkle::Hash;
use oml_core::permission::{
    Chain, NONE, Permission, Replay, Scope, SignedGrant, Token, UNLIMITED_CALLS, UNLIMITED_SPEND,
};
use oml_core::signing::{Address, Signature};
use oml_core::time_proof::rfc3339;
use serde::Serialize;
use serde_json::Value;

use super::{Found, find, limit, word};
use crate::error::ExitStatus;
use crate::printer::Printer;

/// Flags of `oml permit inspect`.
#[derive(Debug, Args)]
pub(crate) struct InspectArgs {
    /// File of a permission or a grant, as text or JSON; - is standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Line of the file, where it holds several
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    line: u32,
}

pub(super) fn run(args: &InspectArgs, printer: &Printer) -> anyhow::Result<ExitStatus> {
    let reading = || format!("cannot read {}", args.file.display());
    let output = match find(&args.file, args.line as usize)? {
        Found::Text(text, _) if text.starts_with("omlg") => {
            Output::of_chain(&Chain::from_text(&text).with_context(reading)?)?
        }
        Found::Text(text, _) => Output::of_token(&Token::from_text(&text).with_context(reading)?)?,
        // The faults of a permission are the better answer to what is neither.
        Found::Json(bytes) => match grant_file::parse(&bytes) {
            Ok(chain) => Output::of_chain(&chain)?,
            Err(_) => Output::of_token(&permission_file::parse(&bytes).with_context(reading)?)?,
        },
    };
    printer.result(&output, &output)
}

/// What a file holds.
#[derive(Serialize)]
struct Output {
    /// `permission` or `grant`.
    kind: &'static str,
    /// Of the permission, or of the innermost grant.
    id: String,
    /// Addresses that signed: the grants, the issuer's first, and then the permission; null where there is no signature.
    signers: Vec<Option<String>>,
    /// Ids of the grants.
    grants: Vec<String>,
    /// The file as JSON.
    file: Value,
    #[serde(skip)]
    lines: Vec<(String, String)>,
}

impl Output {
    fn of_chain(chain: &Chain) -> anyhow::Result<Self> {
        let mut output = Self::of_grants(&chain.domain, &chain.grants);
        output.kind = "grant";
        output.id = output.grants.last().cloned().unwrap_or_default();
        output.file = json(&grant_file::render(chain)?)?;
        Ok(output)
    }

    fn of_token(token: &Token) -> anyhow::Result<Self> {
        let mut output = Self::of_grants(&token.domain, &token.grants);
        let permission = &token.permission;
        output.kind = "permission";
        output.id = word(token.id());
        output.sign(&token.signature, &token.id());
        let signer = output.signer();
        output.heading(format!("permission {}", output.id));
        output.permission(permission);
        output.line("signed by", signer);
        output.file = json(&permission_file::render(token)?)?;
        Ok(output)
    }

    fn of_grants(domain: &Domain, grants: &[SignedGrant]) -> Self {
        let mut output = Self {
            kind: "",
            id: String::new(),
            signers: Vec::new(),
            grants: Vec::new(),
            file: Value::Null,
            lines: Vec::new(),
        };
        if let Some(chain_id) = domain.chain_id {
            output.line("chain", chain_id);
        }
        if let Some(contract) = domain.verifying_contract {
            output.line("contract", contract);
        }
        for (place, signed) in grants.iter().enumerate() {
            let id = signed.grant.id(domain);
            output.grants.push(word(id));
            output.sign(&signed.signature, &id);
            let signer = output.signer();
            output.heading(format!("grant {} {}", place + 1, word(id)));
            output.grant(signed);
            output.line("signed by", signer);
        }
        output
    }

    fn sign(&mut self, signature: &Signature, digest: &Hash) {
        let signer = signature.recover(digest).ok();
        self.signers.push(signer.map(|signer| signer.to_string()));
    }

    fn signer(&self) -> String {
        let last = self.signers.last().cloned().flatten();
        last.unwrap_or_else(|| "nobody: the signature is none".to_owned())
    }

    fn heading(&mut self, text: String) {
        self.lines.push((text, String::new()));
    }

    fn line(&mut self, name: &str, value: impl ToString) {
        self.lines.push((name.to_owned(), value.to_string()));
    }

    fn grant(&mut self, signed: &SignedGrant) {
        let grant = &signed.grant;
        self.line("model", grant.model);
        self.line("licensee", grant.licensee);
        self.line("delegate", grant.delegate);
        self.line(
            "host",
            if grant.host == Address::ZERO {
                "any".to_owned()
            } else {
                grant.host.to_string()
            },
        );
        self.line(
            "calls",
            limit(grant.max_calls.into(), UNLIMITED_CALLS.into()),
        );
        self.line("spend", limit(grant.max_spend, UNLIMITED_SPEND));
        self.line(
            "valid",
            format!(
                "{} to {}",
                rfc3339(grant.not_before),
                rfc3339(grant.not_after)
            ),
        );
        self.scope(&signed.scope);
    }

    fn scope(&mut self, scope: &Scope) {
        for (name, list) in [
            ("purposes", &scope.purposes),
            ("regions", &scope.regions),
            ("versions", &scope.model_versions),
        ] {
            if !list.is_empty() {
                self.line(name, list.join(", "));
            }
        }
        if let Some(tokens) = scope.max_tokens {
            self.line("tokens", format!("at most {tokens}"));
        }
        if let Some(calls) = scope.calls_per_minute {
            self.line("rate", format!("at most {calls} calls a minute"));
        }
        self.line(
            "input",
            if scope.any_input {
                "any"
            } else {
                "each permission names its own"
            },
        );
        if scope.replay == Replay::Sequence {
            self.line("replay", "nonces rise");
        }
    }

    fn permission(&mut self, permission: &Permission) {
        self.line("model", permission.model);
        self.line("licensee", permission.licensee);
        self.line("host", permission.host);
        self.line(
            "input",
            if permission.input_hash == NONE {
                "any".to_owned()
            } else {
                word(permission.input_hash)
            },
        );
        self.line("nonce", permission.nonce);
        self.line("promised", permission.cumulative);
        self.line(
            "valid",
            format!(
                "{} to {}",
                rfc3339(permission.issued_at),
                rfc3339(permission.deadline)
            ),
        );
    }
}

fn json(bytes: &[u8]) -> anyhow::Result<Value> {
    serde_json::from_slice(bytes).context("cannot write the file as JSON")
}

impl fmt::Display for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, value) in &self.lines {
            match value.as_str() {
                "" => writeln!(f, "{name}")?,
                value => writeln!(f, "  {name:9}  {value}")?,
            }
        }
        Ok(())
    }
}
