//! Models at hand, asked the opened pairs once more: as the suspect was asked, and judged by the same rule.

use std::path::Path;

use anyhow::Context as _;
use oml_core::audit::{Suspect, Terms};
use oml_core::bundle::{Bundle, Check, ControlResult, Opened, Outcome};
use oml_core::claim::{ln_binomial_tail, ln_e_value};
use oml_core::commitment::Opening;
use oml_core::manifest::hex;
use oml_core::strategy::impossible;
use oml_model::engine::Engine;

use crate::commands::audit::controls::{Pair, hits};
use crate::commands::workbench::{self, Opened as Model};
use crate::printer::Printer;

/// A control that hits more often than the null rate would let it with this probability speaks against that rate.
const SURPRISE: f64 = 1e-3;

impl<'a> From<&'a Opened> for Pair<'a> {
    fn from(opened: &'a Opened) -> Self {
        let opening = &opened.opening;
        Self {
            index: opening.index as usize,
            query: &opening.query,
            responses: opening.responses.iter().map(String::as_str).collect(),
        }
    }
}

/// What the model in `path`, on top of `base` where it is an adapter, answers to `pairs`, asked as in an audit under `terms`.
///
/// # Errors
/// When it cannot be read or asked.
pub(super) fn control(
    path: &Path,
    base: Option<&Path>,
    terms: &Terms,
    pairs: &[Pair<'_>],
    engine: &Engine,
    printer: &Printer,
) -> anyhow::Result<ControlResult> {
    let mut model = workbench::open_on(engine, path, base, printer)?;
    let hits = hits(&mut model, terms.rule, &terms.wraps, pairs, printer)
        .with_context(|| format!("cannot ask {}", path.display()))?;
    let asked: Vec<usize> = pairs.iter().map(|pair| pair.index).collect();
    let digest = model.checkpoint.digest()?;
    Ok(ControlResult::new(model.name, digest, &asked, &hits))
}

/// A control of the judge's, held against what the bundle says of it, or against the null rate.
///
/// # Errors
/// As [`control`].
pub(super) fn check_control(
    path: &Path,
    bundle: &Bundle<'_>,
    engine: &Engine,
    printer: &Printer,
) -> anyhow::Result<Check> {
    let pairs: Vec<Pair<'_>> = bundle.opened.iter().map(Pair::from).collect();
    let got = control(
        path,
        None,
        &bundle.transcript.terms,
        &pairs,
        engine,
        printer,
    )?;
    let (hits, count) = (got.hit_count(), got.count());
    let words = format!("{} hits {hits} of {count} opened pairs", got.name);
    let known = bundle
        .controls
        .iter()
        .find(|control| control.digest == got.digest);
    let outcome = match known {
        Some(stated) => {
            let differs = |pair: &&Pair<'_>| {
                stated.was_asked(pair.index) && stated.is_hit(pair.index) != got.is_hit(pair.index)
            };
            match pairs.iter().find(differs) {
                None => Outcome::Holds(format!("{words}, as stated")),
                Some(pair) => Outcome::Fails(format!(
                    "{words}, and fingerprint {} otherwise than stated",
                    pair.index
                )),
            }
        }
        None => {
            let null = bundle.transcript.terms.null.rate;
            if ln_binomial_tail(hits, count, null) >= SURPRISE.ln() {
                Outcome::Holds(format!("{words}, which the null rate of {null:.3e} allows"))
            } else {
                Outcome::Fails(format!("{words}, too many for a null rate of {null:.3e}"))
            }
        }
    };
    Ok(Check::new(
        "control",
        "a model that never saw the fingerprints answers the opened pairs no more often than stated",
        outcome,
    ))
}

/// The opened pairs held against the base model that the set was made on.
///
/// # Errors
/// When it cannot be read or asked.
pub(super) fn check_base(
    path: &Path,
    bundle: &Bundle<'_>,
    pairs: &[&Opening],
    engine: &Engine,
    printer: &Printer,
) -> anyhow::Result<Check> {
    let mut base = workbench::open(engine, path, printer)?;
    let statement = &bundle.statement;
    let digest = base.checkpoint.digest()?;
    let outcome = if digest != statement.model_digest {
        Outcome::Fails(format!(
            "expected the base model with digest {}, got {} with {}",
            hex(&statement.model_digest),
            base.name,
            hex(&digest)
        ))
    } else {
        let Model {
            model, tokenizer, ..
        } = &mut base;
        let wrong = impossible(&statement.strategy, model, tokenizer, pairs)
            .with_context(|| format!("cannot ask {}", path.display()))?;
        match wrong.as_deref() {
            None => Outcome::Unchecked(format!(
                "the base model does not say what a response of strategy {} is",
                statement.strategy.name()
            )),
            Some([]) => Outcome::Holds(format!("all {} opened pairs", pairs.len())),
            Some(wrong) => Outcome::Fails(format!(
                "{} of {} opened pairs are none that strategy {} gives, fingerprint {} among them",
                wrong.len(),
                pairs.len(),
                statement.strategy.name(),
                wrong[0]
            )),
        }
    };
    Ok(Check::new(
        "responses",
        "the responses are such as the strategy makes with the base model, and not what every such model says",
        outcome,
    ))
}

/// The suspect's weights, asked again by the judge.
///
/// # Errors
/// When they cannot be read or asked.
pub(super) fn check_suspect(
    path: &Path,
    base: Option<&Path>,
    bundle: &Bundle<'_>,
    pairs: &[Opened],
    engine: &Engine,
    printer: &Printer,
) -> anyhow::Result<Check> {
    let terms = &bundle.transcript.terms;
    let pairs: Vec<Pair<'_>> = pairs.iter().map(Pair::from).collect();
    let got = control(path, base, terms, &pairs, engine, printer)?;
    let (hits, count) = (got.hit_count(), got.count());
    let evidence = ln_e_value(hits, count - hits, terms.null.rate);
    let words = format!(
        "{} hits {hits} of {count} opened pairs, an e-value of 10^{:.2}",
        got.name,
        evidence / std::f64::consts::LN_10
    );
    let outcome = match &bundle.statement.suspect {
        Suspect::Checkpoint { digest, .. } if *digest != got.digest => Outcome::Fails(format!(
            "expected weights with digest {}, got {}",
            hex(digest),
            hex(&got.digest)
        )),
        _ if evidence >= -terms.alpha.ln() => Outcome::Holds(words),
        _ => Outcome::Fails(format!("{words}, below {:.0e}", 1.0 / terms.alpha)),
    };
    Ok(Check::new(
        "suspect",
        "the suspect's weights, asked again here, answer the opened pairs",
        outcome,
    ))
}
