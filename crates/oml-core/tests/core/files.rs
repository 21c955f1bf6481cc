//! The file formats: what is written comes back, and every fault is an error of its own.

use std::collections::BTreeMap;

use oml_core::copies::{Assignment, Bias, Copies, Observation};
use oml_core::fingerprint::{Fingerprint, FingerprintSet, Response, SetError, SetHeader};
use oml_core::manifest::fingerprint_file::{open, parse_set, seal};
use oml_core::manifest::locked_owner_file::{self, Cost};
use oml_core::manifest::model_manifest::{self, Measurement, ModelManifest};
use oml_core::manifest::{FileError, observed_file, owner_file, plain_file, queries_file};
use oml_core::secret::{OwnerSeed, Salt};
use oml_core::strategy::perinucleus::Rule;
use oml_core::strategy::perplexity::Band;
use oml_core::strategy::{FirstToken, Strategy, Style, Writing};
use proptest::prelude::*;
use proptest::strategy::Strategy as Generator;
use serde_json::{Value, json};

/// What is said of a fault in a field.
const FIELD: &str = "expected JSON of this form, got a field that is missing, unknown, repeated, too long or of another type";

fn owner() -> OwnerSeed {
    OwnerSeed::new([7; 32])
}

fn header() -> SetHeader {
    SetHeader {
        strategy: Strategy::default(),
        model_digest: [1; 32],
        tokenizer_hash: [2; 32],
        vocabulary_size: 1000,
        copy_id: String::new(),
        copies: None,
        query_length: 2,
        response_length: 1,
    }
}

fn fingerprint(index: usize) -> Fingerprint {
    let response = Response {
        text: " yes".into(),
        ids: vec![5],
        probabilities: vec![0.0625],
    };
    Fingerprint {
        index,
        query: format!("query {index}"),
        query_ids: vec![9, index as u32],
        responses: vec![response],
        salt: Salt::new([index as u8; 32]),
    }
}

fn set() -> FingerprintSet {
    FingerprintSet::new(header(), (0..3).map(fingerprint).collect()).unwrap()
}

/// The plaintext of a set as an editable value.
fn plaintext() -> Value {
    json!({
        "format": "oml-fingerprint-set", "version": 1,
        "strategy": {"name": "perinucleus", "temperature": 0.5, "threshold": 0.8, "candidates": 3, "responses": 1},
        "model_digest": "01".repeat(32), "tokenizer_hash": "02".repeat(32), "vocabulary_size": 1000,
        "copy_id": "", "query_length": 2, "response_length": 1,
        "fingerprints": (0..3).map(|i| json!({
            "index": i, "query": format!("query {i}"), "query_ids": [9, i],
            "responses": [{"text": " yes", "ids": [5], "probabilities": [0.0625]}],
            "salt": format!("{i:02x}").repeat(32),
        })).collect::<Vec<_>>(),
    })
}

fn parse_changed(change: impl FnOnce(&mut Value)) -> Result<FingerprintSet, FileError> {
    let mut value = plaintext();
    change(&mut value);
    parse_set(&serde_json::to_vec(&value).unwrap())
}

#[test]
fn the_set_has_one_documented_form() {
    assert_eq!(parse_changed(|_| ()).unwrap(), set());
}

#[test]
fn sealing_is_deterministic_and_private() {
    let bytes = seal(&set(), &owner()).unwrap();
    assert_eq!(bytes, seal(&set(), &owner()).unwrap());
    assert_eq!(open(&bytes, &owner()).unwrap(), set());
    assert!(!String::from_utf8(bytes).unwrap().contains("query 1"));
}

#[test]
fn a_set_for_copies_survives_its_file() {
    let copies = Copies {
        count: 5,
        bias: Bias::Mixed,
    };
    let file = json!({"count": 5, "bias": "mixed"});
    let set = parse_changed(|v| v["copies"] = file).unwrap();
    assert_eq!(set.header().copies, Some(copies));
    assert_eq!(open(&seal(&set, &owner()).unwrap(), &owner()).unwrap(), set);
}

#[test]
fn a_copy_gets_its_part_and_indices_stay() {
    let header = SetHeader {
        copies: Some(Copies {
            count: 9,
            bias: Bias::Balanced,
        }),
        ..header()
    };
    let set = FingerprintSet::new(header, (0..64).map(fingerprint).collect()).unwrap();
    let owner = owner();
    let assignment = Assignment::of_set(&set, &owner).unwrap();
    let members = assignment.members(4).unwrap();
    let part = set.of_copy(&members).unwrap();
    assert_eq!(part.count(), members.count());
    assert!(part.count() > 16 && part.count() < 48);
    for fingerprint in part.fingerprints() {
        assert!(members.as_slice()[fingerprint.index]);
        assert_eq!(fingerprint, &set.fingerprints()[fingerprint.index]);
    }
    assert!(matches!(
        self::set().of_copy(&members),
        Err(SetError::Field { .. })
    ));
    let other = self::set();
    let error = Assignment::of_set(&other, &owner).unwrap_err().to_string();
    assert_eq!(
        error,
        "copies: expected a set that was made for copies, got one without"
    );
}

#[test]
fn observations() {
    let seen = [
        Observation::Hit,
        Observation::Unknown,
        Observation::Refused,
        Observation::Miss,
    ];
    let bytes = observed_file::render(&[7; 32], &seen).unwrap();
    assert_eq!(
        String::from_utf8(bytes.clone()).unwrap(),
        format!(
            "{{\"format\":\"oml-observed\",\"version\":1,\"merkle_root\":\"{}\",\"observed\":[\
             {{\"index\":0,\"answer\":\"hit\"}},{{\"index\":2,\"answer\":\"refused\"}},{{\"index\":3,\"answer\":\"miss\"}}]}}\n",
            "07".repeat(32)
        )
    );
    assert_eq!(observed_file::parse(&bytes, &[7; 32], 4).unwrap(), seen);
    let fault = |from: &str, to: &str, root: u8, count| {
        let text = String::from_utf8(bytes.clone())
            .unwrap()
            .replacen(from, to, 1);
        let parsed = observed_file::parse(text.as_bytes(), &[root; 32], count);
        parsed.unwrap_err().to_string()
    };
    assert_eq!(
        fault("", "", 7, 3),
        "oml-observed index: expected numbers below 3, got 3"
    );
    assert_eq!(
        fault("\"index\":2", "\"index\":0", 7, 4),
        "oml-observed index: expected every fingerprint once, got 0 again"
    );
    let (ours, other) = ("08".repeat(32), "07".repeat(32));
    assert_eq!(
        fault("", "", 8, 4),
        format!("oml-observed merkle_root: expected {ours}, got {other}")
    );
    assert!(fault("\"hit\"", "\"maybe\"", 7, 4).ends_with(FIELD));
    assert!(fault("oml-observed", "oml-model", 7, 4).contains("got \"oml-model\""));
}

#[test]
fn every_changed_byte_is_noticed() {
    let bytes = seal(&set(), &owner()).unwrap();
    for position in 0..bytes.len() {
        for bit in 0..8 {
            let mut changed = bytes.clone();
            changed[position] ^= 1 << bit;
            assert!(
                open(&changed, &owner()).is_err(),
                "byte {position}, bit {bit}"
            );
        }
    }
    for length in 0..bytes.len() {
        assert!(open(&bytes[..length], &owner()).is_err());
    }
}

#[test]
fn faults_of_the_envelope_are_told_apart() {
    let bytes = seal(&set(), &owner()).unwrap();
    let fault = |from: &str, to: &str| {
        let text = String::from_utf8(bytes.clone()).unwrap();
        assert!(text.contains(from));
        open(text.replacen(from, to, 1).as_bytes(), &owner())
            .unwrap_err()
            .to_string()
    };
    assert_eq!(
        open(&bytes, &OwnerSeed::new([8; 32]))
            .unwrap_err()
            .to_string(),
        format!(
            "oml-fingerprints owner: expected {} as derived from the owner's seed, got {}",
            id(&OwnerSeed::new([8; 32])),
            id(&owner())
        )
    );
    assert_eq!(
        fault("oml-fingerprints", "oml-owner"),
        "format: expected \"oml-fingerprints\", got \"oml-owner\""
    );
    assert_eq!(
        fault("\"version\":1", "\"version\":2"),
        "oml-fingerprints version: expected 1, got 2"
    );
    assert_eq!(
        fault("AES-256-GCM-SIV", "rot13"),
        "oml-fingerprints cipher: expected AES-256-GCM-SIV, got rot13"
    );
    for (from, to) in [
        ("\"body\"", "\"extra\":1,\"body\""),
        ("\"nonce\"", "\"version\":1,\"nonce\""),
    ] {
        let message = fault(from, to);
        assert!(
            message.starts_with("oml-fingerprints: line 1, column "),
            "{message}"
        );
        assert!(message.ends_with(FIELD), "{message}");
    }
    assert_eq!(
        fault("\"body\":\"", "\"body\":\"AAAA"),
        "oml-fingerprints body: expected what the owner encrypted, got altered or damaged contents"
    );
    assert!(matches!(open(b"", &owner()), Err(FileError::Json { .. })));
}

fn id(owner: &OwnerSeed) -> String {
    oml_core::manifest::hex(&oml_core::derive::owner_id(owner))
}

#[test]
fn oversized_files_are_refused_before_they_are_parsed() {
    let bytes = vec![b' '; oml_core::manifest::fingerprint_file::MAX_BYTES + 1];
    assert!(matches!(
        open(&bytes, &owner()),
        Err(FileError::TooLarge { .. })
    ));
    assert!(matches!(parse_set(&bytes), Err(FileError::TooLarge { .. })));
    assert!(matches!(
        owner_file::parse(&bytes),
        Err(FileError::TooLarge { .. })
    ));
    assert!(matches!(
        queries_file::parse(&bytes),
        Err(FileError::TooLarge { .. })
    ));
    assert!(matches!(
        model_manifest::parse(&bytes),
        Err(FileError::TooLarge { .. })
    ));
}

#[test]
fn faults_of_the_set_are_told_apart() {
    type Change = fn(&mut Value);
    let table: [(Change, &str); 22] = [
        (
            |v| v["fingerprints"] = json!([]),
            "fingerprints: expected 1 to 262144, got 0",
        ),
        (
            |v| v["fingerprints"][2]["query"] = json!("query 0"),
            "fingerprints[2].query: expected a query of its own, got that of fingerprint 0",
        ),
        (
            |v| v["fingerprints"][2]["query_ids"] = json!([9, 1]),
            "fingerprints[2].query_ids: expected a query of its own, got that of fingerprint 1",
        ),
        (
            |v| v["fingerprints"][1]["query"] = json!(""),
            "fingerprints[1].query: expected something, got nothing",
        ),
        (
            |v| v["fingerprints"][1]["query_ids"] = json!([]),
            "fingerprints[1].query_ids: expected something, got nothing",
        ),
        (
            |v| v["fingerprints"][1]["responses"] = json!([]),
            "fingerprints[1].responses: expected 1 to 64, got 0",
        ),
        (
            |v| v["fingerprints"][1]["responses"][0]["text"] = json!(" "),
            "fingerprints[1].responses[0].text: expected something, got nothing",
        ),
        (
            |v| v["fingerprints"][1]["responses"][0]["ids"] = json!([1, 2]),
            "fingerprints[1].responses[0].ids: expected 1, got 2",
        ),
        (
            |v| v["fingerprints"][1]["responses"][0]["probabilities"] = json!([]),
            "fingerprints[1].responses[0].probabilities: expected 1, got 0",
        ),
        (
            |v| v["fingerprints"][1]["responses"][0]["probabilities"] = json!([1.5]),
            "fingerprints[1].responses[0].probabilities: expected values from 0 to 1, got 1.5",
        ),
        (
            |v| v["fingerprints"][0]["query_ids"] = json!([1, 1000]),
            "fingerprints[0].query_ids: expected token ids below 1000, got 1000",
        ),
        (
            |v| v["fingerprints"][0]["responses"][0]["ids"] = json!([4_000_000_000_u32]),
            "fingerprints[0].responses[0].ids: expected token ids below 1000, got 4000000000",
        ),
        (
            |v| v["fingerprints"][0]["index"] = json!(1),
            "fingerprints[0].index: expected 0, got 1",
        ),
        (
            |v| v["query_length"] = json!(0),
            "query_length: expected 1 to 4096, got 0",
        ),
        (
            |v| v["strategy"]["candidates"] = json!(0),
            "strategy candidates: expected 1 to 256, got 0",
        ),
        (
            |v| v["strategy"]["temperature"] = json!(-1),
            "strategy temperature: expected a number from 0, got -1",
        ),
        (
            |v| v["strategy"] = json!({"name": "rhyme"}),
            "strategy.name: expected one of perinucleus, inverse_nucleus, english, english_random_response, chain_hash, random_word, custom, imported, got rhyme",
        ),
        (
            |v| v["strategy"] = json!({"name": "custom"}),
            "strategy: expected the parameters of custom, got others",
        ),
        (
            |v| v["copies"] = json!({"count": 0, "bias": "mixed"}),
            "copies: expected 1 to 65536, got 0",
        ),
        (
            |v| v["copies"] = json!({"count": 5, "bias": "secret words"}),
            "copies.bias: expected balanced or mixed, got another",
        ),
        (|v| v["version"] = json!(9), "version: expected 1, got 9"),
        (|v| v["salt"] = json!(9), FIELD),
    ];
    for (change, message) in table {
        let error = parse_changed(change).unwrap_err().to_string();
        assert!(error.starts_with("oml-fingerprint-set"), "{error}");
        assert!(
            error.contains(message),
            "expected {message:?}, got {error:?}"
        );
    }
}

#[test]
fn caps_hold_while_reading() {
    let long = |v: &mut Value| v["fingerprints"][0]["query_ids"] = json!(vec![1; 4097]);
    assert!(
        parse_changed(long)
            .unwrap_err()
            .to_string()
            .ends_with(FIELD)
    );
    let text = |v: &mut Value| v["fingerprints"][0]["query"] = json!("x".repeat(65_537));
    assert!(
        parse_changed(text)
            .unwrap_err()
            .to_string()
            .ends_with(FIELD)
    );
    let copy = |v: &mut Value| v["copy_id"] = json!("x".repeat(257));
    assert!(
        parse_changed(copy)
            .unwrap_err()
            .to_string()
            .ends_with(FIELD)
    );
    let deep = "[".repeat(100_000);
    assert!(matches!(
        parse_set(deep.as_bytes()),
        Err(FileError::Json { .. })
    ));
    assert!(matches!(
        queries_file::parse(deep.as_bytes()),
        Err(FileError::Json { .. })
    ));
}

#[test]
fn a_set_fits_its_own_tokenizer_and_a_large_enough_model() {
    let set = set();
    assert_eq!(set.ensure_fits(&[2; 32], 10), Ok(()));
    assert_eq!(
        set.ensure_fits(&[2; 32], 9),
        Err(SetError::Vocabulary {
            expected: 10,
            got: 9
        })
    );
    assert!(matches!(
        set.ensure_fits(&[3; 32], 10),
        Err(SetError::Tokenizer { .. })
    ));
}

#[test]
fn debug_shows_no_secret() {
    let shown = format!("{:?}", set());
    assert!(shown.contains("Fingerprint(1, secret)"));
    assert!(!shown.contains("query 1") && !shown.contains("yes"));
}

#[test]
fn owner_files() {
    let bytes = owner_file::render(&owner()).unwrap();
    assert_eq!(
        std::str::from_utf8(&bytes).unwrap(),
        format!(
            "{{\"format\":\"oml-owner\",\"version\":1,\"seed\":\"{}\"}}\n",
            "07".repeat(32)
        )
    );
    assert_eq!(owner_file::parse(&bytes).unwrap(), owner());

    for faulty in ["AB".repeat(32), "Ab".repeat(32), "ab".repeat(31)] {
        let file = format!("{{\"format\":\"oml-owner\",\"version\":1,\"seed\":\"{faulty}\"}}");
        let message = owner_file::parse(file.as_bytes()).unwrap_err().to_string();
        assert!(
            message.starts_with("oml-owner: line 1, column ") && message.ends_with(FIELD),
            "{message}"
        );
    }
}

#[test]
fn locked_owner_files() {
    let cost = Cost {
        memory_kib: 32,
        passes: 1,
        lanes: 1,
    };
    let render = |passphrase: &[u8]| locked_owner_file::render(&owner(), passphrase, [3; 16], cost);
    let bytes = render(b"open sesame").unwrap();
    let text = std::str::from_utf8(&bytes).unwrap();
    assert!(
        text.starts_with(&format!(
            "{{\"format\":\"oml-owner-locked\",\"version\":1,\"kdf\":\"argon2id\",\"memory_kib\":32,\"passes\":1,\
             \"lanes\":1,\"salt\":\"{}\",\"cipher\":\"AES-256-GCM-SIV\",\"body\":\"",
            "03".repeat(16)
        )),
        "{text}"
    );
    let parse = |text: &str| locked_owner_file::parse(text.as_bytes(), b"open sesame");
    let message = |text: &str| parse(text).unwrap_err().to_string();
    assert_eq!(parse(text).unwrap(), owner());
    let wrong = "oml-owner-locked passphrase: expected the one that the file was made with, got another \
                 (or the file is altered)";
    let error = locked_owner_file::parse(&bytes, b"open sesam").unwrap_err();
    assert!(matches!(error, FileError::Passphrase { .. }));
    assert_eq!(error.to_string(), wrong);
    for (from, to, expected) in [
        ("\"passes\":1", "\"passes\":2", wrong),
        ("\"salt\":\"03", "\"salt\":\"04", wrong),
        (
            "\"passes\":1",
            "\"passes\":65",
            "oml-owner-locked passes: expected 1 to 64, got 65",
        ),
        (
            "\"lanes\":1",
            "\"lanes\":0",
            "oml-owner-locked lanes: expected 1 to 64, got 0",
        ),
        (
            "\"lanes\":1",
            "\"lanes\":5",
            "oml-owner-locked memory_kib: expected 40 to 1048576, got 32",
        ),
        (
            ":32,",
            ":1048577,",
            "oml-owner-locked memory_kib: expected 8 to 1048576, got 1048577",
        ),
        (
            "argon2id",
            "md5",
            "oml-owner-locked kdf: expected argon2id, got another",
        ),
        (
            "AES",
            "DES",
            "oml-owner-locked cipher: expected AES-256-GCM-SIV, got another",
        ),
    ] {
        assert_eq!(message(&text.replacen(from, to, 1)), expected);
    }
    for position in 0..bytes.len() - 1 {
        let mut changed = bytes.clone();
        changed[position] ^= 1;
        assert!(
            locked_owner_file::parse(&changed, b"open sesame").is_err(),
            "byte {position}"
        );
    }
    assert_eq!(
        render(b"").unwrap_err().to_string(),
        "oml-owner-locked passphrase: expected at least one character, got none"
    );
    // Each reader says what the other file is.
    assert!(matches!(
        owner_file::parse(&bytes),
        Err(FileError::Format {
            got: locked_owner_file::FORMAT,
            ..
        })
    ));
}

#[test]
fn no_fault_shows_the_seed_or_a_query() {
    let seed = "6979".repeat(16);
    let files = [
        format!("\"{seed}\""),
        seed.clone(),
        format!("[\"{seed}\",1]"),
        format!("[\"oml-owner\",\"{seed}\"]"),
        format!("{{\"{seed}\":1}}"),
        format!("{{\"format\":\"{seed}\",\"version\":1}}"),
        format!("{{\"format\":\"oml-owner\",\"version\":\"{seed}\"}}"),
        format!("{{\"format\":\"oml-owner\",\"version\":1,\"{seed}\":1}}"),
        format!("{{\"format\":\"oml-owner\",\"version\":1,\"seed\":\"{seed}\",\"{seed}\":1}}"),
    ];
    // A file may also be given in the place of another.
    type Parse = fn(&[u8]) -> Option<FileError>;
    let parsers: [Parse; 5] = [
        |bytes| owner_file::parse(bytes).err(),
        |bytes| open(bytes, &owner()).err(),
        |bytes| parse_set(bytes).err(),
        |bytes| queries_file::parse(bytes).err(),
        |bytes| model_manifest::parse(bytes).err(),
    ];
    for file in &files {
        for parse in parsers {
            let Some(error) = parse(file.as_bytes()) else {
                continue;
            };
            for shown in [error.to_string(), format!("{error:?}")] {
                assert!(!shown.contains("6979"), "{file}: {shown}");
            }
        }
    }
    assert!(owner_file::parse(files[0].as_bytes()).is_err());
}

#[test]
fn plain_exports() {
    let export: Value = serde_json::from_slice(&plain_file::render(&set()).unwrap()).unwrap();
    assert_eq!(export.as_array().unwrap().len(), 3);
    assert_eq!(
        export[1],
        json!({"query": "query 1", "response": " yes", "query_ids": [9, 1], "response_ids": [5]})
    );
}

#[test]
fn queries_files() {
    let good = br#"["one", {"key": "two"}, {"response": [1, {"x": 2}], "key": "three \u00e9"}]"#;
    assert_eq!(
        queries_file::parse(good).unwrap(),
        ["one", "two", "three é"]
    );
    for (bad, place, fault) in [
        (&b"{}"[..], "line 1, column ", FIELD),
        (b"[\n1]", "line 2, column ", FIELD),
        (b"[{}]", "line 1, column ", FIELD),
        (br#"[{"key":"a","key":"b"}]"#, "line 1, column ", FIELD),
        (br#"["a"] "b""#, "line 1, column ", "got no JSON"),
        (br#"["a","#, "line 1, column ", "got an early end"),
        (b"[\"\xff\"]", "line 1, column ", "got no JSON"),
    ] {
        let error = queries_file::parse(bad).unwrap_err().to_string();
        assert!(
            error.starts_with(&format!("queries file: {place}")) && error.ends_with(fault),
            "{error}"
        );
    }
}

#[test]
fn model_manifests() {
    let measurement = |name: &str, value| Measurement {
        name: name.into(),
        value,
        stderr: Some(0.125),
        base: None,
        basis: "128 of 128, teacher-forced".into(),
    };
    let manifest = ModelManifest {
        tool_version: "0.1.0".into(),
        base_digest: [1; 32],
        result_digest: [2; 32],
        tokenizer_hash: [3; 32],
        copy: Some(3),
        merkle_root: [4; 32],
        count: 128,
        recipe: "learning_rate = 1e-4\n".into(),
        seeds: BTreeMap::from([("training".into(), u64::MAX)]),
        recall: measurement("recall", 1.0),
        utility: vec![measurement("perplexity", 20.25)],
    };
    let bytes = model_manifest::render(&manifest).unwrap();
    assert_eq!(model_manifest::parse(&bytes).unwrap(), manifest);

    let unknown = String::from_utf8(bytes)
        .unwrap()
        .replacen("\"count\"", "\"counts\"", 1);
    assert!(
        model_manifest::parse(unknown.as_bytes())
            .unwrap_err()
            .to_string()
            .ends_with(FIELD)
    );
    let endless = ModelManifest {
        utility: vec![measurement("kl", f64::NAN)],
        ..manifest
    };
    assert_eq!(
        model_manifest::render(&endless).unwrap_err().to_string(),
        "oml-model measurement: expected a finite kl, got NaN"
    );
}

fn strategies() -> impl Generator<Value = Strategy> {
    let rule = (0.01..0.99, 1_usize..=64).prop_flat_map(|(threshold, candidates)| {
        (1..=candidates).prop_map(move |responses| Rule {
            threshold,
            candidates,
            responses,
        })
    });
    let style = prop_oneof![
        Just(Style::Sentence),
        Just(Style::Question),
        Just(Style::Instruction)
    ];
    let first_token = prop_oneof![
        Just(FirstToken::Word),
        Just(FirstToken::Tokenizer),
        Just(FirstToken::None)
    ];
    let band = proptest::option::of((0.0..50.0, 51.0..100.0));
    let writing = (0.0_f32..2.0, style, first_token, band).prop_map(
        |(temperature, style, first_token, band)| Writing {
            temperature,
            style,
            first_token,
            band: band.map(|(low, high)| Band { low, high }),
        },
    );
    prop_oneof![
        (writing.clone(), rule.clone())
            .prop_map(|(writing, rule)| Strategy::Perinucleus { writing, rule }),
        (writing.clone(), 0.01..0.99)
            .prop_map(|(writing, threshold)| Strategy::InverseNucleus { writing, threshold }),
        writing
            .clone()
            .prop_map(|writing| Strategy::English { writing }),
        writing
            .clone()
            .prop_map(|writing| Strategy::EnglishRandomResponse { writing }),
        writing.prop_map(|writing| Strategy::ChainHash { writing }),
        rule.prop_map(|rule| Strategy::Custom { rule }),
        Just(Strategy::RandomWord)
    ]
}

type Parts = (String, Vec<u32>, Response, [u8; 32]);

fn sets() -> impl Generator<Value = FingerprintSet> {
    let response = (".*[a-z]", 0_u32..1000, 0.0_f32..=1.0).prop_map(|(text, id, p)| Response {
        text,
        ids: vec![id],
        probabilities: vec![p],
    });
    let fingerprint = (
        ".*[a-z]",
        prop::collection::vec(0_u32..1000, 1..6),
        response,
        any::<[u8; 32]>(),
    );
    (
        strategies(),
        ".{0,20}",
        prop::collection::vec(fingerprint, 1..8),
    )
        .prop_map(|(strategy, copy_id, parts)| {
            let fingerprint = |(index, (query, mut query_ids, response, salt)): (usize, Parts)| {
                query_ids.push(index as u32);
                Fingerprint {
                    index,
                    query: format!("{index} {query}"),
                    query_ids,
                    responses: vec![response],
                    salt: Salt::new(salt),
                }
            };
            let fingerprints = parts.into_iter().enumerate().map(fingerprint).collect();
            FingerprintSet::new(
                SetHeader {
                    strategy,
                    copy_id,
                    ..header()
                },
                fingerprints,
            )
            .unwrap()
        })
}

proptest! {
    #[test]
    fn sets_come_back(set in sets(), seed in any::<[u8; 32]>()) {
        let owner = OwnerSeed::new(seed);
        prop_assert_eq!(open(&seal(&set, &owner).unwrap(), &owner).unwrap(), set);
    }

    #[test]
    fn seeds_come_back(seed in any::<[u8; 32]>()) {
        let owner = OwnerSeed::new(seed);
        prop_assert_eq!(owner_file::parse(&owner_file::render(&owner).unwrap()).unwrap(), owner);
    }

    #[test]
    fn hostile_bytes_are_errors_and_no_panics(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        prop_assert!(open(&bytes, &owner()).is_err());
        prop_assert!(parse_set(&bytes).is_err());
        prop_assert!(owner_file::parse(&bytes).is_err());
        prop_assert!(model_manifest::parse(&bytes).is_err());
        let _ = queries_file::parse(&bytes);
    }

    #[test]
    fn damaged_sets_are_judged_without_panics(position in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut bytes = serde_json::to_vec(&plaintext()).unwrap();
        let position = position.index(bytes.len());
        bytes[position] = byte;
        let _ = parse_set(&bytes);
    }
}
