//! The bundle of a claim: checked as a stranger would, who knows nothing but the bundle.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use oml_core::audit::{self, Conclusion as Concluded, Known, Matcher, Progress, Suspect};
use oml_core::bundle::{self, Bundle, Judge, Outcome};
use oml_core::commitment::Opening;
use oml_core::manifest::{bundle_file, hex};

use super::super::layout::short;
use super::super::number::{count, percent, power, some};
use super::super::{Check, Dossier, Kind, Step, Tone, Verdict};
use super::field::{self, NAME, WORDS};
use super::findings::{Conclusion, Findings};
use super::{fact, headline, step, time};

/// Checks that depend on what only the judge knows, or on a model.
const WORD: &str = "Claim holds as far as it was checked";

/// The report on the bundle in `bytes`, which were read from `path`.
///
/// # Errors
/// When it is no bundle.
pub(super) fn read(path: &Path, bytes: &[u8]) -> anyhow::Result<Dossier> {
    let bundle = bundle_file::parse(bytes)?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let judge = Judge {
        now: now.map_or(0, |since| since.as_secs()),
        ..Judge::default()
    };
    let checks = judge.check(&bundle);
    let holds = bundle::holds(&checks);
    let unchecked = checks
        .iter()
        .filter(|check| matches!(check.outcome, Outcome::Unchecked(_)))
        .count();
    let file = field::file_name("file", path)?;
    let shown = checks.iter().map(|check| {
        Ok(Check {
            name: check.name.to_owned(),
            means: check.means.to_owned(),
            outcome: check.outcome.name().to_owned(),
            found: field::text(check.name, check.outcome.words(), WORDS)?,
        })
    });
    let shown: Vec<Check> = shown.collect::<anyhow::Result<_>>()?;
    let verify = steps(&bundle, &file);
    let mut dossier = match replayed(&bundle).filter(|_| holds) {
        Some(progress) => findings(&bundle, &progress)?.dossier(Kind::Claim)?,
        None => stated(&bundle)?,
    };
    if !holds {
        // Figures of a bundle that contradicts itself are not worth large letters.
        dossier.headlines.clear();
    }
    let statement = &bundle.statement;
    dossier.verdict = verdict(dossier.verdict, holds, unchecked, &shown);
    dossier.subtitle = format!(
        "Signed {} by {} · {}",
        time::moment(statement.time),
        short(&statement.owner.to_string()),
        dossier.subtitle
    );
    dossier.facts.splice(
        0..0,
        [
            fact(
                "Owner",
                statement.owner.to_string(),
                "address of the key that signed; compare it with what the owner published",
            ),
            fact(
                "Claim",
                hex(&bundle.digest),
                "SHA-256 of the statement, which is signed",
            ),
            fact(
                "Fingerprints in the set",
                count(statement.leaves),
                &format!(
                    "{} of them are opened in the bundle",
                    count(bundle.opened.len() as u64)
                ),
            ),
            fact(
                "Digest of the base model",
                hex(&statement.model_digest),
                "the set was made on it",
            ),
        ],
    );
    for asked in &mut dossier.fingerprints {
        let place = bundle
            .opened
            .binary_search_by_key(&asked.index, |opened| opened.opening.index);
        if let Ok(place) = place {
            let opening = &bundle.opened[place].opening;
            asked.query = Some(field::text("query", &opening.query, WORDS)?);
            let responses = opening
                .responses
                .iter()
                .map(|response| field::text("response", response, WORDS));
            asked.responses = responses.collect::<anyhow::Result<_>>()?;
        }
    }
    Ok(Dossier {
        checks: shown,
        verify,
        ..dossier
    })
}

/// The audit once more; nothing where it does not follow, or needs a tokenizer.
fn replayed(bundle: &Bundle<'_>) -> Option<Progress> {
    let terms = &bundle.transcript.terms;
    let known = |index: u64| {
        let place = bundle
            .opened
            .binary_search_by_key(&index, |opened| opened.opening.index)
            .ok()?;
        let Opening {
            query, responses, ..
        } = &bundle.opened[place].opening;
        Some(Known {
            query,
            responses: responses.iter().map(String::as_str).collect(),
        })
    };
    let matcher = Matcher::new(terms.rule, None);
    audit::replay(terms, &bundle.transcript.entries, known, &matcher).ok()
}

/// What the audit in the bundle found.
fn findings(bundle: &Bundle<'_>, progress: &Progress) -> anyhow::Result<Findings> {
    let terms = &bundle.transcript.terms;
    let verdict = audit::Verdict::of(terms, progress);
    let (model, endpoint, digest) = named(&terms.suspect)?;
    let wraps = terms
        .wraps
        .iter()
        .zip(&verdict.by_wrap)
        .map(|(wrap, share)| {
            let text = field::text("wraps", &wrap.to_string(), WORDS)?;
            Ok((text, *share))
        });
    let controls = bundle.controls.iter().map(|control| {
        let share = oml_core::claim::Share {
            hits: control.hit_count(),
            trials: control.count(),
        };
        let name = field::text("controls", &control.name, NAME)?;
        Ok((name, Some(hex(&control.digest)), share))
    });
    Ok(Findings {
        model,
        endpoint,
        digest,
        conclusion: match verdict.conclusion {
            Concluded::Present => Conclusion::Present,
            Concluded::Absent => Conclusion::Absent,
            Concluded::Open => Conclusion::Open,
        },
        root: format!("0x{}", hex(&terms.root)),
        strategy: field::text("strategy", &terms.strategy, NAME)?,
        asked: verdict
            .course
            .iter()
            .map(|step| (step.index, step.hit))
            .collect(),
        alpha: terms.alpha,
        null: terms.null.rate,
        null_basis: field::text("null_basis", &terms.null.basis, WORDS)?,
        decoys: verdict.decoys,
        decoy_basis: field::text("decoy_basis", &terms.decoy_basis, WORDS)?,
        unanswered: verdict.unanswered,
        requests: progress.requests().len() as u64,
        rule: terms.rule.mode.name().to_owned(),
        tokens: terms.rule.tokens.into(),
        wraps: wraps.collect::<anyhow::Result<_>>()?,
        controls: controls.collect::<anyhow::Result<_>>()?,
        stealth: None,
        confidence: None,
        began: terms.time / 1000,
        seconds: None,
        transcript_head: hex(bundle.transcript.head()),
        verify: Vec::new(),
        checks: Vec::new(),
    })
}

/// Name, endpoint and digest of who was asked.
#[allow(clippy::type_complexity, reason = "taken apart where it is called")]
fn named(suspect: &Suspect) -> anyhow::Result<(String, Option<(String, String)>, Option<String>)> {
    Ok(match suspect {
        Suspect::Endpoint { url, api, model } => (
            field::text("model", model, NAME)?,
            Some((
                field::text("url", url, NAME)?,
                field::text("api", api, NAME)?,
            )),
            None,
        ),
        Suspect::Checkpoint { name, digest } => {
            (field::text("name", name, NAME)?, None, Some(hex(digest)))
        }
    })
}

/// A report that shows the statement's figures and computes none: the audit cannot be followed here.
fn stated(bundle: &Bundle<'_>) -> anyhow::Result<Dossier> {
    let statement = &bundle.statement;
    let figures = &statement.figures;
    let (model, endpoint, digest) = named(&statement.suspect)?;
    let hits = format!(
        "{} of {}",
        count(figures.fingerprints.hits),
        count(figures.fingerprints.trials)
    );
    let root = format!("0x{}", hex(&statement.root));
    let place = endpoint.map_or_else(
        || format!("weights {}", short(&digest.unwrap_or_default())),
        |(url, api)| format!("endpoint {url} ({api})"),
    );
    let basis = "as the owner states; not computed here";
    Ok(Dossier {
        kind: Kind::Claim,
        title: format!("Does “{model}” carry these fingerprints?"),
        subtitle: place,
        verdict: Verdict {
            tone: Tone::Open,
            word: String::new(),
            sentence: format!(
                "The owner states that the model “{model}” gave the secret answer to {} of {}.",
                count(figures.fingerprints.hits),
                some(
                    figures.fingerprints.trials,
                    "secret question",
                    "secret questions"
                )
            ),
            shows: vec!["What the owner states and signs.".to_owned()],
            does_not_show: vec![
                "That it is so: the audit in the bundle could not be followed here.".to_owned(),
            ],
        },
        headlines: vec![
            headline(hits.clone(), "secret answers given", basis.to_owned()),
            headline(power(figures.log10_e_value), "e-value", basis.to_owned()),
            headline(percent(statement.null.rate), "null rate", basis.to_owned()),
        ],
        course: None,
        fingerprints: Vec::new(),
        prompts: Vec::new(),
        ranks: Vec::new(),
        rates: None,
        stealth: None,
        utility: Vec::new(),
        training: None,
        checks: Vec::new(),
        facts: vec![
            fact(
                "Merkle root",
                root,
                "binds the owner to the whole set; compare it with what the owner published",
            ),
            fact("Hits", hits, basis),
            fact("E-value", power(figures.log10_e_value), basis),
            fact(
                "Null rate",
                percent(statement.null.rate),
                &field::text("null.basis", &statement.null.basis, WORDS)?,
            ),
        ],
        verify: Vec::new(),
        made_by: super::made_by(),
    })
}

/// The audit's verdict, held against the checks.
fn verdict(audited: Verdict, holds: bool, unchecked: usize, checks: &[Check]) -> Verdict {
    let names = |outcome: &str| {
        let named = checks.iter().filter(|check| check.outcome == outcome);
        named
            .map(|check| check.name.as_str())
            .collect::<Vec<_>>()
            .join(", ")
    };
    if !holds {
        return Verdict {
            tone: Tone::Broken,
            word: "Claim does not hold".to_owned(),
            sentence: format!(
                "This bundle contradicts itself and proves nothing: of {}, these fail: {}.",
                some(checks.len() as u64, "check", "checks"),
                names("fails")
            ),
            shows: vec!["That the file was changed, or was never what it says.".to_owned()],
            does_not_show: vec![
                "Anything about the suspect. What the figures below say is what the owner states."
                    .to_owned(),
            ],
        };
    }
    let Verdict {
        tone,
        word,
        sentence,
        mut shows,
        mut does_not_show,
    } = audited;
    shows.push(
        "The opened pairs belong to the set behind the root, the questions came in an order that was fixed before, and the key of the owner’s \
         address signed all of it."
            .to_owned(),
    );
    if unchecked > 0 {
        does_not_show.insert(
            0,
            format!(
                "What nobody has checked yet: {}. The table below says what each takes.",
                names("unchecked")
            ),
        );
    }
    Verdict {
        tone,
        word: if word.is_empty() {
            WORD.to_owned()
        } else {
            format!("{word}; {}", WORD.to_lowercase())
        },
        sentence,
        shows,
        does_not_show,
    }
}

fn steps(bundle: &Bundle<'_>, file: &str) -> Vec<Step> {
    let (root, owner) = (hex(&bundle.statement.root), bundle.statement.owner);
    let file = field::quoted(file);
    vec![
        step(
            "Check the bundle yourself, with the root and the address as the owner published them, not as they stand here. It needs nothing \
             secret."
                .to_owned(),
            Some(format!("oml claim verify {file} --root 0x{root} --owner-address {owner} --released YYYY-MM-DD")),
        ),
        step(
            "Draw fingerprints that the owner has to open, and check the response: so the owner holds the whole set.".to_owned(),
            Some(format!(
                "oml claim challenge --bundle {file} --count 8 --out challenge.json\noml claim verify {file} --challenge challenge.json --response response.jsonl"
            )),
        ),
        step(
            "Ask models of your own choice, which certainly do not hold the fingerprints, and the suspect’s weights where they are at hand."
                .to_owned(),
            Some(format!("oml claim verify {file} --base BASE --rerun-control OTHER --suspect SUSPECT")),
        ),
    ]
}
