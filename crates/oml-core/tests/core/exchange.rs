//! Pairs of other tools: every form is read, every fault names entry and field, and exports come back byte for byte.

use std::fs;
use std::path::PathBuf;

use oml_core::derive::Scope;
use oml_core::fingerprint::FingerprintSet;
use oml_core::import::{ImportError, ImportOptions, Imported, import};
use oml_core::manifest::pairs_file::{Pair, parse, queries};
use oml_core::manifest::{FileError, oml1_file, perinucleus_file, plain_file};
use oml_core::secret::OwnerSeed;
use oml_core::strategy::Strategy;
use oml_core::tokenizer::Tokenizer as _;
use proptest::prelude::*;
use proptest::strategy::Strategy as Generator;
use serde_json::{Value, json};

use crate::double::{Bigrams, Words};

fn pairs(value: &Value) -> Result<Vec<Pair>, FileError> {
    parse(&serde_json::to_vec(value).unwrap())
}

fn imported(bytes: &[u8]) -> Result<Imported, ImportError> {
    let tokenizer = Words::new(300);
    let mut model = Bigrams::new(&tokenizer);
    let owner = OwnerSeed::new([7; 32]);
    let options = ImportOptions {
        scope: Scope::OWNER,
        longest: 5000,
    };
    import(&mut model, &tokenizer, &owner, options, parse(bytes)?)
}

fn import_value(value: &Value) -> Result<Imported, ImportError> {
    imported(&serde_json::to_vec(value).unwrap())
}

#[test]
fn every_form_is_read() {
    let read = pairs(&json!([
        "a",
        {"key": "b"},
        {"key": "c", "response": " x"},
        {"key": "d", "signature": " x", "seed": {"any": ["thing"]}},
        {"key": "e and more", "effective_key": "e", "response": " x", "response_prob": 0.5},
        {"key": "f", "response": " x y", "response_prob": [0.5, 1]},
        {"key": "g", "response": [" x", " y"], "response_prob": [[0.5], [0.25]]},
        {"key": "h", "response": [" x", " y"], "response_prob": [0.5, 0.75, 0.125]},
        {"query": "i", "response": " x", "query_ids": [1], "response_ids": [2]},
        {"query": "i", "response": " y", "query_ids": [1], "response_ids": [3]},
    ]))
    .unwrap();
    let shown: Vec<Value> = read
        .iter()
        .map(|pair| {
            let responses: Vec<Value> = pair
                .responses
                .iter()
                .map(|r| json!([r.text, r.ids, r.probabilities]))
                .collect();
            json!([pair.entry, pair.query, pair.query_ids, responses])
        })
        .collect();
    assert_eq!(
        Value::from(shown),
        json!([
            [0, "a", null, []],
            [1, "b", null, []],
            [2, "c", null, [[" x", null, []]]],
            [3, "d", null, [[" x", null, []]]],
            [4, "e", null, [[" x", null, [0.5]]]],
            [5, "f", null, [[" x y", null, [0.5, 1.0]]]],
            [6, "g", null, [[" x", null, [0.5]], [" y", null, [0.25]]]],
            [
                7,
                "h",
                null,
                [[" x", null, [0.5, 0.75, 0.125]], [" y", null, []]]
            ],
            [8, "i", [1], [[" x", [2], []], [" y", [3], []]]],
        ])
    );
    assert_eq!(format!("{:?}", read[2]), "Pair(2, secret)");
}

#[test]
fn faults_name_entry_and_field() {
    let long = "x".repeat(65_537);
    let table = [
        (
            json!(7),
            "entry: expected a text or an object, got a number",
        ),
        (
            json!(["a"]),
            "entry: expected a text or an object, got a list",
        ),
        (
            json!({"response": "b"}),
            "key: expected a text, got nothing",
        ),
        (
            json!({"key": 7}),
            "key: expected a text of at most 65536 bytes, got a number",
        ),
        (
            json!(long),
            "key: expected a text of at most 65536 bytes, got a longer text",
        ),
        (
            json!({"key": long}),
            "key: expected a text of at most 65536 bytes, got a longer text",
        ),
        (
            json!({"key": " \n"}),
            "key: expected a text of at most 65536 bytes, got nothing but white space",
        ),
        (
            json!({"key": "a\0b"}),
            "key: expected a text without NUL, got one with it",
        ),
        (
            json!({"key": "a", "effective_key": null}),
            "effective_key: expected a text of at most 65536 bytes, got null",
        ),
        (
            json!({"key": "a", "query": "a"}),
            "query: expected key or query, got both",
        ),
        (
            json!({"key": "a", "response": "b", "signature": "b"}),
            "signature: expected response or signature, got both",
        ),
        (
            json!({"key": "a", "response": ["b", " "]}),
            "response: expected a text of at most 65536 bytes, got nothing but white space",
        ),
        (
            json!({"key": "a", "response": []}),
            "response: expected a text of at most 65536 bytes, got an empty list",
        ),
        (
            json!({"key": "a", "response": ["b", 1]}),
            "response: expected a text of at most 65536 bytes, got a list of other things",
        ),
        (
            json!({"key": "a", "response": vec!["b"; 65]}),
            "response: expected a text of at most 65536 bytes, got a list that is too long",
        ),
        (
            json!({"key": "a", "response": ["b", "b"]}),
            "response: expected responses that differ, got a repeated one",
        ),
        (
            json!({"key": "a", "response": "b", "response_prob": 1.5}),
            "response_prob: expected values from 0 to 1, got 1.5",
        ),
        (
            json!({"key": "a", "response": "b", "response_prob": "1"}),
            "response_prob: expected a number, a list of numbers, or a list of such lists, got a text",
        ),
        (
            json!({"key": "a", "response": "b", "response_prob": [[[0.5]]]}),
            "response_prob: expected a number, a list of numbers, or a list of such lists, got a list of other things",
        ),
        (
            json!({"key": "a", "response": "b", "response_prob": [[0.5], [0.5]]}),
            "response_prob: expected 1 lists, one per response, got 2",
        ),
        (
            json!({"query": "a", "response": "b", "query_ids": [1.5]}),
            "query_ids: expected a list of token ids, got another number",
        ),
        (
            json!({"query": "a", "response": "b", "query_ids": [-1]}),
            "query_ids: expected a list of token ids, got another number",
        ),
        (
            json!({"query": "a", "response": "b", "query_ids": [4_294_967_296_u64]}),
            "query_ids: expected a list of token ids, got another number",
        ),
        (
            json!({"query": "a", "response": ["b", "c"], "response_ids": [1]}),
            "response_ids: expected one response beside them, got none or several",
        ),
    ];
    for (entry, message) in table {
        let error = pairs(&json!(["good", entry, "late"])).unwrap_err();
        assert!(matches!(error, FileError::Entry { entry: 1, .. }));
        assert_eq!(
            error.to_string(),
            format!("pairs file entries[1].{message}")
        );
    }
    let twice = parse(br#"[{"key":"a","response":"b","key":"a"}]"#).unwrap_err();
    assert_eq!(
        twice.to_string(),
        "pairs file entries[0].key: expected the field once, got it twice"
    );
    for broken in ["", "{}", "[", "[\"a\"", "[\"a\"] x", "[{\"key\":}]"] {
        let error = parse(broken.as_bytes()).unwrap_err();
        assert!(matches!(error, FileError::Json { .. }), "{broken}");
    }
    let deep = "[".repeat(100_000);
    assert!(parse(deep.as_bytes()).is_err());
}

#[test]
fn queries_alone_are_told_from_templates() {
    let two = pairs(&json!(["a", {"key": "b"}])).unwrap();
    assert_eq!(queries(&two).unwrap().unwrap(), ["a", "b"]);
    let mixed = pairs(&json!(["a", {"key": "b", "response": "c"}])).unwrap();
    assert_eq!(queries(&mixed).unwrap(), None);
    let templates = pairs(&json!(["Say: {}", "{} please"])).unwrap();
    assert_eq!(
        queries(&templates).unwrap_err().to_string(),
        "pairs file entries[0].key: expected a query, got a prompt template with {}"
    );
}

/// Text of the `n`th word that has a space before it.
fn word(n: usize) -> String {
    let tokenizer = Words::new(300);
    let mut words = (0..tokenizer.vocabulary_size() as u32)
        .filter_map(|id| tokenizer.token(id))
        .filter(|text| text.len() > 2 && text.starts_with(' '));
    words.nth(n).unwrap()
}

#[test]
fn pairs_that_a_tokenizer_cannot_take_are_named() {
    let (a, b, c) = (word(0), word(1), word(2));
    let message = |value: Value| import_value(&value).unwrap_err().to_string();
    assert_eq!(
        message(json!([{"key": a, "response": b}, {"key": a, "response": c}])),
        "pairs file entries[1].query: expected a query of its own, got that of entries[0]"
    );
    assert_eq!(
        message(json!([{"key": a, "response": b}, c])),
        "pairs file entries[1].response: expected a response, got nothing"
    );
    assert_eq!(
        message(json!([{"query": a, "response": b, "query_ids": [3, 4]}])),
        "pairs file entries[0].query_ids: expected the ids that the model's tokenizer gives the text, \
         got those of another tokenizer"
    );
    assert_eq!(
        message(json!([{"query": a, "response": b, "response_ids": [3, 4]}])),
        "pairs file entries[0].response_ids: expected the ids that the model's tokenizer gives the text, \
         got those of another tokenizer"
    );
    assert_eq!(
        message(json!([{"key": a, "response": b.repeat(5000)}])),
        "pairs file entries[0].response: expected 1 to 4096 tokens, got 5000"
    );
    assert_eq!(
        message(json!([{"key": a.repeat(3000), "response": b.repeat(3000)}])),
        "pairs file entries[0].response: expected at most 5000 tokens with its query, got 6001"
    );
    assert_eq!(
        message(json!([])),
        "fingerprints: expected 1 to 262144, got 0"
    );
}

#[test]
fn an_imported_set_is_whole() {
    let (a, b, c) = (word(0), word(1), word(2));
    let value = json!([
        {"key": a, "response": b},
        {"key": format!("{a}{b}"), "response": [format!("{b}{c}"), c]},
        // No space: the response's tokens are its own.
        {"key": format!("{a}{c}"), "response": b.trim(), "response_prob": 0.9999},
    ]);
    let Imported {
        set,
        agreeing,
        measured,
    } = import_value(&value).unwrap();
    assert_eq!((agreeing, measured), (0, 4));
    let header = set.header();
    assert_eq!(header.strategy, Strategy::Imported);
    assert_eq!((header.query_length, header.response_length), (3, 2));
    let tokenizer = Words::new(300);
    for fingerprint in set.fingerprints() {
        for response in &fingerprint.responses {
            let ids = [fingerprint.query_ids.as_slice(), &response.ids].concat();
            let text = format!("{}{}", fingerprint.query, response.text);
            assert_eq!(tokenizer.decode(&ids).unwrap(), text);
            assert_eq!(response.probabilities.len(), response.ids.len());
        }
    }
    let again = import_value(&value).unwrap().set;
    assert_eq!(again, set);
    let mut other = value;
    other[1]["response"] = json!(c);
    let other = import_value(&other).unwrap().set;
    assert_eq!(other.fingerprints()[0], set.fingerprints()[0]);
    assert_ne!(other.fingerprints()[1].salt, set.fingerprints()[1].salt);
}

type Render = fn(&FingerprintSet) -> Result<Vec<u8>, FileError>;

/// A set of distinct queries with `responses` responses each, as pairs.
fn values() -> impl Generator<Value = Value> {
    let text = |length| prop::collection::vec(0_usize..200, length);
    let responses = prop::collection::btree_set(text(1..4), 1..4);
    prop::collection::btree_map(text(1..6), responses, 1..6).prop_map(|map| {
        let text = |words: Vec<usize>| words.into_iter().map(word).collect::<String>();
        let entry = |(query, responses): (Vec<usize>, std::collections::BTreeSet<Vec<usize>>)| {
            let responses: Vec<String> = responses.into_iter().map(text).collect();
            json!({"key": text(query), "response": responses})
        };
        map.into_iter().map(entry).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn exports_come_back_byte_for_byte(value in values()) {
        let set = import_value(&value).unwrap().set;
        let single = set.fingerprints().iter().all(|f| f.responses.len() == 1);
        let renders: [(Render, bool); 3] = [
            (perinucleus_file::render, true),
            (plain_file::render, false),
            (oml1_file::render, false),
        ];
        for (render, whole) in renders {
            let Ok(exported) = render(&set) else {
                prop_assert!(!single);
                continue;
            };
            let again = imported(&exported).unwrap();
            prop_assert_eq!(&again.set, &set);
            prop_assert_eq!(again.measured == 0, whole);
            prop_assert_eq!(render(&again.set).unwrap(), exported);
        }
    }

    #[test]
    fn hostile_bytes_are_errors_and_no_panics(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = parse(&bytes);
    }

    #[test]
    fn damaged_pairs_are_judged_without_panics(position in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut bytes = serde_json::to_vec(&json!([
            {"key": "a", "effective_key": "b", "response": ["c", "d"], "response_prob": [[0.5], [1e-3]]},
            {"query": "e", "response": "f", "query_ids": [1, 2], "response_ids": [3]},
        ])).unwrap();
        let position = position.index(bytes.len());
        bytes[position] = byte;
        let _ = parse(&bytes);
    }
}

#[test]
fn files_of_the_reference_implementations_are_read() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data");
    let folder = std::env::var_os("OML_SHARED_DATA")
        .map_or(root, PathBuf::from)
        .join("interop");
    if !folder.is_dir() {
        eprintln!(
            "skipped: no folder '{}'; set OML_SHARED_DATA",
            folder.display()
        );
        return;
    }
    let read = |name: &str| parse(&fs::read(folder.join(name)).unwrap()).unwrap();
    let counts = |pairs: &[Pair]| {
        let responses = pairs.iter().map(|pair| pair.responses.len()).sum::<usize>();
        let probabilities = pairs.iter().flat_map(|pair| &pair.responses);
        let probabilities = probabilities.map(|r| r.probabilities.len()).sum::<usize>();
        (pairs.len(), responses, probabilities)
    };
    for (name, expected) in [
        ("oml1-output_fingerprints.json", (7, 7, 0)),
        ("oml1-custom_fingerprints-inverse_nucleus.json", (20, 20, 0)),
        ("oml1-random-words-legacy-signature-64.json", (64, 64, 0)),
        ("oml1-custom_fingerprints.json", (20, 0, 0)),
        ("perinucleus-gemma-2b-64.json", (64, 64, 64)),
        (
            "perinucleus-llama3.1-8b-two-responses-64.json",
            (64, 128, 1024),
        ),
    ] {
        assert_eq!(counts(&read(name)), expected, "{name}");
    }
    let gemma = read("perinucleus-gemma-2b-64.json");
    assert!(gemma[0].query.ends_with("One way"), "the effective key");
    assert!(
        queries(&read("oml1-custom_fingerprints.json"))
            .unwrap()
            .is_some()
    );
    assert!(queries(&read("oml1-augmentation_prompts_train.json")).is_err());
}
