//! How an endpoint is reached: the flags, and the client they make.

use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use clap::Args;
use oml_server::endpoint::{Api, Asker, EndpointOptions, Header, Proxy, Roots};
use zeroize::Zeroizing;

use crate::commands::endpoint_key;
use crate::error::WithHint as _;
use crate::{files, interrupt, random};

const KEY_VARIABLE: &str = "OML_AUDIT_KEY";
const HEADERS_LIMIT: usize = 1 << 16;
const PEM_LIMIT: usize = 1 << 20;

/// How an endpoint is reached.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Endpoint")]
pub(crate) struct EndpointArgs {
    /// Model that the endpoint shall use
    #[arg(long, value_name = "NAME")]
    pub(super) model_name: Option<String>,
    /// How it is asked: chat, completions, ollama-chat or ollama-generate [default: what the URL ends in, else completions]
    #[arg(long, value_name = "NAME")]
    api: Option<Api>,
    /// File with the endpoint's key [default: the key itself in OML_AUDIT_KEY, or none]
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// File with headers to send with every request, one `Name: value` a line
    #[arg(long, value_name = "FILE")]
    headers_file: Option<PathBuf>,
    /// HTTP proxy that connects to the endpoint, http://HOST:PORT; the environment's are not used
    #[arg(long, value_name = "URL")]
    proxy: Option<String>,
    /// Root certificates (PEM) to trust in place of the public ones
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// Let requests leave this machine without encryption
    #[arg(long)]
    allow_http: bool,
    /// Time for one request
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..))]
    timeout: u32,
    /// How often a request is sent at most, where it fails in a way that may pass
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    attempts: u32,
    /// Requests that leave in a minute at most [default: no limit]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) per_minute: Option<u32>,
    /// Requests under way at the same time
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(super) concurrency: u16,
    /// Mean wait before a request, drawn anew each time, so that queries do not come at a beat
    #[arg(long, value_name = "SECONDS", default_value_t = 0.0, value_parser = seconds)]
    pub(super) spacing: f64,
    /// Ask for no log probabilities, which some servers refuse
    #[arg(long)]
    pub(super) no_log_probabilities: bool,
}

impl EndpointArgs {
    /// The client for the endpoint at `url`, and the model it asks for.
    ///
    /// # Errors
    /// When the URL, the key, a header, the proxy or a certificate cannot be used.
    pub(super) fn asker(&self, url: &str) -> anyhow::Result<(Asker, String)> {
        let model: anyhow::Result<&String> = self
            .model_name
            .as_ref()
            .ok_or_else(|| anyhow!("--endpoint: expected the name of a model, got a URL alone"));
        let model =
            model.hint("Say which of its models the endpoint shall use with --model-name NAME.")?;
        let mut options = EndpointOptions::new(url, model);
        options.key = endpoint_key::read(self.key_file.as_deref(), KEY_VARIABLE)?;
        options.headers = self.headers_file.as_deref().map_or(Ok(vec![]), headers)?;
        let proxy = self.proxy.as_deref().map(Proxy::new).transpose();
        options.proxy = proxy.context("--proxy")?;
        if let Some(path) = &self.ca_file {
            let pem = files::read(path, PEM_LIMIT)?;
            let roots = Roots::from_pem(&pem);
            options.roots = Some(roots.with_context(|| format!("cannot read {}", path.display()))?);
        }
        options.allow_http = self.allow_http;
        options.timeout = Duration::from_secs(self.timeout.into());
        options.attempts = self.attempts;
        options.per_minute = self.per_minute.and_then(NonZeroU32::new);
        options.stop = interrupt::flag();
        options.seed = random::number()?;
        let api = self.api.or_else(|| Api::of_url(url));
        let asker = Asker::new(options, api.unwrap_or(Api::Completions)).context("--endpoint")?;
        Ok((asker, model.clone()))
    }
}

/// Headers of a file, which others on the machine cannot read as they could an argument.
fn headers(path: &Path) -> anyhow::Result<Vec<Header>> {
    let text = Zeroizing::new(files::read_text(path, HEADERS_LIMIT)?);
    let lines = text.lines().enumerate();
    let lines = lines.filter(|(_, line)| !line.trim().is_empty());
    lines
        .map(|(place, line)| {
            let place = || format!("{} line {}", path.display(), place + 1);
            let (name, value) = line
                .split_once(':')
                .with_context(|| format!("{}: expected Name: value", place()))?;
            Header::new(name.trim(), value).with_context(place)
        })
        .collect()
}

/// Reads a flag that is a time, from 0 to an hour.
fn seconds(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|seconds| (0.0..=3600.0).contains(seconds))
        .ok_or_else(|| "expected a number from 0 to 3600".to_owned())
}
