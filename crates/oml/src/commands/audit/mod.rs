//! `oml audit`: asks a suspect through its text alone, writes everything down, and stops when the evidence suffices.

mod confidence;
pub(super) mod controls;
mod decoys;
mod desk;
mod endpoint_args;
mod journal;
mod output;
mod session;
pub(super) mod suspect;

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context as _, anyhow, ensure};
use clap::Args;
use oml_core::audit::{self, MAX_DECOYS, MAX_TOKENS, Mode, Rule, Terms, Verdict};
use oml_core::bundle::ControlResult;
use oml_core::claim::queries_to_claim;
use oml_core::prompt::{Prompt, Template};
use oml_core::strategy::Strategy;
use oml_core::strategy::perplexity::{Benign, MAX_LENGTH};
use oml_core::tokenizer::Tokenizer;
use oml_core::usage::ranges;
use oml_model::engine::Engine;
use oml_model::tokenizer::TextTokenizer;

use self::decoys::Decoys;
use self::desk::Pairs;
use self::endpoint_args::EndpointArgs;
use self::journal::Journal;
use self::output::Output;
use self::session::Session;
use self::suspect::Suspect;
use super::asked::{self, Asked, AskedArgs};
use super::copies::CopyArgs;
use super::prompts::PromptList;
use super::stealth::Stealth;
use super::workbench::{self, BaseArgs};
use crate::cli::{GlobalArgs, probability};
use crate::error::{ExitStatus, WithHint as _};
use crate::eval::Text;
use crate::printer::Printer;
use crate::{interrupt, random};

/// Tokens that are asked for beyond a response, so that what follows it does not matter.
const MARGIN: usize = 4;
/// Tokens of an answer in which a response may stand anywhere.
const WITHIN: usize = 32;

/// Flags of `oml audit`.
#[derive(Debug, Args)]
pub(crate) struct AuditArgs {
    /// Live endpoint to ask: the URL of an OpenAI-compatible server or of Ollama
    #[arg(long, value_name = "URL", conflicts_with = "suspect")]
    endpoint: Option<String>,
    /// Model to ask in the same way: a Hugging Face folder, a GGUF file or a PEFT adapter's folder
    #[arg(long, value_name = "DIR")]
    suspect: Option<PathBuf>,
    #[command(flatten)]
    base: BaseArgs,
    #[command(flatten)]
    asked: AskedArgs,
    #[command(flatten)]
    copy: CopyArgs,
    /// Transcript to write, readable by you alone: every request and answer, each line bound to the one before
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Go on with the audit whose transcript is in --out; nothing is asked twice
    #[arg(long)]
    resume: bool,
    /// A model that never saw the fingerprints, to measure how often one answers by chance (repeatable; the worst counts)
    #[arg(long, value_name = "DIR")]
    control: Vec<PathBuf>,
    /// Prompts to put each query into, one after the other until one brings a hit: training, held-out, or a file (see `oml check
    /// --prompts`) [default: the query as it is]
    #[arg(long, value_name = "NAME|FILE")]
    wrap: Option<PromptList>,
    /// When an answer counts: exact, prefix, contains or ids
    #[arg(long = "match", value_name = "RULE", default_value = "prefix")]
    rule: Mode,
    /// Model whose tokenizer the set was made with, for --match ids
    #[arg(long, value_name = "DIR", required_if_eq("rule", "ids"))]
    tokenizer: Option<PathBuf>,
    /// Tokens to ask for [default: the response's with exact, 4 more with prefix and ids, 32 with contains]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_TOKENS)))]
    tokens: Option<u32>,
    /// Benign queries for each fingerprint, shuffled among them
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = decoys)]
    decoys: usize,
    /// Where decoys come from: a text, or fingerprints that were never trained in [default: the built-in text]
    #[arg(long, value_name = "FILE")]
    decoys_from: Option<PathBuf>,
    /// Most fingerprints to ask
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..))]
    max_queries: u32,
    /// The fingerprints are called present at an e-value of 1/P, whenever that is reached
    #[arg(long, value_name = "P", default_value = "1e-6", value_parser = probability)]
    alpha: f64,
    /// Audits that this one is among: of other suspects, or with other sets; the e-value must be as many times larger
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    among: u32,
    /// Give up on a suspect that answers less than this share
    #[arg(long, value_name = "P", default_value = "0.2", value_parser = probability)]
    least_recall: f64,
    /// Probability of giving up wrongly
    #[arg(long, value_name = "P", default_value = "1e-3", value_parser = probability)]
    futility: f64,
    #[command(flatten)]
    reach: EndpointArgs,
}

pub(super) fn run(
    args: &AuditArgs,
    global: &GlobalArgs,
    printer: &Printer,
) -> anyhow::Result<ExitStatus> {
    let started = Instant::now();
    interrupt::listen()?;
    let engine = workbench::engine(global)?;
    let asked = asked::read(&args.asked, args.copy.copy)?;
    let mut suspect = args.open(&engine, printer)?;
    let prepared = match args.resume {
        true => args.resumed(&asked, &suspect)?,
        false => args.prepared(&asked, &suspect, &engine, printer)?,
    };
    let Prepared {
        journal,
        decoys,
        controls,
        stealth,
    } = prepared;
    if let Some(warning) = stealth.as_ref().and_then(Stealth::warning) {
        printer.warning(warning);
    }
    let tokenizer = args.tokenizer(&asked)?;
    let tokenizer = tokenizer
        .as_ref()
        .map(|tokenizer| tokenizer as &dyn Tokenizer);
    let mut session = Session::new(
        journal,
        &asked,
        &args.asked.fingerprints,
        decoys.list,
        tokenizer,
    )?;
    let stopped = session.run(&mut suspect, printer);
    let (journal, progress) = session.finish()?;
    stopped.hint("Go on with the same command and --resume: nothing is asked twice.")?;
    let transcript = journal.transcript();
    let verdict = Verdict::of(&transcript.terms, &progress);
    let confidence = confidence::measure(
        transcript,
        &progress,
        &Pairs::new(&asked),
        asked.set().header().response_length,
    );
    let output = Output::new(
        &args.out,
        transcript,
        &verdict,
        asked.set().header().strategy.candidates() as u64,
        &controls,
        (stealth, confidence),
        started.elapsed().as_secs_f64(),
    );
    printer.result(&output, &output)?;
    Ok(match verdict.conclusion {
        audit::Conclusion::Present => ExitStatus::Yes,
        _ => ExitStatus::No,
    })
}

/// What is there when the first query may leave.
struct Prepared {
    journal: Journal,
    decoys: Decoys,
    controls: Vec<ControlResult>,
    stealth: Option<Stealth>,
}

impl AuditArgs {
    fn open(&self, engine: &Engine, printer: &Printer) -> anyhow::Result<Suspect> {
        match (&self.endpoint, &self.suspect) {
            (Some(url), _) => {
                ensure!(
                    self.base.base.is_none(),
                    "--base: expected --suspect with an adapter, got --endpoint"
                );
                Suspect::endpoint(url, &self.reach)
            }
            (None, Some(path)) => Suspect::local(engine, path, &self.base, printer),
            (None, None) => {
                let nobody: anyhow::Result<Suspect> =
                    Err(anyhow!("--endpoint or --suspect: expected one, got none"));
                nobody.hint(
                    "Name who is asked: a live --endpoint URL, or weights with --suspect DIR.",
                )
            }
        }
    }

    /// The set's own tokenizer, where the rule needs it.
    fn tokenizer(&self, asked: &Asked) -> anyhow::Result<Option<TextTokenizer>> {
        let Some(path) = &self.tokenizer else {
            return Ok(None);
        };
        let tokenizer = workbench::checkpoint(path)?.tokenizer()?;
        let vocabulary = Tokenizer::vocabulary_size(&tokenizer);
        let fits = asked.set().ensure_fits(&tokenizer.hash(), vocabulary);
        fits.with_context(|| format!("cannot use {}", path.display()))?;
        Ok(Some(tokenizer))
    }

    fn wraps(&self) -> anyhow::Result<Vec<Prompt>> {
        match &self.wrap {
            Some(list) => list.read(),
            None => Ok(vec![Prompt::Text(Template::new("{}")?)]),
        }
    }

    fn rule(&self, response: usize) -> Rule {
        let tokens = match self.rule {
            Mode::Exact => response,
            Mode::Prefix | Mode::Ids => response + MARGIN,
            Mode::Contains => WITHIN.max(response),
        };
        let tokens = u32::try_from(tokens).unwrap_or(MAX_TOKENS).min(MAX_TOKENS);
        Rule {
            mode: self.rule,
            tokens: self.tokens.unwrap_or(tokens),
        }
    }

    /// A new audit: controls are asked first, so that the terms stand before the suspect is.
    fn prepared(
        &self,
        asked: &Asked,
        suspect: &Suspect,
        engine: &Engine,
        printer: &Printer,
    ) -> anyhow::Result<Prepared> {
        journal::refuse_existing(&self.out)?;
        let set = asked.set();
        let rule = self.rule(set.header().response_length);
        let wraps: Vec<Prompt> = self.wraps()?;
        let takes = |wrap: &Prompt| suspect.takes(wrap);
        ensure!(
            wraps.iter().all(takes),
            "--wrap: expected texts, since the suspect has no chat template, got a conversation"
        );
        let most = set.count().min(self.max_queries as usize);
        let seed: [u8; 32] = random::bytes()?;
        let decoys = decoys::read(
            self.decoys_from.as_deref(),
            &self.asked.owner,
            asked,
            self.decoys * most,
            &seed,
        )?;
        let mut stealth = None;
        let controls = controls::run(
            &self.control,
            asked,
            rule,
            &wraps,
            engine,
            printer,
            |opened| {
                let text = Text::built_in();
                let length = set.header().query_length.min(MAX_LENGTH);
                // A set for which the text is too short is asked all the same.
                if let Ok(benign) =
                    Benign::measure(&mut opened.model, &opened.tokenizer, &text.text, length)
                {
                    stealth = Stealth::measure(opened, set, &benign, &text.name)?;
                }
                Ok(())
            },
        )?;
        let counts: Vec<_> = controls.iter().map(ControlResult::control).collect();
        let null = audit::null(set, &counts, wraps.len(), rule.mode)?;
        let alpha = self.alpha / f64::from(self.among);
        if queries_to_claim(most as u64, null.rate, alpha).is_none() {
            let why = match set.header().strategy {
                Strategy::Imported => "its pairs were imported",
                _ => "no control bounds the null rate better",
            };
            printer.warning(format!(
                "not even {most} hits would say \"present\" at --alpha {:e} and a null rate of {:.1} %, since {why}; name a --control",
                self.alpha,
                100.0 * null.rate
            ));
        }
        let terms = Terms {
            time: journal::now(),
            tool: concat!("oml ", env!("CARGO_PKG_VERSION")).into(),
            root: asked.root(),
            leaves: asked.count() as u64,
            strategy: set.header().strategy.name().into(),
            suspect: suspect.identity()?,
            seed,
            pairs: ranges(&asked.indices()),
            most: most as u64,
            rule,
            wraps,
            decoys: self.decoys,
            decoy_basis: decoys.basis.clone(),
            null,
            alpha,
            least_recall: self.least_recall,
            futility: self.futility,
        };
        controls::write(&self.out, &controls)?;
        Ok(Prepared {
            journal: Journal::begin(&self.out, terms)?,
            decoys,
            controls,
            stealth,
        })
    }

    /// An audit that was stopped: its own terms hold, and the flags must not say otherwise.
    fn resumed(&self, asked: &Asked, suspect: &Suspect) -> anyhow::Result<Prepared> {
        let journal = Journal::resume(&self.out)?;
        let terms = &journal.transcript().terms;
        let out = self.out.display();
        let same = |what: &str, is_same: bool| {
            ensure!(
                is_same,
                "{out}: expected an audit with the same {what}, got another"
            );
            Ok(())
        };
        same("set", terms.root == asked.root())?;
        same("pairs of the set", terms.pairs == ranges(&asked.indices()))?;
        same("suspect", terms.suspect == suspect.identity()?)?;
        let decoys = decoys::read(
            self.decoys_from.as_deref(),
            &self.asked.owner,
            asked,
            terms.decoys * usize::try_from(terms.most)?,
            &terms.seed,
        )?;
        same("--decoys-from", terms.decoy_basis == decoys.basis)?;
        Ok(Prepared {
            journal,
            decoys,
            controls: controls::read(&self.out)?,
            stealth: None,
        })
    }
}

/// Reads the number of decoys.
fn decoys(text: &str) -> Result<usize, String> {
    text.parse()
        .ok()
        .filter(|decoys| *decoys <= MAX_DECOYS)
        .ok_or_else(|| format!("expected a number from 0 to {MAX_DECOYS}"))
}
