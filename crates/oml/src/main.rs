//! The `oml` command: give a language model fingerprints, check them, and measure what they cost.
//!
//! The binary is the only place that reads flags, the environment and config files; libraries receive ready values.

mod available_memory;
mod cli;
mod commands;
mod error;
mod eval;
mod files;
mod interrupt;
mod nearest;
mod printer;
mod random;
mod report;
mod sealed;
mod seconds;
mod settings;

use std::process::ExitCode;

use crate::error::ExitStatus;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().collect();
    let environment = settings::Environment::of_process();
    let parsed = match settings::parse(&arguments, &environment) {
        Ok(parsed) => parsed,
        Err(settings::ParseError::Usage(error)) => {
            let status = if error.use_stderr() {
                ExitStatus::Error
            } else {
                ExitStatus::Yes
            };
            // A closed pipe is the only way this fails, and then nobody is reading.
            let _ = error.print();
            return status.into();
        }
        Err(settings::ParseError::File(error)) => {
            printer::Printer::new(false, false).error(&error);
            return ExitStatus::Error.into();
        }
    };
    let printer = printer::Printer::new(parsed.cli.global.json, parsed.cli.global.quiet);
    let outcome = if parsed.cli.global.show_settings {
        printer.result(&parsed.settings, &parsed.settings)
    } else {
        commands::run(parsed.cli, &printer)
    };
    match outcome {
        Ok(status) => status.into(),
        Err(error) => {
            printer.error(&error);
            ExitStatus::Error.into()
        }
    }
}
