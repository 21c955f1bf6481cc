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
    insta::assert_snapshot!(place.run(&format!("{serve} --upstream http://127.0.0.1:9")), @"
    exit: 2
    --- stdout
    --- stderr
    error: --model-id: expected it, since an upstream does not say which model it has
    hint: Its owner says which id permissions for the model name.
    ");
    insta::assert_snapshot!(place.run(&format!("{serve} --upstream http://127.0.0.1:9 --name m --model-id {MODEL_ID} --listen 0.0.0.0:0")), @"
    exit: 2
    --- stdout
    --- stderr
    error: --listen 0.0.0.0:0: expected an address of this machine alone, or TLS, got one that others reach without it
    hint: Add --tls-certificate and --tls-key, or --allow-http behind a proxy that has them.
    ");
    insta::assert_snapshot!(place.run(&format!("{serve} --upstream nowhere --name m --model-id {MODEL_ID}")), @"
    exit: 2
    --- stdout
    --- stderr
    error: upstream: expected http:// or https:// with a host, and no query, user or fragment; got nowhere
    ");
    insta::assert_snapshot!(place.run(&format!("{serve} --upstream http://127.0.0.1:9 --name m --model-id {MODEL_ID} --revocations none.json")), @"
    exit: 2
    --- stdout
    --- stderr
    error: cannot read none.json
      caused by: No such file or directory (os error 2)
    ");
    insta::assert_snapshot!(place.run(&format!("{serve} --model none --model-id {MODEL_ID}")), @"
    exit: 2
    --- stdout
    --- stderr
    error: none: open: No such file or directory (os error 2)
    hint: Get a model with `oml model fetch smollm2-135m-instruct --to DIR`.
    ");
}

#[test]
fn help_of_serve() {
    insta::assert_snapshot!(help("serve"), @"
    Serve a model: answer only what is permitted, and sign a receipt for every answer

    Usage: oml serve [OPTIONS]

    Options:
          --model <DIR|GGUF>    Model to serve with this engine: a Hugging Face folder or a GGUF file
          --upstream <URL>      Server to stand in front of, in place of a model: vLLM, llama.cpp, TGI, Ollama or whatever speaks OpenAI's API
          --name <NAME>         Name by which clients call the model, repeatable; a request that names another is refused [default: the model's file name]
          --listen <HOST:PORT>  Address to listen on [default: 127.0.0.1:8787]
          --admin <HOST:PORT>   Address for the operator alone: counters, sums and records [default: none]
      -h, --help                Print help
      -V, --version             Print version

    Gate:
          --key <FILE>                 Host's key, which signs receipts: an owner file made by `oml keygen` [default: oml/owner.json in the user's config folder]
          --model-id <0x…>             Id of the model in permissions: 0x and 64 hexadecimal digits [default: what the model's oml-manifest.json says]
          --issuer <0x…>               Address that may issue permissions for the model, repeatable
          --issuers <FILE>             File with issuers, their times, and the age at which what is known of revocations is too old
          --revocations <FILE>         List of what was revoked, signed by an issuer, repeatable; read again when it changes
          --replay-store <FILE|URL>    Where used permissions and receipts are kept: a file, or postgres://… where several gateways share them [default: oml-replay.redb]
          --audit-log <FILE>           File for the audit log, whose lines are chained by their hashes [default: none]
          --model-version <TEXT>       Version of the model, where grants name one
          --region <TEXT>              Where this host stands, where grants name regions
          --price <N>                  What a call costs under a grant, in the token's smallest unit [default: 0]
          --pay <NETWORK,TOKEN,PAYEE>  How a payment reaches the issuer: CAIP-2 network, token and payee, as eip155:8453,0x…,0x…
          --issuer-url <URL>           Where the issuer hands out permissions, told to whoever has none
          --skew <SECONDS>             Seconds by which clocks may differ [default: 30]
          --longest-life <SECONDS>     Longest life of a permission: used ones are kept so long [default: 86400]
          --evidence-window <SECONDS>  How long receipts are kept after their permissions expired [default: 1209600]

    Answers:
          --context <N>                  Tokens of prompt and answer at most [default: what the model was made for, at most 4096]
          --slots <N>                    Answers computed side by side [default: 16]
          --upstream-key-file <FILE>     File with the upstream's key [default: the key itself in OML_SERVE_UPSTREAM_KEY, or none]
          --upstream-patience <SECONDS>  How long the upstream may say nothing [default: 120]

    Watermark:
          --watermark <SCHEME>      Mark all answers with the owner's watermark; temperature 0 is marked by kgw alone [default: none] [possible values: synthid, kgw, gumbel]
          --watermark-owner <FILE>  Owner file whose secret gives the watermark's key [default: oml/owner.json in the user's config folder]

    Connections:
          --tls-certificate <FILE>  Certificates (PEM) for TLS
          --tls-key <FILE>          Private key (PEM) for TLS
          --allow-http              Let clients come from other machines without TLS, as behind a proxy that has it

    Limits:
          --max-body <N>               Bytes of a request at most [default: 1048576]
          --max-calls <N>              Calls taken side by side, those that wait for a slot among them; one more is refused at once with 429 [default: 64]
          --max-connections <N>        Connections at most; one more waits [default: 1024]
          --client-patience <SECONDS>  How long a client may take to send a request [default: 15]
          --answer-timeout <SECONDS>   How long an answer may take [default: 600]
          --grace <SECONDS>            How long answers may go on after Ctrl-C [default: 30]

    Global options:
          --json           Print the result as one JSON object
      -q, --quiet          Print no notes and no progress
          --threads <N>    CPU threads [default: all cores]
          --isa <NAME>     CPU instructions to use: amx, avx512, avx2 or portable [default: the best this machine has]
          --config <FILE>  Settings file [default: oml.toml in the current folder, where there is one]
          --show-settings  Print every setting and where it comes from, and do nothing
    ");
}
