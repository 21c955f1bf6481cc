//! `oml permit issue`: permissions under a grant or of the issuer, one or many, each printed with its salt.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow, bail};
use clap::Args;
use oml_core::manifest::{hex, permission_file};
use oml_core::permission::{
    Chain, InputSalt, NONE, Permission, Replay, Scope, Token, input_hash, input_of_request,
};
use oml_core::signing::{Address, SigningKey};
use serde::Serialize;
use zeroize::Zeroizing;

use super::when::When;
use super::{
    DomainArgs, KeyArgs, ModelArgs, address, check_delegate, now, read, read_chain, refused, word,
};
use crate::cli::GlobalArgs;
use crate::error::{ExitStatus, WithHint as _};
use crate::files::{self, Access, Existing};
use crate::printer::Printer;
use crate::random;

/// Most permissions of one run.
const MAX_COUNT: u64 = 1_000_000;
/// How long a permission lives where nothing is said.
const LIFE: u64 = 15 * 60;

/// Flags of `oml permit issue`.
#[derive(Debug, Args)]
pub(crate) struct IssueArgs {
    #[command(flatten)]
    key: KeyArgs,
    /// Grant to sign under; - is standard input [default: none, as the issuer]
    #[arg(long, value_name = "FILE")]
    grant: Option<PathBuf>,
    #[command(flatten)]
    model: ModelArgs,
    /// Address of the licensee, who pays [default: the grant's]
    #[arg(long, value_name = "0x…", value_parser = address)]
    licensee: Option<Address>,
    /// Address of the host that is to answer [default: the grant's, where it names one]
    #[arg(long, value_name = "0x…", value_parser = address)]
    host: Option<Address>,
    /// Permissions for any input
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=MAX_COUNT))]
    count: u64,
    /// One permission for each input instead: JSON lines, each a request with messages or a prompt; - is standard input
    #[arg(long, value_name = "FILE", conflicts_with = "count")]
    inputs: Option<PathBuf>,
    /// Last second: a time or a span from now [default: 15m, or the grant's end where that is sooner]
    #[arg(long, value_name = "TIME")]
    deadline: Option<When>,
    /// What was promised under the grant before, in the token's smallest unit
    #[arg(long, value_name = "N", default_value_t = 0)]
    cumulative: u128,
    /// What each permission promises on top
    #[arg(long, value_name = "N", default_value_t = 0)]
    price: u128,
    /// Number of the first permission under a grant with a sequence, above every number used before
    #[arg(long, value_name = "N")]
    first_nonce: Option<u128>,
    #[command(flatten)]
    domain: DomainArgs,
    /// File to write, readable by you alone [default: standard output]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

pub(super) fn run(
    args: &IssueArgs,
    global: &GlobalArgs,
    printer: &Printer,
) -> anyhow::Result<ExitStatus> {
    if let Some(path) = &args.out {
        files::refuse_existing(path)?;
    }
    let issued = args.issue()?;
    let text = if global.json {
        let mut permissions = Vec::with_capacity(issued.len());
        for one in &issued {
            permissions.push(one.output()?);
        }
        let output = serde_json::json!({ "permissions": permissions });
        Zeroizing::new(format!("{output:#}\n"))
    } else {
        lines(&issued)?
    };
    let Some(path) = &args.out else {
        return printer.raw(text.as_bytes());
    };
    files::write_whole(path, text.as_bytes(), Access::Private, Existing::Refuse)?;
    let (count, file) = (issued.len(), path.display().to_string());
    let text = format!("{count} permission(s) in {file}");
    printer.result(&serde_json::json!({ "count": count, "file": file }), &text)
}

/// A permission with the salt of its input.
struct Issued {
    token: Token,
    salt: Option<InputSalt>,
}

#[derive(Serialize)]
struct IssuedOutput {
    id: String,
    text: String,
    salt: Option<String>,
    token: serde_json::Value,
}

impl Issued {
    fn output(&self) -> anyhow::Result<IssuedOutput> {
        Ok(IssuedOutput {
            id: word(self.token.id()),
            text: self.token.to_text()?,
            salt: self.salt.as_ref().map(|salt| hex(salt.expose())),
            token: serde_json::from_slice(&permission_file::render(&self.token)?)
                .context("cannot write the permission as JSON")?,
        })
    }
}

fn lines(issued: &[Issued]) -> anyhow::Result<Zeroizing<String>> {
    let mut text = Zeroizing::new(String::new());
    for Issued { token, salt } in issued {
        text.push_str(&token.to_text()?);
        if let Some(salt) = salt {
            let salt = Zeroizing::new(hex(salt.expose()));
            write!(text, " {}", *salt)?;
        }
        text.push('\n');
    }
    Ok(text)
}

impl IssueArgs {
    fn issue(&self) -> anyhow::Result<Vec<Issued>> {
        let chain = self.grant.as_deref().map(read_chain).transpose()?;
        let first = self.first(chain.as_ref())?;
        let inputs = self.inputs.as_deref().map(read_inputs).transpose()?;
        let count = inputs
            .as_ref()
            .map_or(self.count, |inputs| inputs.len() as u64);
        let key = self.key.read()?;
        if let Some(chain) = &chain {
            check_delegate(chain, &key)?;
        }
        let mut issued = Vec::new();
        for number in 0..count {
            let mut permission = self.numbered(first, number, chain.as_ref())?;
            let input = inputs.as_ref().map(|inputs| &inputs[number as usize]);
            let salt = input.map(|_| random::bytes().map(InputSalt::new));
            let salt = salt.transpose()?;
            if let (Some(input), Some(salt)) = (input, &salt) {
                permission.input_hash = input_hash(salt, input);
            }
            let token = self.sign(chain.as_ref(), permission, &key);
            token.check().map_err(refused)?;
            issued.push(Issued { token, salt });
        }
        Ok(issued)
    }

    fn sign(&self, chain: Option<&Chain>, permission: Permission, key: &SigningKey) -> Token {
        match chain {
            Some(chain) => Token::sign_under(chain, permission, key),
            None => Token::sign_as_issuer(self.domain.domain(), permission, key),
        }
    }

    /// What all permissions of the run have in common.
    fn first(&self, chain: Option<&Chain>) -> anyhow::Result<Permission> {
        let now = now();
        let grant = chain
            .and_then(|chain| chain.grants.last())
            .map(|signed| &signed.grant);
        let model = match grant {
            Some(grant) => grant.model,
            None => self.model.required()?,
        };
        // A folder may come from the settings for other commands; an id is meant for this one.
        if self.model.model_id.is_some_and(|named| named != model) {
            bail!("--model-id: expected {model} as in the grant, got another");
        }
        if let Some(chain) = chain {
            self.domain.agree(&chain.domain)?;
        }
        let licensee = self.licensee.or(grant.map(|grant| grant.licensee));
        let licensee = licensee
            .ok_or_else(|| anyhow!("no licensee was named"))
            .hint("Name who pays by --licensee 0x…, or a grant by --grant FILE.")?;
        let host = grant.map(|grant| grant.host);
        let host = self.host.or(host.filter(|host| *host != Address::ZERO));
        let host = host
            .ok_or_else(|| anyhow!("no host was named"))
            .hint("Name who is to answer by --host 0x…: a permission is for one host.")?;
        let end = grant.map_or(u64::MAX, |grant| grant.not_after);
        let deadline = self.deadline.map(|when| when.resolve(now));
        Ok(Permission {
            model,
            grant: NONE,
            licensee,
            host,
            input_hash: NONE,
            nonce: 0,
            cumulative: self.cumulative,
            issued_at: now,
            deadline: deadline.unwrap_or_else(|| now.saturating_add(LIFE).min(end)),
        })
    }

    /// The permission with this number, from 0.
    fn numbered(
        &self,
        first: Permission,
        number: u64,
        chain: Option<&Chain>,
    ) -> anyhow::Result<Permission> {
        let scope = chain.and_then(|chain| chain.grants.last());
        let replay = scope.map_or_else(|| Scope::default().replay, |signed| signed.scope.replay);
        let nonce = match (replay, self.first_nonce) {
            (Replay::Set, None) => u128::from_be_bytes(random::bytes()?),
            (Replay::Sequence, Some(nonce)) => nonce
                .checked_add(number.into())
                .context("--first-nonce: expected a smaller number")?,
            (Replay::Set, Some(_)) => {
                bail!("--first-nonce: expected a grant with a sequence, got one without")
            }
            (Replay::Sequence, None) => {
                let missing: anyhow::Result<_> =
                    Err(anyhow!("the grant asks for numbered permissions"));
                return missing.hint("Name the next number by --first-nonce N.");
            }
        };
        let promised = self.price.checked_mul(u128::from(number) + 1);
        let cumulative = promised.and_then(|promised| first.cumulative.checked_add(promised));
        Ok(Permission {
            nonce,
            cumulative: cumulative.context("--price: expected less in sum")?,
            ..first
        })
    }
}

/// Canonical bytes of each line's input.
fn read_inputs(path: &Path) -> anyhow::Result<Vec<Vec<u8>>> {
    let bytes = read(path)?;
    let mut inputs = Vec::new();
    for (number, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
        if line.trim_ascii().is_empty() {
            continue;
        }
        let place = || format!("{} line {}", path.display(), number + 1);
        // What serde says of a fault quotes the query, which is the user's own affair.
        let request = serde_json::from_slice(line).map_err(|error| {
            anyhow!(
                "{}: expected JSON, got none from column {} on",
                place(),
                error.column()
            )
        })?;
        inputs.push(input_of_request(&request).with_context(place)?);
    }
    if inputs.is_empty() || inputs.len() as u64 > MAX_COUNT {
        let got = inputs.len();
        bail!(
            "{}: expected 1 to {MAX_COUNT} inputs, got {got}",
            path.display()
        );
    }
    Ok(inputs)
}
