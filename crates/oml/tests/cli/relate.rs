//! `oml relate`: help, verdicts with their exit codes, and refusals.

use std::fs;

use super::tiny::{EMBED, place};
use super::{Place, help};

/// The printed result without its time and machine, which differ from run to run.
fn shown(place: &Place, line: &str) -> String {
    let text = place.run(line);
    let lines = text.lines().filter(|line| !line.starts_with("  time"));
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn help_of_relate() {
    insta::assert_snapshot!(help("relate"), @"");
}

#[test]
fn a_model_with_fingerprints_is_related_to_its_base() {
    let place = place();
    place.ok(EMBED);
    insta::assert_snapshot!(shown(&place, "relate --model base --suspect marked --threads 2"), @"");
    let found = place.ok("relate --model base --suspect marked --json");
    assert_eq!(found["related"], true);
    assert!(found["log10_p_value"].as_f64().unwrap() < -6.0);
    assert_eq!(found["tests"].as_array().unwrap().len(), 4);
    assert_eq!(found["layers"].as_array().unwrap().len(), 2);
    let strict = place.run("relate --model base --suspect marked --alpha 1e-300");
    assert!(strict.starts_with("exit: 1"), "{strict}");
    assert!(
        strict.contains("warning: marked: too few units"),
        "{strict}"
    );
}

#[test]
fn a_model_from_another_seed_is_not_related() {
    let place = place();
    fs::create_dir(place.path("other")).unwrap();
    for file in ["config.json", "tokenizer.json"] {
        fs::copy(
            place.path("base").join(file),
            place.path("other").join(file),
        )
        .unwrap();
    }
    let mut weights = fs::read(place.path("base").join("model.safetensors")).unwrap();
    let header = 8 + u64::from_le_bytes(weights[..8].try_into().unwrap()) as usize;
    let mut state = 7u64;
    for number in weights[header..].chunks_exact_mut(4) {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        let value = (state >> 40) as f32 / (1u64 << 24) as f32 - 0.5;
        number.copy_from_slice(&value.to_le_bytes());
    }
    fs::write(place.path("other").join("model.safetensors"), weights).unwrap();
    insta::assert_snapshot!(shown(&place, "relate --model base --suspect other --threads 2"), @"");
}

#[test]
fn faults_are_named() {
    let place = place();
    let none = place.run("relate --model base --suspect none");
    assert!(
        none.starts_with("exit: 2") && none.contains("none: open"),
        "{none}"
    );
    let alpha = place.run("relate --model base --suspect base --alpha 0");
    assert!(
        alpha.starts_with("exit: 2") && alpha.contains("expected a number above 0 and below 1"),
        "{alpha}"
    );
}
