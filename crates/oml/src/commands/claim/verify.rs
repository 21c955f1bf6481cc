//! `oml claim verify`: every check of a bundle, with what it means and what came out.

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use oml_core::bundle::{self, Bundle, Check, Judge, Opened, Outcome};
use oml_core::commitment::Opening;
use oml_core::manifest::{hex, parse_hash, response_file};
use oml_core::merkle::Hash;
use oml_core::signing::Address;
use oml_core::time_proof::parse_rfc3339;
use oml_core::time_proof::rfc3161::{self, MAX_ROOTS_BYTES, Roots};
use oml_core::tokenizer::Tokenizer;
use serde::Serialize;

use super::again;
use crate::cli::GlobalArgs;
use crate::commands::workbench;
use crate::error::ExitStatus;
use crate::files;
use crate::printer::{Printer, printable};

/// Flags of `oml claim verify`.
#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    /// Bundle made by `oml claim make`
    #[arg(value_name = "BUNDLE")]
    bundle: PathBuf,
    /// Merkle root, as the owner published it: 64 hexadecimal digits, with or without 0x
    #[arg(long, value_name = "HEX", value_parser = root)]
    root: Option<Hash>,
    /// Owner's address, as the owner published it
    #[arg(long, value_name = "0x…", value_parser = address)]
    owner_address: Option<Address>,
    /// Root certificates (PEM) of the time-stamping authorities that you trust
    #[arg(long, value_name = "FILE")]
    tsa_root: Option<PathBuf>,
    /// Id of the git commit, as it was known to others at its time
    #[arg(long, value_name = "ID", value_parser = commit)]
    commit: Option<String>,
    /// Hash of the block that holds the root's transaction, as a node or an explorer of its chain shows it
    #[arg(long, value_name = "0x…", value_parser = root)]
    block_hash: Option<Hash>,
    /// When the suspect was first there: YYYY-MM-DD, or YYYY-MM-DDThh:mm:ssZ
    #[arg(long, value_name = "TIME", value_parser = time)]
    released: Option<u64>,
    /// Your challenge, made by `oml claim challenge`
    #[arg(long, value_name = "FILE", requires = "response")]
    challenge: Option<PathBuf>,
    /// The owner's response to it
    #[arg(long, value_name = "FILE", requires = "challenge")]
    response: Option<PathBuf>,
    /// Base model that the set was made on, to see that its strategy gives the opened responses; a suspect that is an adapter stands on it
    #[arg(long, value_name = "DIR")]
    base: Option<PathBuf>,
    /// A model that never saw the fingerprints, to be asked the opened pairs (repeatable)
    #[arg(long, value_name = "DIR")]
    rerun_control: Vec<PathBuf>,
    /// The suspect's weights, to be asked the opened pairs again
    #[arg(long, value_name = "DIR")]
    suspect: Option<PathBuf>,
}

pub(super) fn run(
    args: &VerifyArgs,
    global: &GlobalArgs,
    printer: &Printer,
) -> anyhow::Result<ExitStatus> {
    let bytes = super::read(&args.bundle)?;
    let bundle = super::parse(&args.bundle, &bytes)?;
    let authorities = args.tsa_root.as_deref().map(authorities).transpose()?;
    let base = args
        .base
        .as_deref()
        .map(workbench::checkpoint)
        .transpose()?;
    let tokenizer = base.map(|base| base.tokenizer()).transpose()?;
    let judge = Judge {
        now: super::now(),
        root: args.root,
        owner: args.owner_address,
        authorities: authorities.as_ref(),
        commit: args.commit.as_deref(),
        block: args.block_hash,
        released: args.released,
        tokenizer: tokenizer.as_ref().map(|own| own as &dyn Tokenizer),
    };
    let mut checks = judge.check(&bundle);
    let more = args.challenged(&bundle, &mut checks)?;
    args.ask_models(&bundle, more, &mut checks, global, printer)?;
    let output = Output::new(&args.bundle, &bundle, &checks);
    printer.result(&output, &output)?;
    Ok(if output.holds {
        ExitStatus::Yes
    } else {
        ExitStatus::No
    })
}

impl VerifyArgs {
    /// Checks the response to the judge's challenge, and gives the pairs that it opens where it holds.
    fn challenged(
        &self,
        bundle: &Bundle<'_>,
        checks: &mut Vec<Check>,
    ) -> anyhow::Result<Vec<Opened>> {
        let (Some(challenge), Some(response)) = (&self.challenge, &self.response) else {
            checks.push(Check::new(
                "response",
                "the owner opened fingerprints that the judge drew among all, so the owner holds the set",
                Outcome::Unchecked("no challenge was made: see `oml claim challenge`".into()),
            ));
            return Ok(Vec::new());
        };
        let (challenge, digest) = super::read_challenge(challenge)?;
        let bytes = files::read(response, response_file::MAX_BYTES)?;
        let response = response_file::parse(&bytes)
            .with_context(|| format!("cannot read {}", response.display()))?;
        let more = bundle::check_response(bundle, &challenge, &digest, &response);
        let holds = bundle::holds(&more);
        checks.extend(more);
        Ok(if holds { response.opened } else { Vec::new() })
    }

    /// Asks the models that the judge named. Pairs of no such set are not asked: nothing they show counts.
    fn ask_models(
        &self,
        bundle: &Bundle<'_>,
        mut more: Vec<Opened>,
        checks: &mut Vec<Check>,
        global: &GlobalArgs,
        printer: &Printer,
    ) -> anyhow::Result<()> {
        let unchecked = |name, means, words: &str| {
            Check::new(name, means, Outcome::Unchecked(words.to_owned()))
        };
        let engine = workbench::engine(global)?;
        // Pairs that the claim shows already are not asked twice.
        let shown = |opened: &Opened| {
            bundle
                .opened
                .iter()
                .any(|own| own.opening.index == opened.opening.index)
        };
        more.retain(|opened| !shown(opened));
        match &self.base {
            Some(path) => {
                let openings: Vec<&Opening> = bundle.opened.iter().chain(&more).map(|o| &o.opening).collect();
                checks.push(again::check_base(path, bundle, &openings, &engine, printer)?);
            }
            None => checks.push(unchecked(
                "responses",
                "the responses are such as the strategy makes with the base model, and not what every such model says",
                "no --base was named",
            )),
        }
        for path in &self.rerun_control {
            checks.push(again::check_control(path, bundle, &engine, printer)?);
        }
        if self.rerun_control.is_empty() {
            checks.push(unchecked(
                "control",
                "a model that never saw the fingerprints answers the opened pairs no more often than stated",
                "no --rerun-control was named",
            ));
        }
        if let Some(path) = &self.suspect {
            let pairs: Vec<Opened> = bundle.opened.iter().chain(&more).cloned().collect();
            let base = self.base.as_deref();
            checks.push(again::check_suspect(
                path, base, bundle, &pairs, &engine, printer,
            )?);
        }
        Ok(())
    }
}

fn authorities(path: &Path) -> anyhow::Result<Roots> {
    let pem = files::read(path, MAX_ROOTS_BYTES)?;
    rfc3161::roots(&pem).with_context(|| format!("cannot read {}", path.display()))
}

/// What came out.
#[derive(Serialize)]
struct Output {
    bundle: String,
    /// No check fails.
    holds: bool,
    owner: String,
    merkle_root: String,
    leaves: u64,
    opened: usize,
    conclusion: &'static str,
    statement: String,
    /// SHA-256 of the claim's statement, which is signed.
    claim: String,
    /// Names of what nobody checked.
    unchecked: Vec<&'static str>,
    checks: Vec<CheckOutput>,
}

#[derive(Serialize)]
struct CheckOutput {
    name: &'static str,
    outcome: &'static str,
    means: &'static str,
    found: String,
}

impl Output {
    fn new(path: &Path, bundle: &Bundle<'_>, checks: &[Check]) -> Self {
        let statement = &bundle.statement;
        let unchecked = |check: &&Check| matches!(check.outcome, Outcome::Unchecked(_));
        Self {
            bundle: path.display().to_string(),
            holds: bundle::holds(checks),
            owner: statement.owner.to_string(),
            merkle_root: format!("0x{}", hex(&statement.root)),
            leaves: statement.leaves,
            opened: bundle.opened.len(),
            conclusion: statement.figures.conclusion,
            statement: statement.to_string(),
            claim: hex(&bundle.digest),
            unchecked: checks
                .iter()
                .filter(unchecked)
                .map(|check| check.name)
                .collect(),
            checks: checks
                .iter()
                .map(|check| CheckOutput {
                    name: check.name,
                    outcome: check.outcome.name(),
                    means: check.means,
                    found: check.outcome.words().to_owned(),
                })
                .collect(),
        }
    }
}

impl fmt::Display for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = match (self.holds, self.unchecked.is_empty()) {
            (true, true) => "the claim holds",
            (true, false) => "the claim holds as far as it was checked",
            (false, _) => "the claim does not hold",
        };
        writeln!(f, "{}: {verdict}", self.bundle)?;
        // What a stranger wrote is shown without what a terminal would obey.
        writeln!(f, "\n{}\n", printable(&self.statement))?;
        for check in &self.checks {
            writeln!(
                f,
                "  {:9}  {}: {}",
                check.outcome,
                check.name,
                printable(&check.found)
            )?;
            writeln!(f, "             {}", check.means)?;
        }
        if !self.unchecked.is_empty() {
            writeln!(f, "\nNot checked: {}.", self.unchecked.join(", "))?;
        }
        Ok(())
    }
}

fn root(text: &str) -> Result<Hash, String> {
    let digits = text.strip_prefix("0x").unwrap_or(text);
    parse_hash(digits).ok_or_else(|| "expected 64 lower-case hexadecimal digits".to_owned())
}

fn address(text: &str) -> Result<Address, String> {
    text.parse()
        .map_err(|error: oml_core::signing::SigningError| error.to_string())
}

fn commit(text: &str) -> Result<String, String> {
    let hexadecimal = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    if matches!(text.len(), 40 | 64) && text.bytes().all(hexadecimal) {
        return Ok(text.to_owned());
    }
    Err("expected 40 or 64 lower-case hexadecimal digits".to_owned())
}

fn time(text: &str) -> Result<u64, String> {
    parse_rfc3339(text).ok_or_else(|| "expected YYYY-MM-DD or YYYY-MM-DDThh:mm:ssZ".to_owned())
}
