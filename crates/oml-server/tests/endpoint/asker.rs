//! An audit's questions: what leaves, what is logged, and every way an answer can be bad.

use std::io::{BufReader, Write as _};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use oml_server::endpoint::{
    Api, ApiKey, Asker, Attempt, EndpointError, EndpointOptions, Header, Question, Reply,
    read_prompt, read_reply,
};
use serde_json::json;

use crate::server::{Server, http, read_request, said};

pub(crate) const QUESTION: Question<'_> = Question {
    system: None,
    text: "Who is there?",
    answer: "",
    max_tokens: 4,
    log_probabilities: false,
    seed: 1,
};

/// What came of one question, and every try.
pub(crate) fn ask(
    options: EndpointOptions,
    api: Api,
) -> (Result<Reply, EndpointError>, Vec<Attempt>) {
    let asker = Asker::new(options, api).unwrap();
    let request = asker.request(&QUESTION).unwrap();
    let mut tries = Vec::new();
    let turn = asker.turn();
    let reply = turn.and_then(|()| asker.send(&request, &mut |try_| tries.push(try_.clone())));
    (reply, tries)
}

/// What is said about a server that always answers a chat with these bytes; it is asked once.
fn refused(answer: Vec<u8>) -> (String, Attempt) {
    let server = Server::saying(move |_, _| answer.clone());
    let (reply, tries) = ask(server.options("/v1"), Api::Chat);
    let error = reply.unwrap_err().to_string();
    assert_eq!(tries.len(), 1, "sent once: {error}");
    (error, tries.into_iter().next().unwrap())
}

#[test]
fn what_was_logged_is_what_arrived_and_reads_as_it_did() {
    let answers = [
        (
            Api::Chat,
            "/v1/chat/completions",
            r#"{"model":"other","choices":[{"message":{"content":" me"},"finish_reason":"stop"}]}"#,
        ),
        (
            Api::Completions,
            "/v1/completions",
            r#"{"model":"other","choices":[{"text":" me","finish_reason":"stop"}]}"#,
        ),
        (
            Api::OllamaChat,
            "/api/chat",
            r#"{"model":"other","message":{"role":"assistant","content":" me"},"done":true,"done_reason":"stop"}"#,
        ),
        (
            Api::OllamaGenerate,
            "/api/generate",
            r#"{"model":"other","response":" me","done":true,"done_reason":"stop"}"#,
        ),
    ];
    for (api, path, answer) in answers {
        let server = Server::saying(|_, _| http("200 OK", "", answer.as_bytes()));
        let asker = Asker::new(server.options(""), api).unwrap();
        assert_eq!(asker.url(), format!("http://{}{path}", server.address));
        let request = asker.request(&QUESTION).unwrap();
        let mut tries = Vec::new();
        let reply = asker
            .send(&request, &mut |attempt| tries.push(attempt.clone()))
            .unwrap();
        // The endpoint is asked for one model and names another: that is told, not judged.
        assert_eq!(reply.model.as_deref(), Some("other"));
        assert_eq!(reply.text, " me");
        let arrived = &server.arrived()[0];
        assert_eq!((arrived.path.as_str(), &arrived.bytes), (path, &request));
        assert_eq!(arrived.headers["accept-encoding"], "identity");
        let prompt = read_prompt(api, &arrived.bytes).unwrap();
        assert_eq!(
            (prompt.model.as_str(), prompt.question()),
            ("writer", QUESTION)
        );
        let [attempt] = tries.as_slice() else {
            panic!("{tries:?}");
        };
        assert_eq!(attempt.status, Some(200));
        assert_eq!(attempt.body, answer.as_bytes());
        assert!(!attempt.cut && !attempt.hidden && attempt.fault.is_none());
        assert!(attempt.elapsed > Duration::ZERO);
        assert_eq!(read_reply(api, &attempt.body).unwrap(), reply);
    }
}

#[test]
fn every_try_is_logged_until_one_counts() {
    let server = Server::saying(|number, _| match number {
        0 => http("503 Service Unavailable", "", b"loading"),
        1 => http(
            "429 Too Many Requests",
            "",
            br#"{"error":{"message":"slower"}}"#,
        ),
        // Closed without an answer, in the middle of one that tells its length, and of one that does not.
        2 => Vec::new(),
        3 => b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n{\"choices\":[".to_vec(),
        4 => b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{\"choices\":[".to_vec(),
        // Something else than HTTP, and chunks that are none.
        5 => b"SSH-2.0-OpenSSH_9.2\r\n".to_vec(),
        6 => b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n".to_vec(),
        7 => http("529 Overloaded", "", b"busy"),
        _ => said(&json!("me")),
    });
    let mut options = server.options("/v1");
    options.attempts = 20;
    let (reply, tries) = ask(options, Api::Chat);
    assert_eq!(reply.unwrap().text, "me");
    let statuses: Vec<_> = tries.iter().map(|attempt| attempt.status).collect();
    let expected = [
        Some(503),
        Some(429),
        None,
        Some(200),
        Some(200),
        None,
        Some(200),
        Some(529),
        Some(200),
    ];
    assert_eq!(statuses, expected);
    let bodies: Vec<_> = tries
        .iter()
        .map(|attempt| String::from_utf8_lossy(&attempt.body))
        .collect();
    assert_eq!(bodies[0], "loading");
    assert_eq!(bodies[1], r#"{"error":{"message":"slower"}}"#);
    assert_eq!(bodies[3..5], ["{\"choices\":["; 2]);
    let cut: Vec<_> = tries.iter().map(|attempt| attempt.cut).collect();
    let broken: Vec<_> = tries
        .iter()
        .map(|attempt| attempt.fault.is_some())
        .collect();
    let expect = |places: &[usize]| (0..9).map(|i| places.contains(&i)).collect::<Vec<_>>();
    assert_eq!(cut, expect(&[3, 6]));
    assert_eq!(broken, expect(&[2, 3, 5, 6]));
    // The same bytes each time.
    assert!(
        server
            .arrived()
            .windows(2)
            .all(|two| two[0].bytes == two[1].bytes)
    );
}

#[test]
fn tries_end() {
    let server = Server::saying(|_, _| http("429 Too Many Requests", "", b"no"));
    let mut options = server.options("/v1");
    options.attempts = 3;
    let (reply, tries) = ask(options, Api::Chat);
    assert_eq!(
        reply.unwrap_err().to_string(),
        "endpoint: expected status 200, got 429: no"
    );
    assert_eq!((tries.len(), server.arrived().len()), (3, 3));
}

#[test]
fn a_wait_that_the_endpoint_names_is_kept_up_to_the_longest() {
    for headers in [
        "retry-after: 3600\r\n",
        "date: Sun, 06 Nov 1994 08:49:37 GMT\r\nretry-after: Sun, 06 Nov 1994 09:49:37 GMT\r\n",
    ] {
        let server = Server::saying(move |number, _| match number {
            0 => http("429 Too Many Requests", headers, b"{}"),
            _ => said(&json!("me")),
        });
        let mut options = server.options("/v1");
        options.longest_wait = Duration::from_millis(300);
        let (reply, _) = ask(options, Api::Chat);
        assert_eq!(reply.unwrap().text, "me");
        let arrived = server.arrived();
        let waited = arrived[1].at - arrived[0].at;
        // The back-off itself is a millisecond.
        assert!(waited >= Duration::from_millis(300), "{waited:?}");
    }
}

#[test]
fn the_wish_to_stop_ends_a_long_wait_and_nothing_is_sent_after() {
    let server =
        Server::saying(|_, _| http("429 Too Many Requests", "retry-after: 3600\r\n", b"{}"));
    let stop = Arc::new(AtomicBool::new(false));
    let mut options = server.options("/v1");
    options.longest_wait = Duration::from_secs(3600);
    options.stop = Arc::clone(&stop);
    let asking = thread::spawn(move || ask(options, Api::Chat));
    while server.arrived().is_empty() {
        thread::sleep(Duration::from_millis(5));
    }
    thread::sleep(Duration::from_millis(50));
    stop.store(true, Ordering::SeqCst);
    let (reply, tries) = asking.join().unwrap();
    assert!(matches!(reply, Err(EndpointError::Stopped)), "{reply:?}");
    assert_eq!((tries.len(), server.arrived().len()), (1, 1));

    let mut options = server.options("/v1");
    options.stop = stop;
    let (reply, tries) = ask(options, Api::Chat);
    assert!(matches!(reply, Err(EndpointError::Stopped)));
    assert_eq!((tries.len(), server.arrived().len()), (0, 1));
}

#[test]
fn a_request_whose_turn_came_before_the_wish_to_stop_leaves() {
    let server = Server::saying(|_, _| said(&json!("me")));
    let mut options = server.options("/v1");
    let stop = Arc::new(AtomicBool::new(false));
    options.stop = Arc::clone(&stop);
    let asker = Asker::new(options, Api::Chat).unwrap();
    let request = asker.request(&QUESTION).unwrap();
    asker.turn().unwrap();
    stop.store(true, Ordering::SeqCst);
    assert_eq!(asker.send(&request, &mut |_| {}).unwrap().text, "me");
    assert!(matches!(asker.turn(), Err(EndpointError::Stopped)));
}

#[test]
fn bad_answers_are_refused_by_name_and_kept_as_they_are() {
    let json = "endpoint: expected JSON of the OpenAI API: ";
    let table: [(&[u8], String); 9] = [
        (b"", format!("{json}got nothing")),
        (b"<html><body>Sign in</body></html>", format!("{json}got HTML")),
        (
            b"data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\ndata: [DONE]\n\n",
            format!("{json}got a stream of events"),
        ),
        (
            b"{\"choices\":[{\"message\":{\"content\":\"\xff\"}}]}",
            format!("{json}got bytes that are no UTF-8"),
        ),
        (
            b"{\"choices\":[{\"message\":{\"content\":\"\\ud800\"}}]}",
            format!("{json}unexpected end of hex escape"),
        ),
        (
            b"{\"choices\":[]}",
            "endpoint: choices: expected at least one, got none".to_owned(),
        ),
        (
            b"{\"choices\":[{\"message\":{\"content\":null}}]}",
            "endpoint: text: expected one, got none".to_owned(),
        ),
        (
            b"{\"error\":{\"message\":\"overloaded\"}}",
            "endpoint: expected an answer, got an error with status 200: overloaded".to_owned(),
        ),
        (
            b"{\"choices\":[{\"message\":{\"content\":\"a\"},\"logprobs\":{\"content\":[{\"token\":\"a\",\"logprob\":3}]}}]}",
            "endpoint: log probability: expected at most 0, got 3".to_owned(),
        ),
    ];
    for (body, expected) in table {
        let (error, attempt) = refused(http("200 OK", "", body));
        assert!(error.starts_with(&expected), "{error}");
        assert_eq!(attempt.body, body);
        assert_eq!(
            read_reply(Api::Chat, &attempt.body)
                .unwrap_err()
                .to_string(),
            error
        );
    }
}

#[test]
fn only_status_200_is_an_answer() {
    let good = br#"{"choices":[{"message":{"content":"me"}}]}"#;
    for (status, body) in [
        ("204 No Content", &b""[..]),
        ("202 Accepted", good),
        ("400 Bad Request", good),
        ("404 Not Found", good),
        ("418 I'm a teapot", good),
    ] {
        let (error, attempt) = refused(http(status, "", body));
        let code = &status[..3];
        assert!(
            error.starts_with(&format!("endpoint: expected status 200, got {code}: ")),
            "{error}"
        );
        assert_eq!(attempt.status, Some(code.parse().unwrap()));
    }
    let (error, _) = refused(http(
        "422 Unprocessable Entity",
        "content-type: application/json\r\n",
        br#"{"detail":"Unexpected fields: logprobs"}"#,
    ));
    assert_eq!(
        error,
        "endpoint: expected status 200, got 422: Unexpected fields: logprobs"
    );
}

#[test]
fn the_bytes_decide_and_not_the_content_type() {
    for kind in ["text/plain", "text/html", "application/octet-stream", "?"] {
        let server = Server::saying(move |_, _| {
            let header = format!("content-type: {kind}\r\n");
            http(
                "200 OK",
                &header,
                br#"{"choices":[{"message":{"content":[{"type":"text","text":"m"},{"type":"text","text":"e"}]}}]}"#,
            )
        });
        let (reply, _) = ask(server.options("/v1"), Api::Chat);
        assert_eq!(reply.unwrap().text, "me");
    }
    let header = "content-type: application/json\r\n";
    let (error, _) = refused(http("200 OK", header, b"<html>"));
    assert!(error.ends_with("got HTML"), "{error}");
}

#[test]
fn redirects_are_not_followed() {
    let other = Server::saying(|_, _| said(&json!("me")));
    for status in [300, 301, 302, 303, 307, 308] {
        let location = format!("location: http://{}/v1\r\n", other.address);
        let (error, attempt) = refused(http(&format!("{status} Elsewhere"), &location, b""));
        assert_eq!(
            error,
            format!(
                "endpoint: expected status 200, got the redirect {status}, which is not followed"
            )
        );
        assert_eq!(attempt.status, Some(status));
    }
    assert!(other.arrived().is_empty());
}

#[test]
fn a_huge_answer_is_read_to_the_cap_alone() {
    let sent = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&sent);
    let server = Server::start(Box::new(move |_, _, stream| {
        let length = 100 << 20;
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        let piece = [b' '; 1 << 16];
        for _ in 0..length / piece.len() {
            if stream.write_all(&piece).is_err() {
                return;
            }
            count.fetch_add(piece.len(), Ordering::SeqCst);
        }
    }));
    let (reply, tries) = ask(server.options("/v1"), Api::Chat);
    assert_eq!(
        reply.unwrap_err().to_string(),
        "endpoint: expected an answer of at most 1048576 bytes, got more"
    );
    assert_eq!(tries.len(), 1);
    assert_eq!((tries[0].body.len(), tries[0].cut), (1 << 20, true));
    // The rest waits in the buffers of two sockets, or never left.
    thread::sleep(Duration::from_millis(200));
    let sent = sent.load(Ordering::SeqCst);
    assert!(sent < 50 << 20, "{sent}");
}

#[test]
fn endless_headers_are_refused() {
    let server = Server::start(Box::new(|_, _, stream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n");
        while stream
            .write_all(b"x: yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy\r\n")
            .is_ok()
        {}
    }));
    let (reply, tries) = ask(server.options("/v1"), Api::Chat);
    let error = reply.unwrap_err();
    assert!(matches!(error, EndpointError::Transport(_)), "{error}");
    assert!(tries[0].fault.is_some() && tries[0].body.is_empty());
}

#[test]
fn a_trickle_ends_with_the_time() {
    let server = Server::start(Box::new(|_, _, stream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n");
        while stream.write_all(b" ").is_ok() {
            thread::sleep(Duration::from_millis(20));
        }
    }));
    let mut options = server.options("/v1");
    (options.timeout, options.attempts) = (Duration::from_millis(400), 1);
    let started = Instant::now();
    let (reply, tries) = ask(options, Api::Chat);
    assert!(started.elapsed() < Duration::from_secs(20));
    assert_eq!(reply.unwrap_err().to_string(), "endpoint: timeout: global");
    let attempt = &tries[0];
    assert_eq!((attempt.status, attempt.cut), (Some(200), true));
    assert_eq!(attempt.fault.as_deref(), Some("timeout: global"));
    assert!((1..1000).contains(&attempt.body.len()));
}

#[test]
fn a_server_that_is_not_there_is_a_fault() {
    // A port that was free a moment ago.
    let address = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let mut options = EndpointOptions::new(&format!("http://{address}"), "m");
    (options.attempts, options.backoff) = (2, Duration::from_millis(1));
    let (reply, tries) = ask(options, Api::Chat);
    let error = reply.unwrap_err().to_string();
    assert!(error.contains("refused"), "{error}");
    assert_eq!(tries.len(), 2);
    assert_eq!(
        format!("endpoint: {}", tries[1].fault.as_deref().unwrap()),
        error
    );
}

#[test]
fn an_echo_is_told_unchanged() {
    let server = Server::saying(|_, _| {
        http(
            "200 OK",
            "",
            br#"{"choices":[{"text":"Who is there? Me."}]}"#,
        )
    });
    let (reply, _) = ask(server.options("/v1"), Api::Completions);
    let reply = reply.unwrap();
    assert_eq!(reply.text, "Who is there? Me.");
    assert_eq!(reply.without_echo(QUESTION.text), " Me.");
}

#[test]
fn headers_are_sent_and_nothing_secret_is_kept() {
    let server = Server::saying(|number, request| {
        let key = &request.headers["authorization"]["Bearer ".len()..];
        let words = format!("{key}, {}", request.headers["x-team"]);
        match number {
            0 => http("500 Oops", "", words.as_bytes()),
            _ => said(&json!(words)),
        }
    });
    let mut options = server.options("/v1");
    options.key = Some(ApiKey::new("sk-0123456789abcdef").unwrap());
    options.headers = vec![
        Header::new("X-Team", "swordfish-and-chips").unwrap(),
        Header::new("User-Agent", "somebody/1").unwrap(),
    ];
    let (reply, tries) = ask(options, Api::Chat);
    let arrived = &server.arrived()[0];
    assert_eq!(
        arrived.headers["authorization"],
        "Bearer sk-0123456789abcdef"
    );
    assert_eq!(arrived.headers["x-team"], "swordfish-and-chips");
    assert_eq!(arrived.headers["user-agent"], "somebody/1");
    assert_eq!(reply.unwrap().text, "…, …");
    for attempt in &tries {
        let body = String::from_utf8_lossy(&attempt.body);
        assert!(attempt.hidden && body.contains("…, …"), "{body}");
    }
    assert_eq!(tries.len(), 2);
}

#[test]
fn all_threads_share_the_rate() {
    let server = Server::saying(|_, _| said(&json!("me")));
    let mut options = server.options("/v1");
    // One every 20 ms.
    options.per_minute = std::num::NonZeroU32::new(3000);
    let asker = Asker::new(options, Api::Chat).unwrap();
    let request = asker.request(&QUESTION).unwrap();
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                for _ in 0..3 {
                    asker.turn().unwrap();
                    asker.send(&request, &mut |_| {}).unwrap();
                }
            });
        }
    });
    let mut times: Vec<_> = server.arrived().iter().map(|request| request.at).collect();
    times.sort();
    assert!(times[8] - times[0] >= Duration::from_millis(140));
}

#[test]
fn a_connection_serves_many_questions() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let connections = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&connections);
    thread::spawn(move || {
        for stream in listener.incoming() {
            count.fetch_add(1, Ordering::SeqCst);
            let mut stream = stream.unwrap();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            while read_request(&mut reader).is_some() {
                let body = br#"{"choices":[{"text":"me"}]}"#;
                let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
                stream.write_all(&[head.as_bytes(), body].concat()).unwrap();
            }
        }
    });
    let options = EndpointOptions::new(&format!("http://{address}"), "m");
    let asker = Asker::new(options, Api::Completions).unwrap();
    let request = asker.request(&QUESTION).unwrap();
    for _ in 0..20 {
        asker.send(&request, &mut |_| {}).unwrap();
    }
    assert_eq!(connections.load(Ordering::SeqCst), 1);
}
