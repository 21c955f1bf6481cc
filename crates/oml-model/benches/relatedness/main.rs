//! Relatedness on real training: p-values between models that were trained apart, and what survives on a real model.
//!
//! ```sh
//! cargo bench -p oml-model --bench relatedness -- apart 46 400      # models, steps: every pair is compared
//! cargo bench -p oml-model --bench relatedness -- copies DIR        # a Llama, against changed copies of itself
//! ```
//!
//! Models trained apart have seeds 1000, 1001, … and see the same windows of the same text in the same order, which makes them
//! as alike as training can. Copies are written to a temporary folder one at a time.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::unwrap_used,
    dead_code,
    reason = "a table for a reader, with helpers of tests"
)]

#[path = "../../tests/relate/changes.rs"]
mod changes;
#[path = "../../tests/relate/tiny.rs"]
mod tiny;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use changes::{Model, folded, merged, narrowed, pruned, rotated, rounded, shortened, shuffled};
use oml_core::claim::clopper_pearson;
use oml_core::relatedness::{DEFAULT_ALPHA, Verdict, assess};
use oml_model::checkpoint::Checkpoint;
use oml_model::engine::Engine;
use oml_model::relate::{Relatedness, relate};
use tiny::{SMALL, random, train, untrained};

const LEVELS: [f64; 3] = [0.05, 0.01, 1e-3];

fn main() -> ExitCode {
    let given: Vec<String> = std::env::args()
        .skip(1)
        .filter(|word| word != "--bench")
        .collect();
    let words: Vec<&str> = given.iter().map(String::as_str).collect();
    let number = |word: &str| word.parse::<u64>().ok();
    match words[..] {
        ["apart", models, steps] if number(models).is_some() && number(steps).is_some() => {
            apart(number(models).unwrap(), number(steps).unwrap() as usize);
        }
        ["copies", folder, ref others @ ..] => {
            let others: Vec<PathBuf> = others.iter().map(PathBuf::from).collect();
            copies(Path::new(folder), &others);
        }
        // `cargo test --benches` gives no arguments
        [] => {}
        _ => {
            eprintln!("expected `apart MODELS STEPS` or `copies DIR [SUSPECT…]`");
            return ExitCode::from(2);
        }
    }
    ExitCode::SUCCESS
}

fn judge(model: &Path, suspect: &Path) -> (Relatedness, Verdict, f64) {
    let started = Instant::now();
    let open = |path| Checkpoint::open(path).unwrap();
    let engine = Engine::default();
    let found = relate(&engine, &open(model), &open(suspect), &mut |_, _| ()).unwrap();
    let verdict = assess(&found.evidence, DEFAULT_ALPHA).unwrap();
    (found, verdict, started.elapsed().as_secs_f64())
}

/// Trains models from different seeds and compares every pair.
fn apart(models: u64, steps: usize) {
    let folder = tempfile::tempdir().unwrap();
    let path = |i: u64| folder.path().join(i.to_string());
    let mut last = 0.0;
    for i in 0..models {
        let (model, losses) = train(&untrained(SMALL, 1000 + i), steps, 3e-3, 1);
        last += losses[1] / models as f32;
        model.write(&path(i));
    }
    println!("{models} models, {steps} steps, last loss {last:.2} nats in the mean");
    let mut logarithms: [Vec<f64>; 4] = Default::default();
    let (mut shares, mut related) = (Vec::new(), 0);
    for i in 0..models {
        for j in 0..i {
            let (found, verdict, _) = judge(&path(i), &path(j));
            shares.push(found.evidence.agreement.share());
            related += u64::from(verdict.related);
            for (all, test) in logarithms.iter_mut().zip(verdict.tests) {
                all.push(test.ln_p_value.unwrap_or(0.0));
            }
        }
    }
    let pairs = shares.len() as u64;
    print!("| p-value, {pairs} pairs |");
    LEVELS.iter().for_each(|level| print!(" ≤ {level} |"));
    println!(" smallest |\n|---|---|---|---|---|");
    for (name, logarithms) in ["unit_order", "unit_signs", "coordinate_order", "agreement"]
        .iter()
        .zip(&logarithms)
    {
        print!("| {name} |");
        for level in LEVELS {
            let count = logarithms.iter().filter(|ln| **ln <= level.ln()).count() as u64;
            let interval = clopper_pearson(count, pairs, 0.95);
            let share = count as f64 / pairs as f64;
            print!(
                " {share:.4} ({:.4} to {:.4}) |",
                interval.low, interval.high
            );
        }
        let smallest = logarithms.iter().copied().fold(0.0, f64::min);
        println!(" {:.1e} |", smallest.exp());
    }
    let largest = shares.iter().copied().fold(0.0, f64::max);
    let mean = shares.iter().sum::<f64>() / shares.len() as f64;
    println!(
        "agreement: {:.2} % of units in the mean, {:.2} % at most; related: {related} of {pairs}",
        100.0 * mean,
        100.0 * largest
    );
}

/// Compares a model with copies of itself, and with a stranger of its shape.
fn copies(path: &Path, others: &[PathBuf]) {
    let base = Model::read(path);
    println!(
        "| suspect | order: ρ | signs alike, % | coordinates: ρ | agreement, % | mean cosine | CKA | log10 p | s |\n\
         |---|---|---|---|---|---|---|---|---|"
    );
    line("itself", path, path);
    for other in others {
        line(&other.file_name().unwrap().to_string_lossy(), path, other);
    }
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("suspect");
    let noisy = |share: f64| {
        let mut noise = random(&base.config, 9);
        for (name, tensor) in &mut noise.tensors {
            let own = &base.tensors[name];
            if own.shape.len() < 2 {
                tensor.values.clone_from(&own.values);
                continue;
            }
            let size = |values: &[f32]| {
                (values.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>() / values.len() as f64)
                    .sqrt()
            };
            let scale = (share * size(&own.values) / size(&tensor.values)) as f32;
            for (x, own) in tensor.values.iter_mut().zip(&own.values) {
                *x = own + scale * *x;
            }
        }
        noise
    };
    let changes: [(&str, &dyn Fn() -> Model); 15] = [
        ("noise of the weights' own size", &|| noisy(1.0)),
        ("noise of twice their size", &|| noisy(2.0)),
        ("merged with a stranger, half and half", &|| {
            merged(random(&base.config, 3), &base)
        }),
        ("50 % of weights set to 0", &|| pruned(base.clone(), 0.5)),
        ("80 % of weights set to 0", &|| pruned(base.clone(), 0.8)),
        ("rounded to 8 bits", &|| rounded(base.clone(), 8)),
        ("rounded to 4 bits", &|| rounded(base.clone(), 4)),
        ("rounded to 3 bits", &|| rounded(base.clone(), 3)),
        ("25 % of units removed", &|| narrowed(base.clone(), 0.25)),
        ("every other layer removed", &|| shortened(base.clone(), 2)),
        ("norms folded, queries and keys scaled", &|| {
            folded(base.clone())
        }),
        ("units renumbered", &|| shuffled(base.clone(), 1, false)),
        ("units renumbered, turned and scaled", &|| {
            shuffled(base.clone(), 1, true)
        }),
        ("and the stream rotated", &|| {
            rotated(shuffled(base.clone(), 1, true), 2)
        }),
        (
            "and 4 bits, 25 % of units and 50 % of weights removed",
            &|| {
                let less = pruned(rounded(narrowed(base.clone(), 0.25), 4), 0.5);
                rotated(shuffled(less, 1, true), 2)
            },
        ),
    ];
    let stranger = || random(&base.config, 1);
    for (name, make) in changes.into_iter().chain([(
        "a stranger: random weights",
        &stranger as &dyn Fn() -> Model,
    )]) {
        let mut suspect = make();
        suspect.companions.clone_from(&base.companions);
        suspect.write(&place);
        line(name, path, &place);
        std::fs::remove_dir_all(&place).unwrap();
    }
}

fn line(name: &str, path: &Path, place: &Path) {
    let (found, verdict, seconds) = judge(path, place);
    let evidence = &found.evidence;
    let signs = evidence
        .unit_signs
        .map_or(0.0, |s| 100.0 * s.same as f64 / s.pairs.max(1) as f64);
    println!(
        "| {name} | {:.3} | {signs:.1} | {:.3} | {:.1} | {:.3} | {:.3} | {:.1} | {seconds:.1} |",
        evidence.unit_order.correlation(),
        evidence.coordinate_order.map_or(0.0, |o| o.correlation()),
        100.0 * evidence.agreement.share(),
        found.cosine,
        found.embedding_cka.unwrap_or(0.0),
        verdict.ln_p_value / std::f64::consts::LN_10
    );
}
