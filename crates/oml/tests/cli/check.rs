//! `oml check` and what it needs, on a tiny model: verdicts, exit codes, and readers that are gone.

use std::fs;
use std::process::Stdio;

use serde_json::Value;

use super::tiny::{CHECK, COUNT, EMBED, place};

/// The keys of an object, in order.
fn keys(value: &Value) -> Vec<&str> {
    value
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect()
}

#[test]
fn from_queries_to_a_verdict() {
    let place = place();
    let embedded = place.ok(EMBED);
    assert_eq!(
        keys(&embedded),
        [
            "base_perplexity",
            "base_recall",
            "count",
            "digest",
            "epochs",
            "frontier",
            "hits",
            "kept_share",
            "kl",
            "kl_stderr",
            "merkle_root",
            "model",
            "perplexity",
            "perplexity_ratio",
            "perplexity_stderr",
            "planned_bytes",
            "recall",
            "seconds",
            "steps",
            "text",
            "training_seconds",
        ]
    );
    assert_eq!(embedded["count"], COUNT);
    assert_eq!(embedded["hits"], COUNT);
    // The model reads 256 tokens, not the usual 512.
    assert!(
        embedded["text"]
            .as_str()
            .unwrap()
            .ends_with("in windows of 256")
    );
    for name in ["oml-manifest.json", "oml-recipe.toml", "oml-training.json"] {
        assert!(place.path("marked").join(name).is_file(), "{name}");
    }
    assert!(!place.path("marked.state").exists());

    let found = place.ok(&format!("{CHECK} --model marked"));
    assert_eq!(
        keys(&found),
        [
            "alpha",
            "controls",
            "count",
            "fingerprints",
            "hits",
            "hits_needed",
            "log10_p_value",
            "model",
            "null",
            "null_basis",
            "p_value",
            "present",
            "recall",
            "recall_high",
            "recall_low",
            "seconds",
        ]
    );
    assert_eq!(
        (&found["present"], &found["hits"]),
        (&true.into(), &COUNT.into())
    );
    assert_eq!(
        keys(&found["fingerprints"][0]),
        ["hit", "index", "probabilities", "ranks"]
    );

    let evaluated = place.ok("eval --model marked --base base --json");
    assert!(
        evaluated["text"]
            .as_str()
            .unwrap()
            .ends_with("in windows of 256")
    );
    assert!(evaluated["kl"].as_f64().unwrap() > 0.0);
    let absent = place
        .command(&format!("{CHECK} --model base"))
        .output()
        .unwrap();
    assert_eq!(absent.status.code(), Some(1));
    let error = place
        .command(&format!("{CHECK} --model nowhere"))
        .output()
        .unwrap();
    assert_eq!(error.status.code(), Some(2));
}

#[test]
fn a_closed_pipe_does_not_change_the_verdict() {
    let place = place();
    for line in [
        format!("{CHECK} --model base"),
        CHECK.replace("--json", "--model base"),
    ] {
        let mut child = place
            .command(&line)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_output_is_an_error() {
    let place = place();
    let full = fs::OpenOptions::new()
        .write(true)
        .open("/dev/full")
        .unwrap();
    let mut command = place.command(&format!("{CHECK} --model base"));
    let output = command.stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("cannot write to standard output"), "{said}");
}

#[test]
fn a_set_too_small_for_a_claim_says_so() {
    let place = place();
    fs::write(
        place.path("few.json"),
        r#"[" baba kiki", " dodo mumu", " lulu zaza"]"#,
    )
    .unwrap();
    place.ok(
        "generate --model base --owner owner.json --out few --strategy custom --queries few.json",
    );
    let shown = place.run("check --model base --owner owner.json --fingerprints few");
    assert!(shown.starts_with("exit: 1\n"), "{shown}");
    assert!(
        shown.contains("warning: few: this set is too small to say \"present\" at --alpha 1e-6: all 3 hits would give a p-value of 0.0370"),
        "{shown}"
    );
    let shown = place.run("check --model base --owner owner.json --fingerprints few --alpha 0.05");
    assert!(
        shown.contains("  needed   at least 3 hits of 3\n"),
        "{shown}"
    );
}

#[test]
fn faults_name_the_file_or_the_flag() {
    let place = place();
    fs::write(
        place.path("long.json"),
        format!("[\"{}\"]", " baba".repeat(400)),
    )
    .unwrap();
    fs::write(place.path("twice.json"), r#"[" a", " a"]"#).unwrap();
    fs::write(
        place.path("long.jsonl"),
        format!(
            "{{\"goal\":\"{}\",\"sol1\":\"a\",\"sol2\":\"b\",\"label\":0}}",
            "x ".repeat(300)
        ),
    )
    .unwrap();
    let custom = "generate --model base --owner owner.json --out g.json --strategy custom";
    for (line, faults) in [
        (
            format!("{custom} --queries long.json"),
            &[
                "cannot use long.json with base",
                "the model takes at most 256",
            ][..],
        ),
        (
            format!("{custom} --queries twice.json"),
            &["cannot use twice.json with base", "queries[1]: "],
        ),
        (
            "generate --model base --owner owner.json --out g.json --query-length 300 --count 1"
                .to_owned(),
            &["cannot make queries of 300 ", "the model takes at most 256"],
        ),
        (
            "eval --model base --choices long.jsonl".to_owned(),
            &["long.jsonl", "the model takes at most 256"],
        ),
        (
            "eval --model base --window 300".to_owned(),
            &["--window: expected at most 256 tokens", "got 300"],
        ),
        (
            format!("{CHECK} --model nowhere --alpha 2"),
            &["'2' for '--alpha <P>'"],
        ),
        (
            "generate --model nowhere --out g --t 1".to_owned(),
            &["'1' for '--t <P>'"],
        ),
        (
            "generate --model nowhere --owner owner.json --out g --queries queries.json".to_owned(),
            &["--queries: expected --strategy custom, got perinucleus"],
        ),
    ] {
        let shown = place.run(&line);
        assert!(shown.starts_with("exit: 2\n"), "{line}: {shown}");
        for fault in faults {
            assert!(shown.contains(fault), "{line}: {shown}");
        }
    }
    assert!(!place.path("g.json").exists());
}
