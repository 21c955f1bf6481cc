//! `oml watermark`: whose key is in a text, and how well that can be told.

mod detect;
mod mark_args;
mod measure;
mod measured;

use clap::{Subcommand, ValueEnum};
use oml_core::watermark::{Gumbel, Kgw, Scheme, SynthId};

pub(super) use self::mark_args::MarkArgs;
use crate::cli::GlobalArgs;
use crate::error::ExitStatus;
use crate::printer::Printer;

/// What can be done with watermarks.
#[derive(Debug, Subcommand)]
pub(crate) enum WatermarkCommand {
    /// Was a text generated with the owner's watermark? An exact p-value; exit code 0 yes, 1 not shown
    Detect(detect::DetectArgs),
    /// Generate text with and without watermarks, and measure how surely they are found and what they cost
    Measure(measure::MeasureArgs),
}

/// A scheme with its default parameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum SchemeName {
    Synthid,
    Kgw,
    Gumbel,
}

impl SchemeName {
    pub(super) const fn scheme(self) -> Scheme {
        match self {
            Self::Synthid => Scheme::SynthId(SynthId::DEFAULT),
            Self::Kgw => Scheme::Kgw(Kgw::DEFAULT),
            Self::Gumbel => Scheme::Gumbel(Gumbel::DEFAULT),
        }
    }
}

pub(super) fn run(
    command: &WatermarkCommand,
    global: &GlobalArgs,
    printer: &Printer,
) -> anyhow::Result<ExitStatus> {
    match command {
        WatermarkCommand::Detect(args) => detect::run(args, printer),
        WatermarkCommand::Measure(args) => measure::run(args, global, printer),
    }
}
