//! `oml permit grant`: the issuer lets a licensee's delegate sign permissions.

use clap::Args;
use oml_core::permission::{Chain, Grant, NONE, Replay, SignedGrant};
use oml_core::signing::Address;

use super::scope_args::ScopeArgs;
use super::when::When;
use super::{DomainArgs, KeyArgs, ModelArgs, OutArgs, address, calls, now, spend};
use crate::cli::GlobalArgs;
use crate::error::ExitStatus;
use crate::printer::Printer;
use crate::random;

/// Flags of `oml permit grant`.
#[derive(Debug, Args)]
pub(crate) struct GrantArgs {
    #[command(flatten)]
    key: KeyArgs,
    #[command(flatten)]
    model: ModelArgs,
    /// Address of the licensee, who pays
    #[arg(long, value_name = "0x…", value_parser = address)]
    licensee: Address,
    /// Address that signs permissions under the grant [default: the licensee's]
    #[arg(long, value_name = "0x…", value_parser = address)]
    delegate: Option<Address>,
    /// Address of the host that may answer [default: any host]
    #[arg(long, value_name = "0x…", value_parser = address)]
    host: Option<Address>,
    /// Most calls
    #[arg(long, value_name = "N", default_value = "unlimited", value_parser = calls)]
    max_calls: u64,
    /// Most that may be promised, in the token's smallest unit
    #[arg(long, value_name = "N", default_value = "unlimited", value_parser = spend)]
    max_spend: u128,
    /// First second: a time or a span from now [default: now]
    #[arg(long, value_name = "TIME")]
    not_before: Option<When>,
    /// Last second: a time, or a span from now such as 30d
    #[arg(long, value_name = "TIME")]
    not_after: When,
    #[command(flatten)]
    domain: DomainArgs,
    #[command(flatten)]
    out: OutArgs,
    #[command(flatten)]
    scope: ScopeArgs,
    /// Permissions may leave the input open, so that they need not be made for each query
    #[arg(long, help_heading = "Scope")]
    any_input: bool,
    /// Permissions are numbered, so that a host keeps one number and not every permission
    #[arg(long, help_heading = "Scope")]
    sequence: bool,
}

pub(super) fn run(
    args: &GrantArgs,
    global: &GlobalArgs,
    printer: &Printer,
) -> anyhow::Result<ExitStatus> {
    let now = now();
    let model = args.model.required()?;
    let replay = if args.sequence {
        Replay::Sequence
    } else {
        Replay::Set
    };
    let scope = args.scope.scope(args.any_input, replay);
    scope.validate()?;
    let grant = Grant {
        model,
        parent: NONE,
        licensee: args.licensee,
        delegate: args.delegate.unwrap_or(args.licensee),
        host: args.host.unwrap_or(Address::ZERO),
        max_calls: args.max_calls,
        max_spend: args.max_spend,
        scope_hash: scope.hash(),
        not_before: args.not_before.map_or(now, |when| when.resolve(now)),
        not_after: args.not_after.resolve(now),
        nonce: u128::from_be_bytes(random::bytes()?),
    };
    let domain = args.domain.domain();
    let key = args.key.read()?;
    let chain = Chain {
        domain,
        grants: vec![SignedGrant::sign(&domain, grant, scope, &key)],
    };
    args.out.write(&chain, global, printer)
}
