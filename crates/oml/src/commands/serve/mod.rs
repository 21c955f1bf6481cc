//! `oml serve`: a model behind its gate, as an OpenAI-compatible server.

mod authority;

use std::fmt;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail, ensure};
use clap::Args;
use oml_core::eip712::Domain;
use oml_core::permission::{Authority as _, ModelId};
use oml_core::signing::{Address, SigningKey};
use oml_model::serving::{ServedModel, ServingOptions};
use oml_server::gateway::{
    Answers, AuditLog, Gate, Gateway, Limits, Offer, Payment, Plan, Ready, StorePlace, Terms, Tls,
    Upstream, run as run_gateway,
};
use serde::Serialize;
use zeroize::Zeroizing;

use self::authority::{Sources, Watched};
use super::watermark::MarkArgs;
use super::{permit, workbench};
use crate::cli::GlobalArgs;
use crate::error::{ExitStatus, WithHint as _};
use crate::printer::Printer;
use crate::{files, interrupt};

const PEM_LIMIT: usize = 1 << 20;
const KEY_LIMIT: usize = 1 << 14;
const KEY_VARIABLE: &str = "OML_SERVE_UPSTREAM_KEY";

/// Flags of `oml serve`.
#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// Model to serve with this engine: a Hugging Face folder or a GGUF file
    #[arg(long, value_name = "DIR|GGUF", required_unless_present = "upstream")]
    model: Option<PathBuf>,
    /// Server to stand in front of, in place of a model: vLLM, llama.cpp, TGI, Ollama or whatever speaks OpenAI's API
    #[arg(long, value_name = "URL", conflicts_with = "model")]
    upstream: Option<String>,
    /// Name by which clients call the model, repeatable; a request that names another is refused [default: the model's file name]
    #[arg(long = "name", value_name = "NAME")]
    names: Vec<String>,
    /// Address to listen on
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:8787")]
    listen: String,
    /// Address for the operator alone: counters, sums and records [default: none]
    #[arg(long, value_name = "HOST:PORT")]
    admin: Option<SocketAddr>,
    #[command(flatten)]
    gate: GateArgs,
    #[command(flatten)]
    engine: EngineArgs,
    #[command(flatten)]
    mark: MarkArgs,
    #[command(flatten)]
    limits: LimitArgs,
}

/// Who is answered.
#[derive(Debug, Args)]
#[command(next_help_heading = "Gate")]
struct GateArgs {
    /// Host's key, which signs receipts: an owner file made by `oml keygen` [default: oml/owner.json in the user's config folder]
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// Id of the model in permissions: 0x and 64 hexadecimal digits [default: what the model's oml-manifest.json says]
    #[arg(long, value_name = "0x…")]
    model_id: Option<ModelId>,
    /// Address that may issue permissions for the model, repeatable
    #[arg(
        long = "issuer",
        value_name = "0x…",
        required_unless_present = "issuers"
    )]
    issuer: Vec<Address>,
    /// File with issuers, their times, and the age at which what is known of revocations is too old
    #[arg(long, value_name = "FILE")]
    issuers: Option<PathBuf>,
    /// List of what was revoked, signed by an issuer, repeatable; read again when it changes
    #[arg(long = "revocations", value_name = "FILE")]
    revocations: Vec<PathBuf>,
    /// Where used permissions and receipts are kept: a file, or postgres://… where several gateways share them
    #[arg(long, value_name = "FILE|URL", default_value = "oml-replay.redb")]
    replay_store: String,
    /// File for the audit log, whose lines are chained by their hashes [default: none]
    #[arg(long, value_name = "FILE")]
    audit_log: Option<PathBuf>,
    /// Version of the model, where grants name one
    #[arg(long, value_name = "TEXT")]
    model_version: Option<String>,
    /// Where this host stands, where grants name regions
    #[arg(long, value_name = "TEXT")]
    region: Option<String>,
    /// What a call costs under a grant, in the token's smallest unit
    #[arg(long, value_name = "N", default_value_t = 0)]
    price: u128,
    /// How a payment reaches the issuer: CAIP-2 network, token and payee, as eip155:8453,0x…,0x…
    #[arg(long, value_name = "NETWORK,TOKEN,PAYEE", value_parser = payment)]
    pay: Option<Payment>,
    /// Where the issuer hands out permissions, told to whoever has none
    #[arg(long, value_name = "URL")]
    issuer_url: Option<String>,
    /// Seconds by which clocks may differ
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    skew: u64,
    /// Longest life of a permission: used ones are kept so long
    #[arg(long, value_name = "SECONDS", default_value_t = 86_400)]
    longest_life: u64,
    /// How long receipts are kept after their permissions expired
    #[arg(long, value_name = "SECONDS", default_value_t = 14 * 86_400)]
    evidence_window: u64,
}

/// How answers are computed.
#[derive(Debug, Args)]
#[command(next_help_heading = "Answers")]
struct EngineArgs {
    /// Tokens of prompt and answer at most [default: what the model was made for, at most 4096]
    #[arg(long, value_name = "N")]
    context: Option<NonZeroUsize>,
    /// Answers computed side by side
    #[arg(long, value_name = "N", default_value = "16")]
    slots: NonZeroUsize,
    /// File with the upstream's key [default: the key itself in OML_SERVE_UPSTREAM_KEY, or none]
    #[arg(long, value_name = "FILE", requires = "upstream")]
    upstream_key_file: Option<PathBuf>,
    /// How long the upstream may say nothing
    #[arg(long, value_name = "SECONDS", default_value_t = 120)]
    upstream_patience: u64,
}

/// How much is taken.
#[derive(Debug, Args)]
#[command(next_help_heading = "Limits")]
struct LimitArgs {
    /// Certificates (PEM) for TLS
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_certificate: Option<PathBuf>,
    /// Private key (PEM) for TLS
    #[arg(long, value_name = "FILE", requires = "tls_certificate")]
    tls_key: Option<PathBuf>,
    /// Let clients come from other machines without TLS, as behind a proxy that has it
    #[arg(long)]
    allow_http: bool,
    /// Bytes of a request at most
    #[arg(long, value_name = "N", default_value_t = 1 << 20)]
    max_body: usize,
    /// Calls taken side by side, those that wait for a slot among them; one more is refused at once with 429
    #[arg(long, value_name = "N", default_value = "64")]
    max_calls: NonZeroUsize,
    /// Connections at most; one more waits
    #[arg(long, value_name = "N", default_value = "1024")]
    max_connections: NonZeroUsize,
    /// How long a client may take to send a request
    #[arg(long, value_name = "SECONDS", default_value_t = 15)]
    client_patience: u64,
    /// How long an answer may take
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    answer_timeout: u64,
    /// How long answers may go on after Ctrl-C
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    grace: u64,
}

pub(super) fn run(
    args: &ServeArgs,
    global: &GlobalArgs,
    printer: &Printer,
) -> anyhow::Result<ExitStatus> {
    interrupt::listen()?;
    let tls = args.limits.tls()?;
    stays_here(args, tls.as_ref())?;
    let key = host_key(args)?;
    let model_id = model_id(args)?;
    let watched = Arc::new(Watched::new(Sources {
        model: model_id,
        named: args.gate.issuer.clone(),
        issuers: args.gate.issuers.clone(),
        revocations: args.gate.revocations.clone(),
    })?);
    let heard = printer.clone();
    Watched::watch(&watched, move |error| {
        heard.warning(format!(
            "issuers and revocations stay as they were: {error:#}"
        ));
    });
    let log = args
        .gate
        .audit_log
        .as_deref()
        .map(AuditLog::open)
        .transpose()?;
    let limits = args.limits(&args.gate);
    let (default_name, answers) = answers(args, global, printer)?;
    let names = match args.names.is_empty() {
        true => vec![default_name],
        false => args.names.clone(),
    };
    let plan = Plan {
        public: args.listen.clone(),
        tls,
        admin: args.admin.map(|address| address.to_string()),
        threads: std::thread::available_parallelism().map_or(2, usize::from),
        store: StorePlace::new(&args.gate.replay_store),
    };
    let domain = watched.domain();
    let host = key.address();
    let build = |store| {
        let gate = Gate::new(args.gate.terms(model_id), key, watched.clone(), store);
        let offer = args.gate.offer(model_id, host, domain);
        Ok(Gateway::new(
            names.clone(),
            gate,
            answers,
            offer,
            limits,
            log,
        ))
    };
    let ready = |ready: &Ready| {
        let serving = Serving {
            url: format!("{}/v1", ready.url),
            admin: ready.admin.map(|address| format!("http://{address}")),
            host: host.to_string(),
            model: model_id.to_string(),
            names: names.clone(),
        };
        // A closed standard output is no reason not to serve.
        let _ = printer.result(&serving, &serving);
    };
    run_gateway::<anyhow::Error>(plan, build, ready, interrupt::requested)?;
    printer.note("stopped");
    Ok(ExitStatus::Yes)
}

/// Where the model is served.
#[derive(Serialize)]
struct Serving {
    /// What clients take as their base URL.
    url: String,
    admin: Option<String>,
    /// The host's address, which permissions name.
    host: String,
    model: String,
    names: Vec<String>,
}

impl fmt::Display for Serving {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} at {}", self.names.join(", "), self.url)?;
        writeln!(f, "host {}, model {}", self.host, self.model)?;
        if let Some(admin) = &self.admin {
            writeln!(f, "counters and records at {admin}")?;
        }
        Ok(())
    }
}

impl GateArgs {
    fn terms(&self, model: ModelId) -> Terms {
        Terms {
            model,
            model_version: self.model_version.clone(),
            region: self.region.clone(),
            price: self.price,
            skew: self.skew,
            longest_life: self.longest_life,
        }
    }

    fn offer(&self, model: ModelId, host: Address, domain: Domain) -> Offer {
        Offer {
            model,
            host,
            domain,
            price: self.price,
            payment: self.pay.clone(),
            issuer: self.issuer_url.clone(),
        }
    }
}

impl LimitArgs {
    fn tls(&self) -> anyhow::Result<Option<Tls>> {
        let (Some(chain), Some(key)) = (&self.tls_certificate, &self.tls_key) else {
            return Ok(None);
        };
        let chain = files::read(chain, PEM_LIMIT)?;
        let key = Zeroizing::new(files::read(key, PEM_LIMIT)?);
        Ok(Some(Tls::from_pem(&chain, &key)?))
    }
}

impl ServeArgs {
    fn limits(&self, gate: &GateArgs) -> Limits {
        let limits = &self.limits;
        Limits {
            body: limits.max_body,
            patience: Duration::from_secs(limits.client_patience),
            answer: Duration::from_secs(limits.answer_timeout),
            calls: limits.max_calls.into(),
            connections: limits.max_connections.into(),
            grace: Duration::from_secs(limits.grace),
            window: Duration::from_secs(gate.evidence_window),
        }
    }
}

/// Permissions and answers leave this machine only where somebody wants that.
fn stays_here(args: &ServeArgs, tls: Option<&Tls>) -> anyhow::Result<()> {
    let host = args.listen.rsplit_once(':').map_or("", |(host, _)| host);
    let here = matches!(host, "127.0.0.1" | "localhost" | "[::1]");
    if here || tls.is_some() || args.limits.allow_http {
        return Ok(());
    }
    let fault: anyhow::Result<()> = Err(anyhow!(
        "--listen {}: expected an address of this machine alone, or TLS, got one that others reach without it",
        args.listen
    ));
    fault.hint("Add --tls-certificate and --tls-key, or --allow-http behind a proxy that has them.")
}

/// The host's key.
fn host_key(args: &ServeArgs) -> anyhow::Result<SigningKey> {
    let path = args
        .gate
        .key
        .clone()
        .map_or_else(files::default_owner_file, Ok)?;
    Ok(SigningKey::derive(&workbench::owner(&path)?))
}

fn model_id(args: &ServeArgs) -> anyhow::Result<ModelId> {
    match (args.gate.model_id, &args.model) {
        (Some(id), _) => Ok(id),
        (None, Some(folder)) => permit::id_of_folder(folder),
        (None, None) => {
            let none: anyhow::Result<ModelId> = Err(anyhow!(
                "--model-id: expected it, since an upstream does not say which model it has"
            ));
            none.hint("Its owner says which id permissions for the model name.")
        }
    }
}

/// What answers, and what it is called where nobody says.
fn answers(
    args: &ServeArgs,
    global: &GlobalArgs,
    printer: &Printer,
) -> anyhow::Result<(String, Answers)> {
    if let Some(url) = &args.upstream {
        ensure!(
            !args.names.is_empty(),
            "--name: expected the name of the upstream's model"
        );
        let key = upstream_key(args.engine.upstream_key_file.as_deref())?;
        let patience = Duration::from_secs(args.engine.upstream_patience);
        let upstream = Upstream::new(url, key.as_ref().map(|key| key.trim()), patience)?;
        return Ok((String::new(), Answers::Upstream(upstream)));
    }
    let Some(path) = &args.model else {
        bail!("--model: expected a model or an --upstream");
    };
    let watermark = args.mark.watermark()?;
    let engine = workbench::engine(global)?;
    let opened = workbench::open(&engine, path, printer)?;
    let end = opened.checkpoint.config().eos_token_ids.clone();
    let context = args
        .engine
        .context
        .map_or_else(|| opened.model.longest_sequence().min(4096), usize::from);
    let options = ServingOptions {
        slots: args.engine.slots,
        waiting: args.limits.max_calls.into(),
        context,
    };
    let served = ServedModel::start(opened.model, Arc::new(opened.tokenizer), end, options)
        .with_watermark(watermark);
    Ok((opened.name, Answers::Model(Arc::new(served))))
}

fn upstream_key(file: Option<&Path>) -> anyhow::Result<Option<Zeroizing<String>>> {
    match file {
        Some(path) => Ok(Some(Zeroizing::new(files::read_text(path, KEY_LIMIT)?))),
        None => match std::env::var(KEY_VARIABLE) {
            Ok(key) => Ok(Some(Zeroizing::new(key))),
            Err(std::env::VarError::NotPresent) => Ok(None),
            Err(error) => Err(error).context(KEY_VARIABLE),
        },
    }
}

fn payment(text: &str) -> Result<Payment, String> {
    let wrong = || "expected NETWORK,TOKEN,PAYEE as eip155:8453,0x…,0x…".to_owned();
    let parts: Vec<&str> = text.split(',').collect();
    let [network, asset, pay_to] = parts.as_slice() else {
        return Err(wrong());
    };
    let chain = network.strip_prefix("eip155:").ok_or_else(wrong)?;
    chain.parse::<u64>().map_err(|_| wrong())?;
    Ok(Payment {
        network: (*network).to_owned(),
        asset: asset.parse().map_err(|error| format!("token: {error}"))?,
        pay_to: pay_to.parse().map_err(|error| format!("payee: {error}"))?,
    })
}
