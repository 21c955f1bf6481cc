//! Commands that need no model: owner files, settings, completions and man pages.

use std::fs;

use super::{Place, shown};

#[test]
fn keygen_writes_a_private_file_once() {
    let place = Place::new();
    let first = place.run("keygen --out owner.json");
    assert!(first.starts_with("exit: 0\n--- stdout\nowner "), "{first}");
    let bytes = fs::read(place.path("owner.json")).unwrap();
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        assert_eq!(
            fs::metadata(place.path("owner.json"))
                .unwrap()
                .permissions()
                .mode()
                & 0o777,
            0o600
        );
    }
    insta::assert_snapshot!(place.run("keygen --out owner.json"), @"
    exit: 2
    --- stdout
    --- stderr
    error: owner.json already exists
    hint: Nothing is overwritten: name another path, or move the old one away.
    ");
    assert_eq!(fs::read(place.path("owner.json")).unwrap(), bytes);
}

#[test]
fn keygen_uses_the_config_folder() {
    let place = Place::new();
    let output = place.command("keygen --json").output().unwrap();
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["owner"].as_str().unwrap().len(), 32);
    assert!(place.path("home/.config/oml/owner.json").is_file());
}

#[test]
fn two_owners_differ() {
    let place = Place::new();
    assert_ne!(
        place.run("keygen --out a.json"),
        place.run("keygen --out b.json").replace("b.json", "a.json")
    );
}

#[test]
fn settings_say_where_they_come_from() {
    let place = Place::new();
    fs::write(
        place.path("oml.toml"),
        "quiet = true\n[check]\nalpha = 1e-9\ncontrol = [\"a\", \"b\"]\n",
    )
    .unwrap();
    let mut command = place.command("check --fingerprints f.json --show-settings");
    command.env("OML_MODEL", "suspect").env("OML_THREADS", "1");
    insta::assert_snapshot!(shown(&mut command), @"
    exit: 0
    --- stdout
    oml check
      alpha        = 0.000000001  (oml.toml)
      control      = a b  (oml.toml)
      fingerprints = f.json  (command line)
      json         = false  (default)
      model        = suspect  (OML_MODEL)
      quiet        = true  (oml.toml)
      threads      = 1  (OML_THREADS)
    --- stderr
    ");
}

#[test]
fn completions_know_the_commands() {
    let place = Place::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = place.run(&format!("completions {shell}"));
        assert!(
            script.starts_with("exit: 0") && script.contains("generate"),
            "{shell}"
        );
    }
}

#[test]
fn every_command_has_a_man_page() {
    let place = Place::new();
    insta::assert_snapshot!(place.run("man pages"), @"
    exit: 0
    --- stdout
    pages/oml.1
    pages/oml-demo.1
    pages/oml-model.1
    pages/oml-model-fetch.1
    pages/oml-keygen.1
    pages/oml-generate.1
    pages/oml-embed.1
    pages/oml-check.1
    pages/oml-trace.1
    pages/oml-eval.1
    pages/oml-fingerprints.1
    pages/oml-fingerprints-export.1
    pages/oml-bench.1
    pages/oml-bench-step.1
    pages/oml-bench-decode.1
    pages/oml-completions.1
    pages/oml-man.1
    --- stderr
    ");
    let page = fs::read_to_string(place.path("pages/oml-check.1")).unwrap();
    assert!(page.contains("oml-check") && page.contains("fingerprints"));
}
