//! `oml permit attenuate`: a delegate passes on less than it holds.

use std::path::PathBuf;

use anyhow::anyhow;
use clap::Args;
use oml_core::permission::{Grant, SignedGrant};
use oml_core::signing::Address;

use super::scope_args::ScopeArgs;
use super::when::When;
use super::{KeyArgs, OutArgs, address, calls, check_delegate, now, read_chain, spend};
use crate::cli::GlobalArgs;
use crate::error::ExitStatus;
use crate::printer::Printer;
use crate::random;

/// Flags of `oml permit attenuate`.
#[derive(Debug, Args)]
pub(crate) struct AttenuateArgs {
    #[command(flatten)]
    key: KeyArgs,
    /// Grant to narrow, made by `oml permit grant` or this command; - is standard input
    #[arg(long, value_name = "FILE")]
    grant: PathBuf,
    /// Address that signs under the narrower grant
    #[arg(long, value_name = "0x…", value_parser = address)]
    delegate: Address,
    /// Address of the host that may answer [default: as in the grant]
    #[arg(long, value_name = "0x…", value_parser = address)]
    host: Option<Address>,
    /// Most calls [default: as in the grant]
    #[arg(long, value_name = "N", value_parser = calls)]
    max_calls: Option<u64>,
    /// Most that may be promised, in the token's smallest unit [default: as in the grant]
    #[arg(long, value_name = "N", value_parser = spend)]
    max_spend: Option<u128>,
    /// First second: a time or a span from now [default: as in the grant]
    #[arg(long, value_name = "TIME")]
    not_before: Option<When>,
    /// Last second: a time or a span from now [default: as in the grant]
    #[arg(long, value_name = "TIME")]
    not_after: Option<When>,
    #[command(flatten)]
    out: OutArgs,
    #[command(flatten)]
    scope: ScopeArgs,
    /// Permissions must name their input, also where the grant leaves it open
    #[arg(long, help_heading = "Scope")]
    each_input: bool,
}

pub(super) fn run(
    args: &AttenuateArgs,
    global: &GlobalArgs,
    printer: &Printer,
) -> anyhow::Result<ExitStatus> {
    let now = now();
    let mut chain = read_chain(&args.grant)?;
    let above = chain.grants.last();
    let above = above.ok_or_else(|| anyhow!("{}: expected a grant", args.grant.display()))?;
    let mut scope = args.scope.within(&above.scope);
    scope.any_input &= !args.each_input;
    scope.validate()?;
    let time = |own: Option<When>, above| own.map_or(above, |when| when.resolve(now));
    let grant = Grant {
        parent: above.grant.id(&chain.domain),
        delegate: args.delegate,
        host: args.host.unwrap_or(above.grant.host),
        max_calls: args.max_calls.unwrap_or(above.grant.max_calls),
        max_spend: args.max_spend.unwrap_or(above.grant.max_spend),
        scope_hash: scope.hash(),
        not_before: time(args.not_before, above.grant.not_before),
        not_after: time(args.not_after, above.grant.not_after),
        nonce: u128::from_be_bytes(random::bytes()?),
        ..above.grant
    };
    let key = args.key.read()?;
    check_delegate(&chain, &key)?;
    let signed = SignedGrant::sign(&chain.domain, grant, scope, &key);
    chain.grants.push(signed);
    args.out.write(&chain, global, printer)
}
