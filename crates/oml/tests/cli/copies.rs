//! Copies for licensees on a tiny model: each gets its part, and the one a suspect was made from is named.

use std::fs;

use serde_json::{Value, json};

use super::Place;
use super::tiny::{COUNT, EMBED, place};

const GENERATE: &str =
    "generate --model base --owner o.json --strategy custom --queries queries.json --json";
const TRACE: &str = "trace --owner o.json --fingerprints copies.json";

/// A place with a set for `copies` copies in `copies.json`, and its root.
fn place_for(copies: u32) -> (Place, String) {
    let place = place();
    // Always the same parts: a random seed may give a few copies of few fingerprints equal ones.
    let owner = json!({"format": "oml-owner", "version": 1, "seed": "5a".repeat(32)});
    fs::write(place.path("o.json"), owner.to_string()).unwrap();
    let made = place.ok(&format!("{GENERATE} --out copies.json --copies {copies}"));
    assert_eq!(made["copies"], copies);
    assert_eq!(made["copy_bias"], "balanced");
    let root = made["merkle_root"].as_str().unwrap();
    (place, root.trim_start_matches("0x").to_owned())
}

/// `oml embed` of that set.
fn embed() -> String {
    EMBED
        .replace("f.json", "copies.json")
        .replace("owner.json", "o.json")
}

/// Indices of the fingerprints that a copy holds.
fn held(place: &Place, set: &str, copy: u32) -> Vec<u64> {
    let line =
        format!("check --owner o.json --fingerprints {set} --model base --json --copy {copy}");
    let output = place.command(&line).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let checked: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(checked["copy"], copy);
    let asked = checked["fingerprints"].as_array().unwrap();
    asked.iter().map(|f| f["index"].as_u64().unwrap()).collect()
}

/// An observed file in which the fingerprints `hits` were hit, and the others missed.
fn observe(place: &Place, root: &str, hits: &[u64]) {
    let answer = |index| {
        let answer = if hits.contains(&index) { "hit" } else { "miss" };
        json!({"index": index, "answer": answer})
    };
    let observed: Vec<Value> = (0..COUNT as u64).map(answer).collect();
    let file =
        json!({"format": "oml-observed", "version": 1, "merkle_root": root, "observed": observed});
    fs::write(place.path("observed.json"), file.to_string()).unwrap();
}

#[test]
fn a_copy_is_embedded_checked_and_traced() {
    let (place, _) = place_for(3);
    let part = held(&place, "copies.json", 2);
    assert!(part.len() < COUNT, "{part:?}");
    let embedded = place.ok(&format!("{} --copy 2", embed()));
    assert_eq!(embedded["copy"], 2);
    assert_eq!(embedded["count"], part.len());
    assert_eq!(embedded["hits"], part.len());
    let manifest = fs::read(place.path("marked/oml-manifest.json")).unwrap();
    let manifest: Value = serde_json::from_slice(&manifest).unwrap();
    assert_eq!(manifest["copy"], 2);
    assert_eq!(manifest["count"], part.len());
    assert_eq!(
        format!("0x{}", manifest["merkle_root"].as_str().unwrap()),
        embedded["merkle_root"]
    );

    // Sixteen fingerprints carry little evidence: 10 % is what they are good for.
    let trace = format!("{TRACE} --suspect marked --alpha 0.1 --json");
    let traced = place.ok(&trace);
    assert_eq!(traced["accused"], json!([2]));
    assert_eq!(traced["answered"], COUNT);
    let log = fs::read_to_string(place.path("copies.json.usage.jsonl")).unwrap();
    assert!(log.lines().next_back().unwrap().contains("/marked"));
    let first = &traced["suspicions"][0];
    assert_eq!(
        (&first["copy"], &first["accused"]),
        (&json!(2), &json!(true))
    );
    assert!(first["p_any"].as_f64().unwrap() <= 0.1);
    let nobody = place
        .command(&trace.replace("marked", "base"))
        .output()
        .unwrap();
    assert_eq!(nobody.status.code(), Some(1));
}

#[test]
fn copies_are_added_without_changing_earlier_ones() {
    let (place, root) = place_for(3);
    let made = place.ok(&format!("{GENERATE} --out more.json --copies 12"));
    assert_eq!(made["merkle_root"], format!("0x{root}"));
    for copy in 1..=3 {
        assert_eq!(
            held(&place, "copies.json", copy),
            held(&place, "more.json", copy)
        );
    }
    let parts: Vec<_> = (1..=12)
        .map(|copy| held(&place, "more.json", copy))
        .collect();
    for (nth, part) in parts.iter().enumerate() {
        assert!(!parts[..nth].contains(part), "copy {}", nth + 1);
    }
}

#[test]
fn observations_from_elsewhere_are_traced() {
    let (place, root) = place_for(3);
    observe(&place, &root, &held(&place, "copies.json", 3));
    let shown = place.run(&format!("{TRACE} --observed observed.json --alpha 0.1"));
    assert!(
        shown.starts_with("exit: 0\n--- stdout\nobserved.json: copy 3 of 3 accused\n  answers  16 of 16 fingerprints: "),
        "{shown}"
    );
    assert!(
        shown.contains("  null     a copy that had no part in the suspect: its fingerprints were drawn independently"),
        "{shown}"
    );
    observe(&place, &"00".repeat(32), &[]);
    let shown = place.run(&format!("{TRACE} --observed observed.json"));
    assert!(
        shown.starts_with("exit: 2\n") && shown.contains("oml-observed merkle_root: expected "),
        "{shown}"
    );
}

#[test]
fn too_few_answers_accuse_nobody_and_say_so() {
    let (place, root) = place_for(3);
    let file = json!({"format": "oml-observed", "version": 1, "merkle_root": root,
        "observed": [{"index": 0, "answer": "hit"}, {"index": 5, "answer": "refused"}]});
    fs::write(place.path("observed.json"), file.to_string()).unwrap();
    let shown = place.run(&format!("{TRACE} --observed observed.json"));
    assert!(
        shown.starts_with("exit: 1\n--- stdout\nobserved.json: no copy of 3 accused\n"),
        "{shown}"
    );
    assert!(
        shown.contains("warning: copies.json: too few answers to accuse anybody at --alpha 1e-3"),
        "{shown}"
    );
}

#[cfg(unix)]
#[test]
fn a_state_goes_on_with_its_own_copy_alone() {
    use std::io::{BufRead as _, BufReader};
    use std::process::{Command, Stdio};

    let (place, _) = place_for(3);
    let line =
        embed() + " --copy 2 --epochs 48 --settle-epochs 48 --evaluate-every 1 --save-seconds 0";
    let mut command = place.command(&line);
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(child.stderr.take().unwrap()).lines();
    assert!(said.any(|line| line.unwrap().starts_with("epoch ")));
    let id = child.id().to_string();
    assert!(
        Command::new("kill")
            .args(["-INT", &id])
            .status()
            .unwrap()
            .success()
    );
    said.for_each(drop);
    assert_eq!(child.wait().unwrap().code(), Some(2));

    let resume = format!("{line} --resume");
    for other in ["--copy 3", ""] {
        let shown = place.run(&resume.replace("--copy 2", other));
        assert!(shown.starts_with("exit: 2\n"), "{shown}");
        assert!(
            shown.contains("hint: The base model, the fingerprints, the copy, the recipe or the benign text differ"),
            "{shown}"
        );
    }
    assert_eq!(place.ok(&resume)["copy"], 2);
}

#[test]
fn faults_say_what_to_do() {
    let (place, _) = place_for(3);
    let check = "check --model base --fingerprints";
    for (line, faults) in [
        (
            format!("{check} copies.json --owner o.json --copy 4"),
            &[
                "cannot use copies.json",
                "copy: expected 1 to 3, got 4",
                "hint: Make the set again with a larger --copies",
            ][..],
        ),
        (
            format!("{check} f.json --owner owner.json --copy 1"),
            &[
                "cannot use f.json",
                "expected a set that was made for copies, got one without",
                "hint: Make a set for licensees with `oml generate --copies N`.",
            ],
        ),
        (
            "trace --owner owner.json --fingerprints f.json --suspect base".to_owned(),
            &["expected a set that was made for copies, got one without"],
        ),
        (TRACE.to_owned(), &["--suspect <DIR>"]),
        (
            format!("{TRACE} --suspect base --observed o"),
            &["cannot be used with"],
        ),
        (
            format!("{GENERATE} --out g.json --copies 3 --copy-id me"),
            &["cannot be used with"],
        ),
        (
            format!("{GENERATE} --out g.json --copy-bias mixed"),
            &["--copies <N>"],
        ),
        (
            format!("{GENERATE} --out g.json --copies 0"),
            &["1..=65536"],
        ),
    ] {
        let shown = place.run(&line);
        assert!(shown.starts_with("exit: 2\n"), "{line}: {shown}");
        for fault in faults {
            assert!(shown.contains(fault), "{line}: {shown}");
        }
    }
}
