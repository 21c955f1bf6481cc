//! `oml issuer`: three processes of which each knows only its own secret.

use std::io::Read as _;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use super::{Place, help};

const MODEL_ID: &str = "0x0101010101010101010101010101010101010101010101010101010101010101";

/// A command that serves until this is dropped, and what it said first.
pub(super) struct Running {
    process: Child,
    pub(super) said: Value,
}

impl Running {
    pub(super) fn start(command: &mut Command) -> Self {
        let mut process = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut text = String::new();
        let out = process.stdout.as_mut().unwrap();
        // One object, whole as soon as it ends.
        while serde_json::from_str::<Value>(&text).is_err() {
            let mut byte = [0];
            assert_eq!(out.read(&mut byte).unwrap(), 1, "ended: {text}");
            text.push(char::from(byte[0]));
        }
        let said = serde_json::from_str(&text).unwrap();
        Self { process, said }
    }

    pub(super) fn url(&self) -> &str {
        self.said["url"].as_str().unwrap()
    }

    /// As a machine that loses its power: nothing is tidied up.
    pub(super) fn kill(mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn ask(url: &str, path: &str, headers: &[(&str, &str)], body: Option<&Value>) -> (u16, Value) {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .build()
        .into();
    let url = format!("{url}{path}");
    let answer = match body {
        None => headers
            .iter()
            .fold(agent.get(&url), |request, (name, value)| {
                request.header(*name, *value)
            })
            .call(),
        Some(body) => headers
            .iter()
            .fold(agent.post(&url), |request, (name, value)| {
                request.header(*name, *value)
            })
            .header("content-type", "application/json")
            .send(body.to_string()),
    };
    let mut answer = answer.unwrap();
    let text = answer.body_mut().read_to_string().unwrap();
    (
        answer.status().as_u16(),
        serde_json::from_str(&text).unwrap(),
    )
}

#[test]
fn a_customer_is_charged_once_and_its_permissions_are_good() {
    let place = Place::new();
    let mut addresses = Vec::new();
    for name in ["issuer", "host", "user"] {
        let made = place.ok(&format!("keygen --out {name}.json --json"));
        addresses.push(made["address"].as_str().unwrap().to_owned());
    }
    let (host, user) = (&addresses[1], &addresses[2]);
    let add =
        format!("issuer add --name acme --licensee {user} --calls-per-day 5 --credit 100 --json");
    let key = place.ok(&add)["key"].as_str().unwrap().to_owned();
    let customers = std::fs::read_to_string(place.path("oml-customers.json")).unwrap();
    assert!(!customers.contains(&key));
    let line = format!(
        "issuer serve --key issuer.json --model-id {MODEL_ID} --host {host} --price 15 --listen 127.0.0.1:0 --json -q"
    );
    let issuer = Running::start(&mut place.command(&line));
    let (_, prices) = ask(issuer.url(), "/v1/prices", &[], None);
    assert_eq!(
        (&prices["price"], &prices["issuer"]),
        (&json!("15"), &json!(addresses[0]))
    );

    let bearer = format!("Bearer {key}");
    let own: [(&str, &str); 2] = [("authorization", &bearer), ("idempotency-key", "one")];
    let order = json!({"host": host, "count": 2});
    let buy = |url: &str, headers: &[(&str, &str)], order: &Value| {
        ask(url, "/v1/permissions", headers, Some(order))
    };
    let (status, first) = buy(issuer.url(), &own, &order);
    assert_eq!(status, 200, "{first}");
    assert_eq!(
        (
            first["permissions"].as_array().unwrap().len(),
            &first["price"]
        ),
        (2, &json!("30"))
    );
    // Again, also after the machine lost its power: the same answer, charged once.
    assert_eq!(buy(issuer.url(), &own, &order), (200, first.clone()));
    issuer.kill();
    let issuer = Running::start(&mut place.command(&line));
    let url = issuer.url();
    assert_eq!(buy(url, &own, &order), (200, first.clone()));
    let (_, account) = ask(url, "/v1/account", &own[..1], None);
    assert_eq!(
        (&account["calls_left"], &account["credit_left"]),
        (&json!(3), &json!("70"))
    );

    // A host that knows nothing but the issuer's address takes what was bought.
    let token = first["permissions"][0].as_str().unwrap();
    std::fs::write(place.path("permission.txt"), token).unwrap();
    let issuers = json!({"format": "oml-issuers", "version": 1, "issuers": [{"model": MODEL_ID, "address": addresses[0]}]});
    std::fs::write(place.path("issuers.json"), issuers.to_string()).unwrap();
    let verified = place.ok(&format!(
        "permit verify permission.txt --issuers issuers.json --model-id {MODEL_ID} --host {host} --json"
    ));
    assert_eq!(verified["valid"], true, "{verified}");

    let hashes =
        json!({"host": host, "input_hashes": [format!("0x{}", "ab".repeat(32))], "seconds": 60});
    assert_eq!(buy(url, &own[..1], &hashes).0, 200);
    let other = [own[0], ("idempotency-key", "two")];
    for (headers, order, status, code) in [
        (
            &own[..],
            json!({"host": host, "count": 1}),
            409,
            "idempotency_mismatch",
        ),
        (
            &other[..],
            json!({"host": host, "count": 3}),
            429,
            "over_quota",
        ),
        (
            &other[..],
            json!({"host": user, "count": 1}),
            403,
            "wrong_host",
        ),
        (
            &other[..],
            json!({"host": "0x12", "count": 1}),
            400,
            "invalid_value",
        ),
        (&other[..], json!({"host": host}), 400, "invalid_value"),
        (
            &other[..],
            json!({"host": host, "count": 0}),
            400,
            "invalid_value",
        ),
        (
            &other[..],
            json!({"host": host, "count": 1, "seconds": 901}),
            400,
            "invalid_value",
        ),
        (
            &other[..],
            json!({"host": host, "input_hashes": ["0x12"]}),
            400,
            "invalid_value",
        ),
        (
            &other[..],
            json!({"host": host, "count": 1, "price": 0}),
            400,
            "invalid_json",
        ),
        (&[], json!({"host": host, "count": 1}), 401, "no_key"),
        (
            &[("authorization", "Bearer omlk_00")],
            json!({"host": host, "count": 1}),
            401,
            "unknown_key",
        ),
    ] {
        let (got, said) = buy(url, headers, &order);
        assert_eq!(
            (got, said["error"]["code"].as_str()),
            (status, Some(code)),
            "{order}"
        );
    }
    // None of these was charged. Who has no credit is told what it costs, and a new file is heard of.
    let (_, account) = ask(url, "/v1/account", &own[..1], None);
    assert_eq!(
        (&account["calls_left"], &account["credit_left"]),
        (&json!(2), &json!("55"))
    );
    let poor = place.ok(&format!(
        "issuer add --name poor --licensee {user} --credit 14 --json"
    ));
    let bearer = format!("Bearer {}", poor["key"].as_str().unwrap());
    let order = json!({"host": host, "count": 1});
    let mut said = (401, Value::Null);
    for _ in 0..50 {
        said = buy(url, &[("authorization", &bearer)], &order);
        if said.0 != 401 {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    assert_eq!(
        (said.0, said.1["error"]["code"].as_str()),
        (402, Some("no_credit"))
    );
    assert_eq!(said.1["x402Version"], 2);
}

#[test]
fn help_of_issuer() {
    insta::assert_snapshot!(help("issuer add"), @"
    Let a customer ask for permissions: draws its key, which is shown once

    Usage: oml issuer add [OPTIONS] --name <TEXT> --licensee <0x…>

    Options:
          --customers <FILE>   File with the customers; it holds hashes of their keys alone, and is read again when it changes [default: oml-customers.json]
          --name <TEXT>        What the customer is called; one that is there gets a new key and new limits
          --licensee <0x…>     Address of the licensee that its permissions name
          --calls-per-day <N>  Permissions on one day (UTC) at most [default: any number]
          --credit <N>         All that it has paid so far, in the token's smallest unit [default: 0]
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
    insta::assert_snapshot!(help("issuer serve"), @"
    Answer customers who ask for permissions

    Usage: oml issuer serve [OPTIONS]

    Options:
          --key <FILE>        Owner file whose key signs, made by `oml keygen` [default: oml/owner.json in the user's config folder]
          --model-id <0x…>    Id of the model: 0x and 64 hexadecimal digits
          --model <DIR>       Folder of the model, whose id is the SHA-256 of its oml-manifest.json
          --chain-id <N>      Chain on which signatures count [default: none, off-chain]
          --contract <0x…>    Contract for which signatures count [default: none]
          --customers <FILE>  File with the customers; it holds hashes of their keys alone, and is read again when it changes [default: oml-customers.json]
          --book <FILE>       File of what was sold to whom [default: oml-issuer.redb]
      -h, --help              Print help
      -V, --version           Print version

    Connections:
          --tls-certificate <FILE>     Certificates (PEM) for TLS
          --tls-key <FILE>             Private key (PEM) for TLS
          --allow-http                 Let clients come from other machines without TLS, as behind a proxy that has it
          --listen <HOST:PORT>         Address to listen on [default: 127.0.0.1:8786]
          --host <0x…>                 Address of a host for which there are permissions, repeatable [default: any host]
          --price <N>                  What a permission costs, in the token's smallest unit [default: 0]
          --pay <NETWORK,TOKEN,PAYEE>  How a customer without credit can pay: CAIP-2 network, token and payee, as eip155:8453,0x…,0x…
          --longest-life <SECONDS>     Longest life of a permission [default: 900]
          --most <N>                   Permissions in one answer at most [default: 1000]

    Global options:
          --json           Print the result as one JSON object
      -q, --quiet          Print no notes and no progress
          --threads <N>    CPU threads [default: all cores]
          --isa <NAME>     CPU instructions to use: amx, avx512, avx2 or portable [default: the best this machine has]
          --config <FILE>  Settings file [default: oml.toml in the current folder, where there is one]
          --show-settings  Print every setting and where it comes from, and do nothing
    ");
}
