//! `oml serve` on SmolLM2-135M-Instruct, asked by OpenAI's own clients, and killed.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use oml_core::model::{LanguageModel as _, Sampling};
use oml_model::causal::CausalModel;
use oml_model::checkpoint::Checkpoint;
use oml_model::engine::Engine;
use serde_json::Value;

use super::issuer::Running;
use super::smollm2::model;
use super::{Place, help};

const MODEL_ID: &str = "0x0101010101010101010101010101010101010101010101010101010101010101";

fn serve(place: &Place, flags: &str) -> Running {
    let line = format!(
        "serve --key host.json --model-id {MODEL_ID} --listen 127.0.0.1:0 --audit-log log.jsonl --json -q {flags}"
    );
    Running::start(&mut place.command(&line))
}

/// Keys of an issuer, a host and a licensee; the licensee has a grant.
fn cast(place: &Place) -> String {
    let mut addresses = Vec::new();
    for name in ["issuer", "host", "user"] {
        let made = place.ok(&format!("keygen --out {name}.json --json"));
        addresses.push(made["address"].as_str().unwrap().to_owned());
    }
    let grant = format!(
        "permit grant --key issuer.json --model-id {MODEL_ID} --licensee {} --not-after 1d --any-input --out grant.txt -q",
        addresses[2]
    );
    place.ok(&grant);
    addresses[0].clone()
}

fn permissions(place: &Place, serve: &Running, count: usize) -> Vec<String> {
    let host = serve.said["host"].as_str().unwrap();
    place.ok(&format!(
        "permit issue --key user.json --grant grant.txt --host {host} --count {count} --out permissions.txt -q"
    ));
    let text = std::fs::read_to_string(place.path("permissions.txt")).unwrap();
    std::fs::remove_file(place.path("permissions.txt")).unwrap();
    let first = |line: &str| line.split_whitespace().next().unwrap().to_owned();
    text.lines().map(first).collect()
}

/// What a client's script prints.
fn ask(command: &mut Command, serve: &Running, tokens: &[String]) -> Value {
    let name = serve.said["names"][0].as_str().unwrap();
    let mut process = command
        .args([serve.url(), name])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = process.stdin.take().unwrap();
    input.write_all(tokens.join("\n").as_bytes()).unwrap();
    drop(input);
    let output = process.wait_with_output().unwrap();
    assert!(output.status.success());
    serde_json::from_slice(&output.stdout).unwrap()
}

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../scripts/clients")
        .join(name)
}

/// What the model says greedily, without any gate.
fn ungated(model: &Path) -> [String; 2] {
    let checkpoint = Checkpoint::open(model).unwrap();
    let tokenizer = checkpoint.tokenizer().unwrap();
    let mut causal = CausalModel::load(&Engine::default(), &checkpoint).unwrap();
    let mut said = |prompt: Vec<u32>, max_tokens| {
        let sampling = Sampling {
            max_tokens,
            temperature: 0.0,
            top_k: 0,
            top_p: 1.0,
            stop: checkpoint.config().eos_token_ids.clone(),
        };
        let ids = causal.generate(&[&prompt], &[0], &sampling).unwrap();
        tokenizer.decode(&ids[0]).unwrap()
    };
    let chat = tokenizer
        .chat_prompt("What is the capital of France?")
        .unwrap()
        .unwrap();
    let text = tokenizer.encode("The capital of France is", true).unwrap();
    [said(chat, 24), said(text, 8)]
}

#[test]
fn the_official_clients_work_with_one_header_and_get_what_the_model_says() {
    let Some(model) = model() else { return };
    let place = Place::new();
    let issuer = cast(&place);
    let flags = format!(
        "--model {} --name smollm2 --issuer {issuer}",
        model.display()
    );
    let serve = self::serve(&place, &flags);
    let [chat, text] = ungated(&model);
    let mut asked = 0;
    let mut check = |command: &mut Command| {
        let tokens = permissions(&place, &serve, 3);
        let said = ask(command, &serve, &tokens);
        assert_eq!(said["models"], serde_json::json!(["smollm2"]));
        assert_eq!(said["chat"], chat);
        assert_eq!(said["streamed"], chat);
        assert_eq!(said["text"], text);
        assert_eq!(said["tokens"], said["streamed_tokens"]);
        assert_eq!(said["used"], serde_json::json!([403, "replayed"]));
        assert_eq!(said["none"], serde_json::json!([402, "no_permission"]));
        let receipt = said["receipt"].as_str().unwrap();
        std::fs::write(place.path("permission.txt"), &tokens[0]).unwrap();
        std::fs::write(place.path("answer.txt"), &chat).unwrap();
        std::fs::write(place.path("receipt.txt"), receipt).unwrap();
        let verified = place.ok(
            "receipt verify receipt.txt --permission permission.txt --output answer.txt --json",
        );
        assert_eq!(verified["valid"], true, "{verified}");
        asked += 1;
    };
    match std::env::var_os("OML_PYTHON_CLIENTS") {
        None => eprintln!("skipped: no OpenAI client for Python; run make clients"),
        Some(python) => check(Command::new(python).arg(script("ask.py"))),
    }
    match std::env::var_os("OML_NODE_CLIENTS") {
        None => eprintln!("skipped: no OpenAI client for Node; run make clients"),
        Some(_) => check(Command::new("node").arg(script("ask.mjs"))),
    }
    if asked == 0 {
        return;
    }
    drop(serve);
    let calls = place.ok("usage --store oml-replay.redb --json");
    assert_eq!(calls["sums"][0]["calls"], 3 * asked);
}

#[test]
fn faults_before_serving() {
    let place = Place::new();
    let issuer = cast(&place);
    let serve = format!("serve --key host.json --issuer {issuer}");
    insta::assert_snapshot!(place.run(&format!("{serve} --upstream http://127.0.0.1:9")), @"");
    insta::assert_snapshot!(place.run(&format!("{serve} --upstream http://127.0.0.1:9 --name m --model-id {MODEL_ID} --listen 0.0.0.0:0")), @"");
    insta::assert_snapshot!(place.run(&format!("{serve} --upstream nowhere --name m --model-id {MODEL_ID}")), @"");
    insta::assert_snapshot!(place.run(&format!("{serve} --upstream http://127.0.0.1:9 --name m --model-id {MODEL_ID} --revocations none.json")), @"");
    insta::assert_snapshot!(place.run(&format!("{serve} --model none --model-id {MODEL_ID}")), @"");
}

#[test]
fn help_of_serve() {
    insta::assert_snapshot!(help("serve"), @"");
}
