//! `oml claim make`: a signed bundle of one audit.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use clap::Args;
use oml_core::audit::{Ask, Event, Known, Matcher, Mode, Subject, Verdict, replay};
use oml_core::bundle::{ControlResult, Figures, Judge, Opened, Outcome, Statement};
use oml_core::derive::owner_id;
use oml_core::manifest::bundle_archive::{CONTROLS, GIT, LEDGER, OPENINGS, RFC3161, TRANSCRIPT};
use oml_core::manifest::transcript_file::{self, Transcript};
use oml_core::manifest::{bundle_file, controls_file, hex, openings_file};
use oml_core::merkle::Hash;
use oml_core::signing::{Address, SigningKey};
use oml_core::time_proof::{self, Kind, git, ledger, rfc3161, rfc3339};
use oml_core::tokenizer::Tokenizer;
use oml_core::usage;
use oml_model::tokenizer::TextTokenizer;
use serde::Serialize;

use super::again;
use crate::cli::{GlobalArgs, OwnerArgs};
use crate::commands::asked::Asked;
use crate::commands::audit::controls;
use crate::commands::audit::controls::Pair;
use crate::commands::{usage as usage_log, workbench};
use crate::error::ExitStatus;
use crate::files::{self, Access, Existing};
use crate::printer::Printer;

/// Flags of `oml claim make`.
#[derive(Debug, Args)]
pub(crate) struct MakeArgs {
    /// Transcript that `oml audit` wrote
    #[arg(long, value_name = "FILE")]
    transcript: PathBuf,
    /// Fingerprints file made by `oml generate`
    #[arg(long, value_name = "FILE")]
    fingerprints: PathBuf,
    #[command(flatten)]
    owner: OwnerArgs,
    /// A model that never saw the fingerprints, to be asked them all as the suspect was (repeatable; those of the audit, whose null rate
    /// rests on them)
    #[arg(long, value_name = "DIR")]
    control: Vec<PathBuf>,
    /// What controls answered (repeatable) [default: TRANSCRIPT.controls.json, as the audit wrote it, where there is one]
    #[arg(long, value_name = "FILE")]
    control_results: Vec<PathBuf>,
    /// Proof that the root was there before: an RFC 3161 time stamp, a commit as `git cat-file --batch` prints it, or what scripts/make_ledger_proof.py wrote (repeatable)
    #[arg(long, value_name = "FILE")]
    time_proof: Vec<PathBuf>,
    /// Base model, whose tokenizer matches answers by token ids (only for an audit with --match ids)
    #[arg(long, value_name = "DIR")]
    base: Option<PathBuf>,
    /// Bundle to write, readable by you alone: NAME.omlclaim
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

pub(super) fn run(
    args: &MakeArgs,
    global: &GlobalArgs,
    printer: &Printer,
) -> anyhow::Result<ExitStatus> {
    files::refuse_existing(&args.out)?;
    files::check_writable(&args.out)?;
    let owner = workbench::owner(&workbench::owner_path(&args.owner)?)?;
    let asked = Asked::whole(workbench::fingerprints(&args.fingerprints, &owner)?);
    let transcript_bytes = files::read(&args.transcript, transcript_file::MAX_BYTES)?;
    let transcript = transcript_file::parse(&transcript_bytes)
        .with_context(|| format!("cannot read {}", args.transcript.display()))?;
    ensure!(
        transcript.terms.root == asked.root(),
        "{}: expected an audit with {}, got one with another set",
        args.transcript.display(),
        args.fingerprints.display()
    );
    let verdict = args.verdict(&transcript, &asked)?;
    let indices = asked_indices(&transcript);
    let opened = indices.iter().map(|index| {
        let (opening, proof) = asked
            .opening(*index)
            .context("cannot open the asked pairs")?;
        Ok(Opened { opening, proof })
    });
    let opened: Vec<Opened> = opened.collect::<anyhow::Result<_>>()?;
    let controls = args.controls(&transcript, &asked, global, printer)?;
    let key = SigningKey::derive(&owner);
    let proofs = args.time_proofs(&asked.root(), &key.address())?;

    let openings = openings_file::render(&opened)?;
    let rendered = controls_file::render(&controls)?;
    let mut parts = vec![
        (OPENINGS, openings.as_slice()),
        (TRANSCRIPT, transcript_bytes.as_slice()),
    ];
    if !controls.is_empty() {
        parts.push((CONTROLS, rendered.as_slice()));
    }
    parts.extend(proofs.rfc3161.as_deref().map(|bytes| (RFC3161, bytes)));
    parts.extend(proofs.git.as_deref().map(|bytes| (GIT, bytes)));
    parts.extend(proofs.ledger.as_deref().map(|bytes| (LEDGER, bytes)));
    let header = asked.set().header();
    let terms = &transcript.terms;
    let statement = Statement {
        tool: concat!("oml ", env!("CARGO_PKG_VERSION")).into(),
        time: super::now(),
        owner: key.address(),
        owner_id: owner_id(&owner),
        root: asked.root(),
        leaves: asked.count() as u64,
        strategy: header.strategy,
        model_digest: header.model_digest,
        tokenizer_hash: header.tokenizer_hash,
        suspect: terms.suspect.clone(),
        null: terms.null.clone(),
        alpha: terms.alpha,
        figures: Figures::of(terms, &verdict),
        contents: bundle_file::digests(&parts),
    };
    let bytes = bundle_file::render(&statement, &parts, &key)?;
    // Whoever gets the bundle sees the pairs.
    usage_log::record(
        &args.fingerprints,
        asked.root(),
        usage::Event::Open,
        &indices,
    )?;
    files::write_whole(&args.out, &bytes, Access::Private, Existing::Refuse)?;
    args.warn(&bytes, printer)?;
    if !proofs.any() {
        printer.warning(
            "without a --time-proof nobody can see that the set was there before the suspect",
        );
    }
    let output = Output::new(&args.out, bytes.len(), &statement, &opened, &proofs.said);
    printer.result(&output, &output)
}

impl MakeArgs {
    /// Says what a judge will find wrong, before the owner sends the bundle.
    fn warn(&self, bytes: &[u8], printer: &Printer) -> anyhow::Result<()> {
        let tokenizer = self.tokenizer()?;
        let judge = Judge {
            now: super::now(),
            tokenizer: tokenizer.as_ref().map(|own| own as &dyn Tokenizer),
            ..Judge::default()
        };
        for check in judge.check(&bundle_file::parse(bytes)?) {
            if let Outcome::Fails(fault) = &check.outcome {
                printer.warning(format!(
                    "{}: the claim will not hold: {}: {fault}",
                    self.out.display(),
                    check.name
                ));
            }
        }
        Ok(())
    }

    fn tokenizer(&self) -> anyhow::Result<Option<TextTokenizer>> {
        let base = self
            .base
            .as_deref()
            .map(workbench::checkpoint)
            .transpose()?;
        Ok(base.map(|base| base.tokenizer()).transpose()?)
    }

    /// The verdict, computed again from transcript and set.
    fn verdict(&self, transcript: &Transcript, asked: &Asked) -> anyhow::Result<Verdict> {
        let tokenizer = self.tokenizer()?;
        ensure!(
            tokenizer.is_some() || transcript.terms.rule.mode != Mode::Ids,
            "--base: expected the base model, since answers were matched by token ids, got none"
        );
        let tokenizer = tokenizer.as_ref().map(|own| own as &dyn Tokenizer);
        let fingerprints = asked.set().fingerprints();
        let known = |index: u64| {
            let pair = fingerprints.get(usize::try_from(index).ok()?)?;
            Some(Known {
                query: &pair.query,
                responses: pair.responses.iter().map(|r| r.text.as_str()).collect(),
            })
        };
        let matcher = Matcher::new(transcript.terms.rule, tokenizer);
        let progress = replay(&transcript.terms, &transcript.entries, known, &matcher)
            .with_context(|| format!("cannot use {}", self.transcript.display()))?;
        Ok(Verdict::of(&transcript.terms, &progress))
    }

    fn controls(
        &self,
        transcript: &Transcript,
        asked: &Asked,
        global: &GlobalArgs,
        printer: &Printer,
    ) -> anyhow::Result<Vec<ControlResult>> {
        let mut controls = Vec::new();
        let beside = controls::path(&self.transcript);
        let results = match self.control_results.as_slice() {
            [] if self.control.is_empty() && beside.exists() => &[beside][..],
            named => named,
        };
        for path in results {
            let bytes = files::read(path, controls_file::MAX_BYTES)?;
            let results = controls_file::parse(&bytes);
            controls.extend(results.with_context(|| format!("cannot read {}", path.display()))?);
        }
        if !self.control.is_empty() {
            let engine = workbench::engine(global)?;
            let pairs: Vec<Pair<'_>> = asked.set().fingerprints().iter().map(Pair::from).collect();
            for path in &self.control {
                controls.push(again::control(
                    path,
                    None,
                    &transcript.terms,
                    &pairs,
                    &engine,
                    printer,
                )?);
            }
        }
        Ok(controls)
    }

    /// The proofs, each checked as far as nobody has to be trusted for it.
    fn time_proofs(&self, root: &Hash, owner: &Address) -> anyhow::Result<Proofs> {
        let line = time_proof::line(root, owner);
        let mut proofs = Proofs::default();
        for path in &self.time_proof {
            let reading = || format!("cannot use {}", path.display());
            let bytes = files::read(path, git::MAX_BYTES)?;
            let (place, said) = match Kind::of(&bytes) {
                Kind::Rfc3161 => {
                    let stamp = rfc3161::verify(&bytes, line.as_bytes()).with_context(reading)?;
                    let said = format!("stamped {} by {}", rfc3339(stamp.time), stamp.authority);
                    (&mut proofs.rfc3161, said)
                }
                Kind::Git => {
                    let commit = git::verify(&bytes, &line).with_context(reading)?;
                    let said = format!("commit {} of {}", commit.id, rfc3339(commit.time));
                    (&mut proofs.git, said)
                }
                Kind::Ledger => {
                    let found = ledger::verify(&bytes, root, owner).with_context(reading)?;
                    let said = format!(
                        "block 0x{} of chain {}, {}",
                        hex(&found.block),
                        found.chain_id,
                        rfc3339(found.time)
                    );
                    (&mut proofs.ledger, said)
                }
            };
            ensure!(
                place.replace(bytes).is_none(),
                "{}: expected one time proof of each kind, got another",
                path.display()
            );
            proofs.said.push(said);
        }
        Ok(proofs)
    }
}

#[derive(Default)]
struct Proofs {
    rfc3161: Option<Vec<u8>>,
    git: Option<Vec<u8>>,
    ledger: Option<Vec<u8>>,
    said: Vec<String>,
}

impl Proofs {
    const fn any(&self) -> bool {
        !self.said.is_empty()
    }
}

/// Numbers of the fingerprints that were asked, rising.
fn asked_indices(transcript: &Transcript) -> Vec<usize> {
    let asked = transcript
        .entries
        .iter()
        .filter_map(|entry| match &entry.event {
            Event::Ask(Ask {
                subject: Subject::Fingerprint(index),
                ..
            }) => usize::try_from(*index).ok(),
            _ => None,
        });
    asked.collect::<BTreeSet<_>>().into_iter().collect()
}

/// What was made.
#[derive(Serialize)]
struct Output<'a> {
    file: String,
    bytes: usize,
    owner: String,
    merkle_root: String,
    conclusion: &'static str,
    asked: u64,
    hits: u64,
    log10_e_value: f64,
    opened: usize,
    time_proofs: &'a [String],
    statement: String,
}

impl<'a> Output<'a> {
    fn new(
        path: &Path,
        bytes: usize,
        statement: &Statement,
        opened: &[Opened],
        time_proofs: &'a [String],
    ) -> Self {
        let figures = &statement.figures;
        Self {
            file: path.display().to_string(),
            bytes,
            owner: statement.owner.to_string(),
            merkle_root: format!("0x{}", hex(&statement.root)),
            conclusion: figures.conclusion,
            asked: figures.fingerprints.trials,
            hits: figures.fingerprints.hits,
            log10_e_value: figures.log10_e_value,
            opened: opened.len(),
            time_proofs,
            statement: statement.to_string(),
        }
    }
}

impl fmt::Display for Output<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "claim in {} ({} bytes)", self.file, self.bytes)?;
        writeln!(f, "  owner    {}", self.owner)?;
        writeln!(f, "  root     {}", self.merkle_root)?;
        writeln!(
            f,
            "  verdict  {}: {} of {} hits, e-value 10^{:.2}",
            self.conclusion, self.hits, self.asked, self.log10_e_value
        )?;
        for proof in self.time_proofs {
            writeln!(f, "  time     {proof}")?;
        }
        writeln!(
            f,
            "  opened   {} fingerprints, which are spent",
            self.opened
        )?;
        writeln!(f, "\n{}", self.statement)
    }
}
