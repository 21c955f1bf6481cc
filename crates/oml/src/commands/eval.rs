//! `oml eval`: measures what a model can do, and how far it is from its base.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context as _, bail, ensure};
use clap::Args;
use oml_model::eval::{self, Measured, Windows};
use serde::Serialize;

use super::workbench::{self, Opened};
use crate::cli::GlobalArgs;
use crate::error::ExitStatus;
use crate::eval::Text;
use crate::eval::choices::Choices;
use crate::printer::Printer;

const TEXT_TOKENS: u32 = 8192;
const WINDOW: usize = 512;
const QUESTIONS: u32 = 2000;

/// Flags of `oml eval`.
#[derive(Debug, Args)]
pub(crate) struct EvalArgs {
    /// Model to measure: a Hugging Face folder or a GGUF file
    #[arg(long, value_name = "DIR")]
    pub(crate) model: PathBuf,
    /// The model it was made from, to measure beside it and the distance to it
    #[arg(long, value_name = "DIR")]
    pub(crate) base: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) data: DataArgs,
}

/// What a model is measured on.
#[derive(Debug, Clone, Args)]
pub(crate) struct DataArgs {
    /// Text for perplexity and distance [default: a built-in text]
    #[arg(long, value_name = "FILE")]
    pub(crate) text: Option<PathBuf>,
    /// Two-choice questions in PIQA's form, one JSON object per line [default: a built-in set]
    #[arg(long, value_name = "FILE")]
    pub(crate) choices: Option<PathBuf>,
    /// Right answers of --choices, one per line, where the questions do not carry a `label`
    #[arg(long, value_name = "FILE", requires = "choices")]
    pub(crate) labels: Option<PathBuf>,
    /// Use at most this many tokens of the text
    #[arg(long, value_name = "N", default_value_t = TEXT_TOKENS, value_parser = clap::value_parser!(u32).range(2..))]
    pub(crate) text_tokens: u32,
    /// Tokens the model reads at once [default: 512, or as many as it takes]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(2..))]
    pub(crate) window: Option<u32>,
    /// Use at most this many questions
    #[arg(long, value_name = "N", default_value_t = QUESTIONS, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) questions: u32,
}

impl Default for DataArgs {
    fn default() -> Self {
        Self {
            text: None,
            choices: None,
            labels: None,
            text_tokens: TEXT_TOKENS,
            window: None,
            questions: QUESTIONS,
        }
    }
}

pub(super) fn run(
    args: &EvalArgs,
    global: &GlobalArgs,
    printer: &Printer,
) -> anyhow::Result<ExitStatus> {
    let started = Instant::now();
    let engine = workbench::engine(global)?;
    let data = Data::new(&args.data)?;
    let mut model = workbench::open(&engine, &args.model, printer)?;
    let mut base = args
        .base
        .as_deref()
        .map(|path| workbench::open(&engine, path, printer))
        .transpose()?;
    let utility = Utility::measure(&mut model, base.as_mut(), &data, printer)?;
    let output = Output::new(
        &model.name,
        base.as_ref().map(|base| base.name.as_str()),
        &utility,
        started,
    );
    printer.result(&output, &output)
}

/// The text and the questions, read.
pub(super) struct Data {
    text: Text,
    choices: Choices,
    tokens: usize,
    window: Option<usize>,
    /// The files, for errors.
    places: [String; 2],
}

impl Data {
    /// Reads what the flags name.
    ///
    /// # Errors
    /// When a file is missing or not of its form.
    pub(super) fn new(args: &DataArgs) -> anyhow::Result<Self> {
        let mut choices = Choices::named(args.choices.as_deref(), args.labels.as_deref())?;
        choices.questions.truncate(args.questions as usize);
        Ok(Self {
            text: Text::named(args.text.as_deref())?,
            choices,
            tokens: args.text_tokens as usize,
            window: args.window.map(|window| window as usize),
            places: [place(args.text.as_deref()), place(args.choices.as_deref())],
        })
    }
}

fn place(path: Option<&Path>) -> String {
    path.map_or_else(
        || "the built-in data".to_owned(),
        |path| path.display().to_string(),
    )
}

/// What a model can do.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ability {
    pub(super) perplexity: Measured,
    pub(super) accuracy: Measured,
}

/// What a model can do, beside its base where there is one.
#[derive(Debug, Clone)]
pub(super) struct Utility {
    pub(super) model: Ability,
    pub(super) base: Option<Ability>,
    pub(super) kl: Option<Measured>,
    pub(super) text_basis: String,
    pub(super) choices_basis: String,
}

impl Utility {
    /// Measures a model, and its base where there is one.
    ///
    /// # Errors
    /// When the text is too short, or a model fails.
    pub(super) fn measure(
        model: &mut Opened,
        mut base: Option<&mut Opened>,
        data: &Data,
        printer: &Printer,
    ) -> anyhow::Result<Self> {
        let limit = [Some(&*model), base.as_deref()]
            .into_iter()
            .flatten()
            .map(|opened| opened.model.longest_sequence())
            .fold(usize::MAX, usize::min);
        let window = data.window.unwrap_or(WINDOW.min(limit));
        ensure!(
            window <= limit,
            "--window: expected at most {limit} tokens, as many as the model takes, got {window}"
        );
        let windows = Windows::new(&model.tokenizer, &data.text.text, window, data.tokens)?;
        if windows.tokens() == 0 {
            bail!("{}: expected at least two tokens of text", data.places[0]);
        }
        let [text, choices] = &data.places;
        let spinner = printer.spinner(format!("Reading {text} with {}", model.name));
        let (perplexity, beside) = match base.as_deref_mut() {
            None => {
                let perplexity = eval::perplexity(&mut model.model, &windows)
                    .with_context(|| format!("cannot measure {} on {text}", model.name))?;
                (perplexity, None)
            }
            Some(base) => {
                ensure!(
                    base.tokenizer.hash() == model.tokenizer.hash(),
                    "--base: expected a model with the tokenizer of {}, got another in {}",
                    model.name,
                    base.name
                );
                let compared = eval::compare(&mut model.model, &mut base.model, &windows)
                    .with_context(|| {
                        format!("cannot measure {} and {} on {text}", model.name, base.name)
                    })?;
                (compared.perplexity, Some(compared))
            }
        };
        let ability = |opened: &mut Opened, perplexity| {
            spinner.set_message(format!("Asking {} two-choice questions", opened.name));
            let questions = &data.choices.questions;
            let accuracy = eval::choices(&mut opened.model, &opened.tokenizer, questions)
                .with_context(|| {
                    format!(
                        "cannot ask {} the questions of {choices} (two sequences each)",
                        opened.name
                    )
                })?;
            anyhow::Ok(Ability {
                perplexity,
                accuracy,
            })
        };
        let own = ability(model, perplexity)?;
        let base = match base.zip(beside) {
            Some((base, compared)) => Some(ability(base, compared.base_perplexity)?),
            None => None,
        };
        spinner.finish_and_clear();
        Ok(Self {
            model: own,
            base,
            kl: beside.map(|compared| compared.kl),
            text_basis: format!(
                "{}, {} tokens in windows of {}",
                data.text.name,
                windows.tokens(),
                window
            ),
            choices_basis: format!(
                "{} of {}, log-likelihood per character",
                data.choices.questions.len(),
                data.choices.name
            ),
        })
    }
}

/// What `oml eval` prints.
#[derive(Serialize)]
struct Output {
    model: String,
    perplexity: f64,
    perplexity_stderr: f64,
    accuracy: f64,
    accuracy_stderr: f64,
    /// Without a base, null.
    kl: Option<f64>,
    kl_stderr: Option<f64>,
    base: Option<BaseOutput>,
    text: String,
    choices: String,
    seconds: f64,
}

#[derive(Serialize)]
struct BaseOutput {
    model: String,
    perplexity: f64,
    perplexity_stderr: f64,
    accuracy: f64,
    accuracy_stderr: f64,
    perplexity_ratio: f64,
}

impl Output {
    fn new(model: &str, base: Option<&str>, utility: &Utility, started: Instant) -> Self {
        let Ability {
            perplexity,
            accuracy,
        } = utility.model;
        let base = base.zip(utility.base).map(|(name, ability)| BaseOutput {
            model: name.to_owned(),
            perplexity: ability.perplexity.value,
            perplexity_stderr: ability.perplexity.standard_error,
            accuracy: ability.accuracy.value,
            accuracy_stderr: ability.accuracy.standard_error,
            perplexity_ratio: perplexity.value / ability.perplexity.value,
        });
        Self {
            model: model.to_owned(),
            perplexity: perplexity.value,
            perplexity_stderr: perplexity.standard_error,
            accuracy: accuracy.value,
            accuracy_stderr: accuracy.standard_error,
            kl: utility.kl.map(|kl| kl.value),
            kl_stderr: utility.kl.map(|kl| kl.standard_error),
            base,
            text: utility.text_basis.clone(),
            choices: utility.choices_basis.clone(),
            seconds: started.elapsed().as_secs_f64(),
        }
    }
}

impl fmt::Display for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.model)?;
        write!(
            f,
            "  perplexity  {:.3} ± {:.3}",
            self.perplexity, self.perplexity_stderr
        )?;
        if let Some(base) = &self.base {
            let BaseOutput {
                model,
                perplexity,
                perplexity_stderr,
                perplexity_ratio,
                ..
            } = base;
            write!(
                f,
                "   {model}: {perplexity:.3} ± {perplexity_stderr:.3}, ratio {perplexity_ratio:.4}"
            )?;
        }
        writeln!(f, "   ({})", self.text)?;
        write!(
            f,
            "  accuracy    {:.1} ± {:.1} %",
            100.0 * self.accuracy,
            100.0 * self.accuracy_stderr
        )?;
        if let Some(base) = &self.base {
            write!(
                f,
                "   {}: {:.1} ± {:.1} %",
                base.model,
                100.0 * base.accuracy,
                100.0 * base.accuracy_stderr
            )?;
        }
        writeln!(f, "   ({})", self.choices)?;
        if let (Some(kl), Some(error)) = (self.kl, self.kl_stderr) {
            writeln!(
                f,
                "  distance    {kl:.5} ± {error:.5}   (mean KL from the base in nats, same text)"
            )?;
        }
        Ok(())
    }
}
