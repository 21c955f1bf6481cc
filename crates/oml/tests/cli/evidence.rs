//! Slices, openings and the usage log, on a tiny model.

use std::fs;
use std::io::Write as _;

use serde_json::Value;

use super::Place;
use super::tiny::{CHECK, COUNT, place};

/// Public key of a new prover whose identity is in `name`.
fn prover(place: &Place, name: &str) -> String {
    let made = place.ok(&format!("keygen --prover --out {name} --json"));
    made["recipient"].as_str().unwrap().to_owned()
}

fn status(place: &Place) -> Value {
    place.ok("fingerprints status --fingerprints f.json --owner owner.json --json")
}

#[test]
fn provers_check_and_open_their_slices_without_the_owner() {
    let place = place();
    let (a, b) = (prover(&place, "a.txt"), prover(&place, "b.txt"));
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = fs::metadata(place.path("a.txt"))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    let split = place.ok(&format!(
        "fingerprints split --fingerprints f.json --owner owner.json --parts 2 --to {a} --to {b} --out slices --json"
    ));
    let root = split["merkle_root"].as_str().unwrap();
    fs::rename(place.path("owner.json"), place.path("away.json")).unwrap();

    let mut seen = Vec::new();
    for (part, identity) in [(0, "a.txt"), (1, "b.txt")] {
        let slice = format!("--fingerprints slices/slice-{part}.age --identity {identity}");
        let output = place
            .command(&format!("check --model base --control base {slice} --json"))
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(1));
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(report["count"], COUNT / 2);
        let indices = report["fingerprints"].as_array().unwrap().iter();
        let indices: Vec<u64> = indices.map(|f| f["index"].as_u64().unwrap()).collect();
        place.ok(&format!(
            "fingerprints open {slice} --index {} --out {part}.json",
            indices[1]
        ));
        place.ok(&format!(
            "fingerprints verify-opening --opening {part}.json --root {root}"
        ));
        seen.extend(indices);
    }
    seen.sort_unstable();
    assert!(seen.into_iter().eq(0..COUNT as u64));

    let shown = place.run("check --model base --fingerprints slices/slice-0.age --identity b.txt");
    insta::assert_snapshot!(shown, @"
    exit: 2
    --- stdout
    --- stderr
    error: cannot read slices/slice-0.age
      caused by: identity: expected one that the file was encrypted to, got none of them
    ");
    insta::assert_snapshot!(place.run("check --model base --fingerprints slices/slice-0.age"), @"
    exit: 2
    --- stdout
    --- stderr
    error: slices/slice-0.age: expected a whole set, got a slice
    hint: Name the prover's identity file with --identity FILE.
    ");
    insta::assert_snapshot!(place.run("check --model base --fingerprints f.json --identity a.txt"), @"
    exit: 2
    --- stdout
    --- stderr
    error: f.json: expected a slice, got another file
    hint: Leave --identity away: it opens slices only.
    ");
}

#[test]
fn an_opening_is_verified_by_anybody() {
    let place = place();
    let status_before = status(&place);
    let root = status_before["merkle_root"].as_str().unwrap();
    place.ok(
        "fingerprints open --fingerprints f.json --owner owner.json --index 3 --out three.json",
    );
    let verify = format!("fingerprints verify-opening --opening three.json --root {root}");
    insta::assert_snapshot!(place.run(&verify), @"
    exit: 0
    --- stdout
    three.json: fingerprint 3 belongs to the root
    --- stderr
    ");
    let other = format!("0x{}", "00".repeat(32));
    insta::assert_snapshot!(place.run(&verify.replace(root, &other)), @"
    exit: 1
    --- stdout
    three.json: no pair of the set behind this root
    --- stderr
    ");
    let text = fs::read_to_string(place.path("three.json")).unwrap();
    fs::write(
        place.path("three.json"),
        text.replace("\"index\":3", "\"index\":4"),
    )
    .unwrap();
    assert!(place.run(&verify).starts_with("exit: 1\n"));
    fs::write(place.path("three.json"), "{").unwrap();
    insta::assert_snapshot!(place.run(&verify), @"
    exit: 2
    --- stdout
    --- stderr
    error: cannot read three.json
      caused by: oml-opening: line 1, column 1: expected JSON of this form, got an early end
    ");
    insta::assert_snapshot!(place.run("fingerprints verify-opening --opening three.json --root 0x12"), @"
    exit: 2
    --- stdout
    --- stderr
    error: invalid value '0x12' for '--root <HEX>': expected 64 lower-case hexadecimal digits

    For more information, try '--help'.
    ");
    insta::assert_snapshot!(
        place.run("fingerprints open --fingerprints f.json --owner owner.json --index 16"),
        @"
    exit: 2
    --- stdout
    --- stderr
    error: --index: expected a number below 16, got 16
    "
    );
}

#[test]
fn status_counts_what_was_used() {
    let place = place();
    assert_eq!(status(&place)["unused"], COUNT);
    let a = prover(&place, "a.txt");
    let check = CHECK.replace("--control base", "");
    for _ in 0..2 {
        place
            .command(&format!("{check} --model base"))
            .output()
            .unwrap();
    }
    let shown = place.run("fingerprints status --fingerprints f.json --owner owner.json");
    let root = status(&place)["merkle_root"].as_str().unwrap().to_owned();
    insta::assert_snapshot!(shown.replace(&root, "ROOT"), @"
    exit: 0
    --- stdout
    f.json: 16 fingerprints
      unused  0
      asked   16 of FOLDER/base, 2 times
      spent   0 (opened)
      Merkle root  ROOT
    --- stderr
    ");

    // A line that was torn, the same use twice, and a log of another set stop nothing.
    let log = place.path("f.json.usage.jsonl");
    let whole = fs::read_to_string(&log).unwrap();
    let first = whole.lines().next().unwrap();
    let mut file = fs::OpenOptions::new().append(true).open(&log).unwrap();
    write!(file, "{first}\n{}", &first[..30]).unwrap();
    place.ok(
        "fingerprints open --fingerprints f.json --owner owner.json --index 3 --out three.json",
    );
    let again = place.run(
        "fingerprints open --fingerprints f.json --owner owner.json --index 3 --out again.json",
    );
    assert!(again.contains("3 was opened before."), "{again}");
    place.ok(&format!(
        "fingerprints split --fingerprints f.json --owner owner.json --parts 1 --to {a} --out slices"
    ));
    let found = status(&place);
    assert_eq!(found["opened"], serde_json::json!([3]));
    assert_eq!(found["unreadable_lines"], 1);
    assert_eq!(
        (&found["checks"][0]["times"], &found["slices"][0]["count"]),
        (&3.into(), &COUNT.into())
    );
    assert!(
        fs::read_to_string(&log).unwrap().starts_with(&whole),
        "nothing is ever taken away"
    );

    let checked = place
        .command(&format!("{check} --model base"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&checked.stderr);
    assert!(
        said.contains(
            "warning: f.json: pairs that were opened before: 1; whoever saw them can filter them"
        ),
        "{said}"
    );
}

#[test]
fn nothing_is_opened_that_cannot_be_written_down() {
    let place = place();
    fs::create_dir(place.path("f.json.usage.jsonl")).unwrap();
    let shown = place.run("fingerprints open --fingerprints f.json --owner owner.json --index 3");
    assert!(
        shown.starts_with("exit: 2\n--- stdout\n--- stderr\n"),
        "{shown}"
    );
    assert!(shown.contains("f.json.usage.jsonl"), "{shown}");
}

#[test]
fn split_needs_a_key_for_each_slice() {
    let place = place();
    let a = prover(&place, "a.txt");
    let split = "fingerprints split --fingerprints f.json --owner owner.json --out slices";
    let shown = place.run(&format!("{split} --parts 2 --to {a}"));
    insta::assert_snapshot!(shown, @"
    exit: 2
    --- stdout
    --- stderr
    error: --to: expected 2, one per slice, got 1
    ");
    insta::assert_snapshot!(place.run(&format!("{split} --parts 1 --to age1x")), @"
    exit: 2
    --- stdout
    --- stderr
    error: invalid value 'age1x' for '--to <age1…>': expected an age public key, age1 and 58 more letters

    For more information, try '--help'.
    ");
    let many = format!(" --to {a}").repeat(COUNT + 1);
    let shown = place.run(&format!("{split} --parts {}{many}", COUNT + 1));
    insta::assert_snapshot!(shown, @"
    exit: 2
    --- stdout
    --- stderr
    error: cannot split f.json
      caused by: parts: expected 1 to 16, got 17
    ");
    assert!(!place.path("slices").exists());
}
