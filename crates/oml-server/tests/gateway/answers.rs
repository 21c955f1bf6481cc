//! What is answered, and what comes with it.

use oml_core::permission::{Input, InputSalt, Token, input_of_request};
use oml_core::receipt::{Expected, SignedReceipt};
use oml_server::gateway::{Tls, verify_log};
use serde_json::{Value, json};
use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};

use super::server::*;

fn chat(text: &str) -> Value {
    json!({"model": "m", "messages": [{"role": "user", "content": text}]})
}

fn salt(digits: &str) -> InputSalt {
    let bytes = data_encoding::HEXLOWER.decode(digits.as_bytes()).unwrap();
    InputSalt::new(bytes.try_into().unwrap())
}

#[test]
fn an_answer_carries_a_receipt_that_verifies() {
    let server = Server::start(Setup::default());
    let (body, token) = (chat("one two three"), issued(permission()));
    let answer = server.ask(Some(&token), CHAT, &body);
    assert_eq!(answer.status, 200, "{}", answer.body);
    let said = answer.json();
    assert_eq!(said["choices"][0]["message"]["content"], "one two three");
    assert_eq!(said["choices"][0]["finish_reason"], "stop");
    assert_eq!(
        said["usage"],
        json!({"prompt_tokens": 3, "completion_tokens": 3, "total_tokens": 6})
    );
    let receipt = SignedReceipt::from_text(answer.header("oml-receipt").unwrap()).unwrap();
    let token = Token::from_text(&token).unwrap();
    let canonical = input_of_request(&body).unwrap();
    let drawn = salt(answer.header("oml-input-salt").unwrap());
    receipt
        .verify(&Expected {
            domain: token.domain,
            model: Some(MODEL),
            host: Some(host()),
            token: Some(&token),
            input: Some(Input {
                canonical: &canonical,
                salt: &drawn,
            }),
            output: Some(b"one two three"),
        })
        .unwrap();
}

#[test]
fn a_permission_for_one_input_needs_no_salt_of_the_host() {
    let server = Server::start(Setup::default());
    let body = chat("é \u{1f600}\n\"quoted\"");
    let answer = server.ask(Some(&bound(&body)), CHAT, &body);
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert_eq!(answer.header("oml-input-salt"), None);
    let receipt = SignedReceipt::from_text(answer.header("oml-receipt").unwrap()).unwrap();
    let canonical = input_of_request(&body).unwrap();
    let expected = Expected {
        input: Some(Input {
            canonical: &canonical,
            salt: &InputSalt::new([9; 32]),
        }),
        ..Expected::default()
    };
    receipt.verify(&expected).unwrap();
}

#[test]
fn a_stream_says_the_same_and_ends_with_its_receipt() {
    let server = Server::start(Setup::default());
    let mut body = json!({"model": "alias", "prompt": "one two three", "max_tokens": 2});
    let whole = server.ask(Some(&issued(permission())), TEXT, &body);
    assert_eq!(whole.json()["choices"][0]["text"], "one two ");
    assert_eq!(whole.json()["choices"][0]["finish_reason"], "length");
    body["stream"] = json!(true);
    body["stream_options"] = json!({"include_usage": true});
    let token = issued(permission());
    let answer = server.ask(Some(&token), TEXT, &body);
    assert_eq!(answer.status, 200);
    assert_eq!(
        answer.header("content-type"),
        Some("text/event-stream; charset=utf-8")
    );
    let events: Vec<&str> = answer.body.split_terminator("\n\n").collect();
    let parts: Vec<Value> = events
        .iter()
        .filter_map(|event| serde_json::from_str(event.strip_prefix("data: ")?).ok())
        .collect();
    let text: String = parts
        .iter()
        .filter_map(|part| part["choices"][0]["text"].as_str())
        .collect();
    assert_eq!(text, "one two ");
    assert_eq!(
        parts[parts.len() - 2]["choices"][0]["finish_reason"],
        "length"
    );
    assert_eq!(parts[parts.len() - 1]["usage"]["total_tokens"], 5);
    assert_eq!(events[events.len() - 1], "data: [DONE]");
    let receipt = events[events.len() - 2]
        .strip_prefix(": oml-receipt ")
        .unwrap();
    let receipt = SignedReceipt::from_text(receipt).unwrap();
    let expected = Expected {
        output: Some(b"one two "),
        ..Expected::default()
    };
    receipt.verify(&expected).unwrap();
    // Who streamed may ask for it again; who has another permission may not.
    let again = post(&format!("{}/v1/receipts", server.url), Some(&token), b"");
    assert_eq!(again.json()["receipt"], receipt.to_text());
    let other = post(
        &format!("{}/v1/receipts", server.url),
        Some(&issued(permission())),
        b"",
    );
    assert_eq!((other.status, other.code().as_str()), (404, "no_receipt"));
}

/// PEM of bytes in DER.
fn pem(what: &str, der: &[u8]) -> String {
    let text = data_encoding::BASE64.encode(der);
    format!("-----BEGIN {what}-----\n{text}\n-----END {what}-----\n")
}

#[test]
fn with_a_certificate_it_speaks_tls_and_nothing_else() {
    let chain = pem("CERTIFICATE", include_bytes!("../endpoint/tls/server.der"));
    let key = pem(
        "PRIVATE KEY",
        include_bytes!("../endpoint/tls/server.key.der"),
    );
    let tls = Tls::from_pem(chain.as_bytes(), key.as_bytes()).unwrap();
    let server = Server::start(Setup {
        tls: Some(tls),
        ..Setup::default()
    });
    assert!(server.url.starts_with("https://"));
    let Some(Ok(PemItem::Certificate(root))) =
        parse_pem(include_bytes!("../endpoint/tls/root.pem")).next()
    else {
        panic!("expected a certificate");
    };
    let config = TlsConfig::builder()
        .root_certs(RootCerts::Specific(std::sync::Arc::new(vec![root])))
        .build();
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .tls_config(config)
        .build()
        .into();
    let port = server.port();
    let mut answer = agent
        .post(format!("https://localhost:{port}{CHAT}"))
        .header("content-type", "application/json")
        .header("oml-permission", &issued(permission()))
        .send(chat("one two").to_string())
        .unwrap();
    assert!(
        answer
            .body_mut()
            .read_to_string()
            .unwrap()
            .contains("one two")
    );
    let plain = ureq::get(format!("http://localhost:{port}/healthz")).call();
    assert!(plain.is_err());
    for (chain, key) in [("", key.as_str()), (chain.as_str(), ""), (&key, &chain)] {
        assert!(Tls::from_pem(chain.as_bytes(), key.as_bytes()).is_err());
    }
}

#[test]
fn what_is_public_and_what_is_not() {
    let server = Server::start(Setup::default());
    let models = get(&format!("{}/v1/models", server.url)).json();
    assert_eq!(models["data"][0]["id"], "m");
    assert_eq!(
        get(&format!("{}/v1/models/alias", server.url)).json()["id"],
        "alias"
    );
    assert_eq!(
        get(&format!("{}/v1/models/other", server.url)).code(),
        "model_not_found"
    );
    assert_eq!(
        get(&format!("{}/healthz", server.url)).json()["status"],
        "ok"
    );
    for path in ["/metrics", "/usage", "/records"] {
        assert_eq!(
            get(&format!("{}{path}", server.url)).code(),
            "no_such_path",
            "{path}"
        );
    }
    assert_eq!(get(&format!("{}{CHAT}", server.url)).code(), "wrong_method");
    let cors = get(&format!("{}/v1/models", server.url));
    assert_eq!(cors.header("access-control-allow-origin"), None);
}

#[test]
fn the_description_names_every_public_path() {
    let server = Server::start(Setup::default());
    let described = get(&format!("{}/openapi.json", server.url)).json();
    let paths: Vec<&String> = described["paths"].as_object().unwrap().keys().collect();
    for path in paths {
        let path = path.replace("{name}", "m");
        let url = format!("{}{path}", server.url);
        let got = match described["paths"][&path].get("post") {
            Some(_) => post(&url, None, b"{}"),
            None => get(&url),
        };
        assert!(!matches!(got.status, 404 | 405), "{path}: {got:?}");
    }
}

#[test]
fn the_operator_sees_counters_sums_and_records() {
    let server = Server::start(Setup::default());
    let token = issued(permission());
    let answer = server.ask(Some(&token), CHAT, &chat("one two"));
    assert_eq!(server.ask(None, CHAT, &chat("one")).status, 402);
    let page = get(&format!("{}/metrics", server.admin)).body;
    for line in [
        "oml_answers_total 1",
        "oml_refusals_total{code=\"no_permission\"} 1",
        "oml_completion_tokens_total 2",
        "oml_active 0",
        "oml_gate_seconds_count 1",
    ] {
        assert!(page.lines().any(|own| own == line), "{line} in {page}");
    }
    let usage = get(&format!("{}/usage", server.admin)).json();
    assert_eq!(usage[0]["licensee"], key(3).address().to_string());
    assert_eq!(
        (&usage[0]["calls"], &usage[0]["completion_tokens"]),
        (&json!(1), &json!(2))
    );
    let records = get(&format!("{}/records", server.admin)).json();
    assert_eq!(records[0]["permission"], token);
    assert_eq!(records[0]["receipt"], answer.header("oml-receipt").unwrap());
}

#[test]
fn the_log_is_a_chain_and_holds_no_secret() {
    let server = Server::start(Setup::default());
    let token = issued(permission());
    server.ask(Some(&token), CHAT, &chat("a secret question"));
    server.ask(Some(&token), CHAT, &chat("a secret question"));
    let folder = server.folder.clone();
    drop(server);
    let log = std::fs::read_to_string(folder.path().join("log.jsonl")).unwrap();
    assert_eq!(verify_log(&mut log.as_bytes()).unwrap().lines, 3, "{log}");
    for secret in ["secret", token.as_str()] {
        assert!(!log.contains(secret), "{secret}");
    }
    let events: Vec<Value> = log
        .lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect();
    assert_eq!(events[0]["event"], "admitted");
    assert_eq!(events[1]["event"], "answered");
    assert_eq!(events[2]["code"], "replayed");
    // Every changed byte of a line breaks the chain or the line itself, but for the last line, whose hash nobody keeps here.
    let last = log.trim_end().rfind('\n').unwrap();
    for at in 0..last {
        let mut bytes = log.clone().into_bytes();
        bytes[at] ^= 1;
        assert!(verify_log(&mut bytes.as_slice()).is_err(), "byte {at}");
    }
    // A crash may leave half a line; the log goes on without it.
    let path = folder.path().join("log.jsonl");
    std::fs::write(&path, &log[..log.len() - 5]).unwrap();
    drop(oml_server::gateway::AuditLog::open(&path).unwrap());
    let kept = std::fs::read_to_string(&path).unwrap();
    assert_eq!(verify_log(&mut kept.as_bytes()).unwrap().lines, 2);
}

#[test]
fn a_model_that_fails_says_nothing_of_why() {
    let server = Server::start(Setup::default());
    let answer = server.ask(Some(&issued(permission())), CHAT, &chat("then fail now"));
    assert_eq!(
        (answer.status, answer.code().as_str()),
        (500, "model_failed")
    );
    assert!(!answer.body.contains("secret"), "{}", answer.body);
    let mut body = chat("then fail now");
    body["stream"] = json!(true);
    let answer = server.ask(Some(&issued(permission())), CHAT, &body);
    assert!(answer.body.contains("then "), "{}", answer.body);
    assert!(answer.body.contains("model_failed"));
    assert!(!answer.body.contains("[DONE]") && !answer.body.contains("oml-receipt"));
}
