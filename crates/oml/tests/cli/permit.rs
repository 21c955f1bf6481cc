//! Permissions from the command line: granted, narrowed, issued, verified, revoked, and a receipt of an answer.

use std::fs;

use oml_core::eip712::Domain;
use oml_core::manifest::owner_file;
use oml_core::permission::{InputSalt, ModelId, Token, input_hash};
use oml_core::receipt::{InferenceReceipt, SignedReceipt, output_hash};
use oml_core::secret::OwnerSeed;
use oml_core::signing::SigningKey;
use serde_json::Value;

use super::{Place, help};

const MODEL: &str = "0x0303030303030303030303030303030303030303030303030303030303030303";
const REQUEST: &str =
    r#"{"model":"m","temperature":0.5,"messages":[{"role":"user","content":"Grüß Gott"}]}"#;

/// Owner files of an issuer, a licensee, its agent and a host, and the issuers' file.
struct Market {
    place: Place,
    licensee: String,
    agent: String,
    host: String,
}

impl Market {
    fn new() -> Self {
        let place = Place::new();
        let key = |number: u8, name: &str| {
            let seed = OwnerSeed::new([number; 32]);
            let file = owner_file::render(&seed).unwrap();
            fs::write(place.path(&format!("{name}.json")), &*file).unwrap();
            SigningKey::derive(&seed).address().to_string()
        };
        let issuer = key(1, "issuer");
        let (licensee, agent, host) = (key(2, "licensee"), key(3, "agent"), key(4, "host"));
        let market = Self {
            place,
            licensee,
            agent,
            host,
        };
        market.issuers(&format!(
            r#""issuers":[{{"model":"{MODEL}","address":"{issuer}"}}]"#
        ));
        fs::write(market.place.path("request.json"), REQUEST).unwrap();
        market
    }

    fn issuers(&self, fields: &str) {
        let file = format!(r#"{{"format":"oml-issuers","version":1,{fields}}}"#);
        fs::write(self.place.path("issuers.json"), file).unwrap();
    }

    /// Runs a line in which names of people stand for their addresses.
    fn line(&self, line: &str) -> String {
        line.replace("@licensee", &self.licensee)
            .replace("@agent", &self.agent)
            .replace("@host", &self.host)
            .replace("@model", MODEL)
    }

    fn ok(&self, line: &str) -> Value {
        self.place.ok(&self.line(line))
    }

    fn run(&self, line: &str) -> String {
        let mut said = self.place.run(&self.line(line));
        for (address, name) in [
            (&self.licensee, "@licensee"),
            (&self.agent, "@agent"),
            (&self.host, "@host"),
        ] {
            said = said.replace(address, name);
        }
        said
    }

    /// The issuer's grant to the licensee in grant.txt.
    fn grant(&self, flags: &str) -> Value {
        self.ok(&format!("permit grant --key issuer.json --model-id @model --licensee @licensee --not-after 30d --out grant.txt {flags}"))
    }

    /// A permission for the request in p.txt.
    fn issue(&self, flags: &str) {
        self.ok(&format!("permit issue --key licensee.json --grant grant.txt --host @host --inputs request.json --out p.txt {flags}"));
    }

    /// Exit code and code of a verification of p.txt.
    fn verified(&self, flags: &str) -> (i32, String) {
        let line = self.line(&format!(
            "permit verify p.txt --issuers issuers.json --input request.json --json {flags}"
        ));
        let output = self.place.command(&line).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let report: Value = serde_json::from_slice(&output.stdout).unwrap_or(Value::String(said));
        let code = report["code"]
            .as_str()
            .map_or_else(|| report.to_string(), str::to_owned);
        (output.status.code().unwrap(), code)
    }

    fn remove(&self, name: &str) {
        fs::remove_file(self.place.path(name)).unwrap();
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.place.path(name)).unwrap()
    }
}

fn no(code: &str) -> (i32, String) {
    (1, code.to_owned())
}

fn yes() -> (i32, String) {
    (0, "valid".to_owned())
}

#[test]
fn a_permission_under_a_grant_is_verified_and_refused() {
    let market = Market::new();
    market.grant("--purpose research --max-tokens 64 --max-calls 100 --max-spend 500");
    market.issue("--cumulative 10 --price 5");
    let asked = "--model-id @model --host @host --purpose research --max-tokens 64";
    assert_eq!(market.verified(asked), yes());
    for (flags, code) in [
        ("--purpose research", "too_many_tokens"),
        ("--max-tokens 64", "wrong_purpose"),
        (
            "--purpose research --max-tokens 64 --host @agent",
            "wrong_host",
        ),
        ("--purpose research --max-tokens 64 --at 1h", "expired"),
        (
            "--purpose research --max-tokens 64 --at 1600000000",
            "not_yet_valid",
        ),
        (
            "--purpose research --max-tokens 64 --at 2020-01-01",
            "not_yet_valid",
        ),
    ] {
        assert_eq!(market.verified(flags), no(code), "{flags}");
    }
    let other = MODEL.replace("03", "04");
    assert_eq!(
        market.verified(&format!("--model-id {other}")),
        no("wrong_model")
    );
    fs::write(
        market.place.path("request.json"),
        REQUEST.replace("Gott", "Dich"),
    )
    .unwrap();
    assert_eq!(market.verified(asked), no("wrong_input"));
    // How it is asked is no part of what is asked.
    fs::write(
        market.place.path("request.json"),
        REQUEST.replace("0.5", "0.7"),
    )
    .unwrap();
    assert_eq!(market.verified(asked), yes());
    let without_salt = market.read("p.txt");
    let (token, salt) = without_salt.trim_end().split_once(' ').unwrap();
    assert_eq!(salt.len(), 64);
    fs::write(market.place.path("p.txt"), token).unwrap();
    assert_eq!(market.verified(asked), no("salt_missing"));
    fs::write(market.place.path("p.txt"), &token[..400]).unwrap();
    assert_eq!(market.verified(asked), no("text_truncated"));
    fs::write(market.place.path("p.txt"), "x".repeat(9000)).unwrap();
    assert_eq!(market.verified(asked), no("text_too_long"));
    market.issuers(r#""issuers":[]"#);
    fs::write(market.place.path("p.txt"), without_salt).unwrap();
    assert_eq!(market.verified(asked), no("unknown_issuer"));
    market.issuers(r#""domain":{"chain_id":1},"issuers":[]"#);
    assert_eq!(market.verified(asked), no("wrong_domain"));
}

#[test]
fn a_batch_has_a_line_for_each_input() {
    let market = Market::new();
    market.grant("--any-input");
    let lines = format!("{REQUEST}\n\n{{\"prompt\":\"Hi\"}}\n");
    fs::write(market.place.path("inputs.jsonl"), lines).unwrap();
    market.ok("permit issue --key licensee.json --grant grant.txt --host @host --inputs inputs.jsonl --price 3 --out p.txt");
    let text = market.read("p.txt");
    let tokens: Vec<Token> = text
        .lines()
        .map(|line| Token::from_text(line.split(' ').next().unwrap()).unwrap())
        .collect();
    assert_eq!(tokens.len(), 2);
    assert_eq!(
        [3, 6],
        [
            tokens[0].permission.cumulative,
            tokens[1].permission.cumulative
        ]
    );
    assert_ne!(tokens[0].permission.nonce, tokens[1].permission.nonce);
    assert_eq!(market.verified("--line 1"), yes());
    assert_eq!(market.verified("--line 2"), no("wrong_input"));
    market.remove("p.txt");
    market.ok(
        "permit issue --key licensee.json --grant grant.txt --host @host --count 5 --out p.txt",
    );
    assert_eq!(market.read("p.txt").lines().count(), 5);
    assert_eq!(market.verified("--line 5"), yes());

    let json = market.ok("permit issue --key licensee.json --grant grant.txt --host @host --inputs request.json --json");
    let one = &json["permissions"][0];
    assert_eq!(one["token"]["format"], "oml-permission");
    let token = Token::from_text(one["text"].as_str().unwrap()).unwrap();
    fs::write(market.place.path("p.json"), one["token"].to_string()).unwrap();
    let inspected = market.ok("permit inspect p.json --json");
    assert_eq!(inspected["id"], one["id"]);
    assert_eq!(inspected["signers"][1], market.licensee.as_str());
    assert_eq!(inspected["file"], one["token"]);
    assert_eq!(token.permission.licensee.to_string(), market.licensee);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = fs::metadata(market.place.path("p.txt"))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}

#[test]
fn a_sequence_is_numbered() {
    let market = Market::new();
    market.grant("--any-input --sequence");
    insta::assert_snapshot!(market.run("permit issue --key licensee.json --grant grant.txt --host @host"), @"
    exit: 2
    --- stdout
    --- stderr
    error: the grant asks for numbered permissions
    hint: Name the next number by --first-nonce N.
    ");
    market.ok("permit issue --key licensee.json --grant grant.txt --host @host --count 3 --first-nonce 41 --out p.txt");
    let text = market.read("p.txt");
    let nonces: Vec<u128> = text
        .lines()
        .map(|line| Token::from_text(line).unwrap().permission.nonce)
        .collect();
    assert_eq!(nonces, [41, 42, 43]);
}

#[test]
fn a_delegate_passes_on_less_and_not_more() {
    let market = Market::new();
    market.grant("--purpose research --purpose support --max-calls 100 --any-input");
    let narrower = "permit attenuate --key licensee.json --grant grant.txt --delegate @agent --purpose support --max-calls 10 --host @host";
    market.ok(&format!("{narrower} --each-input --out inner.txt"));
    market.ok("permit issue --key agent.json --grant inner.txt --inputs request.json --out p.txt");
    assert_eq!(market.verified("--purpose support --host @host"), yes());
    assert_eq!(
        market.verified("--purpose research --host @host"),
        no("wrong_purpose")
    );
    let refused = |line: &str| {
        let said = market.run(line);
        assert!(said.starts_with("exit: 2"), "{said}");
        let error = said
            .lines()
            .find(|line| line.starts_with("error:"))
            .unwrap();
        error.to_owned()
    };
    let wider = "permit attenuate --key licensee.json --grant grant.txt --delegate @agent";
    for (flags, code) in [
        ("--max-calls 101", "wider_calls"),
        ("--max-calls unlimited", "wider_calls"),
        ("--not-after 31d", "wider_time"),
        ("--purpose war", "wider_scope"),
    ] {
        let error = refused(&format!("{wider} {flags}"));
        assert!(error.ends_with(&format!("({code})")), "{error}");
    }
    let error = refused("permit issue --key agent.json --grant inner.txt");
    assert!(error.ends_with("(any_input)"), "{error}");
    let error = refused(
        "permit issue --key agent.json --grant inner.txt --inputs request.json --host @agent",
    );
    assert!(error.ends_with("(wider_host)"), "{error}");
    let error = refused(
        "permit issue --key agent.json --grant inner.txt --inputs request.json --deadline 31d",
    );
    assert!(error.ends_with("(wider_time)"), "{error}");
    for (flags, flag) in [
        ("--chain-id 1", "--chain-id"),
        ("--contract @host", "--contract"),
        (
            "--model-id 0x0404040404040404040404040404040404040404040404040404040404040404",
            "--model-id",
        ),
    ] {
        let error = refused(&format!(
            "permit issue --key agent.json --grant inner.txt --inputs request.json {flags}"
        ));
        assert!(
            error.starts_with(&format!("error: {flag}: expected ")),
            "{error}"
        );
    }
    insta::assert_snapshot!(market.run("permit issue --key licensee.json --grant inner.txt --inputs request.json"), @"
    exit: 2
    --- stdout
    --- stderr
    error: --key: expected that of the grant's delegate @agent, got that of @licensee
    hint: Name the delegate's own owner file with --key FILE.
    ");
    // A JSON grant is as good as a text.
    market.remove("inner.txt");
    market.remove("p.txt");
    let output = market
        .place
        .command(&market.line(&format!("{narrower} --json")))
        .output()
        .unwrap();
    fs::write(market.place.path("inner.json"), output.stdout).unwrap();
    market.ok("permit issue --key agent.json --grant inner.json --count 1 --out p.txt");
    assert_eq!(market.verified("--purpose support"), yes());
}

#[test]
fn what_is_revoked_no_longer_counts() {
    let market = Market::new();
    let grant = market.grant("--json");
    market.issue("");
    let issuers = market.read("issuers.json");
    let bounded = issuers.replace(r#""issuers":["#, r#""max_age":3600,"issuers":["#);
    fs::write(market.place.path("issuers.json"), bounded).unwrap();
    assert_eq!(market.verified(""), no("stale_view"));
    market.ok("permit revoke --key issuer.json --list r.json --model-id @model");
    let list = "--revocations r.json";
    assert_eq!(market.verified(list), yes());
    assert_eq!(
        market.verified(&format!("{list} --at 2h")),
        no("stale_view")
    );

    market.ok("permit revoke --key issuer.json --list r.json --permission p.txt --at 5m");
    assert_eq!(market.verified(list), yes());
    assert_eq!(
        market.verified(&format!("{list} --at 6m")),
        no("permission_revoked")
    );
    let id = grant["id"].as_str().unwrap();
    let revoked = market.ok(&format!(
        "permit revoke --key issuer.json --list r.json --id {id} --json"
    ));
    assert_eq!(revoked["count"], 2);
    assert_eq!(market.verified(list), no("grant_revoked"));
    let again = market.ok("permit revoke --key issuer.json --list r.json --grant grant.txt --json");
    assert_eq!(again["count"], 2);

    insta::assert_snapshot!(market.run("permit revoke --key agent.json --list r.json"), @"
    exit: 2
    --- stdout
    --- stderr
    error: r.json: expected a list that @agent signed, got one of 0x28865A1956546b00357C9f289f8644b5458f0749
    hint: Each issuer keeps a list of its own: name another file.
    ");
    market.ok("permit revoke --key agent.json --list foreign.json --model-id @model");
    let (exit, said) = market.verified("--revocations foreign.json");
    assert_eq!(exit, 2);
    assert!(
        said.contains("expected a signature of an issuer of its model"),
        "{said}"
    );
}

#[test]
fn a_receipt_is_held_against_the_permission_and_the_answer() {
    let market = Market::new();
    market.grant("");
    market.issue("");
    let text = market.read("p.txt");
    let (token, salt) = text.trim_end().split_once(' ').unwrap();
    let token = Token::from_text(token).unwrap();
    let salt: Vec<u8> = (0..64)
        .step_by(2)
        .map(|i| u8::from_str_radix(&salt[i..i + 2], 16).unwrap())
        .collect();
    let salt = InputSalt::new(salt.try_into().unwrap());
    let input = r#"{"messages":[{"content":"Grüß Gott","role":"user"}]}"#;
    let receipt = InferenceReceipt {
        model: ModelId([3; 32]),
        host: market.host.parse().unwrap(),
        input_hash: input_hash(&salt, input.as_bytes()),
        output_hash: output_hash(b"Hello"),
        permission_id: token.id(),
        issued_at: token.permission.issued_at,
    };
    let key = SigningKey::derive(&OwnerSeed::new([4; 32]));
    let signed = SignedReceipt::sign(Domain::OFF_CHAIN, receipt, &key);
    fs::write(market.place.path("receipt.txt"), signed.to_text()).unwrap();
    fs::write(market.place.path("answer.txt"), "Hello").unwrap();
    let verified = |flags: &str| {
        let line = market.line(&format!("receipt verify receipt.txt --json {flags}"));
        let output = market.place.command(&line).output().unwrap();
        let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        (
            output.status.code().unwrap(),
            report["code"].as_str().unwrap_or_default().to_owned(),
        )
    };
    let whole = "--permission p.txt --input request.json --output answer.txt --host @host --model-id @model";
    assert_eq!(verified(whole), yes());
    assert_eq!(verified(""), yes());
    assert_eq!(verified("--host @agent"), no("wrong_host"));
    assert_eq!(verified("--chain-id 1"), no("wrong_domain"));
    assert_eq!(verified("--output request.json"), no("wrong_output"));
    fs::write(market.place.path("other.json"), r#"{"prompt":"Hi"}"#).unwrap();
    assert_eq!(
        verified("--permission p.txt --input other.json"),
        no("wrong_input")
    );
    let said = market.run(&format!("receipt verify receipt.txt {whole}"));
    let shown = |said: &str| {
        said.lines()
            .filter(|line| !line.starts_with("  "))
            .map(|line| format!("{line}\n"))
            .collect::<String>()
    };
    insta::assert_snapshot!(shown(&said), @"
    exit: 0
    --- stdout
    receipt.txt: valid
    --- stderr
    ");
    insta::assert_snapshot!(shown(&market.run("receipt verify receipt.txt --host @agent")), @"
    exit: 1
    --- stdout
    receipt.txt: refused, wrong_host: host: expected @agent, got @host
    Not checked: model, permission, input, output.
    --- stderr
    ");
    market.remove("p.txt");
    market.issue("");
    assert_eq!(verified("--permission p.txt"), no("wrong_permission"));
    fs::write(
        market.place.path("receipt.txt"),
        signed.to_text().replace("omlr1.", "oml1."),
    )
    .unwrap();
    assert_eq!(verified(""), no("text_prefix"));
}

#[test]
fn an_issuer_signs_directly_and_under_a_passphrase() {
    let market = Market::new();
    fs::write(market.place.path("word"), "correct horse\n").unwrap();
    let mut keygen = market
        .place
        .command("keygen --passphrase --out locked.json --json");
    let output = keygen.env("OML_PASSPHRASE_FILE", "word").output().unwrap();
    let made: Value = serde_json::from_slice(&output.stdout).unwrap();
    let address = made["address"].as_str().unwrap();
    market.issuers(&format!(
        r#""issuers":[{{"model":"{MODEL}","address":"{address}","from":1500000000}}]"#
    ));
    let line = market.line("permit issue --key locked.json --model-id @model --licensee @licensee --host @host --out p.txt");
    let refused = market.run(&line);
    assert!(
        refused.contains("expected a terminal to ask on"),
        "{refused}"
    );
    let output = market
        .place
        .command(&line)
        .env("OML_PASSPHRASE_FILE", "word")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(market.verified("--host @host"), yes());
}

#[test]
fn what_is_missing_is_named() {
    let market = Market::new();
    insta::assert_snapshot!(market.run("permit issue --key issuer.json --licensee @licensee --host @host"), @"
    exit: 2
    --- stdout
    --- stderr
    error: no model was named
    hint: Name it by --model-id 0x… or --model DIR.
    ");
    insta::assert_snapshot!(market.run("permit issue --key issuer.json --model-id @model --host @host"), @"
    exit: 2
    --- stdout
    --- stderr
    error: no licensee was named
    hint: Name who pays by --licensee 0x…, or a grant by --grant FILE.
    ");
    insta::assert_snapshot!(market.run("permit issue --key issuer.json --model-id @model --licensee @licensee"), @"
    exit: 2
    --- stdout
    --- stderr
    error: no host was named
    hint: Name who is to answer by --host 0x…: a permission is for one host.
    ");
    insta::assert_snapshot!(market.run("permit grant --key issuer.json --model-id 0x12 --licensee @licensee --not-after 30d"), @"
    exit: 2
    --- stdout
    --- stderr
    error: invalid value '0x12' for '--model-id <0x…>': model id: expected 0x and 64 lower-case hexadecimal digits

    For more information, try '--help'.
    ");
    insta::assert_snapshot!(market.run("permit grant --key issuer.json --model-id @model --licensee @licensee --not-after soon"), @"
    exit: 2
    --- stdout
    --- stderr
    error: invalid value 'soon' for '--not-after <TIME>': expected seconds since 1970, YYYY-MM-DD, YYYY-MM-DDThh:mm:ssZ, or a span from now such as 15m or 30d (s, m, h, d, w)

    For more information, try '--help'.
    ");
    insta::assert_snapshot!(market.run("permit grant --key issuer.json --model-id @model --licensee @licensee --not-after 2020-01-01"), @"
    exit: 2
    --- stdout
    --- stderr
    error: grant 1 times: expected an end at or after the beginning, got one before it (impossible_times)
    ");
    fs::write(
        market.place.path("inputs.jsonl"),
        "{\"prompt\":\"Hi\"}\n{\"prompt\":\"my secret\"",
    )
    .unwrap();
    insta::assert_snapshot!(market.run("permit issue --key issuer.json --model-id @model --licensee @licensee --host @host --inputs inputs.jsonl"), @"
    exit: 2
    --- stdout
    --- stderr
    error: inputs.jsonl line 2: expected JSON, got none from column 21 on
    ");
    fs::write(market.place.path("inputs.jsonl"), "{\"question\":\"Hi\"}").unwrap();
    insta::assert_snapshot!(market.run("permit issue --key issuer.json --model-id @model --licensee @licensee --host @host --inputs inputs.jsonl"), @"
    exit: 2
    --- stdout
    --- stderr
    error: inputs.jsonl line 1
      caused by: input: expected an object with either messages or prompt, got neither
    ");
    fs::write(market.place.path("p.txt"), "oml1.AAAA 12").unwrap();
    insta::assert_snapshot!(market.run("permit verify p.txt --issuers issuers.json"), @"
    exit: 2
    --- stdout
    --- stderr
    error: p.txt line 1: expected a salt of 64 lower-case hexadecimal digits after the permission
    ");
}

#[test]
fn a_grant_is_shown_as_it_is() {
    let market = Market::new();
    market.ok("permit grant --key issuer.json --model-id @model --licensee @licensee --delegate @agent --host @host --not-before 2026-01-01 \
        --not-after 2027-01-01 --max-calls 10 --region eu --calls-per-minute 60 --any-input --out grant.txt --chain-id 31337");
    let said = market.run("permit inspect grant.txt");
    // The nonce, and with it the id, is random.
    let shown: String = said
        .lines()
        .map(|line| match line.split_once(" 0x") {
            Some((name, _)) if name == "grant 1" => format!("{name} ID\n"),
            _ => format!("{line}\n"),
        })
        .collect();
    insta::assert_snapshot!(shown, @"
    exit: 0
    --- stdout
      chain      31337
    grant 1 ID
      model      0x0303030303030303030303030303030303030303030303030303030303030303
      licensee   @licensee
      delegate   @agent
      host       @host
      calls      10
      spend      unlimited
      valid      2026-01-01T00:00:00Z to 2027-01-01T00:00:00Z
      regions    eu
      rate       at most 60 calls a minute
      input      any
      signed by  0x28865A1956546b00357C9f289f8644b5458f0749
    --- stderr
    ");
}

#[test]
fn help_of_permit() {
    insta::assert_snapshot!(help("permit"), @"
    Make permissions to ask a model, verify and revoke them

    Usage: oml permit [OPTIONS] <COMMAND>

    Commands:
      grant      Grant a licensee's delegate the right to sign permissions for a model, as its issuer
      attenuate  Pass a narrower grant on to another delegate
      issue      Sign permissions under a grant or as the issuer, any number at once
      inspect    Say what a permission or a grant holds, without judging it
      verify     Would a host answer with this permission? Says why not by a code; needs nothing secret
      revoke     Sign a list of grants and permissions that no longer count

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
}

#[test]
fn help_of_permit_grant() {
    insta::assert_snapshot!(help("permit grant"), @"
    Grant a licensee's delegate the right to sign permissions for a model, as its issuer

    Usage: oml permit grant [OPTIONS] --licensee <0x…> --not-after <TIME>

    Options:
          --key <FILE>         Owner file whose key signs, made by `oml keygen` [default: oml/owner.json in the user's config folder]
          --model-id <0x…>     Id of the model: 0x and 64 hexadecimal digits
          --model <DIR>        Folder of the model, whose id is the SHA-256 of its oml-manifest.json
          --licensee <0x…>     Address of the licensee, who pays
          --delegate <0x…>     Address that signs permissions under the grant [default: the licensee's]
          --host <0x…>         Address of the host that may answer [default: any host]
          --max-calls <N>      Most calls [default: unlimited]
          --max-spend <N>      Most that may be promised, in the token's smallest unit [default: unlimited]
          --not-before <TIME>  First second: a time or a span from now [default: now]
          --not-after <TIME>   Last second: a time, or a span from now such as 30d
          --chain-id <N>       Chain on which signatures count [default: none, off-chain]
          --contract <0x…>     Contract for which signatures count [default: none]
          --out <FILE>         File to write [default: standard output]
      -h, --help               Print help
      -V, --version            Print version

    Scope:
          --purpose <TEXT>        Purpose that a call may have (repeatable) [default: any]
          --region <TEXT>         Region where a host may stand (repeatable) [default: any]
          --model-version <TEXT>  Version of the model that may answer (repeatable) [default: any]
          --max-tokens <N>        Most tokens of an answer [default: any number]
          --calls-per-minute <N>  Most calls in a minute [default: any number]
          --any-input             Permissions may leave the input open, so that they need not be made for each query
          --sequence              Permissions are numbered, so that a host keeps one number and not every permission

    Global options:
          --json           Print the result as one JSON object
      -q, --quiet          Print no notes and no progress
          --threads <N>    CPU threads [default: all cores]
          --isa <NAME>     CPU instructions to use: amx, avx512, avx2 or portable [default: the best this machine has]
          --config <FILE>  Settings file [default: oml.toml in the current folder, where there is one]
          --show-settings  Print every setting and where it comes from, and do nothing
    ");
}

#[test]
fn help_of_permit_attenuate() {
    insta::assert_snapshot!(help("permit attenuate"), @"
    Pass a narrower grant on to another delegate

    Usage: oml permit attenuate [OPTIONS] --grant <FILE> --delegate <0x…>

    Options:
          --key <FILE>         Owner file whose key signs, made by `oml keygen` [default: oml/owner.json in the user's config folder]
          --grant <FILE>       Grant to narrow, made by `oml permit grant` or this command; - is standard input
          --delegate <0x…>     Address that signs under the narrower grant
          --host <0x…>         Address of the host that may answer [default: as in the grant]
          --max-calls <N>      Most calls [default: as in the grant]
          --max-spend <N>      Most that may be promised, in the token's smallest unit [default: as in the grant]
          --not-before <TIME>  First second: a time or a span from now [default: as in the grant]
          --not-after <TIME>   Last second: a time or a span from now [default: as in the grant]
          --out <FILE>         File to write [default: standard output]
      -h, --help               Print help
      -V, --version            Print version

    Scope:
          --purpose <TEXT>        Purpose that a call may have (repeatable) [default: any]
          --region <TEXT>         Region where a host may stand (repeatable) [default: any]
          --model-version <TEXT>  Version of the model that may answer (repeatable) [default: any]
          --max-tokens <N>        Most tokens of an answer [default: any number]
          --calls-per-minute <N>  Most calls in a minute [default: any number]
          --each-input            Permissions must name their input, also where the grant leaves it open

    Global options:
          --json           Print the result as one JSON object
      -q, --quiet          Print no notes and no progress
          --threads <N>    CPU threads [default: all cores]
          --isa <NAME>     CPU instructions to use: amx, avx512, avx2 or portable [default: the best this machine has]
          --config <FILE>  Settings file [default: oml.toml in the current folder, where there is one]
          --show-settings  Print every setting and where it comes from, and do nothing
    ");
}

#[test]
fn help_of_permit_issue() {
    insta::assert_snapshot!(help("permit issue"), @"
    Sign permissions under a grant or as the issuer, any number at once

    Usage: oml permit issue [OPTIONS]

    Options:
          --key <FILE>       Owner file whose key signs, made by `oml keygen` [default: oml/owner.json in the user's config folder]
          --grant <FILE>     Grant to sign under; - is standard input [default: none, as the issuer]
          --model-id <0x…>   Id of the model: 0x and 64 hexadecimal digits
          --model <DIR>      Folder of the model, whose id is the SHA-256 of its oml-manifest.json
          --licensee <0x…>   Address of the licensee, who pays [default: the grant's]
          --host <0x…>       Address of the host that is to answer [default: the grant's, where it names one]
          --count <N>        Permissions for any input [default: 1]
          --inputs <FILE>    One permission for each input instead: JSON lines, each a request with messages or a prompt; - is standard input
          --deadline <TIME>  Last second: a time or a span from now [default: 15m, or the grant's end where that is sooner]
          --cumulative <N>   What was promised under the grant before, in the token's smallest unit [default: 0]
          --price <N>        What each permission promises on top [default: 0]
          --first-nonce <N>  Number of the first permission under a grant with a sequence, above every number used before
          --chain-id <N>     Chain on which signatures count [default: none, off-chain]
          --contract <0x…>   Contract for which signatures count [default: none]
          --out <FILE>       File to write, readable by you alone [default: standard output]
      -h, --help             Print help
      -V, --version          Print version

    Global options:
          --json           Print the result as one JSON object
      -q, --quiet          Print no notes and no progress
          --threads <N>    CPU threads [default: all cores]
          --isa <NAME>     CPU instructions to use: amx, avx512, avx2 or portable [default: the best this machine has]
          --config <FILE>  Settings file [default: oml.toml in the current folder, where there is one]
          --show-settings  Print every setting and where it comes from, and do nothing
    ");
}

#[test]
fn help_of_permit_inspect() {
    insta::assert_snapshot!(help("permit inspect"), @"
    Say what a permission or a grant holds, without judging it

    Usage: oml permit inspect [OPTIONS] <FILE>

    Arguments:
      <FILE>  File of a permission or a grant, as text or JSON; - is standard input

    Options:
          --line <N>  Line of the file, where it holds several [default: 1]
      -h, --help      Print help
      -V, --version   Print version

    Global options:
          --json           Print the result as one JSON object
      -q, --quiet          Print no notes and no progress
          --threads <N>    CPU threads [default: all cores]
          --isa <NAME>     CPU instructions to use: amx, avx512, avx2 or portable [default: the best this machine has]
          --config <FILE>  Settings file [default: oml.toml in the current folder, where there is one]
          --show-settings  Print every setting and where it comes from, and do nothing
    ");
}

#[test]
fn help_of_permit_verify() {
    insta::assert_snapshot!(help("permit verify"), @"
    Would a host answer with this permission? Says why not by a code; needs nothing secret

    Usage: oml permit verify [OPTIONS] --issuers <FILE> <FILE>

    Arguments:
      <FILE>  File of a permission with its salt, as `oml permit issue` writes it, or as JSON; - is standard input

    Options:
          --line <N>              Line of the file, where it holds several [default: 1]
          --issuers <FILE>        Issuers that you trust (oml-issuers)
          --revocations <FILE>    Revocation list of an issuer, made by `oml permit revoke` (repeatable)
          --model-id <0x…>        Id of the model: 0x and 64 hexadecimal digits
          --model <DIR>           Folder of the model, whose id is the SHA-256 of its oml-manifest.json
          --host <0x…>            Address of the host that would answer [default: the permission's, unchecked]
          --input <FILE>          The request, as JSON with messages or a prompt
          --purpose <TEXT>        Purpose that the caller names
          --region <TEXT>         Region where the host stands
          --model-version <TEXT>  Version of the model that would answer
          --max-tokens <N>        Most tokens that the answer would have
          --at <TIME>             Time of the call [default: now]
          --skew <SECONDS>        Seconds by which clocks may differ [default: 30]
      -h, --help                  Print help
      -V, --version               Print version

    Global options:
          --json           Print the result as one JSON object
      -q, --quiet          Print no notes and no progress
          --threads <N>    CPU threads [default: all cores]
          --isa <NAME>     CPU instructions to use: amx, avx512, avx2 or portable [default: the best this machine has]
          --config <FILE>  Settings file [default: oml.toml in the current folder, where there is one]
          --show-settings  Print every setting and where it comes from, and do nothing
    ");
}

#[test]
fn help_of_permit_revoke() {
    insta::assert_snapshot!(help("permit revoke"), @"
    Sign a list of grants and permissions that no longer count

    Usage: oml permit revoke [OPTIONS] --list <FILE>

    Options:
          --key <FILE>         Owner file whose key signs, made by `oml keygen` [default: oml/owner.json in the user's config folder]
          --list <FILE>        Revocation list to begin, or to add to; it is replaced by one that is signed now
          --model-id <0x…>     Id of the model: 0x and 64 hexadecimal digits
          --model <DIR>        Folder of the model, whose id is the SHA-256 of its oml-manifest.json
          --id <0x…>           Id of a grant or permission (repeatable); with none of these, the list is only signed again
          --grant <FILE>       Grant, of which the innermost is revoked (repeatable)
          --permission <FILE>  Permission (repeatable)
          --at <TIME>          From when on they no longer count: a time or a span from now [default: now]
          --chain-id <N>       Chain on which signatures count [default: none, off-chain]
          --contract <0x…>     Contract for which signatures count [default: none]
      -h, --help               Print help
      -V, --version            Print version

    Global options:
          --json           Print the result as one JSON object
      -q, --quiet          Print no notes and no progress
          --threads <N>    CPU threads [default: all cores]
          --isa <NAME>     CPU instructions to use: amx, avx512, avx2 or portable [default: the best this machine has]
          --config <FILE>  Settings file [default: oml.toml in the current folder, where there is one]
          --show-settings  Print every setting and where it comes from, and do nothing
    ");
}

#[test]
fn help_of_receipt() {
    insta::assert_snapshot!(help("receipt"), @"
    Check what a host signed of an answer

    Usage: oml receipt [OPTIONS] <COMMAND>

    Commands:
      verify  Did the host that a receipt names sign it, for this permission, input and answer? Says why not by a code

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
}

#[test]
fn help_of_receipt_verify() {
    insta::assert_snapshot!(help("receipt verify"), @"
    Did the host that a receipt names sign it, for this permission, input and answer? Says why not by a code

    Usage: oml receipt verify [OPTIONS] <FILE>

    Arguments:
      <FILE>  File of a receipt, as text or JSON; - is standard input

    Options:
          --model-id <0x…>     Id of the model: 0x and 64 hexadecimal digits
          --model <DIR>        Folder of the model, whose id is the SHA-256 of its oml-manifest.json
          --host <0x…>         Address of the host that answered [default: the receipt's, unchecked]
          --permission <FILE>  Permission under which it answered, with its salt as `oml permit issue` writes it
          --line <N>           Line of the permission's file, where it holds several [default: 1]
          --input <FILE>       The request, as JSON with messages or a prompt; needs the permission's salt
          --output <FILE>      The answer's text
          --chain-id <N>       Chain on which signatures count [default: none, off-chain]
          --contract <0x…>     Contract for which signatures count [default: none]
      -h, --help               Print help
      -V, --version            Print version

    Global options:
          --json           Print the result as one JSON object
      -q, --quiet          Print no notes and no progress
          --threads <N>    CPU threads [default: all cores]
          --isa <NAME>     CPU instructions to use: amx, avx512, avx2 or portable [default: the best this machine has]
          --config <FILE>  Settings file [default: oml.toml in the current folder, where there is one]
          --show-settings  Print every setting and where it comes from, and do nothing
    ");
}
