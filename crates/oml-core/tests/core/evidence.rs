//! Slices for provers, openings as evidence, and the log of what was used.

use std::collections::BTreeSet;

use oml_core::commitment::Commitment;
use oml_core::fingerprint::{Fingerprint, FingerprintSet, Response, SetHeader};
use oml_core::manifest::{FileError, opening_file, slice_file, usage_log};
use oml_core::secret::{OwnerSeed, Salt};
use oml_core::slice::{Slice, deal};
use oml_core::strategy::Strategy;
use oml_core::usage::{Event, Tally, Usage, ranges};
use proptest::prelude::*;
use serde_json::{Value, json};

fn owner() -> OwnerSeed {
    OwnerSeed::new([7; 32])
}

fn set(count: usize) -> FingerprintSet {
    let header = SetHeader {
        strategy: Strategy::default(),
        model_digest: [1; 32],
        tokenizer_hash: [2; 32],
        vocabulary_size: 1000,
        copy_id: String::new(),
        copies: None,
        query_length: 2,
        response_length: 1,
    };
    let fingerprint = |index: usize| Fingerprint {
        index,
        query: format!("query {index}"),
        query_ids: vec![9, index as u32],
        responses: vec![Response {
            text: " yes".into(),
            ids: vec![5],
            probabilities: vec![0.0625],
        }],
        salt: Salt::new([index as u8; 32]),
    };
    FingerprintSet::new(header, (0..count).map(fingerprint).collect()).unwrap()
}

fn changed(slice: &Slice, change: impl FnOnce(&mut Value)) -> Result<Slice, FileError> {
    let mut value = serde_json::from_slice(&slice_file::render(slice).unwrap()).unwrap();
    change(&mut value);
    slice_file::parse(&serde_json::to_vec(&value).unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn slices_share_nothing_and_miss_nothing(count in 1_usize..40, parts in 1_usize..40) {
        let set = set(count);
        let Ok(slices) = deal(&set, &owner(), parts) else {
            prop_assert!(parts > count);
            return Ok(());
        };
        prop_assert_eq!(slices.len(), parts);
        let mut all = BTreeSet::new();
        for (part, slice) in slices.iter().enumerate() {
            let size = slice.set().count();
            prop_assert!(size == count / parts || size == count / parts + 1);
            prop_assert_eq!((slice.part, slice.parts, slice.count), (part, parts, count));
            for (own, &index) in slice.set().fingerprints().iter().zip(slice.indices()) {
                prop_assert!(all.insert(index));
                prop_assert_eq!(&own.query, &set.fingerprints()[index].query);
                let (opening, proof) = slice.opening(index).unwrap();
                prop_assert!(opening.verify(&Commitment::new(&set).root(), proof));
            }
            prop_assert_eq!(&slice_file::parse(&slice_file::render(slice).unwrap()).unwrap(), slice);
        }
        prop_assert_eq!(all.len(), count);
        prop_assert_eq!(deal(&set, &owner(), parts).unwrap(), slices);
    }
}

#[test]
fn who_gets_what_depends_on_the_seed() {
    let indices = |owner: &OwnerSeed| deal(&set(40), owner, 2).unwrap()[0].indices().to_vec();
    assert_ne!(indices(&owner()), indices(&OwnerSeed::new([8; 32])));
    let error = deal(&set(3), &owner(), 4).unwrap_err();
    assert_eq!(error.to_string(), "parts: expected 1 to 3, got 4");
}

#[test]
fn a_slice_with_a_changed_pair_is_refused() {
    type Change = fn(&mut Value);
    let slice = &deal(&set(9), &owner(), 2).unwrap()[1];
    assert_eq!(&changed(slice, |_| ()).unwrap(), slice);
    assert!(
        slice
            .opening((0..9).find(|i| !slice.indices().contains(i)).unwrap())
            .is_none()
    );
    let not_proved = "oml-slice proofs[0]: expected a path to the root, got another";
    let table: [(Change, &str); 10] = [
        (
            |v| v["set"]["fingerprints"][0]["query"] = json!("another"),
            not_proved,
        ),
        (
            |v| v["set"]["fingerprints"][0]["responses"][0]["text"] = json!(" no"),
            not_proved,
        ),
        (
            |v| v["set"]["fingerprints"][0]["salt"] = json!("77".repeat(32)),
            not_proved,
        ),
        (|v| v["root"] = json!("77".repeat(32)), not_proved),
        (|v| v["proofs"][0][0] = json!("77".repeat(32)), not_proved),
        (
            |v| v["indices"][0] = v["indices"][1].clone(),
            "oml-slice indices: expected rising numbers below 9, got others",
        ),
        (
            |v| v["count"] = json!(u64::MAX),
            "oml-slice count: expected 4 to 262144, got 18446744073709551615",
        ),
        (
            |v| v["part"] = json!(2),
            "oml-slice part: expected 0 to 1, got 2",
        ),
        (
            |v| v["proofs"] = json!([]),
            "oml-slice proofs: expected 4, got 0",
        ),
        (
            |v| v["set"]["version"] = json!(2),
            "oml-fingerprint-set version: expected 1, got 2",
        ),
    ];
    for (change, message) in table {
        assert_eq!(changed(slice, change).unwrap_err().to_string(), message);
    }
}

#[test]
fn an_opening_is_proved_and_any_change_shows() {
    let set = set(9);
    let commitment = Commitment::new(&set);
    let opening = oml_core::commitment::Opening::from(&set.fingerprints()[4]);
    let bytes = opening_file::render(&opening, &commitment.proof(4).unwrap()).unwrap();
    let verified = |value: &Value| {
        let bytes = serde_json::to_vec(value).unwrap();
        let (opening, proof) = opening_file::parse(&bytes).unwrap();
        opening.verify(&commitment.root(), &proof)
    };
    let honest: Value = serde_json::from_slice(&bytes).unwrap();
    assert!(verified(&honest));
    for (field, value) in [
        ("index", json!(5)),
        ("salt", json!("00".repeat(32))),
        ("query", json!("query 5")),
        ("responses", json!([" no"])),
        ("responses", json!([])),
        ("proof", json!([])),
        ("proof", json!(["77".repeat(32)])),
    ] {
        let mut changed = honest.clone();
        changed[field] = value;
        assert!(!verified(&changed), "{field}");
    }
    let mut extra = honest;
    extra["root"] = json!("00".repeat(32));
    let error = opening_file::parse(&serde_json::to_vec(&extra).unwrap()).unwrap_err();
    assert!(matches!(
        error,
        FileError::Json {
            file: "oml-opening",
            ..
        }
    ));
}

fn usage(event: Event, pairs: &[usize]) -> Usage {
    Usage {
        time: 1_700_000_000,
        root: [3; 32],
        event,
        pairs: ranges(pairs),
    }
}

fn check(suspect: &str) -> Event {
    Event::Check {
        suspect: suspect.into(),
    }
}

#[test]
fn a_log_survives_duplicates_and_torn_lines() {
    let line = |usage: &Usage| usage_log::render(usage).unwrap();
    let of_other_set = Usage {
        root: [4; 32],
        ..usage(Event::Open, &[9])
    };
    let opened = line(&usage(Event::Open, &[3]));
    let log = [
        line(&usage(check("a"), &[0, 1, 2, 3, 7])),
        opened.clone(),
        opened.clone(),
        line(&of_other_set),
        line(&usage(check("a"), &[8])),
        opened[..40].to_vec(),
        b"\n\n".to_vec(),
        line(&usage(Event::Slice { to: "age1x".into() }, &[5, 40])),
        opened[..50].to_vec(),
    ]
    .concat();
    let mut tally = Tally::new([3; 32], 10);
    assert_eq!(usage_log::read(&log, &mut tally).unwrap(), 2);
    assert_eq!(tally.others, 1);
    assert_eq!(tally.opened(), [3]);
    assert_eq!(tally.pairs(|_| true), [0, 1, 2, 3, 5, 7, 8]);
    let to = |to: &str| Event::Slice { to: to.into() };
    let events: Vec<_> = tally.events().collect();
    let expected = [
        (&check("a"), 2, 6),
        (&to("age1x"), 1, 1),
        (&Event::Open, 2, 1),
    ];
    assert_eq!(events, expected);
    assert_eq!(tally.pairs(|event| *event == check("b")), [0; 0]);
}

#[test]
fn a_line_has_one_documented_form() {
    let line = usage_log::render(&usage(check("marked"), &[0, 1, 2, 5])).unwrap();
    assert_eq!(
        String::from_utf8(line).unwrap(),
        format!(
            "{{\"format\":\"oml-usage\",\"version\":1,\"time\":1700000000,\"root\":\"{}\",\"event\":\"check\",\
             \"suspect\":\"marked\",\"pairs\":[[0,2],[5,5]]}}\n",
            "03".repeat(32)
        )
    );
    for hostile in [
        "[]",
        r#"{"format":"oml-usage","version":1,"time":1,"root":"00","event":"open","pairs":[]}"#,
        &format!(
            r#"{{"format":"oml-usage","version":1,"time":1,"root":"{}","event":"open","to":"x","pairs":[]}}"#,
            "03".repeat(32)
        ),
    ] {
        let mut tally = Tally::new([3; 32], 10);
        assert_eq!(usage_log::read(hostile.as_bytes(), &mut tally).unwrap(), 1);
    }
    // Numbers from nowhere, turned around or beyond the set, touch nothing and stop nothing.
    let mut tally = Tally::new([3; 32], 10);
    for pairs in [(7, 2), (50, 60), (0, usize::MAX)] {
        tally.add(Usage {
            pairs: vec![pairs],
            ..usage(Event::Open, &[])
        });
    }
    assert_eq!(tally.opened().len(), 10);
}
