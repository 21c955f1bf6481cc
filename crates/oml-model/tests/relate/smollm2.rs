//! SmolLM2-135M-Instruct against copies of itself and against strangers of its shape.
//!
//! The model is found at `OML_TEST_MODEL`, or where `oml model fetch smollm2-135m-instruct --to models/smollm2-135m-instruct` leaves it.

use std::path::PathBuf;

use super::changes::{Model, narrowed, pruned, rotated, rounded, shuffled};
use super::judge;
use super::tiny::random;

fn model() -> Option<PathBuf> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..");
    let path = std::env::var_os("OML_TEST_MODEL")
        .map_or_else(|| root.join("models/smollm2-135m-instruct"), PathBuf::from);
    if !path.join("config.json").exists() {
        eprintln!(
            "skipped: no model at '{}'; set OML_TEST_MODEL",
            path.display()
        );
        return None;
    }
    Some(path)
}

#[test]
fn a_copy_with_everything_changed_is_related_and_a_stranger_is_not() {
    let Some(path) = model() else { return };
    let folder = tempfile::tempdir().unwrap();
    let base = Model::read(&path);
    let stranger = random(&base.config, 1);
    let half = pruned(rounded(narrowed(base.clone(), 0.25), 4), 0.5);
    let changed = rotated(shuffled(half, 1, true), 2);
    for (name, suspect, related) in [("changed", changed, true), ("stranger", stranger, false)] {
        let other = folder.path().join(name);
        let mut suspect = suspect;
        suspect.companions.clone_from(&base.companions);
        suspect.write(&other);
        let (found, verdict) = judge(&path, &other);
        assert_eq!(verdict.related, related, "{name}");
        let share = found.evidence.agreement.share();
        assert!(
            if related { share > 0.5 } else { share < 0.01 },
            "{name}: {share}"
        );
    }
}
