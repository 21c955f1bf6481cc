//! `oml issuer`: the owner's side of permissions as a server, and its customers.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use oml_core::manifest::customers_file;
use oml_core::permission::Customer;
use oml_core::signing::Address;
use oml_server::gateway::{Offer, Payment};
use oml_server::issuer::{IssuerService, IssuerTerms, customer_key, key_hash, run_issuer};
use serde::Serialize;

use super::permit::{DomainArgs, KeyArgs, ModelArgs, address};
use super::serve::{ListenArgs, payment};
use crate::error::{ExitStatus, WithHint as _};
use crate::files::{self, Access, Existing};
use crate::printer::Printer;
use crate::{interrupt, random};

/// How often the customers' file is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// What an issuer can do.
#[derive(Debug, Subcommand)]
pub(crate) enum IssuerCommand {
    /// Let a customer ask for permissions: draws its key, which is shown once
    Add(AddArgs),
    /// Answer customers who ask for permissions
    Serve(Box<ServeArgs>),
}

/// The customers.
#[derive(Debug, Clone, Args)]
struct CustomersArgs {
    /// File with the customers; it holds hashes of their keys alone, and is read again when it changes
    #[arg(long, value_name = "FILE", default_value = "oml-customers.json")]
    customers: PathBuf,
}

/// Flags of `oml issuer add`.
#[derive(Debug, Args)]
pub(crate) struct AddArgs {
    #[command(flatten)]
    customers: CustomersArgs,
    /// What the customer is called; one that is there gets a new key and new limits
    #[arg(long, value_name = "TEXT")]
    name: String,
    /// Address of the licensee that its permissions name
    #[arg(long, value_name = "0x…", value_parser = address)]
    licensee: Address,
    /// Permissions on one day (UTC) at most [default: any number]
    #[arg(long, value_name = "N")]
    calls_per_day: Option<u64>,
    /// All that it has paid so far, in the token's smallest unit
    #[arg(long, value_name = "N", default_value_t = 0)]
    credit: u128,
}

/// Flags of `oml issuer serve`.
#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    #[command(flatten)]
    key: KeyArgs,
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    domain: DomainArgs,
    #[command(flatten)]
    customers: CustomersArgs,
    /// File of what was sold to whom
    #[arg(long, value_name = "FILE", default_value = "oml-issuer.redb")]
    book: PathBuf,
    #[command(flatten)]
    listen: ListenArgs,
    /// Address to listen on
    #[arg(
        long = "listen",
        value_name = "HOST:PORT",
        default_value = "127.0.0.1:8786"
    )]
    at: String,
    /// Address of a host for which there are permissions, repeatable [default: any host]
    #[arg(long = "host", value_name = "0x…", value_parser = address)]
    hosts: Vec<Address>,
    /// What a permission costs, in the token's smallest unit
    #[arg(long, value_name = "N", default_value_t = 0)]
    price: u128,
    /// How a customer without credit can pay: CAIP-2 network, token and payee, as eip155:8453,0x…,0x…
    #[arg(long, value_name = "NETWORK,TOKEN,PAYEE", value_parser = payment)]
    pay: Option<Payment>,
    /// Longest life of a permission
    #[arg(long, value_name = "SECONDS", default_value_t = 900, value_parser = clap::value_parser!(u64).range(1..=31_536_000))]
    longest_life: u64,
    /// Permissions in one answer at most
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u16).range(1..=4096))]
    most: u16,
}

pub(super) fn run(command: &IssuerCommand, printer: &Printer) -> anyhow::Result<ExitStatus> {
    match command {
        IssuerCommand::Add(args) => add(args, printer),
        IssuerCommand::Serve(args) => serve(args, printer),
    }
}

fn read(path: &Path) -> anyhow::Result<Vec<Customer>> {
    let bytes = files::read(path, customers_file::MAX_BYTES)
        .hint("Make the file with `oml issuer add`, or name yours with --customers FILE.")?;
    customers_file::parse(&bytes).with_context(|| format!("cannot read {}", path.display()))
}

fn add(args: &AddArgs, printer: &Printer) -> anyhow::Result<ExitStatus> {
    let path = &args.customers.customers;
    let mut customers = if path.exists() {
        read(path)?
    } else {
        Vec::new()
    };
    let key = customer_key(&random::bytes()?);
    customers.retain(|customer| customer.name != args.name);
    customers.push(Customer {
        name: args.name.clone(),
        key_hash: key_hash(&key),
        licensee: args.licensee,
        calls_per_day: args.calls_per_day,
        credit: args.credit,
    });
    let bytes = customers_file::render(&customers)?;
    files::write_whole(path, &bytes, Access::Private, Existing::Replace)?;
    let added = Added {
        name: args.name.clone(),
        licensee: args.licensee.to_string(),
        key,
        file: path.display().to_string(),
    };
    printer.result(&added, &added)
}

/// A customer that was let in.
#[derive(Serialize)]
struct Added {
    name: String,
    licensee: String,
    /// What the customer shows; kept nowhere.
    key: String,
    file: String,
}

impl fmt::Display for Added {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.key)?;
        writeln!(
            f,
            "Give this key to {}, and keep no copy: {} holds its hash.",
            self.name, self.file
        )
    }
}

fn serve(args: &ServeArgs, printer: &Printer) -> anyhow::Result<ExitStatus> {
    interrupt::listen()?;
    let tls = args.listen.tls(&args.at)?;
    let key = args.key.read()?;
    let terms = IssuerTerms {
        model: args.model.required()?,
        domain: args.domain.domain(),
        price: args.price,
        hosts: args.hosts.clone(),
        longest_life: args.longest_life,
        most: args.most.into(),
    };
    let offer = Offer {
        model: terms.model,
        host: args.hosts.first().copied().unwrap_or(Address::ZERO),
        domain: terms.domain,
        price: terms.price,
        payment: args.pay.clone(),
        issuer: None,
    };
    let issuer = key.address().to_string();
    let model = terms.model.to_string();
    let path = &args.customers.customers;
    let service = IssuerService::new(terms, key, offer, &args.book, read(path)?)?;
    watch(&service, path.clone(), printer.clone());
    let ready = |url: &str| {
        let serving = Serving {
            url: url.to_owned(),
            issuer,
            model,
        };
        // A closed standard output is no reason not to serve.
        let _ = printer.result(&serving, &serving);
    };
    run_issuer(service, &args.at, tls, ready, interrupt::requested)?;
    printer.note("stopped");
    Ok(ExitStatus::Yes)
}

/// Takes the customers of a file that changed, for as long as anybody holds the service.
fn watch(service: &Arc<IssuerService>, path: PathBuf, printer: Printer) {
    let weak = Arc::downgrade(service);
    let mut seen = files::stamp(&path);
    std::thread::spawn(move || {
        loop {
            std::thread::sleep(LOOK);
            let Some(service) = weak.upgrade() else {
                return;
            };
            let now = files::stamp(&path);
            if now == seen {
                continue;
            }
            seen = now;
            match read(&path) {
                Ok(customers) => service.set_customers(customers),
                Err(error) => printer.warning(format!("customers stay as they were: {error:#}")),
            }
        }
    });
}

/// Where an issuer serves.
#[derive(Serialize)]
struct Serving {
    url: String,
    /// Its address, which hosts must know.
    issuer: String,
    model: String,
}

impl fmt::Display for Serving {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "permissions for model {} at {}", self.model, self.url)?;
        writeln!(f, "issuer {}", self.issuer)
    }
}
