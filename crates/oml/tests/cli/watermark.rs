//! `oml watermark`: help, verdicts with their exit codes on text that was drawn with the key, refusals, and the way through a served model.

use std::fs;
use std::io::Write as _;
use std::num::NonZeroUsize;
use std::process::Stdio;
use std::sync::{Arc, mpsc};

use oml_core::manifest::owner_file;
use oml_core::secret::OwnerSeed;
use oml_core::serving::{Asked, Event, Question, TextModel as _};
use oml_core::watermark::{Candidates, Scheme, Watermark};
use oml_model::causal::CausalModel;
use oml_model::checkpoint::Checkpoint;
use oml_model::engine::Engine;
use oml_model::serving::{ServedModel, ServingOptions};
use serde_json::Value;

use super::smollm2::model;
use super::tiny::place;
use super::{Place, help, shown};

const DETECT: &str = "watermark detect --owner owner.json --model base";

/// Gives the place an owner whose seed does not change from run to run.
fn own(place: &Place, seed: u8) {
    let bytes = owner_file::render(&OwnerSeed::new([seed; 32])).unwrap();
    fs::write(place.path("owner.json"), bytes).unwrap();
}

fn watermark(place: &Place, scheme: Scheme) -> Watermark {
    let owner = owner_file::parse(&fs::read(place.path("owner.json")).unwrap()).unwrap();
    Watermark::new(&owner, scheme)
}

/// A text of the tiny model's words, each as likely as any, drawn with the watermark or without.
fn text(place: &Place, watermark: Option<&Watermark>, tokens: usize) -> String {
    let tokenizer = Checkpoint::open(&place.path("base")).unwrap();
    let tokenizer = tokenizer.tokenizer().unwrap();
    let mut state = 5u64;
    let mut uniform = move || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 11) as f64 / (1u64 << 53) as f64
    };
    let mut contexts = watermark.map(Watermark::contexts);
    let mut ids = Vec::new();
    for _ in 0..tokens {
        let words: Candidates = (256..556).map(|id| (id, 1.0)).collect();
        let context = contexts.as_ref().zip(watermark);
        let context = context.and_then(|(contexts, watermark)| watermark.marked(contexts));
        let id = match (watermark, context) {
            (Some(watermark), Some(context)) => watermark.draw(context, words, &mut uniform),
            _ => words.pick(uniform()),
        };
        if let Some(contexts) = &mut contexts {
            contexts.push(id);
        }
        ids.push(id);
    }
    tokenizer.decode(&ids).unwrap()
}

#[test]
fn help_of_watermark() {
    insta::assert_snapshot!(help("watermark"), @"
    Find the owner's watermark in text, and measure how surely

    Usage: oml watermark [OPTIONS] <COMMAND>

    Commands:
      detect   Was a text generated with the owner's watermark? An exact p-value; exit code 0 yes, 1 not shown
      measure  Generate text with and without watermarks, and measure how surely they are found and what they cost

    Options:
      -h, --help     Print help
      -V, --version  Print version

    Global options:
          --json           Print the result as one JSON object
      -q, --quiet          Print no notes and no progress
          --threads <N>    CPU threads [default: all cores]
          --isa <NAME>     CPU instructions to use: amx, avx512, avx2 or portable [default: the best this machine has]
          --config <FILE>  Settings file [default: oml.toml in the current folder, where there is one]
          --show-settings  Print every setting and where it comes from, and do nothing
    ");
    insta::assert_snapshot!(help("watermark detect"), @"
    Was a text generated with the owner's watermark? An exact p-value; exit code 0 yes, 1 not shown

    Usage: oml watermark detect [OPTIONS] --model <DIR> <FILE>

    Arguments:
      <FILE>  Text to test, without the question that it answers; - is standard input

    Options:
          --owner <FILE>     Owner file made by `oml keygen` [default: oml/owner.json in the user's config folder]
          --model <DIR>      Model whose tokenizer the text was made with: a Hugging Face folder or a GGUF file
          --scheme <SCHEME>  Scheme of the watermark [default: synthid] [possible values: synthid, kgw, gumbel]
          --alpha <P>        Largest p-value at which the watermark is found; with several texts, corrected for their number after Holm [default: 1e-3]
          --lines            FILE holds one JSON object per line with a `text` and perhaps an `id`; print one per line
      -h, --help             Print help
      -V, --version          Print version

    Global options:
          --json           Print the result as one JSON object
      -q, --quiet          Print no notes and no progress
          --threads <N>    CPU threads [default: all cores]
          --isa <NAME>     CPU instructions to use: amx, avx512, avx2 or portable [default: the best this machine has]
          --config <FILE>  Settings file [default: oml.toml in the current folder, where there is one]
          --show-settings  Print every setting and where it comes from, and do nothing
    ");
    insta::assert_snapshot!(help("watermark measure"), @"
    Generate text with and without watermarks, and measure how surely they are found and what they cost

    Usage: oml watermark measure [OPTIONS] --model <DIR>

    Options:
          --model <DIR>      Model that generates: a Hugging Face folder or a GGUF file
          --owner <FILE>     Owner file made by `oml keygen` [default: oml/owner.json in the user's config folder]
          --scheme <SCHEME>  Scheme to measure, repeatable [default: all] [possible values: synthid, kgw, gumbel]
          --texts <N>        Texts per scheme, each from a piece of the text that prompts are taken from [default: 256]
          --tokens <N>       Tokens of each text; nothing ends it before [default: 200]
          --temperature <T>  Softmax temperature [default: 1]
          --text <FILE>      Text that prompts are taken from [default: a built-in text]
          --keys <N>         Keys of others under which the texts without a watermark are tested too, for false positives [default: 40]
          --seed <N>         Seed of the draws and the replacements [default: 1]
      -h, --help             Print help
      -V, --version          Print version

    Global options:
          --json           Print the result as one JSON object
      -q, --quiet          Print no notes and no progress
          --threads <N>    CPU threads [default: all cores]
          --isa <NAME>     CPU instructions to use: amx, avx512, avx2 or portable [default: the best this machine has]
          --config <FILE>  Settings file [default: oml.toml in the current folder, where there is one]
          --show-settings  Print every setting and where it comes from, and do nothing
    ");
}

#[test]
fn a_marked_text_is_found_and_others_are_not() {
    let place = place();
    own(&place, 1);
    let marked = text(&place, Some(&watermark(&place, Scheme::ALL[0])), 60);
    fs::write(place.path("marked.txt"), &marked).unwrap();
    fs::write(place.path("plain.txt"), text(&place, None, 60)).unwrap();
    insta::assert_snapshot!(place.run(&format!("{DETECT} marked.txt")), @"
    exit: 0
    --- stdout
    marked.txt: the watermark is there
      p-value  2.8e-68 (found at 1e-3 or less)
      scheme   synthid, 56 of 60 tokens count
      mean     0.732, 0.500 expected without the watermark
      null     the text was made without regard to this key
    --- stderr
    ");
    insta::assert_snapshot!(place.run(&format!("{DETECT} plain.txt")), @"
    exit: 1
    --- stdout
    plain.txt: the watermark is not shown to be there
      p-value  8.5e-1 (found at 1e-3 or less)
      scheme   synthid, 56 of 60 tokens count
      mean     0.488, 0.500 expected without the watermark
      null     the text was made without regard to this key
    --- stderr
    ");
    for scheme in Scheme::ALL {
        let name = scheme.name();
        let marked = text(&place, Some(&watermark(&place, scheme)), 60);
        fs::write(place.path("marked.txt"), &marked).unwrap();
        let found = place.ok(&format!("{DETECT} marked.txt --json --scheme {name}"));
        assert_eq!(
            (&found["found"], &found["scheme"]),
            (&true.into(), &name.into())
        );
        assert!(found["p_value"].as_f64().unwrap() < 1e-3, "{found}");
        assert_eq!(found["tokens"], 60);
        for other in Scheme::ALL.iter().filter(|other| other.name() != name) {
            let said = place.run(&format!("{DETECT} marked.txt --scheme {}", other.name()));
            assert!(
                said.starts_with("exit: 1\n"),
                "{name} {}: {said}",
                other.name()
            );
        }
    }
    // Another owner's key finds nothing.
    own(&place, 2);
    let other = place.run(&format!("{DETECT} marked.txt --scheme gumbel"));
    assert!(other.starts_with("exit: 1\n"), "{other}");
}

#[test]
fn many_texts_are_lines() {
    let place = place();
    own(&place, 1);
    let texts = [
        ("a", text(&place, None, 60)),
        (
            "b",
            text(&place, Some(&watermark(&place, Scheme::ALL[0])), 60),
        ),
        ("c", String::new()),
    ];
    let lines = texts.map(|(id, text)| serde_json::json!({"id": id, "text": text}).to_string());
    let mut command = place.command(&format!("{DETECT} - --lines"));
    let mut process = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = process.stdin.take().unwrap();
    input.write_all(lines.join("\n").as_bytes()).unwrap();
    drop(input);
    let output = process.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    let lines: Vec<Value> = String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let found: Vec<_> = lines
        .iter()
        .map(|line| (&line["id"], &line["found"]))
        .collect();
    let expected = [("a", false), ("b", true), ("c", false)]
        .map(|(id, found)| (Value::from(id), Value::from(found)));
    assert_eq!(found, expected.each_ref().map(|(id, found)| (id, found)));
    assert_eq!(
        (&lines[2]["p_value"], &lines[2]["scored"]),
        (&1.0.into(), &0.into())
    );
    fs::write(
        place.path("lines.jsonl"),
        "{\"text\": \"a\"}\n{\"txt\": \"b\"}\n",
    )
    .unwrap();
    insta::assert_snapshot!(place.run(&format!("{DETECT} lines.jsonl --lines")), @"
    exit: 2
    --- stdout
    --- stderr
    error: cannot read lines.jsonl
      caused by: texts file: line 2, column 12: expected JSON of this form, got a field that is missing, unknown, repeated, too long or of another type
    ");
}

#[test]
fn faults_are_named() {
    let place = place();
    own(&place, 1);
    fs::write(place.path("empty.txt"), "").unwrap();
    fs::write(place.path("latin.txt"), b"caf\xe9").unwrap();
    insta::assert_snapshot!(place.run(&format!("{DETECT} empty.txt")), @"
    exit: 1
    --- stdout
    empty.txt: the watermark is not shown to be there
      p-value  1.0e0 (found at 1e-3 or less)
      scheme   synthid, 0 of 0 tokens count
      mean     0.000, 0.500 expected without the watermark
      null     the text was made without regard to this key
    --- stderr
    warning: empty.txt: too short to test
    ");
    insta::assert_snapshot!(place.run(&format!("{DETECT} latin.txt")), @"
    exit: 2
    --- stdout
    --- stderr
    error: latin.txt: expected UTF-8 text
      caused by: incomplete utf-8 byte sequence from index 3
    ");
    insta::assert_snapshot!(place.run(&format!("{DETECT} none.txt")), @"
    exit: 2
    --- stdout
    --- stderr
    error: cannot read none.txt
      caused by: No such file or directory (os error 2)
    ");
    insta::assert_snapshot!(place.run("watermark detect --owner none.json --model base empty.txt"), @"
    exit: 2
    --- stdout
    --- stderr
    error: cannot read none.json
      caused by: No such file or directory (os error 2)
    hint: Make an owner file with `oml keygen`, or name yours with --owner FILE.
    ");
    insta::assert_snapshot!(place.run("watermark measure --owner owner.json --model base --texts 60000"), @"
    exit: 2
    --- stdout
    --- stderr
    error: --texts: expected at most a quarter of the tokens of the built-in text, 27147, got 60000
    ");
    insta::assert_snapshot!(place.run("watermark measure --owner owner.json --model base --tokens 300 --texts 4"), @"
    exit: 2
    --- stdout
    --- stderr
    error: --tokens: expected at most 232 after a prompt of 24, got 300
    ");
    let served = place.run(
        "serve --model base --key owner.json --issuer 0x0000000000000000000000000000000000000001 \
         --model-id 0x0101010101010101010101010101010101010101010101010101010101010101 --listen 127.0.0.1:0 \
         --watermark kgw --watermark-owner none.json",
    );
    assert!(
        served.starts_with("exit: 2") && served.contains("cannot read none.json"),
        "{served}"
    );
    let upstream = place.run("serve --upstream http://127.0.0.1:9 --watermark kgw");
    assert!(upstream.contains("cannot be used with"), "{upstream}");
}

#[test]
fn a_small_measurement() {
    let place = place();
    own(&place, 1);
    let measured = place.ok(
        "watermark measure --owner owner.json --model base --texts 6 --tokens 60 --keys 3 --threads 2 --json",
    );
    let arms = measured["arms"].as_array().unwrap();
    let names: Vec<&str> = arms
        .iter()
        .map(|arm| arm["scheme"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["synthid", "kgw", "gumbel"]);
    for arm in arms {
        let found = &arm["found"][0];
        assert_eq!(found["length"], 50);
        assert_eq!(found["tokens"][0]["found"], 6, "{found}");
        assert_eq!(found["false_positives"][0]["tested"], 18);
        assert!(
            found["false_positives"][1]["found"].as_u64().unwrap() <= 1,
            "{found}"
        );
        let replaced = found["replaced"][2][1][1]["found"].as_u64().unwrap();
        assert!(replaced <= found["tokens"][1]["found"].as_u64().unwrap());
    }
    let text = place.run(
        "watermark measure --owner owner.json --model base --texts 6 --tokens 60 --keys 3 --threads 2 --scheme kgw -q",
    );
    assert!(text.contains("kgw, found at 0.01 or less"), "{text}");
}

/// Text of a served model, as a client gets it, is found in the client's file.
#[test]
fn answers_of_a_served_model_carry_the_watermark() {
    let Some(model) = model() else { return };
    let place = Place::new();
    own(&place, 1);
    let checkpoint = Checkpoint::open(&model).unwrap();
    let options = ServingOptions {
        slots: NonZeroUsize::MIN,
        waiting: 1,
        context: 512,
    };
    let mark = Arc::new(watermark(&place, Scheme::ALL[0]));
    let served = ServedModel::start(
        CausalModel::load(&Engine::default(), &checkpoint).unwrap(),
        Arc::new(checkpoint.tokenizer().unwrap()),
        vec![],
        options,
    )
    .with_watermark(Some(mark));
    let question = Question {
        asked: Asked::Text("The old harbour of the town".to_owned()),
        max_tokens: NonZeroUsize::new(80),
        temperature: 1.0,
        top_p: 1.0,
        top_k: 0,
        seed: 3,
        stop: vec![],
    };
    let (heard, hear) = mpsc::channel();
    let listener = Box::new(move |event| heard.send(event).is_ok());
    served.prepare(question).unwrap().start(listener).unwrap();
    let mut answer = String::new();
    for event in hear {
        if let Event::Text(more) = event {
            answer.push_str(&more);
        }
    }
    fs::write(place.path("answer.txt"), &answer).unwrap();
    let line = format!(
        "watermark detect --owner owner.json --model {} answer.txt",
        model.display()
    );
    let said = shown(&mut place.command(&line));
    assert!(said.starts_with("exit: 0\n"), "{said}\n{answer}");
}
