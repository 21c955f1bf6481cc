//! The binary as its users meet it: help, output, errors and exit codes, each test in a folder of its own.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "helpers of tests, outside of test functions"
)]

#[path = "cli/audit.rs"]
mod audit;
#[path = "cli/check.rs"]
mod check;
#[path = "cli/claim.rs"]
mod claim;
#[path = "cli/copies.rs"]
mod copies;
#[path = "cli/embed.rs"]
mod embed;
#[path = "cli/errors.rs"]
mod errors;
#[path = "cli/evidence.rs"]
mod evidence;
#[path = "cli/exchange.rs"]
mod exchange;
#[path = "cli/files.rs"]
mod files;
#[path = "cli/generate.rs"]
mod generate;
#[path = "cli/help.rs"]
mod help;
#[path = "cli/merge.rs"]
mod merge;
#[path = "cli/permit.rs"]
mod permit;
#[path = "cli/prompts.rs"]
mod prompts;
#[path = "cli/relate.rs"]
mod relate;
#[path = "cli/report.rs"]
mod report;
#[path = "cli/serve.rs"]
mod serve;
#[path = "cli/sft.rs"]
mod sft;
#[path = "cli/smollm2.rs"]
mod smollm2;
#[path = "cli/tiny.rs"]
mod tiny;
#[path = "cli/watermark.rs"]
mod watermark;

use std::fs;
use std::path::PathBuf;
use std::process::Command;

/// A folder of its own, with a home inside, where `oml` runs.
struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("home")).unwrap();
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn command(&self, line: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_oml"));
        command
            .args(line.split_whitespace())
            .current_dir(self.folder.path())
            .env_clear()
            .env("HOME", self.path("home"));
        command
    }

    /// What a command that must succeed prints with `--json`, or null.
    fn ok(&self, line: &str) -> serde_json::Value {
        let output = self.command(line).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "oml {line}: {said}");
        serde_json::from_slice(&output.stdout).unwrap_or_default()
    }

    /// Exit code, standard output and standard error as one text, without what differs between machines.
    fn run(&self, line: &str) -> String {
        shown(&mut self.command(line)).replace(&self.folder.path().display().to_string(), "FOLDER")
    }
}

fn shown(command: &mut Command) -> String {
    let output = command.output().unwrap();
    format!(
        "exit: {}\n--- stdout\n{}--- stderr\n{}",
        output
            .status
            .code()
            .map_or_else(|| "signal".to_owned(), |code| code.to_string()),
        String::from_utf8(output.stdout).unwrap(),
        String::from_utf8(output.stderr).unwrap(),
    )
}

/// The help of one command.
fn help(path: &str) -> String {
    let output = Place::new()
        .command(&format!("{path} --help"))
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0));
    String::from_utf8(output.stdout).unwrap()
}
