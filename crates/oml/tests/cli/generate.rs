//! `oml generate` on a tiny model: stopped, killed, resumed, and with queries from elsewhere.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use super::Place;
use super::tiny::place;

/// Many small batches, each of which is saved.
const LONG: &str = "generate --model base --owner owner.json --out long.json --strategy random_word --count 3000 \
    --query-length 6 --response-length 2 --save-seconds 0 --threads 1 --json";

fn start(place: &Place, line: &str) -> Child {
    let mut command = place.command(line);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().unwrap()
}

fn signal(child: &Child, name: &str) {
    let mut kill = Command::new("kill");
    let sent = kill.args([name, &child.id().to_string()]).status();
    assert!(sent.unwrap().success());
}

/// Waits until something is saved; false when the run ended before.
fn wait_for_a_state(place: &Place, child: &mut Child) -> bool {
    while !place.path("long.json.state/state").is_file() {
        if child.try_wait().unwrap().is_some() {
            return false;
        }
        thread::sleep(Duration::from_millis(1));
    }
    true
}

#[cfg(unix)]
#[test]
fn a_stopped_or_killed_generation_goes_on_to_the_same_set() {
    use std::os::unix::fs::PermissionsExt as _;
    let place = place();
    let root = place.ok(LONG)["merkle_root"].clone();
    let whole = fs::read(place.path("long.json")).unwrap();
    fs::remove_file(place.path("long.json")).unwrap();
    assert!(!place.path("long.json.state").exists());

    let mut child = start(&place, LONG);
    assert!(wait_for_a_state(&place, &mut child), "stopped too late");
    signal(&child, "-INT");
    assert_eq!(child.wait().unwrap().code(), Some(2));
    let state = place.path("long.json.state/state");
    let kept = fs::read_to_string(&state).unwrap();
    assert!(kept.starts_with("{\"format\":\"oml-partial\",\"version\":1,\"cipher\":"));
    assert_eq!(
        fs::metadata(&state).unwrap().permissions().mode() & 0o777,
        0o600
    );

    let shown = place.run(LONG);
    assert!(
        shown.contains("long.json.state holds the state of a run that was stopped"),
        "{shown}"
    );
    let resume = format!("{LONG} --resume");
    let shown = place.run(&resume.replace("--query-length 6", "--query-length 7"));
    assert!(shown.starts_with("exit: 2\n"), "{shown}");
    assert!(
        shown.contains("hint: The flags, the owner, the models or the version differ"),
        "{shown}"
    );
    assert_eq!(
        fs::read_to_string(&state).unwrap(),
        kept,
        "a refusal changes nothing"
    );

    let mut child = start(&place, &resume);
    thread::sleep(Duration::from_millis(100));
    child.kill().unwrap();
    child.wait().unwrap();
    if !place.path("long.json").exists() {
        assert_eq!(place.ok(&resume)["merkle_root"], root);
    }
    assert_eq!(fs::read(place.path("long.json")).unwrap(), whole);
    assert!(!place.path("long.json.state").exists());
}

#[test]
fn a_generation_without_a_state_does_not_resume() {
    let place = place();
    let shown = place.run(&format!("{LONG} --resume"));
    assert!(
        shown.contains("long.json.state holds no state to go on from"),
        "{shown}"
    );
    assert!(!place.path("long.json.state").exists());
}

#[test]
fn the_place_of_custom_queries_among_benign_text_is_printed() {
    let place = place();
    fs::remove_file(place.path("f.json")).unwrap();
    let made = place.ok("generate --model base --owner owner.json --out f.json --strategy custom --queries queries.json --json");
    let stealth = &made["stealth"];
    assert_eq!(
        (&stealth["queries"], &stealth["text"]),
        (&16.into(), &"the built-in text".into()),
        "{made}"
    );
    assert!(stealth["benign_pieces"].as_u64().unwrap() >= 100);
    assert!((0.0..=100.0).contains(&stealth["median_percentile"].as_f64().unwrap()));

    fs::write(place.path("short.txt"), "One sentence. Two.").unwrap();
    let line = "generate --model base --owner owner.json --out g.json --strategy custom --queries queries.json --benign short.txt";
    let shown = place.run(line);
    assert!(shown.starts_with("exit: 0\n"), "{shown}");
    assert!(
        shown.contains(
            "The queries' perplexity is not measured: benign text: expected at least 100"
        ),
        "{shown}"
    );
    let shown =
        place.run(&line.replace("g.json --strategy custom --queries queries.json", "h.json"));
    assert!(shown.starts_with("exit: 2\n"), "{shown}");
    assert!(
        shown.contains("hint: Name a longer text with --benign FILE"),
        "{shown}"
    );
}

/// Answers every chat request with a sentence of the tiny model's words that begins as was asked; its address.
fn endpoint(words: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    thread::spawn(move || {
        for (number, stream) in listener.incoming().enumerate() {
            let mut stream = stream.unwrap();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let (mut line, mut length, mut authorized) = (String::new(), 0, false);
            while reader.read_line(&mut line).unwrap() > 2 {
                let lower = line.to_lowercase();
                if let Some(value) = lower.strip_prefix("content-length: ") {
                    length = value.trim().parse().unwrap();
                }
                authorized |= line.trim_end().ends_with("Bearer sk-test");
                line.clear();
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body).unwrap();
            let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
            let asked = body["messages"][0]["content"].as_str().unwrap();
            let word = asked.split('"').nth(1).unwrap();
            let content = format!("{word}{}", words.repeat(1 + number % 3));
            let (status, answer) = match authorized {
                true => (
                    "200 OK",
                    serde_json::json!({"choices": [{"message": {"content": content}}]}),
                ),
                false => (
                    "401 Unauthorized",
                    serde_json::json!({"error": {"message": "no key"}}),
                ),
            };
            let answer = answer.to_string();
            let head = format!(
                "HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
                answer.len()
            );
            stream
                .write_all(format!("{head}{answer}").as_bytes())
                .unwrap();
        }
    });
    address
}

#[test]
fn an_endpoint_writes_the_queries() {
    let place = place();
    let address = endpoint(" baba bede fifo dolo lomi rusa teve zubi bope gage kiki mofu");
    fs::write(place.path("key"), "sk-test\n").unwrap();
    let line = format!(
        "generate --model base --owner owner.json --out e.json --count 6 --query-length 10 --k 1 --perplexity-band 0-100 \
         --generator http://{address} --generator-model writer"
    );
    let shown = place.run(&line);
    assert!(
        shown.contains("endpoint: expected status 200, got 401: no key"),
        "{shown}"
    );
    assert!(!place.path("e.json.state").exists());
    let made = place.ok(&format!("{line} --generator-key-file key --json"));
    assert_eq!(made["count"], 6);

    let shown = place.run(
        &line
            .replace(" --generator-model writer", "")
            .replace("e.json", "x.json"),
    );
    assert!(
        shown.contains("hint: Say which of its models the endpoint shall use"),
        "{shown}"
    );
    let shown = place.run(
        &line
            .replace(&address, "example.org")
            .replace("e.json", "x.json"),
    );
    assert!(
        shown.contains("expected https for a host other than this machine, got http"),
        "{shown}"
    );
}

#[test]
fn another_local_model_writes_the_queries() {
    let place = place();
    let line = "generate --model base --owner owner.json --out l.json --count 3 --query-length 4 --k 1 --perplexity-band 0-100 \
        --query-temperature 1 --json";
    let own = place.ok(line);
    fs::remove_file(place.path("l.json")).unwrap();
    let other = place.ok(&format!("{line} --generator base"));
    assert_eq!((&own["count"], &other["count"]), (&3.into(), &3.into()));
    let shown = place.run(&format!(
        "{} --generator nowhere",
        line.replace("l.json", "m.json")
    ));
    assert!(shown.starts_with("exit: 2\n"), "{shown}");
}
