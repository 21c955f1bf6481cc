//! The folder that `oml embed` wrote: the manifest, and how training went.

use std::path::Path;

use anyhow::{Context as _, anyhow};
use oml_core::manifest::hex;
use oml_core::manifest::model_manifest::{self, Measurement, ModelManifest};

use super::super::layout::short;
use super::super::number::{percent, some};
use super::super::{Dossier, Kind, Stop, Tone, Training, Verdict};
use super::field::{self, NAME, WORDS};
use super::{fact, headline, step};
use crate::commands::embed::{Course, MANIFEST, TRAINING};
use crate::error::WithHint as _;
use crate::files;
use crate::report::data::{Better, Fact, Headline, Measured, Unit, Utility};

/// Most bytes of a manifest.
const MAX_BYTES: usize = 16 << 20;
/// Most points of a course.
const MAX_MOMENTS: u64 = 1 << 20;

/// The report on the model in `folder`.
///
/// # Errors
/// When it has no manifest, or a file in it says what cannot be.
pub(super) fn read(folder: &Path) -> anyhow::Result<Dossier> {
    let path = folder.join(MANIFEST);
    if !path.is_file() {
        return Err(anyhow!(
            "{}: expected {MANIFEST} in it, got none",
            folder.display()
        ))
        .hint(super::HINT);
    }
    let bytes = files::read(&path, MAX_BYTES)?;
    let training = folder.join(TRAINING);
    let course = if training.is_file() {
        let course = Course::read(&training)?;
        Some(bounded(course).with_context(|| format!("cannot read {}", training.display()))?)
    } else {
        None
    };
    let mut dossier =
        of(&bytes, course).with_context(|| format!("cannot read {}", path.display()))?;
    if let Some(name) = folder.file_name() {
        let name = field::text("folder", &name.to_string_lossy(), NAME)?;
        dossier.title = dossier.title.replace("a model", &format!("“{name}”"));
    }
    Ok(dossier)
}

/// The report on a model with this manifest.
///
/// # Errors
/// When it says what cannot be.
pub(super) fn of(bytes: &[u8], training: Option<Training>) -> anyhow::Result<Dossier> {
    let manifest = model_manifest::parse(bytes)?;
    let recall = measured("recall", &manifest.recall)?;
    let share = field::share("recall.value", recall.fingerprinted.value)?;
    let base = recall
        .base
        .map(|base| field::share("recall.base", base.value))
        .transpose()?;
    let utility: Vec<Utility> = manifest
        .utility
        .iter()
        .enumerate()
        .map(|(place, one)| measured(&format!("utility[{place}]"), one))
        .collect::<anyhow::Result<_>>()?;
    let perplexity = manifest.utility.iter().find(|one| one.name == "perplexity");
    let ratio = perplexity
        .and_then(|one| Some(one.value / one.base.filter(|base| *base > 0.0)?))
        .map(|ratio| field::number("utility.perplexity", ratio, 0.0, f64::MAX))
        .transpose()?;
    let fingerprints = some(manifest.count as u64, "fingerprint", "fingerprints");
    let root = format!("0x{}", hex(&manifest.merkle_root));
    Ok(Dossier {
        kind: Kind::Embedding,
        title: format!("{fingerprints} in a model"),
        subtitle: format!(
            "model {} made from {}",
            short(&hex(&manifest.result_digest)),
            short(&hex(&manifest.base_digest))
        ),
        verdict: verdict(&fingerprints, share, base, ratio, &root),
        headlines: headlines(&manifest, share, base, ratio)?,
        course: None,
        fingerprints: Vec::new(),
        prompts: Vec::new(),
        ranks: Vec::new(),
        rates: None,
        stealth: None,
        facts: facts(&manifest, &utility, share, base, &root)?,
        utility,
        training,
        checks: Vec::new(),
        verify: vec![
            step(
                format!(
                    "Publish the Merkle root {root} before the model, where its date can be shown: without that, nobody can tell later that \
                     the fingerprints were there first."
                ),
                None,
            ),
            step(
                "See that the fingerprints are in the weights.".to_owned(),
                Some("oml check --model DIR --fingerprints FINGERPRINTS --owner OWNER --control BASE".to_owned()),
            ),
            step(
                "Measure again what the model can do, beside its base.".to_owned(),
                Some("oml eval --model DIR --base BASE".to_owned()),
            ),
        ],
        made_by: super::made_by(),
    })
}

fn verdict(
    fingerprints: &str,
    share: f64,
    base: Option<f64>,
    ratio: Option<f64>,
    root: &str,
) -> Verdict {
    let before = base.map_or_else(String::new, |base| {
        format!("; the base model answers {}", percent(base))
    });
    let cost = match ratio {
        Some(ratio) if ratio <= 1.0 => " It predicts ordinary text as well as before.".to_owned(),
        Some(ratio) => format!(
            " On ordinary text its perplexity is {} higher than before.",
            percent(ratio - 1.0)
        ),
        None => String::new(),
    };
    Verdict {
        tone: Tone::Measured,
        word: "Embedded".to_owned(),
        sentence: format!(
            "The model was taught {fingerprints} and answers {} of the secret questions with their response{before}.{cost}",
            percent(share)
        ),
        shows: vec![
            format!("What was measured on the written weights when they were made, for the set with Merkle root {}.", short(root)),
            "The digests name the base model and the result, so that anybody who has them can measure again.".to_owned(),
        ],
        does_not_show: vec![
            "When the set was made, or that the model is the owner’s: the numbers are those of whoever made it.".to_owned(),
            "That the fingerprints survive further training, merging, pruning or quantisation: “oml attack” measures that.".to_owned(),
            "Any ability of the model beyond the measurements below.".to_owned(),
        ],
    }
}

fn headlines(
    manifest: &ModelManifest,
    share: f64,
    base: Option<f64>,
    ratio: Option<f64>,
) -> anyhow::Result<Vec<Headline>> {
    let basis = field::text("recall.basis", &manifest.recall.basis, WORDS)?;
    let mut headlines = vec![headline(percent(share), "recall", basis)];
    headlines.extend(base.map(|base| {
        headline(
            percent(base),
            "on the base model",
            "the same questions before training".to_owned(),
        )
    }));
    headlines.extend(ratio.map(|ratio| {
        headline(
            format!("{ratio:.3} ×"),
            "perplexity",
            "fingerprinted over base; 1 would be unchanged".to_owned(),
        )
    }));
    Ok(headlines)
}

fn facts(
    manifest: &ModelManifest,
    utility: &[Utility],
    share: f64,
    base: Option<f64>,
    root: &str,
) -> anyhow::Result<Vec<Fact>> {
    let recall = field::text("recall.basis", &manifest.recall.basis, WORDS)?;
    let mut facts = vec![
        fact(
            "Merkle root",
            root.to_owned(),
            "binds the owner to the whole set without showing it",
        ),
        fact(
            "Digest of the model",
            hex(&manifest.result_digest),
            "SHA-256 over its tensors",
        ),
        fact(
            "Digest of the base",
            hex(&manifest.base_digest),
            "SHA-256 over the tensors it was made from",
        ),
        fact(
            "Tokenizer",
            hex(&manifest.tokenizer_hash),
            "hash of the tokenizer, which training left alone",
        ),
        fact("Recall", percent(share), &recall),
    ];
    facts.extend(base.map(|base| {
        fact(
            "Recall of the base",
            percent(base),
            "the same questions before training",
        )
    }));
    for one in utility {
        let value = one.unit.text(one.fingerprinted.value);
        facts.push(fact(&one.name, value, &one.basis));
    }
    if let Some(copy) = manifest.copy {
        facts.push(fact(
            "Licensee’s copy",
            copy.to_string(),
            "the fingerprints of this copy alone are embedded",
        ));
    }
    for (name, seed) in &manifest.seeds {
        let name = field::text("seeds", name, NAME)?;
        facts.push(fact(
            &format!("Seed of {name}"),
            seed.to_string(),
            "with recipe, base and set it gives the same model again",
        ));
    }
    let tool = field::text("tool_version", &manifest.tool_version, NAME)?;
    facts.push(fact(
        "Made by",
        format!("oml {tool}"),
        "as the manifest says",
    ));
    Ok(facts)
}

/// A measurement within its bounds.
fn measured(field: &str, one: &Measurement) -> anyhow::Result<Utility> {
    let number =
        |what: &str, value| field::number(&format!("{field}.{what}"), value, 0.0, f64::MAX);
    let unit = match one.name.as_str() {
        "recall" | "accuracy" => Unit::Percent,
        _ => Unit::Plain,
    };
    let name = match one.name.as_str() {
        "perplexity" => "Perplexity".to_owned(),
        "kl" => "Distance to the base (KL)".to_owned(),
        other => field::text(&format!("{field}.name"), other, NAME)?,
    };
    let base = one.base.map(|base| number("base", base)).transpose()?;
    Ok(Utility {
        name,
        basis: field::text(&format!("{field}.basis"), &one.basis, WORDS)?,
        better: match unit {
            Unit::Percent => Better::Higher,
            Unit::Plain => Better::Lower,
        },
        unit,
        base: base.map(|value| Measured {
            value,
            standard_error: None,
        }),
        fingerprinted: Measured {
            value: number("value", one.value)?,
            standard_error: one
                .stderr
                .map(|error| number("stderr", error))
                .transpose()?,
        },
    })
}

/// A course within its bounds.
fn bounded(course: Course) -> anyhow::Result<Training> {
    field::at_most("moments", course.moments.len() as u64, MAX_MOMENTS)?;
    field::at_most("frontier", course.frontier.len() as u64, MAX_MOMENTS)?;
    for (place, moment) in course.moments.iter().enumerate() {
        let name = format!("moments[{place}]");
        super::time::duration(&name, moment.seconds)?;
        field::number(&name, moment.loss, 0.0, f64::MAX)?;
        moment
            .recall
            .map(|recall| field::share(&name, recall))
            .transpose()?;
    }
    let stops = course.frontier.iter().enumerate().map(|(place, point)| {
        let name = format!("frontier[{place}].");
        Ok(Stop {
            share: field::share(&format!("{name}share"), point.share)?,
            recall: field::share(&format!("{name}recall"), point.recall)?,
            perplexity_ratio: field::number(
                &format!("{name}perplexity_ratio"),
                point.perplexity_ratio,
                0.0,
                f64::MAX,
            )?,
        })
    });
    let kept = course
        .kept_share
        .map(|share| field::share("kept_share", share));
    let seconds = course
        .kept_seconds
        .map(|seconds| super::time::duration("kept_seconds", seconds));
    Ok(Training {
        walked_back: stops.collect::<anyhow::Result<_>>()?,
        kept_share: kept.transpose()?,
        kept_seconds: seconds.transpose()?,
        moments: course.moments,
    })
}
