//! `oml permit`: permissions and the grants above them, made, narrowed, verified and revoked without a network, one file per command.

mod attenuate;
mod grant;
mod inspect;
mod issue;
mod revoke;
mod scope_args;
pub(super) mod verify;
mod when;

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, anyhow, bail};
use clap::{Args, Subcommand};
use oml_core::eip712::Domain;
use oml_core::manifest::{grant_file, hex, model_manifest, parse_hash, permission_file};
use oml_core::merkle::Hash;
use oml_core::permission::{
    Chain, InputSalt, ModelId, Refusal, Token, UNLIMITED_CALLS, UNLIMITED_SPEND,
};
use oml_core::secret::OwnerSeed;
use oml_core::signing::{Address, SigningError, SigningKey};
use sha2::{Digest as _, Sha256};

use super::workbench;
use crate::cli::GlobalArgs;
use crate::error::{ExitStatus, WithHint as _};
use crate::files::{self, Access, Existing};
use crate::printer::Printer;

/// Most bytes of a file of permissions, one a line.
const FILE_LIMIT: usize = 64 << 20;
const MANIFEST_LIMIT: usize = 16 << 20;
const MANIFEST_NAME: &str = "oml-manifest.json";

/// What can be done with permissions.
#[derive(Debug, Subcommand)]
pub(crate) enum PermitCommand {
    /// Grant a licensee's delegate the right to sign permissions for a model, as its issuer
    Grant(Box<grant::GrantArgs>),
    /// Pass a narrower grant on to another delegate
    Attenuate(Box<attenuate::AttenuateArgs>),
    /// Sign permissions under a grant or as the issuer, any number at once
    Issue(Box<issue::IssueArgs>),
    /// Say what a permission or a grant holds, without judging it
    Inspect(inspect::InspectArgs),
    /// Would a host answer with this permission? Says why not by a code; needs nothing secret
    Verify(Box<verify::VerifyArgs>),
    /// Sign a list of grants and permissions that no longer count
    Revoke(Box<revoke::RevokeArgs>),
}

pub(super) fn run(
    command: &PermitCommand,
    global: &GlobalArgs,
    printer: &Printer,
) -> anyhow::Result<ExitStatus> {
    match command {
        PermitCommand::Grant(args) => grant::run(args, global, printer),
        PermitCommand::Attenuate(args) => attenuate::run(args, global, printer),
        PermitCommand::Issue(args) => issue::run(args, global, printer),
        PermitCommand::Inspect(args) => inspect::run(args, printer),
        PermitCommand::Verify(args) => verify::run(args, printer),
        PermitCommand::Revoke(args) => revoke::run(args, printer),
    }
}

/// Whose key signs.
#[derive(Debug, Clone, Args)]
pub(super) struct KeyArgs {
    /// Owner file whose key signs, made by `oml keygen` [default: oml/owner.json in the user's config folder]
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
}

impl KeyArgs {
    /// Reads the key.
    ///
    /// # Errors
    /// Whatever is wrong with its file.
    pub(super) fn read(&self) -> anyhow::Result<SigningKey> {
        let path = self
            .key
            .clone()
            .map_or_else(files::default_owner_file, Ok)?;
        let seed: OwnerSeed = workbench::owner(&path)?;
        Ok(SigningKey::derive(&seed))
    }
}

/// The model, by its id or by a folder.
#[derive(Debug, Clone, Args)]
pub(super) struct ModelArgs {
    /// Id of the model: 0x and 64 hexadecimal digits
    #[arg(long, value_name = "0x…")]
    model_id: Option<ModelId>,
    /// Folder of the model, whose id is the SHA-256 of its oml-manifest.json
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,
}

impl ModelArgs {
    /// The id, where one is named; the id itself goes before the folder.
    ///
    /// # Errors
    /// When the folder has no manifest.
    pub(super) fn id(&self) -> anyhow::Result<Option<ModelId>> {
        let Some(folder) = &self.model else {
            return Ok(self.model_id);
        };
        match self.model_id {
            Some(id) => Ok(Some(id)),
            None => id_of_folder(folder).map(Some),
        }
    }

    /// The id, which a command needs.
    ///
    /// # Errors
    /// When none is named, or as [`Self::id`].
    pub(super) fn required(&self) -> anyhow::Result<ModelId> {
        let named = self.id()?.ok_or_else(|| anyhow!("no model was named"));
        named.hint("Name it by --model-id 0x… or --model DIR.")
    }
}

/// The id of the model in a folder: the SHA-256 of its manifest.
///
/// # Errors
/// When the folder has no manifest.
pub(super) fn id_of_folder(folder: &Path) -> anyhow::Result<ModelId> {
    let path = folder.join(MANIFEST_NAME);
    let bytes = files::read(&path, MANIFEST_LIMIT)
        .hint("Name a model that `oml embed` made, or its id with --model-id.")?;
    model_manifest::parse(&bytes).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(ModelId::of_digest(Sha256::digest(&bytes).into()))
}

/// Where signatures count.
#[derive(Debug, Clone, Args)]
pub(super) struct DomainArgs {
    /// Chain on which signatures count [default: none, off-chain]
    #[arg(long, value_name = "N")]
    chain_id: Option<u64>,
    /// Contract for which signatures count [default: none]
    #[arg(long, value_name = "0x…", value_parser = address)]
    contract: Option<Address>,
}

impl DomainArgs {
    pub(super) const fn domain(&self) -> Domain {
        Domain {
            chain_id: self.chain_id,
            verifying_contract: self.contract,
        }
    }

    /// Fails where flags name a chain or contract other than those of a file.
    fn agree(&self, domain: &Domain) -> anyhow::Result<()> {
        let chain_id = self.chain_id.is_none() || self.chain_id == domain.chain_id;
        let contract = self.contract.is_none() || self.contract == domain.verifying_contract;
        if !chain_id || !contract {
            let flag = if chain_id { "--contract" } else { "--chain-id" };
            bail!("{flag}: expected that of the file which is signed under, got another");
        }
        Ok(())
    }
}

/// Where a grant goes.
#[derive(Debug, Clone, Args)]
struct OutArgs {
    /// File to write [default: standard output]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

impl OutArgs {
    /// Writes a chain as text, or with `--json` as a file of JSON.
    ///
    /// # Errors
    /// When it is too long, or cannot be written.
    fn write(
        &self,
        chain: &Chain,
        global: &GlobalArgs,
        printer: &Printer,
    ) -> anyhow::Result<ExitStatus> {
        let ids = chain.check().map_err(refused)?;
        let id = word(ids.last().copied().unwrap_or_default());
        let bytes = if global.json {
            grant_file::render(chain)?
        } else {
            format!("{}\n", chain.to_text()?).into_bytes()
        };
        let Some(path) = &self.out else {
            printer.note(format!("grant {id}"));
            return printer.raw(&bytes);
        };
        files::write_whole(path, &bytes, Access::Shared, Existing::Refuse)?;
        let file = path.display().to_string();
        let text = format!("grant {id} in {file}");
        printer.result(&serde_json::json!({ "id": id, "file": file }), &text)
    }
}

/// A refusal as an error of a command that makes something, with its code.
fn refused(refusal: Refusal) -> anyhow::Error {
    anyhow!("{refusal} ({})", refusal.code())
}

/// Bytes of a file, or of standard input for `-`.
fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    if path != Path::new("-") {
        return files::read(path, FILE_LIMIT);
    }
    let mut bytes = Vec::new();
    let input = std::io::stdin().lock();
    let mut input = input.take(FILE_LIMIT as u64 + 1);
    let all = input.read_to_end(&mut bytes);
    all.context("cannot read standard input")?;
    if bytes.len() > FILE_LIMIT {
        bail!("standard input: expected at most {FILE_LIMIT} bytes");
    }
    Ok(bytes)
}

/// What a file of permissions or grants holds.
pub(super) enum Found {
    /// JSON.
    Json(Vec<u8>),
    /// Compact text, with the salt beside it.
    Text(String, Option<InputSalt>),
}

/// Finds JSON, or compact text on a line that may go on with a salt.
///
/// # Errors
/// When the file cannot be read, has no such line, or the salt is none.
pub(super) fn find(path: &Path, line: usize) -> anyhow::Result<Found> {
    let bytes = read(path)?;
    if bytes.trim_ascii_start().first() == Some(&b'{') {
        return Ok(Found::Json(bytes));
    }
    let text =
        String::from_utf8(bytes).map_err(|_| anyhow!("{}: expected UTF-8 text", path.display()))?;
    let found = text.lines().nth(line - 1);
    let found = found.with_context(|| {
        let got = text.lines().count();
        format!(
            "{}: expected at least {line} lines, got {got}",
            path.display()
        )
    })?;
    let mut words = found.split(' ');
    let token = words.next().unwrap_or_default().to_owned();
    let salt = words.next().map(|digits| {
        parse_hash(digits).with_context(|| {
            format!(
                "{} line {line}: expected a salt of 64 lower-case hexadecimal digits after the permission",
                path.display()
            )
        })
    });
    let salt = salt.transpose()?.map(InputSalt::new);
    if words.next().is_some() {
        bail!(
            "{} line {line}: expected a permission and its salt, got more",
            path.display()
        );
    }
    Ok(Found::Text(token, salt))
}

/// Reads a permission, and the salt beside it.
///
/// # Errors
/// When the file cannot be read; what its text is like is the inner result.
pub(super) fn read_token(
    path: &Path,
    line: usize,
) -> anyhow::Result<(Result<Token, Refusal>, Option<InputSalt>)> {
    match find(path, line)? {
        Found::Text(text, salt) => Ok((Token::from_text(&text).map_err(Refusal::Text), salt)),
        Found::Json(bytes) => {
            let token = permission_file::parse(&bytes);
            let token = token.with_context(|| format!("cannot read {}", path.display()))?;
            Ok((Ok(token), None))
        }
    }
}

/// Reads a chain of grants.
///
/// # Errors
/// Whatever is wrong with it.
fn read_chain(path: &Path) -> anyhow::Result<Chain> {
    let reading = || format!("cannot read {}", path.display());
    match find(path, 1)? {
        Found::Text(text, _) => Chain::from_text(&text).with_context(reading),
        Found::Json(bytes) => grant_file::parse(&bytes).with_context(reading),
    }
}

/// Fails where `key` is not the delegate of the innermost grant, who alone signs under it.
fn check_delegate(chain: &Chain, key: &SigningKey) -> anyhow::Result<()> {
    let Some(signed) = chain.grants.last() else {
        return Ok(());
    };
    let (expected, got) = (signed.grant.delegate, key.address());
    if expected == got {
        return Ok(());
    }
    let other: anyhow::Result<()> = Err(anyhow!(
        "--key: expected that of the grant's delegate {expected}, got that of {got}"
    ));
    other.hint("Name the delegate's own owner file with --key FILE.")
}

/// Seconds since 1970.
pub(super) fn now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |since| since.as_secs())
}

/// A word as files and ledgers write it.
pub(super) fn word(hash: Hash) -> String {
    format!("0x{}", hex(&hash))
}

pub(super) fn address(text: &str) -> Result<Address, String> {
    text.parse()
        .map_err(|error: SigningError| error.to_string())
}

fn id(text: &str) -> Result<Hash, String> {
    let digits = text.strip_prefix("0x").unwrap_or(text);
    parse_hash(digits).ok_or_else(|| "expected 64 lower-case hexadecimal digits".to_owned())
}

const UNLIMITED: &str = "unlimited";

fn calls(text: &str) -> Result<u64, String> {
    match text {
        UNLIMITED => Ok(UNLIMITED_CALLS),
        _ => text
            .parse()
            .map_err(|_| "expected a whole number, or unlimited".to_owned()),
    }
}

fn spend(text: &str) -> Result<u128, String> {
    match text {
        UNLIMITED => Ok(UNLIMITED_SPEND),
        _ => text
            .parse()
            .map_err(|_| "expected a whole number, or unlimited".to_owned()),
    }
}

/// A limit as people read it.
fn limit(value: u128, unlimited: u128) -> String {
    if value == unlimited {
        return UNLIMITED.to_owned();
    }
    value.to_string()
}
