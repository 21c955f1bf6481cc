//! Clients that mean harm, or do not know better: bodies, headers and connections.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use oml_server::gateway::Limits;
use serde_json::json;

use super::server::*;

fn code(server: &Server, path: &str, body: &[u8]) -> (u16, String) {
    let answer = post(
        &format!("{}{path}", server.url),
        Some(&issued(permission())),
        body,
    );
    (answer.status, answer.code())
}

#[test]
fn bodies_that_are_no_request() {
    let server = Server::start(Setup::default());
    let deep = format!("{}{}", "[".repeat(1000), "]".repeat(1000));
    let deep = format!("{{\"model\":\"m\",\"messages\":{deep}}}");
    let many = format!("{{\"model\":\"m\",\"prompt\":[{}1]}}", "1,".repeat(70_000));
    for (path, body, status, expected) in [
        (CHAT, b"".as_slice(), 400, "invalid_json"),
        (CHAT, b"{", 400, "invalid_json"),
        (CHAT, b"[]", 400, "invalid_json"),
        (CHAT, b"\xff\xfe", 400, "invalid_json"),
        (
            CHAT,
            b"{\"model\":\"\xff\",\"messages\":[]}",
            400,
            "invalid_json",
        ),
        (CHAT, deep.as_bytes(), 400, "invalid_json"),
        (TEXT, many.as_bytes(), 413, "too_many_values"),
        (
            CHAT,
            br#"{"messages":[{"role":"user","content":"x"}],"model":3}"#,
            400,
            "invalid_value",
        ),
        (
            CHAT,
            br#"{"messages":[{"role":"user","content":"x"}],"model":"other"}"#,
            404,
            "model_not_found",
        ),
        (CHAT, br#"{"model":"m"}"#, 400, "invalid_value"),
        (
            CHAT,
            br#"{"model":"m","messages":[]}"#,
            400,
            "invalid_value",
        ),
        (
            CHAT,
            br#"{"model":"m","messages":[{"role":"tool","content":"x"}]}"#,
            400,
            "invalid_value",
        ),
        (
            CHAT,
            br#"{"model":"m","messages":[{"role":"user","content":3}]}"#,
            400,
            "invalid_value",
        ),
        (
            CHAT,
            br#"{"model":"m","messages":[{"role":"user","content":[{"type":"image_url"}]}]}"#,
            400,
            "invalid_value",
        ),
        (
            CHAT,
            br#"{"model":"m","messages":[{"role":"user","content":"x"}],"n":2}"#,
            400,
            "unsupported_parameter",
        ),
        (
            CHAT,
            br#"{"model":"m","messages":[{"role":"user","content":"x"}],"prompt":"y"}"#,
            400,
            "unsupported_parameter",
        ),
        (
            CHAT,
            br#"{"model":"m","messages":[{"role":"user","content":"x"}],"tools":[{}]}"#,
            400,
            "unsupported_parameter",
        ),
        (
            CHAT,
            br#"{"model":"m","messages":[{"role":"user","content":"x"}],"max_tokens":0}"#,
            400,
            "invalid_value",
        ),
        (
            CHAT,
            br#"{"model":"m","messages":[{"role":"user","content":"x"}],"max_tokens":-1}"#,
            400,
            "invalid_value",
        ),
        (
            CHAT,
            br#"{"model":"m","messages":[{"role":"user","content":"x"}],"temperature":"hot"}"#,
            400,
            "invalid_value",
        ),
        (
            CHAT,
            br#"{"model":"m","messages":[{"role":"user","content":"x"}],"temperature":1e300}"#,
            400,
            "invalid_value",
        ),
        (
            CHAT,
            br#"{"model":"m","messages":[{"role":"user","content":"x"}],"stream":"yes"}"#,
            400,
            "invalid_value",
        ),
        (
            CHAT,
            br#"{"model":"m","messages":[{"role":"user","content":"x","weight":0.5}]}"#,
            400,
            "invalid_input",
        ),
        (
            TEXT,
            br#"{"model":"m","prompt":["x","y"]}"#,
            400,
            "invalid_value",
        ),
        (TEXT, br#"{"model":"m","prompt":""}"#, 400, "invalid_prompt"),
    ] {
        let shown = String::from_utf8_lossy(&body[..body.len().min(80)]);
        assert_eq!(
            code(&server, path, body),
            (status, expected.to_owned()),
            "{shown}"
        );
    }
    assert!(server.log().lines().count() >= 20);
}

#[test]
fn bodies_that_are_too_long_or_of_another_kind() {
    let limits = Limits {
        body: 1000,
        ..Limits::default()
    };
    let server = Server::start(Setup {
        limits,
        ..Setup::default()
    });
    let long = json!({"model": "m", "prompt": "x".repeat(2000)}).to_string();
    assert_eq!(
        code(&server, TEXT, long.as_bytes()),
        (413, "body_too_large".to_owned())
    );
    let said = raw(
        &server,
        &format!(
            "POST {CHAT} HTTP/1.1\r\nhost: x\r\ncontent-type: text/plain\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{{}}"
        ),
    );
    assert!(
        said.starts_with("HTTP/1.1 415") && said.contains("content_type"),
        "{said}"
    );
    // Without an end, in pieces.
    let piece = format!("400\r\n{}\r\n", "x".repeat(0x400));
    let said = raw(
        &server,
        &format!(
            "POST {CHAT} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n{piece}{piece}"
        ),
    );
    assert!(said.starts_with("HTTP/1.1 413"), "{said}");
}

/// Sends bytes as they are and reads until the server closes.
fn raw(server: &Server, request: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", server.port())).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut said = Vec::new();
    // A reset after the answer is the server's right.
    let _ = stream.read_to_end(&mut said);
    String::from_utf8_lossy(&said).into_owned()
}

#[test]
fn smuggled_requests_and_headers() {
    let server = Server::start(Setup::default());
    let body = r#"{"model":"m","prompt":"x"}"#;
    let length = body.len();
    let (one, two) = (issued(permission()), issued(permission()));
    let head = format!(
        "POST {TEXT} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/json\r\n"
    );
    // Two permissions: whoever stands before this server may have looked at the other.
    let said = raw(
        &server,
        &format!(
            "{head}oml-permission: {one}\r\nOML-Permission: {two}\r\ncontent-length: {length}\r\n\r\n{body}"
        ),
    );
    assert!(
        said.starts_with("HTTP/1.1 401") && said.contains("expected one, got several"),
        "{said}"
    );
    // Two lengths, a length beside pieces, a header with a fold, one with a space before its colon.
    for bad in [
        format!("content-length: {length}\r\ncontent-length: 3\r\n"),
        format!("content-length: {length}\r\n folded: x\r\n"),
        format!("content-length : {length}\r\n"),
        format!("content-length: +{length}\r\n"),
        "bad\0name: x\r\n".to_owned(),
    ] {
        let said = raw(
            &server,
            &format!("{head}oml-permission: {one}\r\n{bad}\r\n{body}"),
        );
        assert!(
            said.starts_with("HTTP/1.1 400") || said.is_empty(),
            "{bad}: {said}"
        );
    }
    let long = "x".repeat(64 << 10);
    let said = raw(
        &server,
        &format!("{head}x: {long}\r\ncontent-length: {length}\r\n\r\n{body}"),
    );
    assert!(
        said.starts_with("HTTP/1.1 431") || said.is_empty(),
        "{said}"
    );
    // None of these used the permission.
    let answer = post(
        &format!("{}{TEXT}", server.url),
        Some(&one),
        body.as_bytes(),
    );
    assert_eq!(answer.status, 200, "{}", answer.body);
}

#[test]
fn slow_clients_are_let_go() {
    let limits = Limits {
        patience: Duration::from_millis(500),
        calls: 1,
        ..Limits::default()
    };
    let server = Server::start(Setup {
        limits,
        ..Setup::default()
    });
    let started = Instant::now();
    let said = raw(&server, "POST /v1/completions HTTP/1.1\r\nhost: x\r\n");
    assert!(
        said.is_empty() || said.starts_with("HTTP/1.1 408"),
        "{said}"
    );
    let said = raw(
        &server,
        &format!(
            "POST {TEXT} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{{"
        ),
    );
    assert!(
        said.starts_with("HTTP/1.1 408") && said.contains("slow_body"),
        "{said}"
    );
    // Not a word, or the beginning of another protocol.
    for said in ["", "PRI * HT", "PRI * HTTP/2.0\r\n\r\nSM"] {
        let answered = raw(&server, said);
        assert!(
            answered.is_empty() || answered.starts_with("HTTP/1.1 4"),
            "{answered}"
        );
    }
    assert!(started.elapsed() < Duration::from_secs(15));
    // The places they held are free again.
    let body = json!({"model": "m", "prompt": "x"});
    assert_eq!(
        server.ask(Some(&issued(permission())), TEXT, &body).status,
        200
    );
}

#[test]
fn who_leaves_in_the_middle_holds_nothing() {
    let limits = Limits {
        calls: 1,
        ..Limits::default()
    };
    let server = Server::start(Setup {
        limits,
        ..Setup::default()
    });
    let body = json!({"model": "m", "prompt": "wait ".repeat(20), "stream": true}).to_string();
    let mut stream = TcpStream::connect(("127.0.0.1", server.port())).unwrap();
    let token = issued(permission());
    let request = format!(
        "POST {TEXT} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\noml-permission: {token}\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut some = [0; 100];
    assert!(stream.read(&mut some).unwrap() > 0);
    drop(stream);
    let deadline = Instant::now() + Duration::from_secs(10);
    let body = json!({"model": "m", "prompt": "x"});
    loop {
        let answer = server.ask(Some(&issued(permission())), TEXT, &body);
        if answer.status == 200 {
            break;
        }
        assert!(Instant::now() < deadline, "{}", answer.body);
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn stopping_lets_answers_end() {
    let server = Server::start(Setup::default());
    let body = json!({"model": "m", "prompt": "wait wait wait"});
    let url = server.url.clone();
    let asked = std::thread::spawn(move || {
        post(
            &format!("{url}{TEXT}"),
            Some(&issued(permission())),
            body.to_string().as_bytes(),
        )
    });
    std::thread::sleep(Duration::from_millis(500));
    drop(server);
    let answer = asked.join().unwrap();
    assert_eq!(answer.status, 200);
    assert!(answer.header("oml-receipt").is_some());
}
