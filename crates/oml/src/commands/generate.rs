//! `oml generate`: makes a set of fingerprints for a model.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use clap::{Args, ValueEnum};
use oml_core::commitment::Commitment;
use oml_core::copies::{Bias, Copies, MAX_COPIES};
use oml_core::fingerprint::FingerprintSet;
use oml_core::manifest::{fingerprint_file, hex, queries_file};
use oml_core::secret::OwnerSeed;
use oml_core::strategy::{
    self, GenerateError, GenerateOptions, Strategy, Style, Writing, perinucleus,
};
use serde::Serialize;

use super::workbench::{self, Opened};
use crate::cli::{GlobalArgs, OwnerArgs, probability};

use crate::error::{ExitStatus, WithHint as _};
use crate::files::{self, Access, Existing};
use crate::printer::Printer;
use crate::seconds;

const DEFAULT_COUNT: usize = 128;
const QUERIES_LIMIT: usize = 64 << 20;

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
    #[command(flatten)]
    pub(crate) choice: ChoiceArgs,
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
    let mut opened = workbench::open(&engine, &args.model, printer)?;
    let set = make(&mut opened, &owner, &args.choice, queries, printer)?;
    let output = Output::new(&opened.name, &set, &args.out, started.elapsed());
    write(&set, &owner, &args.out)?;
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
    let count = match choice.count {
        Some(count) => count as usize,
        None if choice.queries.is_some() => queries.len(),
        None => DEFAULT_COUNT,
    };
    let mut options = GenerateOptions::new(count, opened.checkpoint.digest()?);
    options.strategy = choice.strategy();
    options.query_length = usize::from(choice.query_length);
    options.response_length = usize::from(choice.response_length);
    options.copy_id = choice.copy_id.clone();
    options.copies = choice.copies();
    options.queries = queries;
    let bar = printer.bar(count as u64, "generate");
    let mut progress = |progress: strategy::Progress| {
        bar.set_position(progress.done as u64);
        bar.set_message(format!("{} tried", progress.attempts));
    };
    let made = strategy::generate(
        &mut opened.model,
        &opened.tokenizer,
        owner,
        &options,
        &mut progress,
    );
    bar.finish_and_clear();
    let too_few = matches!(made, Err(GenerateError::TooFewQueries { .. }));
    let made = made.with_context(|| match &choice.queries {
        Some(path) => format!("cannot use {} with {}", path.display(), opened.name),
        None => format!(
            "cannot make queries of {} and responses of {} tokens with {}",
            choice.query_length, choice.response_length, opened.name
        ),
    });
    if too_few {
        return made.hint("Give more queries, or ask for fewer fingerprints with --count.");
    }
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
    file: String,
    seconds: f64,
}

impl Output {
    fn new(model: &str, set: &FingerprintSet, path: &Path, elapsed: Duration) -> Self {
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
