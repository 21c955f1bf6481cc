//! A server behind the gateway: what reaches it, and what is made of its answers.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use oml_core::receipt::{Expected, SignedReceipt};
use oml_server::gateway::{Answers, Upstream, UpstreamError};
use serde_json::{Value, json};

use super::server::*;

/// A server that answers every request with the same bytes, and remembers what it was asked.
struct Behind {
    url: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Behind {
    fn new(answer: impl Into<Vec<u8>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (asked, answer) = (Arc::new(Mutex::new(Vec::new())), answer.into());
        let heard = asked.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                let (mut head, mut length) = (String::new(), 0);
                loop {
                    let mut line = String::new();
                    if reader.read_line(&mut line).unwrap() <= 2 {
                        break;
                    }
                    if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                        length = value.trim().parse().unwrap();
                    }
                    head.push_str(&line);
                }
                let mut body = vec![0; length];
                reader.read_exact(&mut body).unwrap();
                heard
                    .lock()
                    .unwrap()
                    .push(format!("{head}\n{}", String::from_utf8(body).unwrap()));
                let _ = stream.write_all(&answer);
            }
        });
        Self { url, asked }
    }

    fn json(body: &Value) -> Self {
        Self::status("200 OK", body)
    }

    fn status(status: &str, body: &Value) -> Self {
        let body = body.to_string();
        Self::new(format!(
            "HTTP/1.1 {status}\r\ncontent-type: application/json\r\nset-cookie: a=b\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
            body.len()
        ))
    }

    fn events(events: &str) -> Self {
        Self::new(format!(
            "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n{events}"
        ))
    }

    fn gateway(&self) -> Server {
        let upstream = Upstream::new(&self.url, Some("sk-secret"), Duration::from_millis(800));
        Server::start(Setup {
            answers: Some(Answers::Upstream(upstream.unwrap())),
            ..Setup::default()
        })
    }
}

fn body() -> Value {
    json!({"model": "m", "messages": [{"role": "user", "content": "hi"}]})
}

fn chat(text: &str) -> Value {
    json!({"choices": [{"index": 0, "message": {"role": "assistant", "content": text}}],
           "usage": {"prompt_tokens": 4, "completion_tokens": 2}})
}

#[test]
fn an_answer_goes_back_with_a_receipt_and_nothing_else() {
    let behind = Behind::json(&chat("hello"));
    let server = behind.gateway();
    let header = format!("{}; purpose=x", issued(permission()));
    let answer = server.ask(Some(&header), CHAT, &body());
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert_eq!(answer.json(), chat("hello"));
    assert_eq!(answer.header("set-cookie"), None);
    let receipt = SignedReceipt::from_text(answer.header("oml-receipt").unwrap()).unwrap();
    let expected = Expected {
        output: Some(b"hello"),
        ..Expected::default()
    };
    receipt.verify(&expected).unwrap();
    let asked = behind.asked.lock().unwrap()[0].to_ascii_lowercase();
    assert!(
        asked.starts_with("post /v1/chat/completions http/1.1"),
        "{asked}"
    );
    assert!(asked.contains("authorization: bearer sk-secret"), "{asked}");
    assert!(!asked.contains("oml1."), "{asked}");
    let usage = get(&format!("{}/usage", server.admin)).json();
    assert_eq!(
        (&usage[0]["prompt_tokens"], &usage[0]["completion_tokens"]),
        (&json!(4), &json!(2))
    );
}

#[test]
fn both_read_the_same_request() {
    let behind = Behind::json(&chat("hello"));
    let server = behind.gateway();
    // Which of two messages is asked must not depend on who reads.
    let twice = r#"{"model":"m","messages":[{"role":"user","content":"first"}],"messages":[{"role":"user","content":"second"}]}"#;
    let asked = json!({"model": "m", "messages": [{"role": "user", "content": "second"}]});
    let answer = post(
        &format!("{}{CHAT}", server.url),
        Some(&bound(&asked)),
        twice.as_bytes(),
    );
    assert_eq!(answer.status, 200, "{}", answer.body);
    let seen = behind.asked.lock().unwrap()[0].clone();
    assert!(seen.contains("second") && !seen.contains("first"), "{seen}");
}

#[test]
fn a_stream_goes_on_and_its_end_waits_for_the_receipt() {
    let part =
        |text: &str| json!({"choices": [{"index": 0, "delta": {"content": text}}]}).to_string();
    let behind = Behind::events(&format!(
        ": ping\n\ndata: {}\r\n\r\ndata: {}\n\ndata: [DONE]\n\n",
        part("hel"),
        part("lo")
    ));
    let server = behind.gateway();
    let mut body = body();
    body["stream"] = json!(true);
    let answer = server.ask(Some(&issued(permission())), CHAT, &body);
    let events: Vec<&str> = answer.body.split_terminator("\n\n").collect();
    assert_eq!(events.len(), 4, "{events:?}");
    assert!(events[0].contains("hel") && events[1].contains("lo"));
    let receipt = events[2].strip_prefix(": oml-receipt ").unwrap();
    let receipt = SignedReceipt::from_text(receipt).unwrap();
    let expected = Expected {
        output: Some(b"hello"),
        ..Expected::default()
    };
    receipt.verify(&expected).unwrap();
    assert_eq!(events[3], "data: [DONE]");
}

#[test]
fn no_other_name_lengthens_an_answer() {
    let behind = Behind::json(&chat("hello"));
    let server = behind.gateway();
    let scope = oml_core::permission::Scope {
        max_tokens: Some(5),
        ..open_scope()
    };
    let chain = chain(grant(), scope);
    let with = |fields: &[(&str, u32)]| {
        let mut asked = body();
        for (name, value) in fields {
            asked[*name] = json!(value);
        }
        server.ask(Some(&under(&chain, permission())), CHAT, &asked)
    };
    let both = with(&[("max_completion_tokens", 5), ("max_tokens", 100_000)]);
    assert_eq!((both.status, both.code().as_str()), (400, "invalid_value"));
    let other = with(&[("max_tokens", 5), ("n_predict", 100_000)]);
    assert_eq!(
        (other.status, other.code().as_str()),
        (400, "unsupported_parameter")
    );
    let more = with(&[("max_tokens", 6)]);
    assert_eq!(
        (more.status, more.code().as_str()),
        (403, "too_many_tokens")
    );
    assert!(behind.asked.lock().unwrap().is_empty());
    // Who names no length gets the grant's.
    assert_eq!(with(&[]).status, 200);
    assert!(behind.asked.lock().unwrap()[0].contains("\"max_tokens\":5"));
}

#[test]
fn answers_that_are_none() {
    let huge = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n\r\n{}",
        " ".repeat(65 << 20)
    );
    for (behind, status, code) in [
        (
            Behind::new(
                "HTTP/1.1 302 Found\r\nlocation: http://169.254.169.254/\r\ncontent-length: 0\r\n\r\n",
            ),
            502,
            "upstream_redirect",
        ),
        (
            Behind::new(
                "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 6\r\n\r\n<html>",
            ),
            502,
            "upstream_garbage",
        ),
        (
            Behind::json(&json!({"choices": []})),
            502,
            "upstream_garbage",
        ),
        (Behind::new("garbage\r\n\r\n"), 502, "upstream_failed"),
        (
            Behind::new("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{"),
            502,
            "upstream_failed",
        ),
        (Behind::new(huge), 502, "upstream_garbage"),
        (
            Behind::status(
                "400 Bad Request",
                &json!({"error": {"message": "too\r\nlong"}}),
            ),
            400,
            "upstream_refused",
        ),
        (
            Behind::status("401 Unauthorized", &json!({"error": "who are you"})),
            502,
            "upstream_refused",
        ),
        (
            Behind::status("500 Oops", &json!({})),
            502,
            "upstream_refused",
        ),
    ] {
        let server = behind.gateway();
        let answer = server.ask(Some(&issued(permission())), CHAT, &body());
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (status, code),
            "{answer:?}"
        );
        assert!(!answer.body.contains("secret") && !answer.body.contains(&behind.url));
        assert!(answer.header("oml-receipt").is_none());
    }
}

#[test]
fn streams_that_break_off_have_no_receipt() {
    let part = json!({"choices": [{"index": 0, "delta": {"content": "hel"}}]});
    for events in [
        format!("data: {part}\n\n"),
        format!("data: {part}\n\ndata: {{\n\ndata: [DONE]\n\n"),
        format!("data: {part}\n\ndata: \u{0}\n\n"),
        "data: [DO".to_owned(),
        format!(
            "data: {{\"choices\":[{0},{0}]}}\n\ndata: [DONE]\n\n",
            part["choices"][0]
        ),
    ] {
        let behind = Behind::events(&events);
        let server = behind.gateway();
        let mut body = body();
        body["stream"] = json!(true);
        let answer = server.ask(Some(&issued(permission())), CHAT, &body);
        assert!(answer.body.contains("upstream_"), "{}", answer.body);
        assert!(!answer.body.contains("oml-receipt") && !answer.body.contains("[DONE]"));
    }
}

#[test]
fn one_that_says_nothing_is_not_waited_for() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let upstream = Upstream::new(&url, None, Duration::from_millis(300)).unwrap();
    let server = Server::start(Setup {
        answers: Some(Answers::Upstream(upstream)),
        ..Setup::default()
    });
    let answer = server.ask(Some(&issued(permission())), CHAT, &body());
    assert_eq!(
        (answer.status, answer.code().as_str()),
        (504, "upstream_failed")
    );
    drop(listener);
    let answer = server.ask(Some(&issued(permission())), CHAT, &body());
    assert_eq!(
        (answer.status, answer.code().as_str()),
        (502, "upstream_failed")
    );
}

#[test]
fn addresses_that_are_none() {
    for url in [
        "",
        "ftp://x",
        "http://",
        concat!("http://u:", "p@x"),
        "http://x/?a=b",
        "http://x/#f",
        "x",
    ] {
        let made = Upstream::new(url, None, Duration::from_secs(1));
        assert!(matches!(made, Err(UpstreamError::Url { .. })), "{url}");
    }
    let made = Upstream::new("http://x/v1", Some("a\nb"), Duration::from_secs(1));
    assert!(matches!(made, Err(UpstreamError::Key)));
}
