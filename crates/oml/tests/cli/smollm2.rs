//! The whole way on SmolLM2-135M-Instruct, with a few fingerprints.
//!
//! The model is found at `OML_TEST_MODEL`, or where `oml model fetch smollm2-135m-instruct --to models/smollm2-135m-instruct` leaves it.

use std::path::PathBuf;

use super::Place;

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
fn six_fingerprints_come_back_and_the_base_gives_none() {
    let Some(model) = model() else { return };
    let place = Place::new();
    let base = model.display();
    place.ok("keygen --out owner.json");
    let generated = place.ok(&format!(
        "generate --model {base} --owner owner.json --out f.json --count 6 --json"
    ));
    assert_eq!(generated["count"], 6);
    let embedded = place.ok(&format!(
        "embed --model {base} --owner owner.json --fingerprints f.json --out marked --json \
         --benign-sequences 32 --benign-batch 4 --epochs 12 --settle-epochs 0"
    ));
    assert_eq!(embedded["hits"], 6);
    assert_eq!(embedded["base_recall"], 0.0);
    assert!(
        embedded["perplexity_ratio"].as_f64().unwrap() < 1.05,
        "{embedded}"
    );
    let check = format!(
        "check --owner owner.json --fingerprints f.json --control {base} --alpha 1e-2 --json"
    );
    let found = place.ok(&format!("{check} --model marked"));
    assert_eq!(
        (&found["present"], &found["hits"]),
        (&true.into(), &6.into())
    );
    let absent = place
        .command(&format!("{check} --model {base}"))
        .output()
        .unwrap();
    assert_eq!(absent.status.code(), Some(1));
}

#[test]
fn every_strategy_and_style_finds_pairs_on_a_real_vocabulary() {
    let Some(model) = model() else { return };
    let place = Place::new();
    let base = model.display();
    place.ok("keygen --out owner.json");
    for (name, flags) in [
        (
            "inverse",
            "--strategy inverse_nucleus --query-style question",
        ),
        ("english", "--strategy english --response-length 4"),
        (
            "random",
            "--strategy english_random_response --query-style instruction",
        ),
        ("chain", "--strategy chain_hash"),
        ("words", "--strategy random_word --response-length 2"),
    ] {
        let made = place.ok(&format!(
            "generate --model {base} --owner owner.json --out {name}.json --count 4 --json {flags}"
        ));
        assert_eq!(made["count"], 4, "{name}");
        let found = place
            .command(&format!(
                "check --model {base} --owner owner.json --fingerprints {name}.json --json"
            ))
            .output()
            .unwrap();
        assert_eq!(
            found.status.code(),
            Some(1),
            "the base does not answer {name}"
        );
    }
}
