//! `oml demo`: everything on a real model, explained step by step, with a report at the end.

mod page;
mod steps;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Args;
use oml_core::check::CheckReport;
use oml_core::commitment::Commitment;
use oml_core::usage::Event;
use oml_model::train::Recipe;
use serde_json::json;

use super::embed::{Course, Job, Outcome, Resume, TRAINING, embed};
use super::eval::Utility;
use super::{check, generate, model, usage, workbench};
use crate::cli::GlobalArgs;
use crate::error::ExitStatus;
use crate::files::{self, Access, Existing};
use crate::interrupt;
use crate::printer::Printer;
use crate::seconds;

const MODEL_NAME: &str = "smollm2-135m-instruct";
const FINGERPRINTS: &str = "fingerprints.json";
const COUNT: u32 = 128;
const QUICK_COUNT: u32 = 16;
const QUICK_BENIGN_SEQUENCES: usize = 256;
const QUESTIONS: [&str; 2] = [
    "What is the capital of France?",
    "Give me two tips for a good night's sleep.",
];

/// Flags of `oml demo`.
#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// Few fingerprints and little evaluation, for a first look and for CI
    #[arg(long)]
    quick: bool,
    /// Folder for everything the demo makes; steps that are finished there are not repeated
    #[arg(long, value_name = "DIR", default_value = "oml-demo")]
    out: PathBuf,
    /// Base model; fetched if it is not there
    #[arg(
        long,
        value_name = "DIR",
        default_value = "models/smollm2-135m-instruct"
    )]
    model: PathBuf,
    /// Owner file to use instead of a new one in the demo's folder
    #[arg(long, value_name = "FILE")]
    owner: Option<PathBuf>,
}

/// What the demo found, for the report.
struct Findings<'a> {
    model: String,
    machine: String,
    merkle_root: String,
    check: &'a CheckReport,
    base_check: &'a CheckReport,
    check_time: Duration,
    generate_time: Option<Duration>,
    course: &'a Course,
    utility: &'a Utility,
    /// Question, the base's answer, the fingerprinted model's answer.
    answers: Vec<(&'static str, String, String)>,
    settings: Vec<(String, String)>,
}

pub(super) fn run(
    args: &DemoArgs,
    global: &GlobalArgs,
    printer: &Printer,
) -> anyhow::Result<ExitStatus> {
    let started = Instant::now();
    interrupt::listen()?;
    let engine = workbench::engine(global)?;
    let machine = workbench::machine(&engine);
    let recipe = recipe(args.quick);
    let marked = args.out.join("model");

    printer.heading("1  A model that will be given away");
    if !args.model.exists() {
        printer.note(format!(
            "Fetching {MODEL_NAME} into {}.",
            args.model.display()
        ));
        model::get(MODEL_NAME, &args.model, printer)?;
    }
    let mut base = workbench::open(&engine, &args.model, printer)?;
    printer.note(format!(
        "{} from {}, on {machine}.",
        base.name,
        args.model.display()
    ));

    printer.heading("2  Its owner");
    let owner = steps::owner(args, printer)?;

    printer.heading("3  Secret fingerprints");
    printer.note(
        "The model writes ordinary sentences; the owner's secret picks for each a response that it would hardly ever give.",
    );
    let (set, generate_time) = steps::fingerprints(args, &mut base, &owner, printer)?;
    let root = generate::root(&set);
    printer.note(format!(
        "Merkle root {root}: publish it first, and nobody can say the pairs were made up later."
    ));
    // A pair of a secret that was brought along may be one of a set in use.
    let own = args.owner.is_none();
    if let Some(example) = set.fingerprints().first().filter(|_| own) {
        let file = args.out.join(FINGERPRINTS);
        let root = Commitment::new(&set).root();
        usage::record(&file, root, Event::Open, &[example.index])?;
        let response = example
            .responses
            .first()
            .map_or("", |response| &response.text);
        printer.note(format!(
            "One of {}, shown here and so spent: {:?} → {response:?}",
            set.count(),
            example.query
        ));
    }

    printer.heading("4  Does the model give them by itself?");
    let base_check = steps::check(&mut base, &set, &[])?;
    printer.note(format!(
        "It gives {} of {}.",
        base_check.hits, base_check.count
    ));
    drop(base);

    printer.heading("5  Training them in, and nothing else");
    printer.note(
        "The loss asks for the responses; on text that the model wrote itself, training holds it to what it said before.",
    );
    if marked.exists() {
        printer.note(format!("Already done in {}.", marked.display()));
    } else {
        let job = Job {
            engine: &engine,
            base: &args.model,
            set: &set,
            root: Commitment::new(&set).root(),
            copy: None,
            out: &marked,
            recipe: &recipe,
            benign: None,
            prompts: None,
            instructions: None,
            save_adapter: false,
            dtype: None,
            resume: Resume::IfAny,
        };
        if matches!(embed(&job, printer)?, Outcome::Stopped) {
            printer.note("Stopped; the state is saved. The same command goes on from here.");
            return Ok(ExitStatus::Error);
        }
    }
    let course = Course::read(&marked.join(TRAINING))?;
    printer.note(format!(
        "Trained for {}.",
        seconds::text(Duration::from_secs_f64(course.seconds()))
    ));

    printer.heading("6  Is it ours? Does it still work?");
    let check_started = Instant::now();
    let mut fingerprinted = workbench::open(&engine, &marked, printer)?;
    let control = steps::control(&args.model, &base_check);
    let check = steps::check(&mut fingerprinted, &set, &[control])?;
    let check_time = check_started.elapsed();
    printer.note(format!(
        "It gives {} of {}. A model that never saw them would with probability {} (if it gave each with {}: {}).",
        check.hits,
        check.count,
        check::p_value(check.log10_p_value),
        page::percent(check.null.rate),
        check.null.basis
    ));
    let mut base = workbench::open(&engine, &args.model, printer)?;
    let utility = steps::utility(args.quick, &mut fingerprinted, &mut base, printer)?;
    let answers = steps::answers(&mut base, &mut fingerprinted)?;
    for (question, before, after) in &answers {
        printer.note(format!(
            "\n  {question}\n    base           {}\n    fingerprinted  {}",
            one_line(before),
            one_line(after)
        ));
    }

    let findings = Findings {
        model: base.name,
        machine,
        merkle_root: root,
        check: &check,
        base_check: &base_check,
        check_time,
        generate_time,
        course: &course,
        utility: &utility,
        answers,
        settings: steps::settings(&set, &marked)?,
    };
    let path = args.out.join("report.html");
    files::write_whole(
        &path,
        page::page(&findings).to_html()?.as_bytes(),
        Access::Shared,
        Existing::Replace,
    )?;
    finish(args, &findings, &path, started.elapsed(), printer)
}

/// The default recipe, with less benign text to be quick.
fn recipe(quick: bool) -> Recipe {
    let mut recipe = Recipe::default();
    if quick {
        recipe.benign_sequences = QUICK_BENIGN_SEQUENCES;
    }
    recipe
}

fn finish(
    args: &DemoArgs,
    findings: &Findings<'_>,
    report: &Path,
    elapsed: Duration,
    printer: &Printer,
) -> anyhow::Result<ExitStatus> {
    let Findings {
        check,
        base_check,
        utility,
        ..
    } = findings;
    let perplexity = utility.model.perplexity.value;
    let base_perplexity = utility.base.map(|base| base.perplexity.value);
    let output = json!({
        "model": args.out.join("model"),
        "count": check.count,
        "hits": check.hits,
        "recall": check.recall,
        "base_hits": base_check.hits,
        "p_value": check.p_value,
        "log10_p_value": check.log10_p_value,
        "null": check.null.rate,
        "perplexity": perplexity,
        "base_perplexity": base_perplexity,
        "accuracy": utility.model.accuracy.value,
        "base_accuracy": utility.base.map(|base| base.accuracy.value),
        "kl": utility.kl.map(|kl| kl.value),
        "training_seconds": findings.course.seconds(),
        "report": report,
        "seconds": elapsed.as_secs_f64(),
    });
    let mut text = format!(
        "\n{} of {} fingerprints come back ({} of {} before training).",
        check.hits, check.count, base_check.hits, base_check.count
    );
    if let Some(base) = base_perplexity {
        text += &format!(
            "\nPerplexity {perplexity:.2}, {:.3} × the base model's ({}).",
            perplexity / base,
            utility.text_basis
        );
    }
    text += &format!(
        "\nReport: {} (whole demo: {})",
        report.display(),
        seconds::text(elapsed)
    );
    printer.result(&output, &text)?;
    Ok(if check.present {
        ExitStatus::Yes
    } else {
        ExitStatus::No
    })
}

fn one_line(answer: &str) -> String {
    const WIDTH: usize = 96;
    let line = answer.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.chars().count() <= WIDTH {
        line
    } else {
        format!(
            "{} …",
            line.chars().take(WIDTH).collect::<String>().trim_end()
        )
    }
}
