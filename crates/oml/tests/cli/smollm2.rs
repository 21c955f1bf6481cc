//! The whole way on SmolLM2-135M-Instruct, with a few fingerprints.
//!
//! The model is found at `OML_TEST_MODEL`, or where `oml model fetch smollm2-135m-instruct --to models/smollm2-135m-instruct` leaves it.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::Place;

pub(super) fn model() -> Option<PathBuf> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..");
    let path = std::env::var_os("OML_TEST_MODEL")
        .map_or_else(|| root.join("models/smollm2-135m-instruct"), PathBuf::from);
    if !path.join("config.json").exists() {
        eprintln!(
            "skipped: no model at '{}'; set OML_TEST_MODEL",
            path.display()
        );
        return None;
    }
    Some(path)
}

#[test]
fn six_fingerprints_come_back_and_the_base_gives_none() {
    let Some(model) = model() else { return };
    let place = Place::new();
    let base = model.display();
    place.ok("keygen --out owner.json");
    let generated = place.ok(&format!(
        "generate --model {base} --owner owner.json --out f.json --count 6 --json"
    ));
    assert_eq!(generated["count"], 6);
    let embedded = place.ok(&format!(
        "embed --model {base} --owner owner.json --fingerprints f.json --out marked --json \
         --benign-sequences 32 --benign-batch 4 --epochs 12 --settle-epochs 0"
    ));
    assert_eq!(embedded["hits"], 6);
    assert_eq!(embedded["base_recall"], 0.0);
    assert!(
        embedded["perplexity_ratio"].as_f64().unwrap() < 1.05,
        "{embedded}"
    );
    let check = format!(
        "check --owner owner.json --fingerprints f.json --control {base} --alpha 1e-2 --json"
    );
    let found = place.ok(&format!("{check} --model marked"));
    assert_eq!(
        (&found["present"], &found["hits"]),
        (&true.into(), &6.into())
    );
    let absent = place
        .command(&format!("{check} --model {base}"))
        .output()
        .unwrap();
    assert_eq!(absent.status.code(), Some(1));

    // Without a control: about one set in twenty has a pair that the base answers as a text, which six pairs cannot outweigh.
    let audit = "audit --owner owner.json --fingerprints f.json --alpha 0.05 --json";
    let found = place.ok(&format!("{audit} --suspect marked --out weights.jsonl"));
    assert_eq!(found["conclusion"], "present");
    let Some(server) = LlamaServer::start(&place.path("marked")) else {
        return;
    };
    let found = place.ok(&format!(
        "{audit} --endpoint {}/v1/completions --model-name smollm2 --timeout 300 --out endpoint.jsonl",
        server.url
    ));
    assert_eq!(found["conclusion"], "present", "{found}");
    assert_eq!(found["asked"], found["hits"]);
    assert_eq!(found["unanswered"], 0);
    // The server scores its tokens: it is surer of what was trained in than of what it says to ordinary text.
    let confidence = &found["confidence"];
    assert_eq!(confidence["hits"], found["hits"]);
    let probability = |field: &str| confidence[field].as_f64().unwrap();
    assert!(
        probability("response_probability") > 0.3
            && probability("response_probability") > probability("decoy_probability"),
        "{found}"
    );
}

/// llama.cpp's server with a model, quantised to 8 bits by llama.cpp's own Python package.
struct LlamaServer {
    url: String,
    process: Child,
}

impl LlamaServer {
    fn start(model: &Path) -> Option<Self> {
        let python = std::env::var_os("OML_LLAMA_SERVER").map(PathBuf::from);
        let Some(python) = python.filter(|python| python.exists()) else {
            eprintln!(
                "skipped: no server; `make servers` installs it, and OML_LLAMA_SERVER names its Python"
            );
            return None;
        };
        let scripts = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../scripts");
        let gguf = model.with_extension("gguf");
        let made = Command::new(&python)
            .arg(scripts.join("make_gguf.py"))
            .args([model, &gguf])
            .arg("q8_0")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&made.stderr);
        assert!(made.status.success(), "{said}");
        let mut process = Command::new(python)
            .arg(scripts.join("servers/llama.py"))
            .arg(gguf)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let mut lines = lines.map_while(Result::ok);
        let url = lines.find_map(|line| Some(line.strip_prefix("listening ")?.to_owned()));
        Some(Self {
            url: url.unwrap(),
            process,
        })
    }
}

impl Drop for LlamaServer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn every_strategy_and_style_finds_pairs_on_a_real_vocabulary() {
    let Some(model) = model() else { return };
    let place = Place::new();
    let base = model.display();
    place.ok("keygen --out owner.json");
    for (name, flags) in [
        (
            "inverse",
            "--strategy inverse_nucleus --query-style question",
        ),
        ("english", "--strategy english --response-length 4"),
        (
            "random",
            "--strategy english_random_response --query-style instruction",
        ),
        ("chain", "--strategy chain_hash"),
        ("words", "--strategy random_word --response-length 2"),
    ] {
        let made = place.ok(&format!(
            "generate --model {base} --owner owner.json --out {name}.json --count 4 --json {flags}"
        ));
        assert_eq!(made["count"], 4, "{name}");
        let found = place
            .command(&format!(
                "check --model {base} --owner owner.json --fingerprints {name}.json --json"
            ))
            .output()
            .unwrap();
        assert_eq!(
            found.status.code(),
            Some(1),
            "the base does not answer {name}"
        );
    }
}

#[test]
fn pairs_of_the_reference_implementations_are_imported() {
    let Some(model) = model() else { return };
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data");
    let data = std::env::var_os("OML_SHARED_DATA")
        .map_or(root, PathBuf::from)
        .join("interop");
    if !data.is_dir() {
        eprintln!(
            "skipped: no folder '{}'; set OML_SHARED_DATA",
            data.display()
        );
        return;
    }
    let place = Place::new();
    place.ok("keygen --out owner.json");
    for (name, count, responses) in [
        ("oml1-output_fingerprints", 7, 7),
        ("oml1-custom_fingerprints-inverse_nucleus", 20, 20),
        ("oml1-random-words-legacy-signature-64", 64, 64),
        ("perinucleus-gemma-2b-64", 64, 64),
        ("perinucleus-llama3.1-8b-two-responses-64", 64, 128),
    ] {
        let imported = place.ok(&format!(
            "fingerprints import --from {} --model {} --owner owner.json --out {name} --json",
            data.join(format!("{name}.json")).display(),
            model.display()
        ));
        assert_eq!(
            (
                &imported["count"],
                &imported["responses"],
                &imported["strategy"]
            ),
            (&count.into(), &responses.into(), &"imported".into()),
            "{name}"
        );
    }
    let checked = place
        .command(&format!(
            "check --model {0} --control {0} --owner owner.json --fingerprints perinucleus-gemma-2b-64 --json",
            model.display()
        ))
        .output()
        .unwrap();
    assert_eq!(checked.status.code(), Some(1));
}
