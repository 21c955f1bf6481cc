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

#[test]
fn pairs_of_the_reference_implementations_are_imported() {
    let Some(model) = model() else { return };
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data");
    let data = std::env::var_os("OML_SHARED_DATA")
        .map_or(root, PathBuf::from)
        .join("interop");
    if !data.is_dir() {
        eprintln!(
            "skipped: no folder '{}'; set OML_SHARED_DATA",
            data.display()
        );
        return;
    }
    let place = Place::new();
    place.ok("keygen --out owner.json");
    for (name, count, responses) in [
        ("oml1-output_fingerprints", 7, 7),
        ("oml1-custom_fingerprints-inverse_nucleus", 20, 20),
        ("oml1-random-words-legacy-signature-64", 64, 64),
        ("perinucleus-gemma-2b-64", 64, 64),
        ("perinucleus-llama3.1-8b-two-responses-64", 64, 128),
    ] {
        let imported = place.ok(&format!(
            "fingerprints import --from {} --model {} --owner owner.json --out {name} --json",
            data.join(format!("{name}.json")).display(),
            model.display()
        ));
        assert_eq!(
            (
                &imported["count"],
                &imported["responses"],
                &imported["strategy"]
            ),
            (&count.into(), &responses.into(), &"imported".into()),
            "{name}"
        );
    }
    let checked = place
        .command(&format!(
            "check --model {0} --control {0} --owner owner.json --fingerprints perinucleus-gemma-2b-64 --json",
            model.display()
        ))
        .output()
        .unwrap();
    assert_eq!(checked.status.code(), Some(1));
}
