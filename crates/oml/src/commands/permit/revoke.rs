//! `oml permit revoke`: an issuer's signed list of what no longer counts, begun, added to, or signed again to stay young.

use std::path::PathBuf;

use anyhow::{Context as _, anyhow, bail};
use clap::Args;
use oml_core::manifest::revocations_file;
use oml_core::merkle::Hash;
use oml_core::permission::{MAX_ENTRIES, NONE, RevocationList, SignedRevocations};

use super::verify::read_list;
use super::when::When;
use super::{DomainArgs, KeyArgs, ModelArgs, id, now, read_chain, read_token, refused, word};
use crate::error::{ExitStatus, WithHint as _};
use crate::files::{self, Access, Existing};
use crate::printer::Printer;

/// Flags of `oml permit revoke`.
#[derive(Debug, Args)]
pub(crate) struct RevokeArgs {
    #[command(flatten)]
    key: KeyArgs,
    /// Revocation list to begin, or to add to; it is replaced by one that is signed now
    #[arg(long, value_name = "FILE")]
    list: PathBuf,
    #[command(flatten)]
    model: ModelArgs,
    /// Id of a grant or permission (repeatable); with none of these, the list is only signed again
    #[arg(long, value_name = "0x…", value_parser = id)]
    id: Vec<Hash>,
    /// Grant, of which the innermost is revoked (repeatable)
    #[arg(long, value_name = "FILE")]
    grant: Vec<PathBuf>,
    /// Permission (repeatable)
    #[arg(long, value_name = "FILE")]
    permission: Vec<PathBuf>,
    /// From when on they no longer count: a time or a span from now [default: now]
    #[arg(long, value_name = "TIME")]
    at: Option<When>,
    #[command(flatten)]
    domain: DomainArgs,
}

pub(super) fn run(args: &RevokeArgs, printer: &Printer) -> anyhow::Result<ExitStatus> {
    let now = now();
    let at = args.at.map_or(now, |when| when.resolve(now));
    let key = args.key.read()?;
    let (domain, mut list) = if args.list.exists() {
        let signed = read_list(&args.list)?;
        let reading = || format!("cannot read {}", args.list.display());
        let (got, own) = (signed.signer().with_context(reading)?, key.address());
        if got != own {
            let foreign: anyhow::Result<()> = Err(anyhow!(
                "{}: expected a list that {own} signed, got one of {got}",
                args.list.display()
            ));
            foreign.hint("Each issuer keeps a list of its own: name another file.")?;
        }
        if args
            .model
            .model_id
            .is_some_and(|model| model != signed.list.model)
        {
            bail!(
                "--model-id: expected {} as in the list, got another",
                signed.list.model
            );
        }
        args.domain.agree(&signed.domain)?;
        (signed.domain, signed.list)
    } else {
        (
            args.domain.domain(),
            RevocationList::new(args.model.required()?, now),
        )
    };
    list.issued_at = now.max(list.issued_at);
    for id in args.ids()? {
        if !list.revoke(id, at) {
            bail!(
                "{}: expected at most {MAX_ENTRIES} entries",
                args.list.display()
            );
        }
    }
    let count = list.entries().len();
    let signed = SignedRevocations::sign(domain, list, &key);
    let bytes = revocations_file::render(&signed)?;
    files::write_whole(&args.list, &bytes, Access::Shared, Existing::Replace)?;
    let file = args.list.display().to_string();
    let text = format!("{count} revoked in {file}, signed by {}", key.address());
    let output = serde_json::json!({
        "file": file,
        "count": count,
        "model": signed.list.model.to_string(),
        "issuer": key.address().to_string(),
        "issued_at": signed.list.issued_at,
    });
    printer.result(&output, &text)
}

impl RevokeArgs {
    fn ids(&self) -> anyhow::Result<Vec<Hash>> {
        let mut ids = self.id.clone();
        for path in &self.grant {
            let chain = read_chain(path)?;
            ids.extend(chain.check().map_err(refused)?.last());
        }
        for path in &self.permission {
            let (token, _) = read_token(path, 1)?;
            let token = token.with_context(|| format!("cannot read {}", path.display()))?;
            ids.push(token.id());
        }
        if let Some(none) = ids.iter().find(|id| **id == NONE) {
            bail!(
                "--id: expected the id of a grant or permission, got {}",
                word(*none)
            );
        }
        Ok(ids)
    }
}
