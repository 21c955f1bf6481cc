//! Wrong use and wrong files: what is said, and exit code 2.

use std::fs;

use super::Place;

#[test]
fn no_command() {
    let place = Place::new();
    let output = place.command("").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn unknown_flag() {
    insta::assert_snapshot!(Place::new().run("keygen --to x"), @"
    exit: 2
    --- stdout
    --- stderr
    error: unexpected argument '--to' found

    Usage: oml keygen [OPTIONS]

    For more information, try '--help'.
    ");
}

#[test]
fn value_out_of_range() {
    insta::assert_snapshot!(Place::new().run("generate --model m --out f --count 0"), @"
    exit: 2
    --- stdout
    --- stderr
    error: invalid value '0' for '--count <N>': 0 is not in 1..=4294967295

    For more information, try '--help'.
    ");
}

#[test]
fn custom_without_queries() {
    insta::assert_snapshot!(Place::new().run("generate --model m --out f --strategy custom"), @"
    exit: 2
    --- stdout
    --- stderr
    error: the following required arguments were not provided:
      --queries <FILE>

    Usage: oml generate --model <DIR> --out <FILE> --strategy <NAME> --queries <FILE>

    For more information, try '--help'.
    ");
}

#[test]
fn unknown_strategy() {
    insta::assert_snapshot!(Place::new().run("generate --model m --out f --strategy rhyme"), @"
    exit: 2
    --- stdout
    --- stderr
    error: invalid value 'rhyme' for '--strategy <NAME>'
      [possible values: perinucleus, inverse_nucleus, english, english_random_response, chain_hash, random_word, custom]

    For more information, try '--help'.
    ");
}

#[test]
fn no_owner_file() {
    let place = Place::new();
    fs::write(place.path("f.json"), "{}").unwrap();
    insta::assert_snapshot!(place.run("fingerprints export --fingerprints f.json --owner nobody.json"), @"
    exit: 2
    --- stdout
    --- stderr
    error: cannot read nobody.json
      caused by: No such file or directory (os error 2)
    hint: Make an owner file with `oml keygen`, or name yours with --owner FILE.
    ");
}

#[test]
fn no_owner_file_in_the_usual_place() {
    insta::assert_snapshot!(Place::new().run("fingerprints export --fingerprints f.json"), @"
    exit: 2
    --- stdout
    --- stderr
    error: cannot read FOLDER/home/.config/oml/owner.json
      caused by: No such file or directory (os error 2)
    hint: Make an owner file with `oml keygen`, or name yours with --owner FILE.
    ");
}

#[test]
fn not_an_owner_file() {
    let place = Place::new();
    fs::write(
        place.path("owner.json"),
        r#"{"format":"oml-model","version":1}"#,
    )
    .unwrap();
    insta::assert_snapshot!(place.run("fingerprints export --fingerprints f.json --owner owner.json"), @r#"
    exit: 2
    --- stdout
    --- stderr
    error: cannot read owner.json
      caused by: format: expected "oml-owner", got "oml-model"
    "#);
}

#[test]
fn a_faulty_owner_file_does_not_show_the_seed() {
    let place = Place::new();
    let seed = "6979".repeat(16);
    for content in [
        format!("\"{seed}\""),
        seed.clone(),
        format!("{{\"format\":\"{seed}\",\"version\":1}}"),
        format!("{{\"format\":\"oml-owner\",\"version\":\"{seed}\"}}"),
        format!("{{\"format\":\"oml-owner\",\"version\":1,\"{seed}\":1}}"),
    ] {
        fs::write(place.path("owner.json"), &content).unwrap();
        for line in [
            "fingerprints export --fingerprints f.json --owner owner.json",
            "generate --model m --out g --owner owner.json",
        ] {
            let shown = place.run(line);
            assert!(shown.starts_with("exit: 2\n"), "{shown}");
            assert!(shown.contains("cannot read owner.json"), "{shown}");
            assert!(!shown.contains("6979"), "{content}: {shown}");
        }
    }
}

#[test]
fn a_faulty_queries_file_does_not_show_its_queries() {
    let place = Place::new();
    place.run("keygen");
    fs::write(place.path("q.json"), r#""my secret query""#).unwrap();
    insta::assert_snapshot!(place.run("generate --model m --out g --strategy custom --queries q.json"), @"
    exit: 2
    --- stdout
    --- stderr
    error: cannot read q.json
      caused by: queries file: line 1, column 17: expected JSON of this form, got a field that is missing, unknown, repeated, too long or of another type
    ");
}

#[test]
fn recipe_with_a_wrong_value() {
    let place = Place::new();
    fs::write(place.path("r.toml"), "epochs = \"many\"\n").unwrap();
    insta::assert_snapshot!(place.run("embed --model m --fingerprints f --out o --recipe r.toml"), @"
    exit: 2
    --- stdout
    --- stderr
    error: r.toml: epochs: invalid value 'many' for '--epochs <N>': expected a whole number
    ");
}

#[test]
fn recipe_with_a_flag_that_decides_no_training() {
    let place = Place::new();
    fs::write(place.path("r.toml"), "out = \"elsewhere\"\n").unwrap();
    insta::assert_snapshot!(place.run("embed --model m --fingerprints f --out o --recipe r.toml"), @"
    exit: 2
    --- stdout
    --- stderr
    error: r.toml: unknown key out
    ");
}

#[test]
fn variables_that_are_empty_or_numbers() {
    let place = Place::new();
    let mut command = place.command("keygen --out owner.json");
    command
        .env("OML_JSON", "1")
        .env("OML_QUIET", "0")
        .env("OML_THREADS", "");
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["file"], "owner.json");
}

#[test]
fn not_a_fingerprints_file() {
    let place = Place::new();
    place.run("keygen --out owner.json");
    fs::write(place.path("f.json"), "[]").unwrap();
    insta::assert_snapshot!(place.run("fingerprints export --fingerprints f.json --owner owner.json"), @"
    exit: 2
    --- stdout
    --- stderr
    error: cannot read f.json
      caused by: oml-fingerprints: line 1, column 2: expected JSON of this form, got a field that is missing, unknown, repeated, too long or of another type
    ");
}

#[test]
fn missing_model() {
    let place = Place::new();
    place.run("keygen");
    insta::assert_snapshot!(place.run("generate --model nowhere --out f.json"), @"
    exit: 2
    --- stdout
    --- stderr
    error: nowhere: open: No such file or directory (os error 2)
    hint: Get a model with `oml model fetch smollm2-135m-instruct --to DIR`.
    ");
}

#[test]
fn output_exists() {
    let place = Place::new();
    fs::write(place.path("f.json"), "mine").unwrap();
    insta::assert_snapshot!(place.run("generate --model nowhere --out f.json"), @"
    exit: 2
    --- stdout
    --- stderr
    error: f.json already exists
    hint: Nothing is overwritten: name another path, or move the old one away.
    ");
    assert_eq!(fs::read_to_string(place.path("f.json")).unwrap(), "mine");
}

#[test]
fn instructions_that_nothing_has() {
    let place = Place::new();
    insta::assert_snapshot!(place.run("eval --model nowhere --isa sse9"), @"
    exit: 2
    --- stdout
    --- stderr
    error: --isa
      caused by: unknown instruction set `sse9`, expected portable, avx2, avx512 or amx
    ");
}

#[test]
fn settings_file_with_an_unknown_name() {
    let place = Place::new();
    fs::write(place.path("oml.toml"), "[generate]\ncolour = 1\n").unwrap();
    insta::assert_snapshot!(place.run("generate --model m --out f"), @"
    exit: 2
    --- stdout
    --- stderr
    error: oml.toml: unknown setting generate.colour
    ");
}

#[test]
fn settings_file_that_is_missing() {
    insta::assert_snapshot!(Place::new().run("keygen --config no.toml"), @"
    exit: 2
    --- stdout
    --- stderr
    error: cannot read no.toml
      caused by: No such file or directory (os error 2)
    ");
}

#[test]
fn workload_longer_than_the_model_reads() {
    let place = super::tiny::place();
    let path = place.path("base/config.json");
    let config = fs::read_to_string(&path).unwrap();
    let short = config.replace(
        r#""max_position_embeddings":256"#,
        r#""max_position_embeddings":40"#,
    );
    assert_ne!(short, config);
    fs::write(&path, short).unwrap();
    insta::assert_snapshot!(place.run("bench step --model base"), @"
    exit: 2
    --- stdout
    --- stderr
    error: the workload does not fit: sequence 0: 48 tokens, the model takes at most 40
    ");
}
