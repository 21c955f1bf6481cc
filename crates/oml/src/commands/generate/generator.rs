//! `--generator`: who writes the queries in place of the base model.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use clap::Args;
use oml_core::manifest::hex;
use oml_core::strategy::GenerateError;
use oml_core::strategy::writer::{LocalWriter, Request, Writer};
use oml_model::engine::Engine;
use oml_server::endpoint::{Endpoint, EndpointOptions};

use super::super::endpoint_key;
use super::super::workbench::{self, Opened};
use crate::error::WithHint as _;
use crate::printer::Printer;

const KEY_VARIABLE: &str = "OML_GENERATOR_KEY";
/// Candidates between two looks at Ctrl-C and the clock, where each is a request.
const ENDPOINT_BATCH: usize = 16;

/// Who writes, and how it is reached.
#[derive(Debug, Clone, Args)]
pub(crate) struct GeneratorArgs {
    /// Who writes natural text: another local model, or the URL of an OpenAI-compatible endpoint, whose operator
    /// reads the queries [default: the base model]
    #[arg(long, value_name = "DIR|URL")]
    generator: Option<String>,
    /// Model that the endpoint shall use
    #[arg(long, value_name = "NAME", requires = "generator")]
    generator_model: Option<String>,
    /// File with the endpoint's key [default: the key itself in OML_GENERATOR_KEY, or none]
    #[arg(long, value_name = "FILE", requires = "generator")]
    generator_key_file: Option<PathBuf>,
    /// Time for one request to the endpoint
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..))]
    generator_timeout: u32,
    /// Let requests leave this machine without encryption
    #[arg(long, requires = "generator")]
    generator_allow_http: bool,
}

/// An opened generator.
pub(super) enum Generator {
    Local(Box<Opened>),
    Endpoint(Box<Endpoint>),
}

impl Generator {
    /// Opens what the flags name, if they do.
    ///
    /// # Errors
    /// When the model's files, the URL or the key are wrong.
    pub(super) fn open(
        args: &GeneratorArgs,
        engine: &Engine,
        printer: &Printer,
    ) -> anyhow::Result<Option<Self>> {
        let Some(name) = args.generator.as_deref() else {
            return Ok(None);
        };
        if !(name.starts_with("http://") || name.starts_with("https://")) {
            let opened = workbench::open(engine, Path::new(name), printer)?;
            return Ok(Some(Self::Local(Box::new(opened))));
        }
        let model: anyhow::Result<&str> = args
            .generator_model
            .as_deref()
            .ok_or_else(|| anyhow!("--generator: expected the name of a model, got a URL alone"));
        let model = model
            .hint("Say which of its models the endpoint shall use with --generator-model NAME.")?;
        let mut options = EndpointOptions::new(name, model);
        options.key = endpoint_key::read(args.generator_key_file.as_deref(), KEY_VARIABLE)?;
        options.timeout = Duration::from_secs(args.generator_timeout.into());
        options.allow_http = args.generator_allow_http;
        let endpoint = Endpoint::new(options).context("--generator")?;
        Ok(Some(Self::Endpoint(Box::new(endpoint))))
    }

    /// Candidates per batch, where that is not left open.
    pub(super) const fn batch(&self) -> Option<usize> {
        match self {
            Self::Local(_) => None,
            Self::Endpoint(_) => Some(ENDPOINT_BATCH),
        }
    }

    /// What tells this generator from others.
    ///
    /// # Errors
    /// When a local model's files cannot be read.
    pub(super) fn identity(&self, args: &GeneratorArgs) -> anyhow::Result<String> {
        Ok(match self {
            Self::Local(opened) => hex(&opened.checkpoint.digest()?),
            Self::Endpoint(endpoint) => format!("{} {:?}", endpoint.url(), args.generator_model),
        })
    }
}

impl Writer for Generator {
    fn lines(
        &mut self,
        requests: &[Request],
        temperature: f32,
        length: usize,
    ) -> Result<Vec<Option<String>>, GenerateError> {
        match self {
            Self::Local(opened) => LocalWriter {
                model: &mut opened.model,
                tokenizer: &opened.tokenizer,
            }
            .lines(requests, temperature, length),
            Self::Endpoint(endpoint) => endpoint.lines(requests, temperature, length),
        }
    }
}
