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
fn a_passphrase_opens_the_owner_file_and_another_does_not() {
    let place = Place::new();
    fs::write(place.path("right"), "open sesame\n").unwrap();
    fs::write(place.path("wrong"), "open barley\n").unwrap();
    fs::write(place.path("empty"), "\n").unwrap();
    fs::write(place.path("f.json"), "{}").unwrap();
    let run = |line: &str, passphrase: &str| {
        let mut command = place.command(line);
        shown(command.env("OML_PASSPHRASE_FILE", passphrase))
    };
    let made = run("keygen --passphrase --out owner.json", "right");
    assert!(made.starts_with("exit: 0\n--- stdout\nowner "), "{made}");
    let text = fs::read_to_string(place.path("owner.json")).unwrap();
    assert!(text.contains("\"format\":\"oml-owner-locked\"") && !text.contains("sesame"));
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = fs::metadata(place.path("owner.json"))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    let export = "fingerprints export --fingerprints f.json --owner owner.json";
    // The owner file is opened, and the other file is at fault.
    insta::assert_snapshot!(run(export, "right"), @"
    exit: 2
    --- stdout
    --- stderr
    error: cannot read f.json
      caused by: oml-fingerprints: line 1, column 2: expected JSON of this form, got a field that is missing, unknown, repeated, too long or of another type
    ");
    insta::assert_snapshot!(run(export, "wrong"), @"
    exit: 2
    --- stdout
    --- stderr
    error: cannot read owner.json
      caused by: oml-owner-locked passphrase: expected the one that the file was made with, got another (or the file is altered)
    ");
    insta::assert_snapshot!(run(export, "nowhere"), @"
    exit: 2
    --- stdout
    --- stderr
    error: OML_PASSPHRASE_FILE
      caused by: cannot read nowhere
      caused by: No such file or directory (os error 2)
    ");
    insta::assert_snapshot!(run("keygen --passphrase --out other.json", "empty"), @"
    exit: 2
    --- stdout
    --- stderr
    error: passphrase: expected at least one character, got none
    ");
    insta::assert_snapshot!(place.run(export), @"
    exit: 2
    --- stdout
    --- stderr
    error: passphrase: expected a terminal to ask on, got none
    hint: Name a file that holds the passphrase in OML_PASSPHRASE_FILE.
    ");
    insta::assert_snapshot!(run("keygen --passphrase --out owner.json", "right"), @"
    exit: 2
    --- stdout
    --- stderr
    error: owner.json already exists
    hint: Nothing is overwritten: name another path, or move the old one away.
    ");
    assert!(!place.path("other.json").exists());
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
    pages/oml-model-expand.1
    pages/oml-keygen.1
    pages/oml-generate.1
    pages/oml-embed.1
    pages/oml-check.1
    pages/oml-audit.1
    pages/oml-claim.1
    pages/oml-claim-line.1
    pages/oml-claim-make.1
    pages/oml-claim-verify.1
    pages/oml-claim-correct.1
    pages/oml-claim-challenge.1
    pages/oml-claim-respond.1
    pages/oml-report.1
    pages/oml-trace.1
    pages/oml-relate.1
    pages/oml-eval.1
    pages/oml-fingerprints.1
    pages/oml-fingerprints-export.1
    pages/oml-fingerprints-import.1
    pages/oml-fingerprints-split.1
    pages/oml-fingerprints-open.1
    pages/oml-fingerprints-verify-opening.1
    pages/oml-fingerprints-status.1
    pages/oml-permit.1
    pages/oml-permit-grant.1
    pages/oml-permit-attenuate.1
    pages/oml-permit-issue.1
    pages/oml-permit-inspect.1
    pages/oml-permit-verify.1
    pages/oml-permit-revoke.1
    pages/oml-receipt.1
    pages/oml-receipt-verify.1
    pages/oml-issuer.1
    pages/oml-issuer-add.1
    pages/oml-issuer-serve.1
    pages/oml-serve.1
    pages/oml-usage.1
    pages/oml-watermark.1
    pages/oml-watermark-detect.1
    pages/oml-watermark-measure.1
    pages/oml-attack.1
    pages/oml-attack-merge.1
    pages/oml-attack-sft.1
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
