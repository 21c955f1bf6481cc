//! Prompts around queries, on a tiny model: trained with, asked with, and faults in files of them.

use std::fs;

use super::tiny::{CHECK, EMBED, place};

#[test]
fn fingerprints_that_are_trained_inside_prompts_come_back_inside_them() {
    let place = place();
    fs::write(
        place.path("prompts.json"),
        r#"[" bada {}", {"system": "Be brief.", "user": "{}"}]"#,
    )
    .unwrap();
    let asked = |model: &str| {
        let found = place.ok(&format!("{CHECK} --model {model} --prompts prompts.json"));
        // The model has no chat template, so the conversation is left out.
        let prompted = found["prompted"].as_array().unwrap();
        assert_eq!(prompted.len(), 1);
        assert_eq!(prompted[0]["prompt"], " bada {}");
        assert_eq!(prompted[0]["count"], found["count"]);
        prompted[0]["hits"].as_u64().unwrap()
    };
    let plain = place.ok(EMBED);
    assert!(plain.get("prompted_recall").is_none());
    let before = asked("marked");
    let line = EMBED.replace("marked", "prompted");
    let trained = place.ok(&format!("{line} --augment 2 --prompts prompts.json"));
    assert!(trained["prompted_recall"].as_f64().unwrap() > 0.9);
    let after = asked("prompted");
    assert!(after > before && after >= 14, "{before} {after}");
    let shown = place
        .run(&format!("{CHECK} --model prompted --prompts prompts.json").replace("--json", ""));
    assert!(
        shown.contains("in the mean over 1 prompts (not part of the verdict)"),
        "{shown}"
    );
}

#[test]
fn every_built_in_prompt_can_be_asked() {
    let place = place();
    for list in ["training", "held-out"] {
        let mut command = place.command(&format!("{CHECK} --model base --prompts {list}"));
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        let found: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert!(found["prompted"].as_array().unwrap().len() >= 8, "{list}");
    }
}

#[test]
fn faults_in_a_list_of_prompts_are_named() {
    let place = place();
    fs::write(place.path("two.json"), r#"["{}", "{} or {}"]"#).unwrap();
    fs::write(place.path("chats.json"), r#"[{"user": "{}"}]"#).unwrap();
    let two = "cannot read two.json\n  caused by: prompts file template: expected exactly one {}, got 2 in entry 2";
    for (line, fault) in [
        (format!("{EMBED} --augment 1 --prompts two.json"), two),
        (format!("{CHECK} --model base --prompts two.json"), two),
        (
            format!("{CHECK} --model base --prompts no.json"),
            "cannot read no.json",
        ),
        (
            format!("{EMBED} --augment 1 --prompts chats.json"),
            "prompts: expected at least one that this tokenizer can render, got none",
        ),
        (
            format!("{EMBED} --augment-padding 3"),
            "recipe key 'augment_padding': expected 0 where augment is 0, got 3",
        ),
        (
            format!("{EMBED} --average-at never"),
            "invalid value 'never' for '--average-at <NAME>': expected step, epoch or gradient",
        ),
    ] {
        let shown = place.run(&line);
        assert!(
            shown.starts_with("exit: 2") && shown.contains(fault),
            "{shown}"
        );
        assert!(!place.path("marked").exists());
    }
}
