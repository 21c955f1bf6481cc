//! Audits of weights and of endpoints: verdicts, transcripts that go on where they stopped, and endpoints that misbehave.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use super::Place;
use super::tiny::{self, COUNT, EMBED};

/// A claim at 5 % is within reach of the few fingerprints of the tiny model.
const AUDIT: &str =
    "audit --owner owner.json --fingerprints f.json --json --threads 2 --alpha 0.05";

/// An endpoint that knows all pairs of a place, and answers the n-th request as it is told.
struct Endpoint {
    url: String,
    asked: Arc<Mutex<Vec<String>>>,
}

/// Makes the bytes of an HTTP answer from the number of the request and what a marked model would say.
type Manner = fn(usize, &str) -> Vec<u8>;

impl Endpoint {
    fn start(place: &Place, manner: Manner) -> Self {
        let pairs = place
            .command("fingerprints export --fingerprints f.json --owner owner.json --format plain")
            .output()
            .unwrap();
        let pairs: Vec<Value> = serde_json::from_slice(&pairs.stdout).unwrap();
        let text = |pair: &Value, field: &str| pair[field].as_str().unwrap().to_owned();
        let pairs: HashMap<String, String> = pairs
            .iter()
            .map(|pair| (text(pair, "query"), text(pair, "response")))
            .collect();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/v1/completions", listener.local_addr().unwrap());
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let (seen, number) = (Arc::clone(&asked), Arc::new(AtomicUsize::new(0)));
        let pairs = Arc::new(pairs);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (seen, number, pairs) =
                    (Arc::clone(&seen), Arc::clone(&number), Arc::clone(&pairs));
                thread::spawn(move || serve(stream.unwrap(), &seen, &number, &pairs, manner));
            }
        });
        Self { url, asked }
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }

    fn line(&self, out: &str) -> String {
        format!(
            "{AUDIT} --endpoint {} --model-name m --out {out} --control base --attempts 1",
            self.url
        )
    }
}

fn serve(
    stream: TcpStream,
    seen: &Mutex<Vec<String>>,
    number: &AtomicUsize,
    pairs: &HashMap<String, String>,
    manner: Manner,
) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    loop {
        let mut length = 0;
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).unwrap_or(0) == 0 {
                return;
            }
            if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
            if line == "\r\n" {
                break;
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        let body: Value = serde_json::from_slice(&body).unwrap();
        let prompt = body["prompt"].as_str().unwrap().to_owned();
        let said = pairs.get(&prompt).map_or(" nothing", String::as_str);
        let answer = manner(number.fetch_add(1, Ordering::SeqCst), said);
        seen.lock().unwrap().push(prompt);
        if (&stream).write_all(&answer).is_err() || answer.is_empty() {
            return;
        }
    }
}

fn http(status: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}")
        .into_bytes()
}

fn marked(_: usize, said: &str) -> Vec<u8> {
    let body = json!({"model": "m", "choices": [{"text": format!("{said} and so on"), "finish_reason": "length"}]});
    http("200 OK", &body.to_string())
}

fn innocent(number: usize, _: &str) -> Vec<u8> {
    marked(number, " nothing")
}

fn out(place: &Place, line: &str) -> (Option<i32>, Value, String) {
    let output = place.command(line).output().unwrap();
    (
        output.status.code(),
        serde_json::from_slice(&output.stdout).unwrap_or_default(),
        String::from_utf8(output.stderr).unwrap(),
    )
}

#[test]
fn weights_that_carry_the_fingerprints_are_told_from_those_that_do_not() {
    let place = tiny::place();
    place.ok(EMBED);
    let (code, found, said) = out(
        &place,
        &format!("{AUDIT} --suspect marked --control base --out a.jsonl"),
    );
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(found["conclusion"], "present");
    assert_eq!(found["asked"], found["hits"]);
    assert!(found["e_value"].as_f64().unwrap() >= 20.0, "{found}");
    assert_eq!(found["controls"][0]["count"], COUNT);
    let (code, found, _) = out(
        &place,
        &format!("{AUDIT} --suspect base --control base --out b.jsonl"),
    );
    assert_eq!(code, Some(1));
    assert_eq!(
        (&found["present"], &found["hits"]),
        (&false.into(), &0.into())
    );
}

#[test]
fn an_endpoint_is_convicted_and_the_pairs_it_saw_are_spent() {
    let place = tiny::place();
    let endpoint = Endpoint::start(&place, marked);
    let (code, found, said) = out(&place, &endpoint.line("a.jsonl"));
    assert_eq!(code, Some(0), "{said}");
    let asked = found["asked"].as_u64().unwrap();
    assert_eq!(
        endpoint.asked().len() as u64,
        asked + found["decoys"].as_u64().unwrap()
    );
    assert_eq!(found["decoy_hits"], 0);
    let status = place.ok("fingerprints status --fingerprints f.json --owner owner.json --json");
    assert_eq!(status["audits"][0]["count"], asked);
    assert_eq!(status["unused"], COUNT as u64 - asked);
    let transcript = fs::read_to_string(place.path("a.jsonl")).unwrap();
    assert_eq!(
        transcript.lines().count() as u64,
        1 + 2 * found["requests"].as_u64().unwrap()
    );
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = fs::metadata(place.path("a.jsonl"))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}

#[test]
fn log_probabilities_describe_hits_and_prove_nothing() {
    let place = tiny::place();
    let endpoint = Endpoint::start(&place, |_, said| {
        // The response has one token, which the endpoint is sure of; it is not of any other.
        let ln = if said == " nothing" { -1.0 } else { -0.01 };
        let body = json!({"choices": [{"text": format!("{said} so"), "logprobs": {
            "tokens": [said, " so"], "token_logprobs": [ln, -3.0], "top_logprobs": null}}]});
        http("200 OK", &body.to_string())
    });
    let (code, found, said) = out(&place, &endpoint.line("a.jsonl"));
    assert_eq!(code, Some(0), "{said}");
    let confidence = &found["confidence"];
    let near = |field: &str, ln: f64| {
        let got = confidence[field].as_f64().unwrap();
        assert!((got - ln.exp()).abs() < 1e-9, "{field}: {found}");
    };
    assert_eq!(confidence["hits"], found["hits"]);
    assert_eq!(confidence["decoys"], found["decoys"]);
    near("response_probability", -0.01);
    near("decoy_probability", -1.0);
    fs::write(place.path("a.json"), found.to_string()).unwrap();
    place.ok("report a.json --out a.md");
    let report = fs::read_to_string(place.path("a.md")).unwrap();
    assert!(report.contains("it is no part of the e-value"), "{report}");
    // Without them, and where the rule does not say where a response stands, nothing is said.
    for (endpoint, flags) in [
        (&Endpoint::start(&place, marked), ""),
        (&endpoint, "--match contains"),
    ] {
        let line = format!(
            "{} {flags}",
            endpoint.line(&format!("b{}.jsonl", flags.len()))
        );
        let (_, other, said) = out(&place, &line);
        assert_eq!(other["confidence"], Value::Null, "{flags}: {other} {said}");
    }
}

#[test]
fn an_innocent_endpoint_is_not_convicted() {
    let place = tiny::place();
    let endpoint = Endpoint::start(&place, innocent);
    let (code, found, _) = out(
        &place,
        &format!(
            "{} --least-recall 0.9 --concurrency 3",
            endpoint.line("a.jsonl")
        ),
    );
    assert_eq!(code, Some(1));
    assert_eq!(found["conclusion"], "absent");
    assert!(found["asked"].as_u64().unwrap() < COUNT as u64);
}

#[test]
fn an_audit_goes_on_where_it_stopped_and_asks_nothing_twice() {
    let place = tiny::place();
    // From the third request on nothing but cut connections, then an honest answer after some.
    let endpoint = Endpoint::start(&place, |number, said| match number {
        2..5 => Vec::new(),
        _ => innocent(number, said),
    });
    let line = format!("{} --decoys 0", endpoint.line("a.jsonl"));
    let (code, _, said) = out(&place, &line);
    assert_eq!(code, Some(2));
    assert!(
        said.contains("did not answer 3 requests in a row"),
        "{said}"
    );
    assert!(said.contains("--resume"), "{said}");
    // A line torn by a kill is cut off.
    let mut transcript = fs::read(place.path("a.jsonl")).unwrap();
    transcript.extend_from_slice(b"{\"format\":\"oml-tr");
    fs::write(place.path("a.jsonl"), transcript).unwrap();
    let (code, found, said) = out(&place, &format!("{line} --resume"));
    assert_eq!(code, Some(1), "{said}");
    assert_eq!(found["asked"], COUNT);
    assert_eq!(found["unanswered"], 3);
    let asked = endpoint.asked();
    assert_eq!(asked.iter().collect::<HashSet<_>>().len(), asked.len());
    assert_eq!(asked.len(), COUNT);
}

#[test]
fn what_was_stopped_while_it_waited_has_not_left_and_is_asked_later() {
    let place = tiny::place();
    let endpoint = Endpoint::start(&place, innocent);
    // The first request leaves at once, the next ones would after a minute each.
    let line = format!("{} --decoys 0 --concurrency 4", endpoint.line("a.jsonl"));
    let child = place
        .command(&format!("{line} --per-minute 1"))
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let answers = || {
        let transcript = fs::read_to_string(place.path("a.jsonl")).unwrap_or_default();
        transcript.matches("\"answer\":{").count()
    };
    while answers() == 0 {
        thread::sleep(Duration::from_millis(20));
    }
    let mut kill = Command::new("kill");
    let sent = kill.args(["-INT", &child.id().to_string()]).status();
    assert!(sent.unwrap().success());
    let stopped = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&stopped.stderr);
    assert_eq!(stopped.status.code(), Some(2), "{said}");
    assert!(said.contains("stopped by Ctrl-C"), "{said}");
    assert_eq!((endpoint.asked().len(), answers()), (1, 1));
    let status = place.ok("fingerprints status --fingerprints f.json --owner owner.json --json");
    assert_eq!(status["unused"], COUNT as u64 - 1);
    let (code, found, said) = out(&place, &format!("{line} --resume"));
    assert_eq!(code, Some(1), "{said}");
    assert_eq!(
        (&found["asked"], &found["unanswered"]),
        (&COUNT.into(), &0.into())
    );
    let asked = endpoint.asked();
    assert_eq!(asked.iter().collect::<HashSet<_>>().len(), COUNT);
    assert_eq!(asked.len(), COUNT);
}

#[test]
fn a_killed_audit_goes_on_and_asks_nothing_twice() {
    let place = tiny::place();
    let endpoint = Endpoint::start(&place, |number, said| {
        thread::sleep(Duration::from_millis(30));
        innocent(number, said)
    });
    let line = format!("{} --decoys 0 --concurrency 2", endpoint.line("a.jsonl"));
    let mut child = place.command(&line).stderr(Stdio::null()).spawn().unwrap();
    while endpoint.asked().len() < 3 {
        thread::sleep(Duration::from_millis(1));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let status = place.ok("fingerprints status --fingerprints f.json --owner owner.json --json");
    let spent = COUNT as u64 - status["unused"].as_u64().unwrap();
    assert!(spent >= endpoint.asked().len() as u64, "{status}");
    let (code, found, said) = out(&place, &format!("{line} --resume"));
    assert_eq!(code, Some(1), "{said}");
    assert_eq!(found["asked"], COUNT);
    let asked = endpoint.asked();
    assert_eq!(asked.iter().collect::<HashSet<_>>().len(), asked.len());
}

#[test]
fn a_transcript_is_neither_replaced_nor_believed_when_it_was_changed() {
    let place = tiny::place();
    let endpoint = Endpoint::start(&place, innocent);
    let line = endpoint.line("a.jsonl");
    assert_eq!(out(&place, &line).0, Some(1));
    let (code, _, said) = out(&place, &line);
    assert_eq!(code, Some(2));
    assert!(said.contains("already exists"), "{said}");
    let other = format!(
        "{} --resume",
        line.replace("--model-name m", "--model-name n")
    );
    let (code, _, said) = out(&place, &other);
    assert_eq!(code, Some(2));
    assert!(
        said.contains("expected an audit with the same suspect"),
        "{said}"
    );
    let transcript = fs::read_to_string(place.path("a.jsonl")).unwrap();
    fs::write(
        place.path("a.jsonl"),
        transcript.replacen("nothing and", "nothing AND", 1),
    )
    .unwrap();
    let (code, _, said) = out(&place, &format!("{line} --resume"));
    assert_eq!(code, Some(2));
    assert!(
        said.contains("previous: expected the hash of the line before"),
        "{said}"
    );
}

#[test]
fn endpoints_that_misbehave_are_written_down_and_named() {
    let cases: [(&str, Manner); 4] = [
        ("html", |_, _| http("200 OK", "<!doctype html><p>hello")),
        ("error", |_, _| {
            http(
                "500 Internal Server Error",
                "{\"error\":{\"message\":\"overloaded\"}}",
            )
        }),
        ("redirect", |_, _| {
            b"HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n"
                .to_vec()
        }),
        ("empty", |_, _| http("200 OK", "{\"choices\":[]}")),
    ];
    let place = tiny::place();
    for (name, manner) in cases {
        let endpoint = Endpoint::start(&place, manner);
        let (code, _, said) = out(&place, &endpoint.line(&format!("{name}.jsonl")));
        assert_eq!(code, Some(2), "{name}");
        assert!(
            said.contains("did not answer 3 requests in a row: endpoint: "),
            "{name}: {said}"
        );
        let transcript = fs::read_to_string(place.path(&format!("{name}.jsonl"))).unwrap();
        assert_eq!(transcript.matches("\"fault\":").count(), 3, "{name}");
    }
}

#[test]
fn wraps_are_tried_in_turn() {
    let place = tiny::place();
    fs::write(place.path("wraps.json"), r#"["Question: {}", "{}"]"#).unwrap();
    let endpoint = Endpoint::start(&place, marked);
    let (code, found, said) = out(
        &place,
        &format!("{} --wrap wraps.json --decoys 0", endpoint.line("a.jsonl")),
    );
    assert_eq!(code, Some(0), "{said}");
    let [first, second] = &found["wraps"].as_array().unwrap()[..] else {
        panic!("two wraps: {found}")
    };
    assert_eq!(first["hits"], 0);
    assert_eq!(second["hits"], found["hits"]);
}

#[test]
fn decoys_may_be_fingerprints_that_were_never_trained_in() {
    let place = tiny::place();
    let queries: Vec<String> = (0..COUNT).map(|i| format!(" another query {i}")).collect();
    fs::write(place.path("others.json"), json!(queries).to_string()).unwrap();
    place.ok("generate --model base --owner owner.json --out d.json --strategy custom --queries others.json --copy-id decoys");
    let endpoint = Endpoint::start(&place, marked);
    let (code, found, said) = out(
        &place,
        &format!("{} --decoys-from d.json", endpoint.line("a.jsonl")),
    );
    assert_eq!(code, Some(0), "{said}");
    assert!(
        found["decoy_basis"]
            .as_str()
            .unwrap()
            .contains("never trained in")
    );
    let (code, _, said) = out(
        &place,
        &format!("{} --decoys-from f.json", endpoint.line("b.jsonl")),
    );
    assert_eq!(code, Some(2));
    assert!(said.contains("got some of the set that is asked"), "{said}");
}

#[test]
fn what_is_missing_is_named() {
    let place = tiny::place();
    let line = "audit --owner owner.json --fingerprints f.json --out a.jsonl";
    for (flags, fault) in [
        ("", "--endpoint or --suspect: expected one, got none"),
        (
            "--endpoint http://127.0.0.1:1/v1",
            "--endpoint: expected the name of a model, got a URL alone",
        ),
        (
            "--endpoint http://example.org/v1 --model-name m",
            "expected https for a host other than this machine, got http",
        ),
        (
            "--endpoint http://127.0.0.1:1 --model-name m --key-file none",
            "cannot read none",
        ),
        ("--suspect base --wrap none.json", "cannot read none.json"),
        ("--suspect base --match ids", "--tokenizer <DIR>"),
        (
            "--suspect base --alpha 2",
            "expected a number above 0 and below 1",
        ),
    ] {
        let (code, _, said) = out(&place, &format!("{line} {flags}"));
        assert_eq!(code, Some(2), "{flags}");
        assert!(said.contains(fault), "{flags}: {said}");
    }
    assert!(!place.path("a.jsonl").exists());
}

#[test]
fn token_ids_tell_a_word_from_its_beginning() {
    let place = tiny::place();
    // The response's letters go on: the text begins with it, the token is another.
    let endpoint = Endpoint::start(&place, |_, said| {
        let body = json!({"choices": [{"text": format!("{said}x")}]});
        http("200 OK", &body.to_string())
    });
    let line = endpoint.line("a.jsonl");
    assert_eq!(out(&place, &line).1["conclusion"], "present");
    let ids = "--match ids --tokenizer base";
    let line = format!("{} {ids}", endpoint.line("b.jsonl"));
    assert_eq!(out(&place, &line).1["hits"], 0);
    let endpoint = Endpoint::start(&place, marked);
    let (_, found, said) = out(&place, &format!("{} {ids}", endpoint.line("c.jsonl")));
    assert_eq!(found["conclusion"], "present", "{said}");
    assert_eq!(found["hits"], found["asked"]);
}
