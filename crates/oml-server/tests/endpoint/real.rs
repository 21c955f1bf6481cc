//! Real servers with SmolLM2: llama.cpp's and, where it is installed, `transformers serve`, each started by its launcher in
//! `scripts/servers` with the Python that an environment variable names.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::thread;
use std::time::Duration;

use oml_server::endpoint::{
    Api, Asker, EndpointError, EndpointOptions, Question, Reply, read_reply,
};

/// A server that ends with its standard input.
struct Launched {
    child: Child,
    input: Option<ChildStdin>,
    url: String,
}

impl Launched {
    /// Starts `scripts/servers/{script}` with the Python that `variable` names; none where it names none.
    fn start(variable: &str, script: &str, arguments: &[&str]) -> Option<Self> {
        let Some(python) = std::env::var_os(variable).filter(|python| !python.is_empty()) else {
            eprintln!("skipped: {variable} does not name a Python; see scripts/servers/README.md");
            return None;
        };
        let script = format!(
            "{}/../../scripts/servers/{script}",
            env!("CARGO_MANIFEST_DIR")
        );
        let mut child = Command::new(python)
            .arg(script)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let input = child.stdin.take();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let url = lines
            .find_map(|line| Some(line.unwrap().strip_prefix("listening ")?.to_owned()))
            .expect("the server ended before it listened");
        Some(Self { child, input, url })
    }

    fn asker(&self, api: Api, model: &str) -> Asker {
        let options = EndpointOptions {
            timeout: Duration::from_secs(300),
            ..EndpointOptions::new(&self.url, model)
        };
        Asker::new(options, api).unwrap()
    }
}

impl Drop for Launched {
    fn drop(&mut self) {
        drop(self.input.take());
        let _ = self.child.wait();
    }
}

const FRANCE: Question<'_> = Question {
    system: None,
    text: "The capital of France is",
    answer: "",
    max_tokens: 6,
    log_probabilities: true,
    seed: 7,
};
const CHAT: Question<'_> = Question {
    text: "What is the capital of France?",
    max_tokens: 12,
    ..FRANCE
};

fn ask(asker: &Asker, question: &Question<'_>) -> Result<Reply, EndpointError> {
    let request = asker.request(question).unwrap();
    let mut tries = Vec::new();
    let reply = asker.send(&request, &mut |attempt| tries.push(attempt.clone()))?;
    // What is logged reads as it did.
    let last = tries.last().unwrap();
    assert_eq!(read_reply(asker.api(), &last.body).unwrap(), reply);
    Ok(reply)
}

/// Every token of a greedy text is the likeliest at its place, and together they are the text.
fn is_scored_greedily(reply: &Reply) {
    let tokens = reply.tokens.as_ref().unwrap();
    let text: String = tokens.iter().map(|token| token.text.as_str()).collect();
    assert_eq!(text, reply.text);
    assert!(!tokens.is_empty());
    for token in tokens {
        let (likeliest, log_probability) = &token.alternatives[0];
        assert_eq!(likeliest, &token.text);
        assert_eq!(Some(*log_probability), token.log_probability);
        assert_eq!(token.alternatives.len(), 5);
        let mass: f64 = token.alternatives.iter().map(|(_, log)| log.exp()).sum();
        assert!((0.0..1.0 + 1e-4).contains(&mass), "{mass}");
    }
}

#[test]
fn llama_cpp_answers_with_log_probabilities() {
    let Some(server) = Launched::start("OML_LLAMA_SERVER", "llama.py", &[]) else {
        return;
    };
    let asker = server.asker(Api::Completions, "smollm2");
    let reply = ask(&asker, &FRANCE).unwrap();
    assert!(reply.text.starts_with(" Paris"), "{reply:?}");
    assert_eq!(reply.finish_reason.as_deref(), Some("length"));
    assert_eq!(reply.model.as_deref(), Some("smollm2"));
    is_scored_greedily(&reply);

    // The same text without scores, and whoever asks at the same time.
    let unscored = Question {
        log_probabilities: false,
        ..FRANCE
    };
    thread::scope(|scope| {
        let asked: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| ask(&asker, &unscored).unwrap()))
            .collect();
        for other in asked {
            let other = other.join().unwrap();
            assert_eq!(
                (other.text.as_str(), other.tokens),
                (reply.text.as_str(), None)
            );
        }
    });

    let chat = server.asker(Api::Chat, "smollm2");
    is_scored_greedily(&ask(&chat, &CHAT).unwrap());

    // A begun answer is continued, and told from its beginning.
    let begun = Question {
        answer: "The capital of",
        log_probabilities: false,
        ..CHAT
    };
    let reply = ask(&chat, &begun).unwrap();
    let rest = reply.without_echo(begun.answer);
    assert!(
        reply.text.starts_with(begun.answer) && rest.contains("Paris"),
        "{reply:?}"
    );
    let told = Question {
        system: Some("Answer in French."),
        ..CHAT
    };
    assert_ne!(ask(&chat, &told).unwrap().text, "");

    let long = "x ".repeat(3000);
    let error = ask(
        &chat,
        &Question {
            text: &long,
            ..CHAT
        },
    )
    .unwrap_err();
    assert!(
        matches!(error, EndpointError::Status { status: 400, .. }),
        "{error}"
    );
    assert!(error.to_string().contains("context size"), "{error}");
    // It has none of Ollama's own paths.
    let error = ask(&server.asker(Api::OllamaChat, "smollm2"), &CHAT).unwrap_err();
    assert!(matches!(error, EndpointError::Status { status: 404, .. }));
}

#[test]
fn transformers_serve_answers_without_log_probabilities() {
    let folder = std::env::var("OML_TEST_MODEL").unwrap_or_default();
    let Some(model) = Path::new(&folder)
        .file_name()
        .and_then(|name| name.to_str())
    else {
        eprintln!("skipped: OML_TEST_MODEL does not name the folder of SmolLM2-135M-Instruct");
        return;
    };
    let (variable, script) = ("OML_TRANSFORMERS_SERVER", "transformers_serve.py");
    let Some(server) = Launched::start(variable, script, &[&folder]) else {
        return;
    };
    // It knows log probabilities by name and passes over the wish.
    let reply = ask(&server.asker(Api::Completions, model), &FRANCE).unwrap();
    assert!(reply.text.starts_with(" Paris"), "{reply:?}");
    assert_eq!(
        (reply.finish_reason.as_deref(), reply.tokens),
        (Some("length"), None)
    );
    let chat = server.asker(Api::Chat, model);
    let reply = ask(&chat, &CHAT).unwrap();
    assert!(
        reply.text.contains("Paris") && reply.tokens.is_none(),
        "{reply:?}"
    );
    // A begun answer is a finished one to it: it answers anew.
    let begun = Question {
        answer: "The capital of",
        ..CHAT
    };
    assert!(!ask(&chat, &begun).unwrap().text.is_empty());

    let error = ask(&server.asker(Api::Chat, "other"), &CHAT).unwrap_err();
    assert!(matches!(error, EndpointError::Status { status: 400, .. }));
    assert!(error.to_string().contains("requested 'other'"), "{error}");
}
