//! Training states that are cut, damaged or of another run are refused, and nothing of them is taken over.

use std::path::Path;

use oml_model::train::{EmbedError, Embedder, Flow, StateError};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::{
    model::{bits, checkpoint},
    run::{MODEL, adapters, embedder, embedder_on, recipe, run},
};

const IDENTITY: &str = "the right run";

fn saved(path: &Path) {
    let mut embedder = embedder(&recipe());
    run(&mut embedder, &mut |event| event.step == 8);
    assert!(embedder.best().is_some());
    embedder.save_state(path, IDENTITY).unwrap();
}

/// A file with this header before `rest`.
fn with_header(header: &[u8], rest: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes()[..], header, rest].concat()
}

/// The named field of a refused file, or `io`.
fn refused(embedder: &mut Embedder, path: &Path, identity: &str) -> &'static str {
    let before = (
        bits(embedder.trainer().parameters()),
        embedder.progress().clone(),
    );
    let error = embedder.load_state(path, identity).unwrap_err();
    assert!(error.to_string().contains(&path.display().to_string()));
    let after = (
        bits(embedder.trainer().parameters()),
        embedder.progress().clone(),
    );
    assert!(before == after, "a refused state left traces");
    match error {
        StateError::Format { field, .. } => field,
        StateError::Io { .. } => "io",
        StateError::Finished { .. } => "finished",
    }
}

#[test]
fn damaged_states_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    saved(&path);
    let whole = std::fs::read(&path).unwrap();
    let length = u64::from_le_bytes(*whole.first_chunk().unwrap()) as usize;
    let (header, rest) = whole[8..].split_at(length);
    let changed = |field: &str, value: Value| {
        let mut fields: Value = serde_json::from_slice(header).unwrap();
        fields[field] = value;
        with_header(&serde_json::to_vec(&fields).unwrap(), rest)
    };
    let mut fresh = embedder(&recipe());
    let mut check = |bytes: &[u8], wanted: &str| {
        std::fs::write(&path, bytes).unwrap();
        assert_eq!(refused(&mut fresh, &path, IDENTITY), wanted);
    };
    check(&[], "io");
    check(&whole[..5], "io");
    check(&whole[..8], "header length");
    check(&whole[..8 + length / 2], "header length");
    check(&whole[..whole.len() - 32], "size");
    check(&whole[..8 + length], "size");
    check(&whole[..whole.len() - 1], "size");
    check(&[&whole[..], &[0]].concat(), "size");
    check(&[&[0xff; 8], &whole[8..]].concat(), "header length");
    check(&with_header(b"{\"format\"", rest), "header");
    check(&with_header(&[0xff; 300], rest), "header");
    check(&with_header(b"{}", rest), "header");
    check(&changed("unknown", 1.into()), "header");
    check(&changed("epoch", (-1).into()), "header");
    for (field, value, wanted) in [
        ("version", json!(2), "format"),
        ("version", json!(4), "format"),
        ("format", json!("another"), "format"),
        ("identity", json!("the wrong run"), "identity"),
        ("optimizer", json!("sgd"), "optimizer"),
        ("elements", json!(0), "elements"),
        ("elements", json!(u64::MAX), "elements"),
        ("losses", json!([]), "losses"),
        ("losses", json!(vec![f32::NAN.to_bits(); 8]), "losses"),
        ("hits", json!(vec![true; 9]), "hits"),
        ("epoch", json!(6), "epoch"),
        ("epoch", json!(1_000_000), "epoch"),
        ("steps", json!(4), "steps"),
        ("steps", json!(1_000_000_000_000_000_u64), "steps"),
        ("optimizer_steps", json!(u32::MAX), "optimizer_steps"),
        ("order", json!([8]), "order"),
        ("order", json!([3, 1, 3]), "order"),
        ("order", json!(vec![0; 1000]), "order"),
        ("reached", json!(5), "reached"),
        ("reached", json!(u32::MAX), "reached"),
        ("best", json!([1e308, null, 0.1]), "best"),
        ("best", json!([0.5, 2.0, 0.1]), "best"),
        ("best", json!([0.5, null, -1.0]), "best"),
        ("best", json!(null), "size"),
        // nothing is wrong with this one but that it was not saved
        ("optimizer_steps", json!(7), "checksum"),
    ] {
        check(&changed(field, value), wanted);
    }
    std::fs::write(&path, &whole).unwrap();
    assert!(fresh.load_state(&path, IDENTITY).unwrap());
}

#[test]
fn flipped_bits_are_found() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    saved(&path);
    let whole = std::fs::read(&path).unwrap();
    let header = 8 + u64::from_le_bytes(*whole.first_chunk().unwrap()) as usize;
    let mut fresh = embedder(&recipe());
    for part in 0..40 {
        let mut damaged = whole.clone();
        let place = header + part * (whole.len() - header - 1) / 39;
        damaged[place] ^= 1 << (part % 8);
        std::fs::write(&path, &damaged).unwrap();
        assert_eq!(refused(&mut fresh, &path, IDENTITY), "checksum", "{place}");
    }
}

#[test]
fn numbers_that_no_training_has_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    saved(&path);
    let whole = std::fs::read(&path).unwrap();
    let header = 8 + u64::from_le_bytes(*whole.first_chunk().unwrap()) as usize;
    let mut fresh = embedder(&recipe());
    let bytes = 4 * fresh.trainer().parameters().len();
    let names = [
        "parameters",
        "first moments",
        "second moments",
        "best parameters",
    ];
    assert_eq!(whole.len(), header + names.len() * bytes + 32);
    for (array, name) in names.into_iter().enumerate() {
        for value in [f32::NAN, f32::INFINITY, -1.0] {
            let mut changed = whole[..whole.len() - 32].to_vec();
            let last = header + (array + 1) * bytes - 4;
            changed[last..][..4].copy_from_slice(&value.to_le_bytes());
            let checksum = Sha256::digest(&changed);
            changed.extend_from_slice(&checksum);
            std::fs::write(&path, &changed).unwrap();
            if value.is_finite() && name != "second moments" {
                let mut other = embedder(&recipe());
                assert!(other.load_state(&path, IDENTITY).unwrap());
            } else {
                assert_eq!(refused(&mut fresh, &path, IDENTITY), name);
            }
        }
    }
}

#[test]
fn states_of_other_runs_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    assert!(!embedder(&recipe()).load_state(&path, IDENTITY).unwrap());
    saved(&path);
    let mut same = embedder(&recipe());
    assert_eq!(refused(&mut same, &path, "the wrong run"), "identity");
    let mut other = embedder(&adapters());
    assert_eq!(refused(&mut other, &path, IDENTITY), "elements");
    let mut other = embedder_on(&checkpoint("mistral"), "mistral", &recipe());
    assert_eq!(refused(&mut other, &path, IDENTITY), "elements");
    assert_eq!(refused(&mut same, folder.path(), IDENTITY), "io");
}

#[test]
fn a_finished_run_saves_what_it_keeps() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    let mut finished = embedder(&recipe());
    run(&mut finished, &mut |_| false);
    let base = checkpoint(MODEL);
    finished.interpolate(&base).unwrap().unwrap();
    finished.save_state(&path, IDENTITY).unwrap();
    assert_eq!(refused(&mut finished, &path, IDENTITY), "finished");
    let result = finished.run(&mut |_| Flow::Continue, &mut |_| ());
    assert!(matches!(result, Err(EmbedError::Finished)));

    let mut again = embedder(&recipe());
    assert!(again.load_state(&path, IDENTITY).unwrap());
    assert_eq!(again.progress(), finished.progress());
    for name in ["model.embed_tokens.weight", "model.norm.weight"] {
        let length = again
            .trainer()
            .decoder
            .weights
            .map
            .get(name)
            .unwrap()
            .range()
            .len();
        let [mut first, mut second] = [vec![0.0; length], vec![1.0; length]];
        finished.tensor(&base, name, &mut first).unwrap();
        again.tensor(&base, name, &mut second).unwrap();
        assert_eq!(first, second, "{name}");
    }
}

#[test]
fn a_state_that_cannot_be_written_leaves_the_earlier_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    saved(&path);
    let before = std::fs::read(&path).unwrap();
    let embedder = embedder(&recipe());
    let missing = folder.path().join("no folder").join("state");
    let error = embedder.save_state(&missing, IDENTITY).unwrap_err();
    assert!(matches!(error, StateError::Io { .. }) && !missing.exists());
    assert_eq!(std::fs::read(&path).unwrap(), before);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}
