//! A bundle held against itself and against what the judge knows.
//!
//! Every check is computed from the bundle's bytes. What the judge does not say (the root as published, the owner's address, the authority
//! to trust, the suspect's release) is named as unchecked, and so is what no bundle can show: that the answers are the suspect's own.

use super::check::{Check, Outcome};
use super::controls::ControlResult;
use super::openings::check_openings;
use super::statement::Figures;
use super::{Bundle, ClaimMessage};
use crate::audit::{Conclusion, Known, Matcher, Mode, Progress, Verdict, replay};
use crate::check::CONTROL_CONFIDENCE;
use crate::claim;
use crate::eip712::Domain;
use crate::manifest::hex;
use crate::merkle::Hash;
use crate::signing::Address;
use crate::strategy::Strategy;
use crate::time_proof::rfc3161::Roots;
use crate::time_proof::rfc3339;
use crate::tokenizer::Tokenizer;

/// Seconds by which clocks may differ.
const CLOCKS: u64 = 300;

/// What the judge knows.
#[derive(Clone, Copy, Default)]
pub struct Judge<'a> {
    /// The time now, in seconds since 1970.
    pub now: u64,
    /// The root as the owner published it.
    pub root: Option<Hash>,
    /// The owner's address as the owner published it.
    pub owner: Option<Address>,
    /// Time-stamping authorities that the judge trusts.
    pub authorities: Option<&'a Roots>,
    /// The id of a commit as it became known at its time.
    pub commit: Option<&'a str>,
    /// The hash of a block of a ledger, as the judge found it in the chain.
    pub block: Option<Hash>,
    /// When the suspect was first there, in seconds since 1970.
    pub released: Option<u64>,
    /// The base model's tokenizer, which matching by token ids needs.
    pub tokenizer: Option<&'a dyn Tokenizer>,
}

impl Judge<'_> {
    /// Checks all that can be checked without a model.
    #[must_use]
    pub fn check(&self, bundle: &Bundle<'_>) -> Vec<Check> {
        let mut checks = vec![
            Check::new(
                "contents",
                "every file in the bundle is the one that the statement names, byte by byte",
                contents(bundle),
            ),
            Check::new(
                "signature",
                "the statement is signed by the key behind the owner's address",
                signature(bundle),
            ),
            Check::new(
                "owner",
                "the address is the one that the owner published",
                self.owner(bundle),
            ),
            Check::new(
                "root",
                "the Merkle root is the one that the owner published",
                self.root(bundle),
            ),
            Check::new(
                "openings",
                "every opened pair belongs to the set behind the root, each number once, in a tree of no more leaves than stated",
                openings(bundle),
            ),
        ];
        let replayed = self.replayed(bundle);
        let progress = replayed.as_ref().ok().and_then(Option::as_ref);
        checks.push(Check::new(
            "terms",
            "what the statement says of set, suspect, null rate and threshold was fixed before the first query",
            terms(bundle),
        ));
        checks.push(Check::new(
            "transcript",
            "the queries are those of the opened pairs in the order that was fixed before, and every answer was judged by the stated rule",
            match &replayed {
                Ok(Some(progress)) => Outcome::Holds(format!(
                    "{} requests follow their plan",
                    progress.requests().len()
                )),
                Ok(None) => Outcome::Unchecked(
                    "answers were matched by token ids: name the base model to have them matched again".into(),
                ),
                Err(fault) => Outcome::Fails(fault.clone()),
            },
        ));
        let verdict = progress.map(|progress| Verdict::of(&bundle.transcript.terms, progress));
        checks.push(Check::new(
            "figures",
            "the stated hits, e-value and p-values are what the transcript gives",
            figures(bundle, verdict.as_ref()),
        ));
        checks.push(Check::new(
            "evidence",
            "the e-value reached the threshold: an innocent model gets there with a probability of at most alpha",
            evidence(bundle, verdict.as_ref()),
        ));
        checks.push(Check::new(
            "null",
            "the assumed rate of an innocent model is no smaller than its basis allows",
            null(bundle),
        ));
        checks.push(Check::new(
            "times",
            "nothing is dated after what it rests on, nor in the future",
            self.times(bundle),
        ));
        self.time_proofs(bundle, &mut checks);
        checks.push(Check::new(
            "answers",
            "the answers are the suspect's own: no bundle can show that, somebody has to ask again",
            Outcome::Unchecked("they are the word of whoever asked".into()),
        ));
        checks
    }

    fn owner(&self, bundle: &Bundle<'_>) -> Outcome {
        let got = bundle.statement.owner;
        match self.owner {
            None => Outcome::Unchecked(format!("{got}: compare it with what the owner published")),
            Some(expected) if expected == got => Outcome::Holds(got.to_string()),
            Some(expected) => Outcome::Fails(format!("expected {expected}, got {got}")),
        }
    }

    fn root(&self, bundle: &Bundle<'_>) -> Outcome {
        let got = &bundle.statement.root;
        match &self.root {
            None => Outcome::Unchecked(format!(
                "0x{}: compare it with what the owner published",
                hex(got)
            )),
            Some(expected) if expected == got => Outcome::Holds(format!("0x{}", hex(got))),
            Some(expected) => {
                Outcome::Fails(format!("expected 0x{}, got 0x{}", hex(expected), hex(got)))
            }
        }
    }

    /// The audit once more; nothing where it needs a tokenizer that is not there.
    fn replayed(&self, bundle: &Bundle<'_>) -> Result<Option<Progress>, String> {
        let terms = &bundle.transcript.terms;
        if terms.rule.mode == Mode::Ids && self.tokenizer.is_none() {
            return Ok(None);
        }
        let known = |index: u64| {
            let place = bundle
                .opened
                .binary_search_by_key(&index, |opened| opened.opening.index)
                .ok()?;
            let opening = &bundle.opened[place].opening;
            Some(Known {
                query: &opening.query,
                responses: opening.responses.iter().map(String::as_str).collect(),
            })
        };
        let matcher = Matcher::new(terms.rule, self.tokenizer);
        replay(terms, &bundle.transcript.entries, known, &matcher)
            .map(Some)
            .map_err(|fault| fault.to_string())
    }

    fn times(&self, bundle: &Bundle<'_>) -> Outcome {
        let made = bundle.statement.time;
        let entries = &bundle.transcript.entries;
        let last = entries
            .last()
            .map_or(bundle.transcript.terms.time, |entry| entry.time)
            / 1000;
        if made > self.now.saturating_add(CLOCKS) {
            return Outcome::Fails(format!(
                "the claim is dated {}, and it is {}",
                rfc3339(made),
                rfc3339(self.now)
            ));
        }
        if last > made.saturating_add(CLOCKS) {
            return Outcome::Fails(format!(
                "the audit goes on until {}, and the claim is dated {}",
                rfc3339(last),
                rfc3339(made)
            ));
        }
        Outcome::Holds(format!(
            "audit until {}, claim at {}",
            rfc3339(last),
            rfc3339(made)
        ))
    }
}

fn contents(bundle: &Bundle<'_>) -> Outcome {
    let stated = &bundle.statement.contents;
    let names =
        |list: &[(&'static str, Hash)]| list.iter().map(|(name, _)| *name).collect::<Vec<_>>();
    if names(stated) != names(&bundle.contents) {
        return Outcome::Fails(format!(
            "expected {}, got {}",
            names(stated).join(", "),
            names(&bundle.contents).join(", ")
        ));
    }
    let different = stated.iter().zip(&bundle.contents).find(|(a, b)| a != b);
    match different {
        Some(((name, _), _)) => Outcome::Fails(format!("{name} has another SHA-256 than stated")),
        None => Outcome::Holds(format!("{} files", stated.len())),
    }
}

fn signature(bundle: &Bundle<'_>) -> Outcome {
    let statement = &bundle.statement;
    let message = ClaimMessage {
        root: statement.root,
        statement: bundle.digest,
        leaves: statement.leaves,
        time: statement.time,
    };
    let signer = bundle
        .signature
        .recover(&Domain::OFF_CHAIN.digest(&message));
    match signer {
        Ok(signer) if signer == statement.owner && bundle.signer == signer => {
            Outcome::Holds(format!("by {signer}"))
        }
        Ok(signer) => Outcome::Fails(format!("expected {}, got {signer}", statement.owner)),
        Err(fault) => Outcome::Fails(fault.to_string()),
    }
}

fn openings(bundle: &Bundle<'_>) -> Outcome {
    let statement = &bundle.statement;
    let checked = check_openings(&statement.root, statement.leaves, &bundle.opened);
    Outcome::of(checked.map(|()| format!("{} of {}", bundle.opened.len(), statement.leaves)))
}

/// What the statement repeats of the terms.
fn terms(bundle: &Bundle<'_>) -> Outcome {
    let (statement, terms) = (&bundle.statement, &bundle.transcript.terms);
    let table = [
        ("root", statement.root == terms.root),
        ("number of leaves", statement.leaves == terms.leaves),
        ("strategy", statement.strategy.name() == terms.strategy),
        ("suspect", statement.suspect == terms.suspect),
        ("null rate", statement.null == terms.null),
        ("threshold", statement.alpha == terms.alpha),
    ];
    match table.into_iter().find(|(_, same)| !same) {
        Some((what, _)) => Outcome::Fails(format!("the transcript's terms have another {what}")),
        None => Outcome::Holds(format!("fixed at {}", rfc3339(terms.time / 1000))),
    }
}

fn figures(bundle: &Bundle<'_>, verdict: Option<&Verdict>) -> Outcome {
    let Some(verdict) = verdict else {
        return Outcome::Unchecked("there is no replayed transcript to compute them from".into());
    };
    let got = Figures::of(&bundle.transcript.terms, verdict);
    match bundle.statement.figures.difference(&got) {
        Some(name) => Outcome::Fails(format!("the transcript gives another {name}")),
        None => Outcome::Holds(format!(
            "{} of {} fingerprints, {} of {} decoys",
            got.fingerprints.hits, got.fingerprints.trials, got.decoys.hits, got.decoys.trials
        )),
    }
}

fn evidence(bundle: &Bundle<'_>, verdict: Option<&Verdict>) -> Outcome {
    let alpha = bundle.transcript.terms.alpha;
    let Some(verdict) = verdict else {
        return Outcome::Unchecked("there is no replayed transcript to compute it from".into());
    };
    let log10 = verdict.ln_e_value / std::f64::consts::LN_10;
    let words = format!(
        "10^{log10:.2} against {:.0e}, over {} queries",
        1.0 / alpha,
        verdict.fingerprints.trials
    );
    match verdict.conclusion {
        Conclusion::Present => Outcome::Holds(words),
        Conclusion::Absent | Conclusion::Open => Outcome::Fails(words),
    }
}

/// The rate that the controls, or without one the strategy, allow.
fn null(bundle: &Bundle<'_>) -> Outcome {
    let terms = &bundle.transcript.terms;
    let stated = terms.null.rate;
    let judged = |allowed: f64, basis: String| {
        let words = format!("{stated:.3e} against {allowed:.3e}, {basis}");
        // Bounds are computed by halving, and written in decimals.
        if stated >= allowed * (1.0 - 1e-9) {
            Outcome::Holds(words)
        } else {
            Outcome::Fails(words)
        }
    };
    let bound = |control: &ControlResult| {
        claim::upper_bound(control.hit_count(), control.count(), CONTROL_CONFIDENCE)
    };
    let worst = bundle
        .controls
        .iter()
        .max_by(|a, b| bound(a).total_cmp(&bound(b)));
    if let Some(worst) = worst {
        return judged(
            bound(worst),
            format!(
                "the upper bound of the worst of {} control(s): {} hit {} of {}",
                bundle.controls.len(),
                worst.name,
                worst.hit_count(),
                worst.count()
            ),
        );
    }
    if stated >= 1.0 {
        return Outcome::Holds("1: no assumption".into());
    }
    let strategy = &bundle.statement.strategy;
    if terms.rule.mode == Mode::Contains || matches!(strategy, Strategy::Imported) {
        return judged(1.0, "which is all that holds without a control".into());
    }
    let most = bundle
        .opened
        .iter()
        .map(|opened| opened.opening.responses.len())
        .max();
    let candidates = strategy.candidates();
    let wraps = terms.wraps.len();
    let rate = most.unwrap_or(1) as f64 / candidates as f64 * wraps as f64;
    judged(
        rate.min(1.0),
        format!(
            "the worst case without a control: {} of {candidates} candidates inside each of {wraps} wrap(s), if the owner's seed chose them",
            most.unwrap_or(1)
        ),
    )
}
