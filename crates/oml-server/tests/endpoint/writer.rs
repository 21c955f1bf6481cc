//! Natural queries from an endpoint.

use std::thread;
use std::time::Duration;

use oml_core::strategy::Style;
use oml_core::strategy::writer::{Request, Writer as _};
use oml_server::endpoint::{ApiKey, Endpoint, EndpointOptions};
use serde_json::json;

use crate::server::{Server, http, said};

fn requests(count: u64) -> Vec<Request> {
    let request = |seed| Request {
        style: Style::Sentence,
        topic: Some("bread".to_owned()),
        beginning: format!("Bread{seed}"),
        seed: seed | 1 << 40,
    };
    (0..count).map(request).collect()
}

fn ask(options: EndpointOptions, count: u64) -> Result<Vec<Option<String>>, String> {
    let mut endpoint = Endpoint::new(options).unwrap();
    endpoint
        .lines(&requests(count), 0.5, 16)
        .map_err(|error| error.to_string())
}

/// What a client says about a server that always answers with these bytes.
fn fault(answer: Vec<u8>) -> String {
    let server = Server::saying(move |_, _| answer.clone());
    let error = ask(server.options("/v1"), 1).unwrap_err();
    assert_eq!(server.arrived().len(), 1, "sent once: {error}");
    error
}

#[test]
fn a_chat_request_is_openai_s_and_answers_keep_their_order() {
    let server = Server::saying(|number, request| {
        // Later requests are answered sooner.
        thread::sleep(Duration::from_millis(40 - 4 * number.min(9) as u64));
        let body = request.body();
        let asked = body["messages"][0]["content"].as_str().unwrap();
        let word = asked.split('"').nth(1).unwrap();
        said(&json!(format!("\"{word} is baked.\"\nAnything else?")))
    });
    let mut options = server.options("");
    options.key = Some(ApiKey::new("sk-secret\n").unwrap());
    let lines = ask(options, 10).unwrap();
    let expected: Vec<_> = (0..10)
        .map(|i| Some(format!("Bread{i} is baked.")))
        .collect();
    assert_eq!(lines, expected);
    let arrived = server.arrived();
    let first = arrived.iter().find(|r| r.body()["seed"] == 0).unwrap();
    assert_eq!(first.path, "/v1/chat/completions");
    assert_eq!(first.headers["authorization"], "Bearer sk-secret");
    assert_eq!(first.headers["content-type"], "application/json");
    assert_eq!(
        first.body(),
        json!({
            "model": "writer", "max_tokens": 24, "temperature": 0.5, "seed": 0, "stream": false,
            "messages": [{"role": "user", "content": "Write one long sentence that starts with the word \"Bread0\"."}],
        })
    );
}

#[test]
fn a_completion_request_is_continued_to_the_end_of_its_line() {
    let server = Server::saying(|_, _| {
        http(
            "200 OK",
            "",
            br#"{"choices":[{"text":" is baked.\nNot this"}]}"#,
        )
    });
    let lines = ask(server.options("/v1/completions"), 1).unwrap();
    assert_eq!(lines, [Some("Bread0 is baked.".to_owned())]);
    let first = &server.arrived()[0];
    assert_eq!(
        (first.path.as_str(), &first.body()["prompt"]),
        ("/v1/completions", &json!("Bread0"))
    );
    assert!(!first.headers.contains_key("authorization"));
}

#[test]
fn an_answer_that_is_no_such_line_is_passed_over() {
    for content in [
        json!(null),
        json!(""),
        json!("Sure! Bread0 is"),
        json!("\u{1b}[2J"),
    ] {
        let server = Server::saying(move |_, _| said(&content));
        assert_eq!(ask(server.options("/v1"), 1).unwrap(), [None]);
    }
}

#[test]
fn what_may_pass_is_sent_again() {
    let server = Server::saying(|number, _| {
        match number {
            0 => http("503 Service Unavailable", "", b"loading"),
            1 => http("429 Too Many Requests", "retry-after: 0\r\n", b"{}"),
            // The connection is closed without an answer.
            2 => Vec::new(),
            _ => said(&json!("Bread0 is")),
        }
    });
    assert_eq!(
        ask(server.options("/v1"), 1).unwrap(),
        [Some("Bread0 is".to_owned())]
    );
    assert_eq!(server.arrived().len(), 4);

    let server = Server::saying(|_, _| http("500 Oops", "", b"again"));
    let error = ask(server.options("/v1"), 1).unwrap_err();
    assert_eq!(error, "endpoint: expected status 200, got 500: again");
    assert_eq!(server.arrived().len(), 5);
}

#[test]
fn an_endpoint_that_says_nothing_is_given_up() {
    let server = Server::silent();
    let mut options = server.options("/v1");
    (options.timeout, options.attempts) = (Duration::from_millis(100), 2);
    let error = ask(options, 1).unwrap_err();
    assert!(error.starts_with("endpoint: timeout"), "{error}");
    assert_eq!(server.arrived().len(), 2);
}

#[test]
fn a_refusal_is_shown_short_printable_and_without_the_key() {
    let body =
        json!({"error": {"message": format!("bad key sk-secret \u{1b}[2J{}", "x".repeat(1000))}})
            .to_string();
    let server = Server::saying(move |_, _| http("401 Unauthorized", "", body.as_bytes()));
    let mut options = server.options("/v1");
    options.key = Some(ApiKey::new("sk-secret").unwrap());
    let error = ask(options, 1).unwrap_err();
    assert!(
        error.starts_with("endpoint: expected status 200, got 401: bad key …  [2Jxxx"),
        "{error}"
    );
    assert!(error.chars().count() < 260 && !error.contains("sk-secret"));
    assert_eq!(server.arrived().len(), 1);
}

#[test]
fn redirects_are_not_followed() {
    let other = Server::saying(|_, _| said(&json!("Bread0")));
    let location = format!("location: http://{}/v1\r\n", other.address);
    let error = fault(http("307 Temporary Redirect", &location, b""));
    assert_eq!(
        error,
        "endpoint: expected status 200, got the redirect 307, which is not followed"
    );
    assert!(other.arrived().is_empty());
}

#[test]
fn bad_answers_are_named() {
    let ok = |body: &[u8]| fault(http("200 OK", "", body));
    let json = "endpoint: expected JSON of the OpenAI API: ";
    for body in [
        &b""[..],
        b"<html>",
        b"[]",
        b"{\"choices\":[{\"message\":{\"content\":\"\xff\"}}]}",
    ] {
        let error = ok(body);
        assert!(error.starts_with(json), "{error}");
    }
    assert!(ok(br#"{"choices":[{"text":"a completion"}]}"#).contains("missing field `message`"));
    assert_eq!(
        ok(br#"{"choices":[]}"#),
        "endpoint: choices: expected at least one, got none"
    );
    let deep = [&b"{\"choices\":"[..], &b"[".repeat(100_000)].concat();
    assert!(ok(&deep).starts_with(json));
    let long = vec![b' '; (1 << 20) + 1];
    assert_eq!(
        ok(&long),
        "endpoint: expected an answer of at most 1048576 bytes, got more"
    );
}
