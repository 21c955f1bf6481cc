//! Claims on a tiny model: made of a real audit, dated by a real commit, and judged.

use std::fs;
use std::process::Command;

use oml_core::manifest::hex;
use oml_core::manifest::ledger_proof_file::{self, LedgerProof};
use oml_core::merkle::keccak256;
use serde_json::Value;

use super::tiny::{EMBED, place};
use super::{Place, help};

const AUDIT: &str = "audit --suspect marked --owner owner.json --fingerprints f.json --control base --out audit.jsonl --json --threads 2";
pub(super) const MAKE: &str =
    "claim make --transcript audit.jsonl --owner owner.json --fingerprints f.json --threads 2";

/// A marked model that was audited.
pub(super) fn audited() -> Place {
    let place = place();
    place.ok(EMBED);
    let audit = place.ok(AUDIT);
    assert_eq!(audit["conclusion"], "present", "{audit}");
    place
}

fn root_of(place: &Place) -> String {
    let status = place.ok("fingerprints status --owner owner.json --fingerprints f.json --json");
    status["merkle_root"].as_str().unwrap().to_owned()
}

/// Commits `root.txt` as docs/concepts/claims.md says, and gives the commit's id.
fn commit(place: &Place) -> String {
    let script = "mkdir repository && cd repository && git init -q . && mkdir proofs && cp ../root.txt proofs \
        && git add . && git commit -qm root \
        && git rev-parse HEAD HEAD^{tree} HEAD:proofs HEAD:proofs/root.txt | git cat-file --batch > ../root.git";
    let status = Command::new("sh")
        .args(["-ec", script])
        .current_dir(place.path(""))
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .envs([
            ("GIT_AUTHOR_NAME", "a"),
            ("GIT_AUTHOR_EMAIL", "a@example.org"),
        ])
        .envs([
            ("GIT_COMMITTER_NAME", "a"),
            ("GIT_COMMITTER_EMAIL", "a@example.org"),
        ])
        .env("GIT_COMMITTER_DATE", "1700000000 +0000")
        .status()
        .unwrap();
    assert!(status.success());
    let proof = fs::read(place.path("root.git")).unwrap();
    String::from_utf8(proof[..40].to_vec()).unwrap()
}

/// Exit code and output of a verification.
fn verified(place: &Place, flags: &str) -> (i32, Value) {
    let line = format!("claim verify a.omlclaim --json --threads 2 {flags}");
    let output = place.command(&line).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let report = serde_json::from_slice(&output.stdout).unwrap_or(Value::String(said));
    (output.status.code().unwrap(), report)
}

fn outcome<'a>(report: &'a Value, name: &str) -> &'a str {
    let checks = report["checks"].as_array().unwrap();
    let mut found = checks.iter().filter(|check| check["name"] == name);
    let check = found
        .next()
        .unwrap_or_else(|| panic!("no check {name}: {report}"));
    check["outcome"].as_str().unwrap()
}

#[test]
fn several_results_are_corrected_for_being_several() {
    let place = audited();
    let write = |line: &str, file: &str| {
        let output = place.command(line).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(
            matches!(output.status.code(), Some(0 | 1)),
            "{line}: {said}"
        );
        fs::write(place.path(file), &output.stdout).unwrap();
        let found: Value = serde_json::from_slice(&output.stdout).unwrap();
        found
    };
    let audit = write(&AUDIT.replace("audit.jsonl", "b.jsonl"), "audit.json");
    let base = AUDIT
        .replace("--suspect marked", "--suspect base")
        .replace("audit.jsonl", "c.jsonl");
    write(&base, "base.json");
    let check =
        "check --model marked --owner owner.json --fingerprints f.json --control base --json";
    let check = write(check, "check.json");
    place.ok(&format!("{MAKE} --out a.omlclaim"));
    let several = "claim correct audit.json base.json check.json a.omlclaim --json";
    let found = place.ok(&format!("{several} --alpha 0.05"));
    let results = found["results"].as_array().unwrap();
    let p = |place: usize, field: &str| results[place][field].as_f64().unwrap();
    assert!((p(0, "log10_p_value") + audit["log10_e_value"].as_f64().unwrap()).abs() < 1e-9);
    assert!((p(2, "log10_p_value") - check["log10_p_value"].as_f64().unwrap()).abs() < 1e-9);
    // The smallest is multiplied by four; none becomes smaller; the base is not accused.
    let smallest = (0..4).min_by(|a, b| p(*a, "log10_p_value").total_cmp(&p(*b, "log10_p_value")));
    let smallest = smallest.unwrap();
    let gain = p(smallest, "log10_adjusted") - p(smallest, "log10_p_value");
    assert!((gain - 4f64.log10()).abs() < 1e-9, "{found}");
    for (place, result) in results.iter().enumerate() {
        assert!(p(place, "log10_adjusted") >= p(place, "log10_p_value"));
        assert_eq!(
            result["stands"],
            p(place, "log10_adjusted") <= 0.05f64.log10()
        );
        assert_eq!(result["stands"], place != 1, "{found}");
    }
    let none = place.command("claim correct base.json").output().unwrap();
    assert_eq!(none.status.code(), Some(1));
    let text = String::from_utf8(none.stdout).unwrap();
    assert!(
        text.starts_with("0 of 1 stand at 1e-6 for all together (Holm)"),
        "{text}"
    );
    let shown = place.run("claim correct marked audit.json");
    assert!(
        shown.contains(
            "cannot use marked\n  caused by: expected an audit, a check or a claim that holds"
        ),
        "{shown}"
    );
    let mut false_audit = audit;
    false_audit["hits"] = 1.into();
    fs::write(place.path("false.json"), false_audit.to_string()).unwrap();
    assert!(place.run("claim correct false.json").starts_with("exit: 2"));
}

/// RLP of bytes, or of a list whose items are encoded.
fn rlp(offset: u8, payload: &[u8]) -> Vec<u8> {
    let length = payload.len();
    let head = match length {
        1 if offset == 0x80 && payload[0] < 0x80 => vec![],
        0..56 => vec![offset + length as u8],
        _ => {
            let bytes = length.to_be_bytes();
            let bytes = &bytes[bytes.iter().position(|byte| *byte > 0).unwrap()..];
            [&[offset + 55 + bytes.len() as u8], bytes].concat()
        }
    };
    [&head[..], payload].concat()
}

/// The proof of a block of one transaction with `input`, and its hash. No chain has such a block: whoever made it up must not be believed.
fn made_up_block(input: &[u8], time: u32) -> (Vec<u8>, String) {
    let item = |bytes: &[u8]| rlp(0x80, bytes);
    let list = |items: &[Vec<u8>]| rlp(0xc0, &items.concat());
    // Chain 5, nonce, fees and gas, recipient, value, input, access list, signature.
    let mut fields = vec![item(&[]); 12];
    fields[0] = item(&[5]);
    fields[5] = item(&[7; 20]);
    fields[7] = item(input);
    fields[8] = list(&[]);
    let transaction = [&[2], list(&fields).as_slice()].concat();
    let leaf = list(&[item(&[0x20, 0x80]), item(&transaction)]);
    let mut header = vec![item(&[]); 15];
    header[4] = item(&keccak256(&[&leaf]));
    header[11] = item(&time.to_be_bytes());
    let header = list(&header);
    let block = hex(&keccak256(&[&header]));
    let proof = LedgerProof {
        chain_id: 5,
        header,
        index: 0,
        nodes: vec![leaf],
        transaction,
    };
    (ledger_proof_file::render(&proof).unwrap(), block)
}

#[test]
fn a_block_dates_a_root_for_a_judge_who_looked_it_up() {
    let place = audited();
    place.ok("claim line --owner owner.json --fingerprints f.json --out root.txt");
    let line = fs::read(place.path("root.txt")).unwrap();
    let (proof, block) = made_up_block(&line, 1_700_000_000);
    fs::write(place.path("root.ledger.json"), &proof).unwrap();
    let make = format!("{MAKE} --time-proof root.ledger.json --json");
    let made = place.ok(&format!("{make} --out a.omlclaim"));
    assert_eq!(
        made["time_proofs"][0],
        format!("block 0x{block} of chain 5, 2023-11-14T22:13:20Z")
    );
    let (code, report) = verified(&place, "");
    assert_eq!((code, outcome(&report, "ledger")), (0, "unchecked"));
    assert_eq!(outcome(&report, "root before audit"), "unchecked");
    let (code, report) = verified(
        &place,
        &format!("--block-hash 0x{block} --released 2024-01-01"),
    );
    assert_eq!((code, outcome(&report, "ledger")), (0, "holds"), "{report}");
    assert_eq!(outcome(&report, "root before audit"), "holds");
    assert_eq!(outcome(&report, "root before release"), "holds");
    let (code, report) = verified(&place, &format!("--block-hash 0x{}", "11".repeat(32)));
    assert_eq!((code, outcome(&report, "ledger")), (1, "fails"), "{report}");
    // Another root's line dates nothing here.
    let (proof, _) = made_up_block(b"oml root 0x00 owner 0x00\n", 1_700_000_000);
    fs::write(place.path("root.ledger.json"), &proof).unwrap();
    let shown = place.run(&format!("{make} --out b.omlclaim"));
    assert!(
        shown.contains("ledger proof input: expected the line of this root and owner"),
        "{shown}"
    );
}

#[test]
fn a_claim_is_made_and_judged_to_the_end() {
    let place = audited();
    let address = place.ok("keygen --out other.json --json")["address"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(address.starts_with("0x") && address.len() == 42);
    place.ok("claim line --owner owner.json --fingerprints f.json --out root.txt");
    let line = fs::read_to_string(place.path("root.txt")).unwrap();
    let root = root_of(&place);
    let owner = line.trim_end().rsplit(' ').next().unwrap().to_owned();
    assert_eq!(line, format!("oml root {root} owner {owner}\n"));
    let id = commit(&place);
    let made = place.ok(&format!(
        "{MAKE} --time-proof root.git --out a.omlclaim --json"
    ));
    assert_eq!(made["conclusion"], "present");
    assert_eq!(made["opened"], made["asked"]);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = fs::metadata(place.path("a.omlclaim"))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    // The judge has neither the owner's file nor the set.
    for name in ["owner.json", "f.json", "audit.jsonl"] {
        fs::rename(place.path(name), place.path(&format!("away-{name}"))).unwrap();
    }
    let (code, report) = verified(&place, "");
    assert_eq!(
        (code, &report["holds"]),
        (0, &Value::Bool(true)),
        "{report}"
    );
    let unchecked: Vec<&str> = report["unchecked"]
        .as_array()
        .unwrap()
        .iter()
        .map(|n| n.as_str().unwrap())
        .collect();
    assert_eq!(
        unchecked,
        [
            "owner",
            "root",
            "commit",
            "root before audit",
            "root before release",
            "answers",
            "response",
            "responses",
            "control"
        ]
    );

    place.ok("claim challenge --bundle a.omlclaim --count 3 --out challenge.json");
    for name in ["owner.json", "f.json"] {
        fs::rename(place.path(&format!("away-{name}")), place.path(name)).unwrap();
    }
    place.ok("claim respond --bundle a.omlclaim --challenge challenge.json --owner owner.json --fingerprints f.json --out response.jsonl");
    let everything = format!(
        "--root {root} --owner-address {owner} --commit {id} --released 2024-01-01 --challenge challenge.json \
         --response response.jsonl --base base --rerun-control base --suspect marked"
    );
    let (code, report) = verified(&place, &everything);
    assert_eq!(code, 0, "{report}");
    assert_eq!(
        report["unchecked"],
        serde_json::json!(["answers"]),
        "{report}"
    );
    for name in [
        "challenge",
        "response",
        "responses",
        "control",
        "suspect",
        "root before release",
    ] {
        assert_eq!(outcome(&report, name), "holds", "{report}");
    }

    // What does not fit is named, each time by the check that is about it.
    for (flags, name) in [
        (format!("--root {}", "00".repeat(32)), "root"),
        (format!("--owner-address {address}"), "owner"),
        (format!("--commit {}", "0".repeat(40)), "commit"),
        (
            format!("--commit {id} --released 2020-01-01"),
            "root before release",
        ),
        ("--base marked".to_owned(), "responses"),
        ("--suspect base".to_owned(), "suspect"),
        ("--rerun-control marked".to_owned(), "control"),
    ] {
        let (code, report) = verified(&place, &flags);
        assert_eq!(code, 1, "{flags}: {report}");
        assert_eq!(outcome(&report, name), "fails", "{flags}: {report}");
    }
    // A response to another challenge is none.
    place.ok("claim challenge --bundle a.omlclaim --count 3 --out again.json");
    let (code, report) = verified(&place, "--challenge again.json --response response.jsonl");
    assert_eq!((code, outcome(&report, "challenge")), (1, "fails"));

    let opened = place.ok("fingerprints status --owner owner.json --fingerprints f.json --json");
    // What the claim shows and what the challenge asked for.
    let opened = opened["opened"].as_array().unwrap().len() as u64;
    let shown = made["opened"].as_u64().unwrap();
    assert!((shown..=shown + 3).contains(&opened), "{opened} of {shown}");
}

#[test]
fn a_bundle_that_was_touched_does_not_hold() {
    let place = audited();
    place.ok(&format!("{MAKE} --out a.omlclaim"));
    let bytes = fs::read(place.path("a.omlclaim")).unwrap();
    for at in (0..bytes.len()).step_by(bytes.len() / 24) {
        let mut changed = bytes.clone();
        changed[at] ^= 4;
        fs::write(place.path("a.omlclaim"), changed).unwrap();
        let (code, report) = verified(&place, "");
        assert_ne!(code, 0, "byte {at}: {report}");
    }
    fs::write(place.path("a.omlclaim"), &bytes[..1000]).unwrap();
    insta::assert_snapshot!(place.run("claim verify a.omlclaim"), @"
    exit: 2
    --- stdout
    --- stderr
    error: cannot read a.omlclaim
      caused by: bundle: expected a tar archive, got other or cut bytes at 512
    ");
    insta::assert_snapshot!(place.run("claim verify f.json"), @"
    exit: 2
    --- stdout
    --- stderr
    error: cannot read f.json
      caused by: bundle: expected a tar archive, got other or cut bytes at 0
    ");
    insta::assert_snapshot!(place.run("claim verify none.omlclaim"), @"
    exit: 2
    --- stdout
    --- stderr
    error: cannot read none.omlclaim
      caused by: No such file or directory (os error 2)
    ");
    fs::write(place.path("a.omlclaim"), &bytes).unwrap();
    fs::write(place.path("no.pem"), "text").unwrap();
    insta::assert_snapshot!(place.run("claim verify a.omlclaim --tsa-root no.pem"), @"
    exit: 2
    --- stdout
    --- stderr
    error: cannot read no.pem
      caused by: trusted roots: expected 1 to 1024 certificates in PEM, got 0
    ");
    insta::assert_snapshot!(place.run("claim verify a.omlclaim --response r.jsonl"), @"
    exit: 2
    --- stdout
    --- stderr
    error: the following required arguments were not provided:
      --challenge <FILE>

    Usage: oml claim verify --response <FILE> --challenge <FILE> <BUNDLE>

    For more information, try '--help'.
    ");
    insta::assert_snapshot!(place.run("claim verify a.omlclaim --owner-address 0x12 --released 1.1.2020"), @"
    exit: 2
    --- stdout
    --- stderr
    error: invalid value '0x12' for '--owner-address <0x…>': address: expected 0x and 40 hexadecimal digits

    For more information, try '--help'.
    ");
    insta::assert_snapshot!(place.run("claim challenge --bundle a.omlclaim --count 17 --out c.json"), @"
    exit: 2
    --- stdout
    --- stderr
    error: --count
      caused by: oml-challenge count: expected 1 to 16, got 17
    ");
    insta::assert_snapshot!(place.run(&format!("{MAKE} --out a.omlclaim")), @"
    exit: 2
    --- stdout
    --- stderr
    error: a.omlclaim already exists
    hint: Nothing is overwritten: name another path, or move the old one away.
    ");
    fs::write(place.path("root.git"), "no proof").unwrap();
    insta::assert_snapshot!(place.run(&format!("{MAKE} --time-proof root.git --out b.omlclaim")), @"
    exit: 2
    --- stdout
    --- stderr
    error: cannot use root.git
      caused by: git object 0 head: expected an id, a kind and a size, got other or cut bytes
    ");
    place.ok("keygen --out other.json");
    place.ok("claim challenge --bundle a.omlclaim --count 2 --out c.json");
    let respond =
        "claim respond --bundle a.omlclaim --challenge c.json --fingerprints f.json --out r.jsonl";
    let said = place.run(&format!("{respond} --owner other.json"));
    assert!(
        said.starts_with("exit: 2\n") && said.contains("oml-fingerprints owner: expected"),
        "{said}"
    );
    let mut text = fs::read_to_string(place.path("c.json")).unwrap();
    let at = text.find("\"claim\":\"").unwrap() + 9;
    text.replace_range(at..at + 4, "0000");
    fs::write(place.path("c.json"), text).unwrap();
    insta::assert_snapshot!(place.run(&format!("{respond} --owner owner.json")), @"
    exit: 2
    --- stdout
    --- stderr
    error: c.json: expected a challenge to a.omlclaim, got one to another claim
    ");
}

#[test]
fn the_verdict_is_said_in_words() {
    let place = audited();
    place.ok(&format!("{MAKE} --out a.omlclaim"));
    let said = place.run("claim verify a.omlclaim");
    assert!(
        said.starts_with(
            "exit: 0\n--- stdout\na.omlclaim: the claim holds as far as it was checked\n"
        ),
        "{said}"
    );
    for part in [
        "  holds      signature: by 0x",
        "             the statement is signed by the key behind the owner's address",
        "  unchecked  root: 0x",
        "Not checked: owner, root, root before audit, root before release, answers, response, responses, control.",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
}

#[test]
fn helps() {
    insta::assert_snapshot!(help("claim"), @"
    Make evidence of an audit for others, and verify theirs

    Usage: oml claim [OPTIONS] <COMMAND>

    Commands:
      line       Print the line that is published, time-stamped or committed before a model goes out: the set's root and the owner's address
      make       Make a signed bundle of an audit for a judge, which opens the pairs that were asked
      verify     Does a bundle hold? Needs nothing secret, and says what it could not check
      correct    Correct the results of several suspects or sets for being several (Holm)
      challenge  Draw fingerprints that the owner has to open, over the whole set
      respond    Open the fingerprints of a judge's challenge, which spends them

    Options:
      -h, --help     Print help
      -V, --version  Print version

    Global options:
          --json           Print the result as one JSON object
      -q, --quiet          Print no notes and no progress
          --threads <N>    CPU threads [default: all cores]
          --isa <NAME>     CPU instructions to use: amx, avx512, avx2 or portable [default: the best this machine has]
          --config <FILE>  Settings file [default: oml.toml in the current folder, where there is one]
          --show-settings  Print every setting and where it comes from, and do nothing
    ");
    insta::assert_snapshot!(help("claim line"), @"
    Print the line that is published, time-stamped or committed before a model goes out: the set's root and the owner's address

    Usage: oml claim line [OPTIONS] --fingerprints <FILE>

    Options:
          --fingerprints <FILE>  Fingerprints file made by `oml generate`
          --owner <FILE>         Owner file made by `oml keygen` [default: oml/owner.json in the user's config folder]
          --out <FILE>           File to write [default: standard output]
      -h, --help                 Print help
      -V, --version              Print version

    Global options:
          --json           Print the result as one JSON object
      -q, --quiet          Print no notes and no progress
          --threads <N>    CPU threads [default: all cores]
          --isa <NAME>     CPU instructions to use: amx, avx512, avx2 or portable [default: the best this machine has]
          --config <FILE>  Settings file [default: oml.toml in the current folder, where there is one]
          --show-settings  Print every setting and where it comes from, and do nothing
    ");
    insta::assert_snapshot!(help("claim make"), @"
    Make a signed bundle of an audit for a judge, which opens the pairs that were asked

    Usage: oml claim make [OPTIONS] --transcript <FILE> --fingerprints <FILE> --out <FILE>

    Options:
          --transcript <FILE>       Transcript that `oml audit` wrote
          --fingerprints <FILE>     Fingerprints file made by `oml generate`
          --owner <FILE>            Owner file made by `oml keygen` [default: oml/owner.json in the user's config folder]
          --control <DIR>           A model that never saw the fingerprints, to be asked them all as the suspect was (repeatable; those of the audit, whose null rate rests on them)
          --control-results <FILE>  What controls answered (repeatable) [default: TRANSCRIPT.controls.json, as the audit wrote it, where there is one]
          --time-proof <FILE>       Proof that the root was there before: an RFC 3161 time stamp, a commit as `git cat-file --batch` prints it, or what scripts/make_ledger_proof.py wrote (repeatable)
          --base <DIR>              Base model, whose tokenizer matches answers by token ids (only for an audit with --match ids)
          --out <FILE>              Bundle to write, readable by you alone: NAME.omlclaim
      -h, --help                    Print help
      -V, --version                 Print version

    Global options:
          --json           Print the result as one JSON object
      -q, --quiet          Print no notes and no progress
          --threads <N>    CPU threads [default: all cores]
          --isa <NAME>     CPU instructions to use: amx, avx512, avx2 or portable [default: the best this machine has]
          --config <FILE>  Settings file [default: oml.toml in the current folder, where there is one]
          --show-settings  Print every setting and where it comes from, and do nothing
    ");
    insta::assert_snapshot!(help("claim verify"), @"
    Does a bundle hold? Needs nothing secret, and says what it could not check

    Usage: oml claim verify [OPTIONS] <BUNDLE>

    Arguments:
      <BUNDLE>  Bundle made by `oml claim make`

    Options:
          --root <HEX>           Merkle root, as the owner published it: 64 hexadecimal digits, with or without 0x
          --owner-address <0x…>  Owner's address, as the owner published it
          --tsa-root <FILE>      Root certificates (PEM) of the time-stamping authorities that you trust
          --commit <ID>          Id of the git commit, as it was known to others at its time
          --block-hash <0x…>     Hash of the block that holds the root's transaction, as a node or an explorer of its chain shows it
          --released <TIME>      When the suspect was first there: YYYY-MM-DD, or YYYY-MM-DDThh:mm:ssZ
          --challenge <FILE>     Your challenge, made by `oml claim challenge`
          --response <FILE>      The owner's response to it
          --base <DIR>           Base model that the set was made on, to see that its strategy gives the opened responses; a suspect that is an adapter stands on it
          --rerun-control <DIR>  A model that never saw the fingerprints, to be asked the opened pairs (repeatable)
          --suspect <DIR>        The suspect's weights, to be asked the opened pairs again
      -h, --help                 Print help
      -V, --version              Print version

    Global options:
          --json           Print the result as one JSON object
      -q, --quiet          Print no notes and no progress
          --threads <N>    CPU threads [default: all cores]
          --isa <NAME>     CPU instructions to use: amx, avx512, avx2 or portable [default: the best this machine has]
          --config <FILE>  Settings file [default: oml.toml in the current folder, where there is one]
          --show-settings  Print every setting and where it comes from, and do nothing
    ");
    insta::assert_snapshot!(help("claim challenge"), @"
    Draw fingerprints that the owner has to open, over the whole set

    Usage: oml claim challenge [OPTIONS] --bundle <FILE> --out <FILE>

    Options:
          --bundle <FILE>  Bundle made by `oml claim make`
          --count <N>      Fingerprints to be opened [default: 8]
          --out <FILE>     File to write, to be sent to the owner and kept for `oml claim verify`
      -h, --help           Print help
      -V, --version        Print version

    Global options:
          --json           Print the result as one JSON object
      -q, --quiet          Print no notes and no progress
          --threads <N>    CPU threads [default: all cores]
          --isa <NAME>     CPU instructions to use: amx, avx512, avx2 or portable [default: the best this machine has]
          --config <FILE>  Settings file [default: oml.toml in the current folder, where there is one]
          --show-settings  Print every setting and where it comes from, and do nothing
    ");
    insta::assert_snapshot!(help("claim respond"), @"
    Open the fingerprints of a judge's challenge, which spends them

    Usage: oml claim respond [OPTIONS] --bundle <FILE> --challenge <FILE> --fingerprints <FILE> --out <FILE>

    Options:
          --bundle <FILE>        Bundle that the challenge is to
          --challenge <FILE>     Challenge made by `oml claim challenge`
          --fingerprints <FILE>  Fingerprints file made by `oml generate`
          --owner <FILE>         Owner file made by `oml keygen` [default: oml/owner.json in the user's config folder]
          --out <FILE>           File to write, readable by you alone
      -h, --help                 Print help
      -V, --version              Print version

    Global options:
          --json           Print the result as one JSON object
      -q, --quiet          Print no notes and no progress
          --threads <N>    CPU threads [default: all cores]
          --isa <NAME>     CPU instructions to use: amx, avx512, avx2 or portable [default: the best this machine has]
          --config <FILE>  Settings file [default: oml.toml in the current folder, where there is one]
          --show-settings  Print every setting and where it comes from, and do nothing
    ");
}
