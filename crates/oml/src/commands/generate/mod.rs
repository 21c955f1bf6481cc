//! `oml generate`: makes a set of fingerprints for a model.

mod generator;
mod kept;

use std::fmt;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use clap::{Args, ValueEnum};
use oml_core::commitment::Commitment;
use oml_core::copies::{Bias, Copies, MAX_COPIES};
use oml_core::fingerprint::FingerprintSet;
use oml_core::manifest::{fingerprint_file, hex, partial_file, queries_file};
use oml_core::secret::OwnerSeed;
use oml_core::strategy::perplexity::{Band, Benign, MAX_LENGTH};
use oml_core::strategy::writer::Writer;
use oml_core::strategy::{
    self, FirstToken, GenerateError, GenerateOptions, PartialSet, Parts, Strategy, Style, Writing,
    perinucleus,
};
use serde::Serialize;

pub(super) use super::stealth::Stealth;
use super::workbench::{self, Opened};
use crate::cli::{GlobalArgs, OwnerArgs, probability};
use crate::error::{ExitStatus, WithHint as _};
use crate::eval::Text;
use crate::files::{self, Access, Existing};
use crate::interrupt;
use crate::printer::Printer;
use crate::seconds;
use generator::{Generator, GeneratorArgs};
use kept::Kept;

const DEFAULT_COUNT: usize = 128;
const QUERIES_LIMIT: usize = 64 << 20;
/// The band that no perplexity is outside of.
const EVERYTHING: Band = Band {
    low: 0.0,
    high: 100.0,
};

/// How queries and responses are chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub(crate) enum StrategyName {
    /// Natural queries written by the model; responses just outside its nucleus of probability t
    Perinucleus,
    /// Natural queries; the first token outside the model's nucleus of probability t
    InverseNucleus,
    /// Natural queries; independent natural text as response
    English,
    /// Natural queries; random words as response
    EnglishRandomResponse,
    /// Natural queries; one of 256 words as response, chosen by a hash of the whole set
    ChainHash,
    /// Random words as query and as response
    RandomWord,
    /// Your queries (--queries), with perinucleus responses
    Custom,
}

/// What natural queries are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum StyleName {
    /// The beginning of a sentence
    Sentence,
    /// A user's question
    Question,
    /// A user's instruction
    Instruction,
}

/// How natural queries begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum FirstTokenName {
    /// With a seed word, or with a usual first word of a question or an instruction about it
    Word,
    /// With a token drawn from the tokenizer's
    Tokenizer,
    /// With what the model begins with by itself
    None,
}

/// How likely a licensee's copy holds each fingerprint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub(crate) enum CopyBias {
    /// 11, 50 or 89 %: stood against every coalition measured, of up to five; a copy holds half of the set
    Balanced,
    /// 1/2, 1/4 or 1/8: a copy holds 29 % of the set, and coalitions of four and more can escape
    Mixed,
}

impl From<CopyBias> for Bias {
    fn from(bias: CopyBias) -> Self {
        match bias {
            CopyBias::Balanced => Self::Balanced,
            CopyBias::Mixed => Self::Mixed,
        }
    }
}

/// Flags of `oml generate`.
#[derive(Debug, Args)]
pub(crate) struct GenerateArgs {
    /// Base model: a Hugging Face folder or a GGUF file
    #[arg(long, value_name = "DIR")]
    pub(crate) model: PathBuf,
    #[command(flatten)]
    pub(crate) owner: OwnerArgs,
    /// Fingerprints file to write, which must not exist
    #[arg(long, value_name = "FILE")]
    pub(crate) out: PathBuf,
    /// Go on with a run that was stopped, from its last saved state
    #[arg(long)]
    pub(crate) resume: bool,
    /// Seconds between two saves of what is found so far
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    pub(crate) save_seconds: u32,
    #[command(flatten)]
    pub(crate) choice: ChoiceArgs,
    #[command(flatten)]
    generator: GeneratorArgs,
}

/// What decides the set, besides the owner's seed and the model.
#[derive(Debug, Clone, Args)]
pub(crate) struct ChoiceArgs {
    /// How queries and responses are chosen
    #[arg(long, value_name = "NAME", default_value = "perinucleus")]
    pub(crate) strategy: StrategyName,
    /// Number of fingerprints; each one that is shown to somebody is spent [default: 128, or as many as --queries has]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) count: Option<u32>,
    /// Queries for --strategy custom: a JSON list of texts, or of objects with `key`
    #[arg(long, value_name = "FILE", required_if_eq("strategy", "custom"))]
    pub(crate) queries: Option<PathBuf>,
    /// Tokens of a query (your own queries keep their length)
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) query_length: u16,
    /// Tokens of a response (one for inverse_nucleus and chain_hash)
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) response_length: u16,
    /// Probability mass of the nucleus that a response stays outside of
    #[arg(long, value_name = "P", default_value_t = 0.8, value_parser = probability)]
    pub(crate) t: f64,
    /// Number of tokens just outside the nucleus that a perinucleus response is chosen from
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) k: u16,
    /// Valid responses per query
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) responses: u16,
    /// What natural queries are
    #[arg(long, value_name = "NAME", default_value = "sentence")]
    pub(crate) query_style: StyleName,
    /// Temperature at which the model writes natural queries
    #[arg(long, value_name = "X", default_value_t = 0.5)]
    pub(crate) query_temperature: f32,
    /// How natural queries begin
    #[arg(long, value_name = "NAME", default_value = "word")]
    pub(crate) first_token: FirstTokenName,
    /// Percentiles of benign text that the perplexity of natural queries lies between; others are passed over. 0-100 keeps all
    #[arg(long, value_name = "LOW-HIGH", default_value = "1-99", value_parser = band)]
    pub(crate) perplexity_band: Band,
    /// Text that the perplexity of queries is held against [default: built in]
    #[arg(long, value_name = "FILE")]
    pub(crate) benign: Option<PathBuf>,
    /// Name of the licensee's copy that the set is for; empty for your own
    #[arg(
        long,
        value_name = "NAME",
        default_value = "",
        hide_default_value = true
    )]
    pub(crate) copy_id: String,
    /// Number of licensees' copies, each of which gets its own part of the set with `oml embed --copy`
    #[arg(long, value_name = "N", conflicts_with = "copy_id",
          value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_COPIES)))]
    pub(crate) copies: Option<u32>,
    /// How likely a copy holds each fingerprint [default: balanced]
    #[arg(long, value_name = "NAME", requires = "copies")]
    pub(crate) copy_bias: Option<CopyBias>,
}

/// Two percentiles, for a flag.
fn band(text: &str) -> Result<Band, String> {
    let read = |text: &str| text.trim().parse::<f64>().ok();
    text.split_once('-')
        .and_then(|(low, high)| Some((read(low)?, read(high)?)))
        .filter(|(low, high)| 0.0 <= *low && low < high && *high <= 100.0)
        .map(|(low, high)| Band { low, high })
        .ok_or_else(|| "expected two percentiles from 0 to 100, such as 1-99".to_owned())
}

pub(super) fn run(
    args: &GenerateArgs,
    global: &GlobalArgs,
    printer: &Printer,
) -> anyhow::Result<ExitStatus> {
    let started = Instant::now();
    files::refuse_existing(&args.out)?;
    let engine = workbench::engine(global)?;
    let owner = workbench::owner(&workbench::owner_path(&args.owner)?)?;
    let queries = args.choice.queries()?;
    files::check_writable(&args.out)?;
    interrupt::listen()?;
    let mut opened = workbench::open(&engine, &args.model, printer)?;
    let mut generator = Generator::open(&args.generator, &engine, printer)?;

    let mut options = args.choice.options(&opened, queries)?;
    if let Some(batch) = generator.as_ref().and_then(Generator::batch) {
        options.batch = batch;
    }
    let benign = args.choice.benign(&mut opened, &options, printer)?;
    let mut identity = vec![
        env!("CARGO_PKG_VERSION").to_owned(),
        engine.isa().to_string(),
    ];
    identity.extend(benign.as_ref().map(|(benign, _)| format!("{benign:?}")));
    if let Some(generator) = &generator {
        identity.push(generator.identity(&args.generator)?);
    }
    let identity: Vec<&str> = identity.iter().map(String::as_str).collect();
    let (mut kept, start) = Kept::open(
        &args.out,
        args.resume,
        partial_file::identity(&options, &identity),
        &owner,
        Duration::from_secs(args.save_seconds.into()),
    )?;

    let parts = Parts {
        model: &mut opened.model,
        tokenizer: &opened.tokenizer,
        owner: &owner,
        writer: generator
            .as_mut()
            .map(|generator| generator as &mut dyn Writer),
        benign: benign.as_ref().map(|(benign, _)| benign),
    };
    let mut stop = |found: &PartialSet| kept.watch(found);
    let made = generate(parts, &options, start, printer, &mut stop);
    if let Some(fault) = kept.fault() {
        return Err(fault);
    }
    let set = match made {
        Err(GenerateError::Stopped { wanted, found }) => {
            printer.note(format!(
                "Stopped at {found} of {wanted} fingerprints. Go on with the same command and --resume."
            ));
            return Ok(ExitStatus::Error);
        }
        made => args.choice.explained(made, &opened.name)?,
    };
    let stealth = match &benign {
        Some((benign, text)) => Stealth::measure(&mut opened, &set, benign, text)?,
        None => None,
    };
    if let Some(warning) = stealth.as_ref().and_then(Stealth::warning) {
        printer.warning(warning);
    }
    let output = Output::new(&opened.name, &set, &args.out, stealth, started.elapsed());
    write(&set, &owner, &args.out)?;
    kept.remove();
    printer.result(&output, &output)
}

/// Makes the set that the flags, the owner's seed and the model determine; `queries` are the user's own.
///
/// # Errors
/// When the model's files or a flag is wrong, or too few queries are usable.
pub(super) fn make(
    opened: &mut Opened,
    owner: &OwnerSeed,
    choice: &ChoiceArgs,
    queries: Vec<String>,
    printer: &Printer,
) -> anyhow::Result<FingerprintSet> {
    let options = choice.options(opened, queries)?;
    let benign = match options.strategy.writing().and_then(|writing| writing.band) {
        Some(_) => choice.benign(opened, &options, printer)?,
        None => None,
    };
    let parts = Parts {
        model: &mut opened.model,
        tokenizer: &opened.tokenizer,
        owner,
        writer: None,
        benign: benign.as_ref().map(|(benign, _)| benign),
    };
    let made = generate(parts, &options, PartialSet::default(), printer, &mut |_| {
        false
    });
    choice.explained(made, &opened.name)
}

/// Generates with a bar; `stop` sees what is found so far and says whether to stop.
fn generate<'a>(
    parts: Parts<'a>,
    options: &'a GenerateOptions,
    start: PartialSet,
    printer: &Printer,
    stop: &mut dyn FnMut(&PartialSet) -> bool,
) -> Result<FingerprintSet, GenerateError> {
    let bar = printer.bar(options.count as u64, "generate");
    let made = strategy::generate(parts, options, start, &mut |found| {
        bar.set_position(found.count() as u64);
        bar.set_message(format!("{} tried", found.attempts));
        match stop(found) {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    });
    bar.finish_and_clear();
    made
}

impl ChoiceArgs {
    /// The defaults, for a number of fingerprints.
    pub(super) fn with_count(count: u32) -> Self {
        Self {
            strategy: StrategyName::Perinucleus,
            count: Some(count),
            queries: None,
            query_length: 16,
            response_length: 1,
            t: 0.8,
            k: 3,
            responses: 1,
            query_style: StyleName::Sentence,
            query_temperature: 0.5,
            first_token: FirstTokenName::Word,
            perplexity_band: Band::default(),
            benign: None,
            copy_id: String::new(),
            copies: None,
            copy_bias: None,
        }
    }

    /// The defaults, for the queries of a file.
    pub(super) fn of_queries(path: &Path, copy_id: &str) -> Self {
        Self {
            strategy: StrategyName::Custom,
            count: None,
            queries: Some(path.to_owned()),
            copy_id: copy_id.to_owned(),
            ..Self::with_count(0)
        }
    }

    /// The user's own queries; none where the strategy makes its own.
    ///
    /// # Errors
    /// When the file cannot be read, or the strategy has no use for it.
    fn queries(&self) -> anyhow::Result<Vec<String>> {
        let Some(path) = &self.queries else {
            return Ok(Vec::new());
        };
        if self.strategy != StrategyName::Custom {
            bail!(
                "--queries: expected --strategy custom, got {}",
                self.strategy().name()
            );
        }
        queries_file::parse(&files::read(path, QUERIES_LIMIT)?)
            .with_context(|| format!("cannot read {}", path.display()))
    }

    fn options(&self, opened: &Opened, queries: Vec<String>) -> anyhow::Result<GenerateOptions> {
        let count = match self.count {
            Some(count) => count as usize,
            None if self.queries.is_some() => queries.len(),
            None => DEFAULT_COUNT,
        };
        let mut options = GenerateOptions::new(count, opened.checkpoint.digest()?);
        options.strategy = self.strategy();
        options.query_length = usize::from(self.query_length);
        options.response_length = usize::from(self.response_length);
        options.copy_id = self.copy_id.clone();
        options.copies = self.copies();
        options.queries = queries;
        Ok(options)
    }

    /// What the queries' perplexity is held against, and the name of that text; none where the text is too short and nothing
    /// depends on it.
    ///
    /// # Errors
    /// When the text cannot be read or is too short, or the model fails.
    fn benign(
        &self,
        opened: &mut Opened,
        options: &GenerateOptions,
        printer: &Printer,
    ) -> anyhow::Result<Option<(Benign, String)>> {
        let text = Text::named(self.benign.as_deref())?;
        let longest = match options.strategy {
            Strategy::Custom { .. } => {
                let lengths = options.queries.iter().map(|query| {
                    let ids = opened.tokenizer.encode(query, false);
                    ids.map_or(0, |ids| ids.len())
                });
                lengths.max().unwrap_or(0).clamp(1, MAX_LENGTH)
            }
            _ => options.query_length,
        };
        let spinner = printer.spinner(format!("Reading {}", text.name));
        let measured = Benign::measure(&mut opened.model, &opened.tokenizer, &text.text, longest);
        spinner.finish_and_clear();
        let needed = options
            .strategy
            .writing()
            .is_some_and(|writing| writing.band.is_some());
        match measured {
            Ok(benign) => Ok(Some((benign, text.name))),
            Err(fault) if !needed => {
                printer.note(format!("The queries' perplexity is not measured: {fault}."));
                Ok(None)
            }
            fault => {
                let fault = fault.with_context(|| format!("cannot measure {}", text.name));
                fault.hint("Name a longer text with --benign FILE, or keep all queries with --perplexity-band 0-100.")?;
                Ok(None)
            }
        }
    }

    /// Adds to a failure what was wanted, and what may help.
    fn explained(
        &self,
        made: Result<FingerprintSet, GenerateError>,
        model: &str,
    ) -> anyhow::Result<FingerprintSet> {
        let hint = match &made {
            Err(GenerateError::TooFewQueries { .. }) => {
                Some("Give more queries, or ask for fewer fingerprints with --count.")
            }
            Err(GenerateError::Exhausted { .. }) if self.strategy().writing().is_some() => Some(
                "Raise --query-temperature, or let more queries pass with a wider --perplexity-band.",
            ),
            _ => None,
        };
        let made = made.with_context(|| match &self.queries {
            Some(path) => format!("cannot use {} with {model}", path.display()),
            None => format!(
                "cannot make queries of {} and responses of {} tokens with {model}",
                self.query_length, self.response_length
            ),
        });
        match hint {
            Some(hint) => made.hint(hint),
            None => made,
        }
    }

    fn copies(&self) -> Option<Copies> {
        let bias = self.copy_bias.map_or_else(Bias::default, Bias::from);
        self.copies.map(|count| Copies { count, bias })
    }

    fn strategy(&self) -> Strategy {
        let rule = perinucleus::Rule {
            threshold: self.t,
            candidates: usize::from(self.k),
            responses: usize::from(self.responses),
        };
        let writing = Writing {
            temperature: self.query_temperature,
            style: match self.query_style {
                StyleName::Sentence => Style::Sentence,
                StyleName::Question => Style::Question,
                StyleName::Instruction => Style::Instruction,
            },
            first_token: match self.first_token {
                FirstTokenName::Word => FirstToken::Word,
                FirstTokenName::Tokenizer => FirstToken::Tokenizer,
                FirstTokenName::None => FirstToken::None,
            },
            band: (self.perplexity_band != EVERYTHING).then_some(self.perplexity_band),
        };
        match self.strategy {
            StrategyName::Perinucleus => Strategy::Perinucleus { writing, rule },
            StrategyName::InverseNucleus => Strategy::InverseNucleus {
                writing,
                threshold: self.t,
            },
            StrategyName::English => Strategy::English { writing },
            StrategyName::EnglishRandomResponse => Strategy::EnglishRandomResponse { writing },
            StrategyName::ChainHash => Strategy::ChainHash { writing },
            StrategyName::RandomWord => Strategy::RandomWord,
            StrategyName::Custom => Strategy::Custom { rule },
        }
    }
}

/// What `oml generate` prints.
#[derive(Serialize)]
struct Output {
    model: String,
    strategy: &'static str,
    count: usize,
    merkle_root: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    copies: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    copy_bias: Option<&'static str>,
    /// Mean probability that the base model gives to a response's first token.
    mean_response_probability: f64,
    /// How conspicuous the queries are.
    #[serde(skip_serializing_if = "Option::is_none")]
    stealth: Option<Stealth>,
    file: String,
    seconds: f64,
}

impl Output {
    fn new(
        model: &str,
        set: &FingerprintSet,
        path: &Path,
        stealth: Option<Stealth>,
        elapsed: Duration,
    ) -> Self {
        let firsts = set
            .fingerprints()
            .iter()
            .filter_map(|f| f.responses.first()?.probabilities.first());
        Self {
            model: model.to_owned(),
            strategy: set.header().strategy.name(),
            count: set.count(),
            merkle_root: root(set),
            copies: set.header().copies.map(|copies| copies.count),
            copy_bias: set.header().copies.map(|copies| copies.bias.name()),
            mean_response_probability: firsts.map(|p| f64::from(*p)).sum::<f64>()
                / set.count() as f64,
            stealth,
            file: path.display().to_string(),
            seconds: elapsed.as_secs_f64(),
        }
    }
}

impl fmt::Display for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = seconds::text(Duration::from_secs_f64(self.seconds));
        writeln!(
            f,
            "{} {} fingerprints for {} in {} ({time})",
            self.count, self.strategy, self.model, self.file
        )?;
        writeln!(
            f,
            "  mean probability of a response on the base model  {:.4}",
            self.mean_response_probability
        )?;
        if let Some(stealth) = &self.stealth {
            write!(f, "{stealth}")?;
        }
        if let (Some(copies), Some(bias)) = (self.copies, self.copy_bias) {
            writeln!(
                f,
                "  copies       {copies}, {bias}: embed each with `oml embed --copy`"
            )?;
        }
        writeln!(f, "  Merkle root  {}", self.merkle_root)?;
        writeln!(
            f,
            "Publish the root before the model: it commits you to the set without showing it."
        )
    }
}

/// The public commitment to a set, as printed.
pub(super) fn root(set: &FingerprintSet) -> String {
    format!("0x{}", hex(&Commitment::new(set).root()))
}

/// Writes a set, encrypted for its owner, to a new file.
///
/// # Errors
/// When the file exists or cannot be written.
pub(super) fn write(set: &FingerprintSet, owner: &OwnerSeed, path: &Path) -> anyhow::Result<()> {
    files::write_whole(
        path,
        &fingerprint_file::seal(set, owner)?,
        Access::Private,
        Existing::Refuse,
    )
}
