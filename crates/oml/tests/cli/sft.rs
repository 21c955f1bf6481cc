//! `oml attack sft` on a tiny model: what it changes, and what it refuses.

use std::fs;

use serde_json::json;

use super::tiny::{CHECK, EMBED, place};

#[test]
fn fine_tuning_changes_the_model_and_can_be_repeated() {
    let place = place();
    place.ok(EMBED);
    let records: Vec<_> = (0..12)
        .map(|i| json!({"instruction": format!("bada {i}"), "input": "", "output": " bebe bibi bobo", "other": [1]}))
        .collect();
    fs::write(place.path("data.json"), json!(records).to_string()).unwrap();
    let line = "attack sft --model marked --instructions data.json --json --threads 2 --epochs 3 --learning-rate 1e-3";
    let mut weights = Vec::new();
    for (out, more) in [
        ("a", ""),
        ("b", ""),
        ("c", "--seed 1"),
        ("d", "--lora-rank 2"),
    ] {
        let tuned = place.ok(&format!("{line} --out {out} {more}"));
        assert_eq!(
            (&tuned["conversations"], &tuned["steps"]),
            (&json!(12), &json!(6))
        );
        weights.push(fs::read(place.path(out).join("model.safetensors")).unwrap());
    }
    assert!(weights[0] == weights[1]);
    assert!(weights[0] != weights[2] && weights[0] != weights[3]);
    let found = place.ok(&format!("{CHECK} --model a --alpha 0.05"));
    assert!(found["hits"].as_u64().unwrap() > 0);
    let longer = place.ok(&format!("{line} --out e --epochs 30").replacen("--epochs 3 ", "", 1));
    assert!(longer["last_loss"].as_f64() < longer["first_loss"].as_f64());
}

#[test]
fn faults_in_instructions_are_named() {
    let place = place();
    fs::write(place.path("none.json"), "[]").unwrap();
    fs::write(place.path("odd.json"), r#"[{"instruction": "a"}]"#).unwrap();
    fs::write(
        place.path("empty.json"),
        r#"[{"instruction": "bada", "output": ""}]"#,
    )
    .unwrap();
    for (file, fault) in [
        (
            "none.json",
            "instructions file records: expected at least one, got none",
        ),
        ("odd.json", "got a field that is missing"),
        (
            "empty.json",
            "instructions: expected at least one conversation, got none",
        ),
    ] {
        let shown = place.run(&format!(
            "attack sft --model base --instructions {file} --out tuned"
        ));
        assert!(
            shown.starts_with("exit: 2") && shown.contains(fault),
            "{shown}"
        );
        assert!(!place.path("tuned").exists());
    }
}
