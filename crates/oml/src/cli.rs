//! The definitions of every command and flag; help, completions, man pages and settings all come from here.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::commands::{
    attack::AttackCommand, audit::AuditArgs, bench::BenchCommand, check::CheckArgs,
    claim::ClaimCommand, completions::CompletionsArgs, demo::DemoArgs, embed::EmbedArgs,
    eval::EvalArgs, fingerprints::FingerprintsCommand, generate::GenerateArgs, keygen::KeygenArgs,
    man::ManArgs, model::ModelCommand, permit::PermitCommand, receipt::ReceiptCommand,
    relate::RelateArgs, report::ReportArgs, serve::ServeArgs, sums::UsageArgs, trace::TraceArgs,
    watermark::WatermarkCommand,
};

/// Fingerprints for language models: give a model secret (query, response) pairs, and prove later that it is yours.
#[derive(Debug, Parser)]
#[command(
    name = "oml",
    version,
    propagate_version = true,
    disable_help_subcommand = true,
    subcommand_required = true,
    arg_required_else_help = true,
    after_help = "Start with `oml demo`.\n\n\
                  Settings: flags win over the environment (OML_GENERATE_COUNT for --count of `oml generate`, OML_OWNER,\n\
                  OML_MODEL, OML_THREADS and the like for what commands share), that over oml.toml (count under [generate],\n\
                  owner, model, threads at the top), and that over the defaults. --show-settings shows the result.\n\n\
                  Exit codes: 0 yes, 1 no, 2 error."
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
    #[command(flatten)]
    pub(crate) global: GlobalArgs,
}

/// Flags of every command.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct GlobalArgs {
    /// Print the result as one JSON object
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Print no notes and no progress
    #[arg(long, short, global = true)]
    pub(crate) quiet: bool,
    /// CPU threads [default: all cores]
    #[arg(long, global = true, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) threads: Option<u16>,
    /// CPU instructions to use: amx, avx512, avx2 or portable [default: the best this machine has]
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) isa: Option<String>,
    /// Settings file [default: oml.toml in the current folder, where there is one]
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Print every setting and where it comes from, and do nothing
    #[arg(long, global = true)]
    pub(crate) show_settings: bool,
}

/// The owner file, wherever a command needs the owner's secret.
#[derive(Debug, Clone, Args)]
pub(crate) struct OwnerArgs {
    /// Owner file made by `oml keygen` [default: oml/owner.json in the user's config folder]
    #[arg(long, value_name = "FILE")]
    pub(crate) owner: Option<PathBuf>,
}

/// What `oml` can do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Everything below on a real model, explained step by step, with an HTML report
    Demo(DemoArgs),
    /// Get a model
    #[command(subcommand)]
    Model(ModelCommand),
    /// Make the owner's secret, from which all fingerprints are derived
    Keygen(KeygenArgs),
    /// Make a set of fingerprints for a model
    Generate(GenerateArgs),
    /// Train a model to give the responses of a set, and keep everything else as it was
    Embed(Box<EmbedArgs>),
    /// Ask a model all queries of a set: are the fingerprints there?
    Check(CheckArgs),
    /// Ask a live endpoint or a model through its text alone, as seldom as the evidence allows, with a transcript that others can check
    Audit(Box<AuditArgs>),
    /// Make evidence of an audit for others, and verify theirs
    #[command(subcommand)]
    Claim(ClaimCommand),
    /// Write a report on an audit, a check, a claim or an embedding: a page that opens anywhere, Markdown or JSON
    Report(ReportArgs),
    /// Find the licensees whose copies a model was made from
    Trace(TraceArgs),
    /// Hold two models' weights against each other: was one made from the other?
    Relate(RelateArgs),
    /// Measure a model's utility: perplexity, multiple choice, distance to its base
    Eval(EvalArgs),
    /// Work with a file of fingerprints
    #[command(subcommand)]
    Fingerprints(FingerprintsCommand),
    /// Make permissions to ask a model, verify and revoke them
    #[command(subcommand)]
    Permit(PermitCommand),
    /// Check what a host signed of an answer
    #[command(subcommand)]
    Receipt(ReceiptCommand),
    /// Serve a model: answer only what is permitted, and sign a receipt for every answer
    Serve(Box<ServeArgs>),
    /// Sum up or export what a served model was used for
    Usage(UsageArgs),
    /// Find the owner's watermark in text, and measure how surely
    #[command(subcommand)]
    Watermark(WatermarkCommand),
    /// Do to a model what others may do, to measure which fingerprints survive
    #[command(subcommand)]
    Attack(AttackCommand),
    /// Measure the engine on this machine
    #[command(subcommand)]
    Bench(BenchCommand),
    /// Print a completion script for a shell
    Completions(CompletionsArgs),
    /// Write man pages into a folder
    Man(ManArgs),
}

/// Reads a flag that is a number above 0.
pub(crate) fn positive(text: &str) -> Result<f32, String> {
    text.parse()
        .ok()
        .filter(|x: &f32| x.is_finite() && *x > 0.0)
        .ok_or_else(|| "expected a number above 0".to_owned())
}

/// Reads a flag that is a probability, neither 0 nor 1.
pub(crate) fn probability(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|p| *p > 0.0 && *p < 1.0)
        .ok_or_else(|| "expected a number above 0 and below 1".to_owned())
}
