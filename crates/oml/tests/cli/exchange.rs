//! `oml fingerprints export` and `import`, on a tiny model.

use std::fs;

use super::tiny::{CHECK, COUNT, place};

#[test]
fn every_form_goes_out_and_comes_back() {
    let place = place();
    for (format, whole) in [("plain", false), ("oml1", false), ("perinucleus", true)] {
        place.ok(&format!(
            "fingerprints export --owner owner.json --fingerprints f.json --format {format} --out {format}.json"
        ));
        let imported = place.ok(&format!(
            "fingerprints import --from {format}.json --model base --owner owner.json --out {format}.set --json"
        ));
        assert_eq!(imported["strategy"], "imported");
        assert_eq!(imported["count"], COUNT);
        assert_eq!(imported["agreeing"], if whole { COUNT } else { 0 });
        place.ok(&format!(
            "fingerprints export --owner owner.json --fingerprints {format}.set --format {format} --out again.json"
        ));
        assert_eq!(
            fs::read(place.path("again.json")).unwrap(),
            fs::read(place.path(&format!("{format}.json"))).unwrap()
        );
        fs::remove_file(place.path("again.json")).unwrap();
    }
    // The same pairs, so the same hits; and a claim that needs a control.
    let line = CHECK
        .replace("f.json", "oml1.set")
        .replace("--control base", "");
    let shown = place.run(&format!("{} --model base", line.replace("--json", "")));
    assert!(shown.starts_with("exit: 1\n"), "{shown}");
    assert!(
        shown.contains("null     100.00 % (no bound without a control: the pairs were imported, so no seed chose their responses)"),
        "{shown}"
    );
}

#[test]
fn an_imported_set_is_embedded_and_found() {
    let place = place();
    place.ok("fingerprints export --owner owner.json --fingerprints f.json --format oml1 --out pairs.json");
    place.ok("fingerprints import --from pairs.json --model base --owner owner.json --out i.json");
    let embedded = place.ok(&super::tiny::EMBED.replace("f.json", "i.json"));
    assert_eq!(embedded["hits"], COUNT);
    let found = place.ok(&format!(
        "{} --model marked",
        CHECK.replace("f.json", "i.json")
    ));
    assert_eq!(found["present"], true);
}

#[test]
fn queries_alone_get_the_responses_of_the_seed() {
    let place = place();
    let imported = place.ok(
        "fingerprints import --from queries.json --model base --owner owner.json --out i.json --json",
    );
    assert_eq!(imported["strategy"], "custom");
    assert_eq!(
        fs::read(place.path("i.json")).unwrap(),
        fs::read(place.path("f.json")).unwrap()
    );
}

#[test]
fn faults_name_file_entry_and_field() {
    let place = place();
    let import = |content: &str| {
        fs::write(place.path("p.json"), content).unwrap();
        place.run(
            "fingerprints import --from p.json --model base --owner owner.json --out i.json -q",
        )
    };
    insta::assert_snapshot!(import(r#"[{"key":"a","response":"b"},{"key":"c","response":7}]"#), @"
    exit: 2
    --- stdout
    --- stderr
    error: cannot read p.json
      caused by: pairs file entries[1].response: expected a text of at most 65536 bytes, got a number
    ");
    insta::assert_snapshot!(import(r#"[{"key":"a","response":"b"},{"key":"a","signature":"c"}]"#), @"
    exit: 2
    --- stdout
    --- stderr
    error: cannot use p.json with base
      caused by: pairs file entries[1].query: expected a query of its own, got that of entries[0]
    ");
    insta::assert_snapshot!(import(r#"[{"query":" baba","response":" kiki","query_ids":[1],"response_ids":[2]}]"#), @"
    exit: 2
    --- stdout
    --- stderr
    error: cannot use p.json with base
      caused by: pairs file entries[0].query_ids: expected the ids that the model's tokenizer gives the text, got those of another tokenizer
    ");
    insta::assert_snapshot!(import(r#"["Say: {}"]"#), @"
    exit: 2
    --- stdout
    --- stderr
    error: cannot read p.json
      caused by: pairs file entries[0].key: expected a query, got a prompt template with {}
    ");
    insta::assert_snapshot!(import(r#"[{"key":"a""#), @"
    exit: 2
    --- stdout
    --- stderr
    error: cannot read p.json
      caused by: pairs file: line 1, column 11: expected JSON of this form, got an early end
    ");
    let long = format!(
        "[{{\"key\":\"{}\",\"response\":\" baba\"}}]",
        " baba".repeat(300)
    );
    insta::assert_snapshot!(import(&long), @"
    exit: 2
    --- stdout
    --- stderr
    error: cannot use p.json with base
      caused by: pairs file entries[0].response: expected at most 256 tokens with its query, got 301
    ");
    assert!(!place.path("i.json").exists());
}

#[test]
fn several_responses_do_not_fit_oml1() {
    let place = place();
    fs::write(
        place.path("p.json"),
        r#"[{"key":" baba kiki","response":[" dodo"," mumu"]}]"#,
    )
    .unwrap();
    place.ok("fingerprints import --from p.json --model base --owner owner.json --out i.json");
    insta::assert_snapshot!(place.run("fingerprints export --fingerprints i.json --owner owner.json --format oml1"), @"
    exit: 2
    --- stdout
    --- stderr
    error: cannot export i.json
      caused by: oml1 export entries[0].response: expected one response per query, got 2
    hint: Take --format perinucleus or plain for a set with several responses per query.
    ");
    let shown = place
        .run("fingerprints export --fingerprints i.json --owner owner.json --format perinucleus");
    assert!(
        shown.contains(r#""key":" baba kiki","effective_key":" baba kiki","response":[" dodo"," mumu"],"response_prob":[["#),
        "{shown}"
    );
}
