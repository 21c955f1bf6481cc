//! Bundles: what an honest owner makes holds, and whatever a dishonest one changes is named.

use std::fs;
use std::path::Path;

use oml_core::audit::{
    Answer, Ask, Conclusion, Event, Known, Matcher, Mode, Progress, Put, Rule, Subject, Suspect,
    Terms, Verdict, replay,
};
use oml_core::bundle::{
    Challenge, Check, ControlResult, Figures, Judge, Opened, Outcome, Statement, check_response,
    holds, respond,
};
use oml_core::check::{CONTROL_CONFIDENCE, Null};
use oml_core::claim;
use oml_core::commitment::{Commitment, Opening};
use oml_core::fingerprint::{Fingerprint, FingerprintSet, Response, SetHeader};
use oml_core::manifest::bundle_archive::{CONTROLS, GIT, LEDGER, OPENINGS, RFC3161, TRANSCRIPT};
use oml_core::manifest::transcript_file::{self, Transcript};
use oml_core::manifest::{
    bundle_file, challenge_file, controls_file, openings_file, response_file,
};
use oml_core::prompt::{Prompt, Template};
use oml_core::secret::{OwnerSeed, Salt};
use oml_core::signing::SigningKey;
use oml_core::strategy::Strategy;
use oml_core::time_proof::rfc3161::{self, Roots};
use proptest::prelude::*;
use sha2::{Digest, Sha256};

/// When the audit of every bundle here began, in seconds: after the time proofs, which are goldens.
const BEGAN: u64 = 1_900_000_000;
const MADE: u64 = BEGAN + 100;

fn key() -> SigningKey {
    SigningKey::derive(&OwnerSeed::new(std::array::from_fn(|i| i as u8)))
}

fn thief() -> SigningKey {
    SigningKey::derive(&OwnerSeed::new([9; 32]))
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
        query_ids: vec![9, index as u32 % 1000, index as u32 / 1000],
        responses: vec![Response {
            text: format!(" response{index}"),
            ids: vec![5],
            probabilities: vec![0.0625],
        }],
        salt: Salt::new(std::array::from_fn(|i| (index >> (8 * (i % 4))) as u8)),
    };
    FingerprintSet::new(header, (0..count).map(fingerprint).collect()).unwrap()
}

fn null() -> Null {
    Null {
        rate: claim::upper_bound(0, 64, CONTROL_CONFIDENCE),
        basis: "one control".into(),
    }
}

/// What a bundle is made of, to be changed by the test.
struct Material {
    key: SigningKey,
    set: FingerprintSet,
    terms: Terms,
    /// Whether the suspect answers as the owner's model does.
    marked: bool,
    opened: Option<Vec<Opened>>,
    controls: Vec<ControlResult>,
    rfc3161: Option<Vec<u8>>,
    git: Option<Vec<u8>>,
    ledger: Option<Vec<u8>>,
}

fn material(count: usize) -> Material {
    let set = set(count);
    let root = Commitment::new(&set).root();
    Material {
        key: key(),
        terms: Terms {
            time: BEGAN * 1000,
            tool: "oml 0".into(),
            root,
            leaves: count as u64,
            strategy: "perinucleus".into(),
            suspect: Suspect::Endpoint {
                url: "https://example.org/v1/completions".into(),
                api: "completions".into(),
                model: "m".into(),
            },
            seed: [7; 32],
            pairs: vec![(0, count - 1)],
            most: count.min(64) as u64,
            rule: Rule {
                mode: Mode::Prefix,
                tokens: 4,
            },
            wraps: vec![Prompt::Text(Template::new("{}").unwrap())],
            decoys: 1,
            decoy_basis: "text".into(),
            null: null(),
            alpha: 1e-6,
            least_recall: 0.2,
            futility: 1e-3,
        },
        set,
        marked: true,
        opened: None,
        controls: vec![ControlResult {
            name: "base".into(),
            digest: [1; 32],
            asked: vec![(0, 63)],
            hits: vec![],
        }],
        rfc3161: None,
        git: None,
        ledger: None,
    }
}

impl Material {
    /// The audit, to its end, or over all queries where `whole`.
    fn audit(&self, whole: bool) -> Vec<u8> {
        let (mut transcript, mut bytes) = Transcript::begin(self.terms.clone()).unwrap();
        let mut progress = Progress::new(&transcript.terms);
        let matcher = Matcher::new(transcript.terms.rule, None);
        while whole || Verdict::of(&transcript.terms, &progress).conclusion == Conclusion::Open {
            let due = progress.due(1);
            let Some(due) = due.first().copied() else {
                break;
            };
            let number = progress.requests().len() as u64;
            let (query, responses) = match due.subject {
                Subject::Fingerprint(index) => {
                    let pair = &self.set.fingerprints()[index as usize];
                    (pair.query.clone(), vec![pair.responses[0].text.clone()])
                }
                Subject::Decoy(number) => (format!("decoy {number}"), vec![" no".into()]),
            };
            let is_decoy = matches!(due.subject, Subject::Decoy(_));
            let ask = Ask {
                number,
                subject: due.subject,
                wrap: due.wrap,
                put: Put::new(&transcript.terms.wraps[due.wrap], &query),
                responses: if is_decoy { responses.clone() } else { vec![] },
                request: format!("{{\"prompt\":\"{query}\"}}"),
            };
            let text = match self.marked && !is_decoy {
                true => responses[0].clone(),
                false => " something".into(),
            };
            progress.ask(number, due).unwrap();
            let time = BEGAN * 1000 + number;
            bytes.extend(transcript.push(time, Event::Ask(ask.clone())).unwrap());
            let hit = matcher.is_hit(&ask.put.text, &responses, &text).unwrap();
            progress.answer(number, hit).unwrap();
            let answer = Answer {
                number,
                status: Some(200),
                body: text.clone().into_bytes(),
                cut: false,
                fault: None,
                text: Some(text),
                elapsed: 3,
            };
            bytes.extend(transcript.push(time, Event::Answer(answer)).unwrap());
        }
        bytes
    }

    /// The fingerprints that a transcript asks, opened.
    fn asked(&self, transcript: &Transcript) -> Vec<Opened> {
        let commitment = Commitment::new(&self.set);
        let indices = transcript
            .entries
            .iter()
            .filter_map(|entry| match &entry.event {
                Event::Ask(Ask {
                    subject: Subject::Fingerprint(index),
                    ..
                }) => Some(*index as usize),
                _ => None,
            });
        let indices: std::collections::BTreeSet<usize> = indices.collect();
        indices
            .into_iter()
            .map(|index| self.open(&commitment, index))
            .collect()
    }

    fn open(&self, commitment: &Commitment, index: usize) -> Opened {
        Opened {
            opening: Opening::from(&self.set.fingerprints()[index]),
            proof: commitment.proof(index).unwrap(),
        }
    }

    /// The signed bundle over `transcript`; `change` may state something else than what came out.
    fn bundle_of(&self, transcript: Vec<u8>, change: impl FnOnce(&mut Statement)) -> Vec<u8> {
        let parsed = transcript_file::parse(&transcript).unwrap();
        let opened = self.opened.clone().unwrap_or_else(|| self.asked(&parsed));
        let verdict = self.verdict(&parsed);
        let openings = openings_file::render(&opened).unwrap();
        let controls = controls_file::render(&self.controls).unwrap();
        let mut parts = vec![(OPENINGS, openings.as_slice()), (TRANSCRIPT, &transcript)];
        if !self.controls.is_empty() {
            parts.push((CONTROLS, &controls));
        }
        parts.extend(self.rfc3161.as_deref().map(|bytes| (RFC3161, bytes)));
        parts.extend(self.git.as_deref().map(|bytes| (GIT, bytes)));
        parts.extend(self.ledger.as_deref().map(|bytes| (LEDGER, bytes)));
        let mut statement = Statement {
            tool: "oml 0".into(),
            time: MADE,
            owner: self.key.address(),
            owner_id: [4; 16],
            root: self.terms.root,
            leaves: self.terms.leaves,
            strategy: Strategy::default(),
            model_digest: [1; 32],
            tokenizer_hash: [2; 32],
            suspect: self.terms.suspect.clone(),
            null: self.terms.null.clone(),
            alpha: self.terms.alpha,
            figures: Figures::of(&parsed.terms, &verdict),
            contents: bundle_file::digests(&parts),
        };
        change(&mut statement);
        bundle_file::render(&statement, &parts, &self.key).unwrap()
    }

    fn verdict(&self, transcript: &Transcript) -> Verdict {
        let known = |index: u64| {
            let pair = &self.set.fingerprints()[index as usize];
            Some(Known {
                query: &pair.query,
                responses: vec![&pair.responses[0].text],
            })
        };
        let matcher = Matcher::new(transcript.terms.rule, None);
        let progress = replay(&transcript.terms, &transcript.entries, known, &matcher);
        Verdict::of(&transcript.terms, &progress.unwrap())
    }

    fn bundle(&self) -> Vec<u8> {
        self.bundle_of(self.audit(false), |_| ())
    }
}

fn golden(name: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/time_proof");
    fs::read(folder.join(name)).unwrap()
}

#[test]
fn the_goldens_stamp_this_set() {
    // Its line is in goldens/time_proof/generate.py.
    let root = Commitment::new(&set(8)).root();
    assert_eq!(
        oml_core::manifest::hex(&root),
        "73f0dd8ad7d1b3461a8c926faf1fa3888f71f6ff8bba1c382387013096819f41"
    );
}

fn roots() -> Roots {
    rfc3161::roots(&golden("trusted.pem")).unwrap()
}

/// What a judge says who knows nothing but the time.
fn judged(bytes: &[u8]) -> Vec<Check> {
    let judge = Judge {
        now: MADE + 50,
        ..Judge::default()
    };
    judge.check(&bundle_file::parse(bytes).unwrap())
}

fn outcome<'a>(checks: &'a [Check], name: &str) -> &'a Outcome {
    let mut found = checks.iter().filter(|check| check.name == name);
    let check = found.next().unwrap_or_else(|| panic!("no check {name}"));
    &check.outcome
}

/// The one check that fails, with its words.
fn fault(checks: &[Check]) -> String {
    let fails = |check: &&Check| matches!(check.outcome, Outcome::Fails(_));
    let faults: Vec<_> = checks
        .iter()
        .filter(fails)
        .map(|check| format!("{}: {}", check.name, check.outcome.words()))
        .collect();
    faults.join("\n")
}

#[test]
fn an_honest_claim_holds_and_says_what_nobody_checked() {
    let bytes = material(8).bundle();
    let checks = judged(&bytes);
    assert!(holds(&checks), "{}", fault(&checks));
    let unchecked = |check: &&Check| matches!(check.outcome, Outcome::Unchecked(_));
    let unchecked: Vec<_> = checks
        .iter()
        .filter(unchecked)
        .map(|check| check.name)
        .collect();
    assert_eq!(
        unchecked,
        [
            "owner",
            "root",
            "root before audit",
            "root before release",
            "answers"
        ]
    );
    assert_eq!(
        outcome(&checks, "figures").words(),
        "5 of 5 fingerprints, 0 of 4 decoys"
    );
    let statement = bundle_file::parse(&bytes).unwrap().statement.to_string();
    assert!(
        statement.contains("was asked 5 secret queries of a set of 8 fingerprints"),
        "{statement}"
    );
}

#[test]
fn a_judge_who_knows_everything_leaves_only_the_answers_open() {
    let mut material = material(8);
    material.rfc3161 = Some(golden("claim.tsr"));
    material.git = Some(golden("claim.git"));
    let bytes = material.bundle();
    let bundle = bundle_file::parse(&bytes).unwrap();
    let roots = roots();
    let commit = std::str::from_utf8(&golden("claim.git")[..40])
        .unwrap()
        .to_owned();
    let judge = Judge {
        now: MADE,
        root: Some(material.terms.root),
        owner: Some(key().address()),
        authorities: Some(&roots),
        commit: Some(&commit),
        block: None,
        released: Some(BEGAN - 1),
        tokenizer: None,
    };
    let checks = judge.check(&bundle);
    for check in &checks {
        let expected = check.name != "answers";
        assert_eq!(
            matches!(check.outcome, Outcome::Holds(_)),
            expected,
            "{check:?}"
        );
    }
    // The earlier of the two proofs counts.
    assert!(
        outcome(&checks, "root before release")
            .words()
            .starts_with("2023-11-14T22:13:20Z")
    );

    let fails = |judge: Judge<'_>, expected: &str| {
        assert_eq!(fault(&judge.check(&bundle)), expected);
    };
    let address = thief().address();
    fails(
        Judge {
            owner: Some(address),
            ..judge
        },
        &format!("owner: expected {address}, got {}", key().address()),
    );
    let zeros = "00".repeat(32);
    let root = oml_core::manifest::hex(&material.terms.root);
    fails(
        Judge {
            root: Some([0; 32]),
            ..judge
        },
        &format!("root: expected 0x{zeros}, got 0x{root}"),
    );
    fails(
        Judge {
            released: Some(1_600_000_000),
            ..judge
        },
        "root before release: expected an earlier time, got 2023-11-14T22:13:20Z against 2020-09-13T12:26:40Z, when the suspect was released",
    );
    let other = rfc3161::roots(&golden("other.pem")).unwrap();
    let told = fault(
        &Judge {
            authorities: Some(&other),
            ..judge
        }
        .check(&bundle),
    );
    assert!(
        told.starts_with("time stamp: 2") && told.ends_with("its issuer is not trusted"),
        "{told}"
    );
    let told = fault(
        &Judge {
            commit: Some("00"),
            ..judge
        }
        .check(&bundle),
    );
    assert!(told.ends_with("expected commit 00"), "{told}");
    // A commit that nobody knew is its author's word, and no proof.
    let doubtful = Judge {
        commit: None,
        authorities: None,
        ..judge
    }
    .check(&bundle);
    for name in [
        "time stamp",
        "commit",
        "root before audit",
        "root before release",
    ] {
        assert_eq!(outcome(&doubtful, name).name(), "unchecked", "{name}");
    }
}

#[test]
fn a_block_counts_once_the_judge_found_it_in_its_chain() {
    let mut material = material(8);
    material.ledger = Some(golden("ledger_claim.json"));
    let bytes = material.bundle();
    let bundle = bundle_file::parse(&bytes).unwrap();
    let judge = Judge {
        now: MADE,
        released: Some(BEGAN - 1000),
        ..Judge::default()
    };
    let checks = judge.check(&bundle);
    for name in ["ledger", "root before audit", "root before release"] {
        assert_eq!(outcome(&checks, name).name(), "unchecked", "{name}");
    }
    let words = outcome(&checks, "ledger").words();
    assert!(words.contains("of chain 31337, 0x18ea24e0"), "{words}");
    let words = outcome(&checks, "root before audit").words();
    assert!(
        words.ends_with("by a block that nobody looked up"),
        "{words}"
    );
    let block = "18ea24e0982682bacbf0c9e220f925f6ef8a9f3d7ce4541bca5456e9d404e076";
    let pinned = Judge {
        block: oml_core::manifest::parse_hash(block),
        ..judge
    };
    let checks = pinned.check(&bundle);
    for name in ["ledger", "root before audit", "root before release"] {
        assert_eq!(outcome(&checks, name).name(), "holds", "{name}");
    }
    let early = Judge {
        released: Some(1_767_225_660),
        ..pinned
    };
    assert_eq!(
        fault(&early.check(&bundle)),
        "root before release: expected an earlier time, got 2026-01-01T00:01:00Z against 2026-01-01T00:01:00Z, when the suspect was released"
    );
    let other = Judge {
        block: Some([0; 32]),
        ..judge
    };
    let told = fault(&other.check(&bundle));
    assert!(
        told.ends_with(&format!("expected block 0x{}", "00".repeat(32))),
        "{told}"
    );
    material.ledger = Some(golden("ledger.json"));
    let bytes = material.bundle();
    let told = fault(&judge.check(&bundle_file::parse(&bytes).unwrap()));
    assert!(
        told.starts_with("ledger: ledger proof input: expected the line of this root"),
        "{told}"
    );
}

#[test]
fn every_changed_byte_of_a_bundle_is_noticed() {
    let mut material = material(8);
    material.git = Some(golden("claim.git"));
    material.ledger = Some(golden("ledger_claim.json"));
    let bytes = material.bundle();
    for at in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[at] ^= 1 << (at % 8);
        let Ok(bundle) = bundle_file::parse(&changed) else {
            continue;
        };
        let judge = Judge {
            now: MADE,
            ..Judge::default()
        };
        assert!(!holds(&judge.check(&bundle)), "byte {at}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn changed_bytes_of_a_large_bundle_are_noticed(at in any::<prop::sample::Index>(), bit in 0_u32..8, cut in any::<bool>()) {
        static BUNDLE: std::sync::OnceLock<Vec<u8>> = std::sync::OnceLock::new();
        let bytes = BUNDLE.get_or_init(|| {
            let material = material(1024);
            material.bundle_of(material.audit(true), |_| ())
        });
        let at = at.index(bytes.len());
        let mut changed = bytes.clone();
        changed[at] ^= 1_u8 << bit;
        if cut {
            changed.truncate(at);
        }
        if let Ok(bundle) = bundle_file::parse(&changed) {
            let judge = Judge { now: MADE, ..Judge::default() };
            prop_assert!(!holds(&judge.check(&bundle)), "byte {}", at);
        }
    }

    #[test]
    fn a_thousand_leaves_with_some_opened_hold(count in 64_usize..1100) {
        let checks = judged(&material(count).bundle());
        prop_assert!(holds(&checks), "{}", fault(&checks));
    }
}

#[test]
fn a_dishonest_owner_is_found_out() {
    type Lie = fn(&mut Statement);
    let honest = material(8);
    let audit = honest.audit(false);
    let table: [(Lie, &str); 10] = [
        (
            |s| s.figures.fingerprints.hits = 4,
            "figures: the transcript gives another hits",
        ),
        (
            |s| s.figures.decoys.trials = 99,
            "figures: the transcript gives another decoys",
        ),
        (
            |s| s.figures.log10_e_value += 0.01,
            "figures: the transcript gives another log10_e_value",
        ),
        (
            |s| s.alpha = 1e-9,
            "terms: the transcript's terms have another threshold",
        ),
        (
            |s| s.null.rate = 1e-6,
            "terms: the transcript's terms have another null rate",
        ),
        (
            |s| s.strategy = Strategy::RandomWord,
            "terms: the transcript's terms have another strategy",
        ),
        (
            |s| {
                s.suspect = Suspect::Checkpoint {
                    name: "m".into(),
                    digest: [0; 32],
                }
            },
            "terms: the transcript's terms have another suspect",
        ),
        (
            |s| s.time = MADE + 10_000,
            "times: the claim is dated 2030-03-17T20:35:00Z, and it is 2030-03-17T17:49:10Z",
        ),
        (
            |s| s.time = BEGAN - 1000,
            "times: the audit goes on until 2030-03-17T17:46:40Z, and the claim is dated 2030-03-17T17:30:00Z",
        ),
        (
            |s| s.contents.truncate(1),
            "contents: expected openings.jsonl, got openings.jsonl, transcript.jsonl, controls.json",
        ),
    ];
    for (lie, expected) in table {
        assert_eq!(
            fault(&judged(&honest.bundle_of(audit.clone(), lie))),
            expected
        );
    }
    let lie: Lie = |s| s.contents[1].1 = [0; 32];
    let expected = "contents: transcript.jsonl has another SHA-256 than stated";
    assert_eq!(
        fault(&judged(&honest.bundle_of(audit.clone(), lie))),
        expected
    );
    let lie: Lie = |s| s.root = [0; 32];
    let told = fault(&judged(&honest.bundle_of(audit.clone(), lie)));
    assert!(
        told.starts_with("openings: fingerprint 2: expected a proof that leads to the root"),
        "{told}"
    );
    let lie: Lie = |s| s.leaves = 1 << 17;
    let told = fault(&judged(&honest.bundle_of(audit, lie)));
    assert!(
        told.starts_with("openings: fingerprint 2: expected a proof of 17 to 17 hashes"),
        "{told}"
    );
}

#[test]
fn a_suspect_without_the_fingerprints_is_not_claimed() {
    let mut innocent = material(64);
    innocent.marked = false;
    let told = fault(&judged(&innocent.bundle()));
    assert!(
        told.starts_with("evidence: 10^0.00 against 1e6, over"),
        "{told}"
    );
}

#[test]
fn openings_must_be_the_asked_ones_in_order() {
    let honest = material(8);
    let audit = honest.audit(false);
    let asked = honest.asked(&transcript_file::parse(&audit).unwrap());
    let with = |opened: Vec<Opened>| {
        let changed = Material {
            opened: Some(opened),
            ..material(8)
        };
        fault(&judged(&changed.bundle_of(audit.clone(), |_| ())))
    };
    let first = asked[0].opening.index;
    let told = with(asked[1..].to_vec());
    assert!(
        told.starts_with("transcript: transcript: request ")
            && told.contains(&format!("expected an opened fingerprint, got {first}")),
        "{told}"
    );
    let mut swapped = asked.clone();
    swapped.swap(1, 2);
    assert!(with(swapped).starts_with("openings: fingerprint "));
    let mut twice = asked.clone();
    twice.insert(1, asked[0].clone());
    let expected = format!(
        "openings: fingerprint {first}: expected a number above {first}, which comes before"
    );
    assert_eq!(with(twice), expected);
    let mut other = asked.clone();
    other[0].opening.query = "another".into();
    let told = with(other);
    assert!(
        told.starts_with(&format!("openings: fingerprint {first}: expected a proof")),
        "{told}"
    );
    assert!(told.contains("transcript: transcript: request"), "{told}");
    assert_eq!(with(asked), "");
}

#[test]
fn the_null_rate_may_not_be_smaller_than_its_basis() {
    let with = |rate: f64, controls: Vec<ControlResult>, mode| {
        let mut changed = material(64);
        changed.terms.null.rate = rate;
        changed.terms.rule.mode = mode;
        changed.controls = controls;
        fault(&judged(&changed.bundle_of(changed.audit(true), |_| ())))
    };
    let honest = material(64);
    assert_eq!(with(null().rate, honest.controls.clone(), Mode::Prefix), "");
    let mut worse = honest.controls[0].clone();
    worse.name = "worse".into();
    worse.hits = vec![(3, 4)];
    let both = vec![honest.controls[0].clone(), worse];
    let told = with(null().rate, both, Mode::Prefix);
    assert!(
        told.starts_with("null: 4.573e-2 against 9.")
            && told.contains("of the worst of 2 control(s): worse hit 2 of 64"),
        "{told}"
    );
    // Without a control only the worst case holds, and none where a response may stand anywhere.
    let told = with(null().rate, vec![], Mode::Prefix);
    assert!(
        told.starts_with("null: 4.573e-2 against 3.333e-1, the worst case"),
        "{told}"
    );
    assert_eq!(with(1.0 / 3.0, vec![], Mode::Prefix), "");
    let told = with(1.0 / 3.0, vec![], Mode::Contains);
    assert!(told.starts_with("null: 3.333e-1 against 1.000e0"), "{told}");
}

#[test]
fn a_thief_of_opened_pairs_is_found_out() {
    // Whoever sees the bundle can sign its parts, but neither the time proof nor other pairs are theirs.
    let mut stolen = material(8);
    stolen.key = thief();
    stolen.rfc3161 = Some(golden("claim.tsr"));
    let bytes = stolen.bundle();
    let told = fault(&judged(&bytes));
    assert!(
        told.starts_with("time stamp: time stamp imprint: expected SHA-256"),
        "{told}"
    );

    stolen.rfc3161 = None;
    let bytes = stolen.bundle();
    let bundle = bundle_file::parse(&bytes).unwrap();
    let challenge = Challenge {
        claim: bundle.digest,
        root: bundle.statement.root,
        leaves: 8,
        count: 8,
        seed: [5; 32],
        time: MADE,
    };
    let digest = Sha256::digest(challenge_file::render(&challenge).unwrap()).into();
    let response = respond(&challenge, &digest, &bundle.opened, MADE, &thief()).unwrap();
    let response = response_file::parse(&response).unwrap();
    let checks = check_response(&bundle, &challenge, &digest, &response);
    let expected = "response: expected the fingerprints that were drawn, got others";
    assert_eq!(fault(&checks), expected);
}

#[test]
fn the_owner_opens_what_the_judge_draws() {
    let material = material(64);
    let bytes = material.bundle();
    let bundle = bundle_file::parse(&bytes).unwrap();
    let challenge = Challenge {
        claim: bundle.digest,
        root: bundle.statement.root,
        leaves: 64,
        count: 5,
        seed: [5; 32],
        time: MADE,
    };
    let file = challenge_file::render(&challenge).unwrap();
    let digest = Sha256::digest(&file).into();
    let commitment = Commitment::new(&material.set);
    let drawn = challenge.indices();
    let opened: Vec<Opened> = drawn
        .iter()
        .map(|index| material.open(&commitment, *index as usize))
        .collect();
    let answer = respond(&challenge, &digest, &opened, MADE, &key()).unwrap();
    let response = response_file::parse(&answer).unwrap();
    let checks = check_response(&bundle, &challenge, &digest, &response);
    assert_eq!(fault(&checks), "");
    assert_eq!(checks.len(), 3);

    for at in 0..answer.len() {
        let mut changed = answer.clone();
        changed[at] ^= 1;
        if let Ok(response) = response_file::parse(&changed) {
            let checks = check_response(&bundle, &challenge, &digest, &response);
            assert!(!holds(&checks), "byte {at}");
        }
    }
    let checked = |challenge: &Challenge, digest: &[u8; 32]| {
        fault(&check_response(&bundle, challenge, digest, &response))
    };
    let other = Challenge {
        seed: [6; 32],
        ..challenge
    };
    assert!(
        checked(&other, &[0; 32]).starts_with("challenge: expected a response to this challenge")
    );
    let other = Challenge {
        claim: [6; 32],
        ..challenge
    };
    assert!(checked(&other, &digest).starts_with("challenge: expected a challenge to this claim"));
    let other = Challenge {
        leaves: 32,
        ..challenge
    };
    assert!(checked(&other, &digest).starts_with("challenge: expected a challenge to all leaves"));
    let by_another = respond(&challenge, &digest, &opened, MADE, &thief()).unwrap();
    let response = response_file::parse(&by_another).unwrap();
    let told = fault(&check_response(&bundle, &challenge, &digest, &response));
    assert!(
        told.starts_with("response signature: expected 0x621c"),
        "{told}"
    );
}

/// With OML_WRITE_SEEDS they are written anew.
#[test]
fn the_fuzz_seeds_are_a_bundle_and_what_answers_it() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds/bundle");
    if std::env::var_os("OML_WRITE_SEEDS").is_some() {
        let material = material(8);
        let bytes = material.bundle();
        let bundle = bundle_file::parse(&bytes).unwrap();
        let challenge = Challenge {
            claim: bundle.digest,
            root: bundle.statement.root,
            leaves: 8,
            count: 2,
            seed: [5; 32],
            time: MADE,
        };
        let file = challenge_file::render(&challenge).unwrap();
        let digest = Sha256::digest(&file).into();
        let commitment = Commitment::new(&material.set);
        let drawn = challenge.indices();
        let open = |index: &u64| material.open(&commitment, *index as usize);
        let opened: Vec<_> = drawn.iter().map(open).collect();
        fs::create_dir_all(&folder).unwrap();
        let response = respond(&challenge, &digest, &opened, MADE, &key()).unwrap();
        fs::write(folder.join("response"), response).unwrap();
        fs::write(folder.join("challenge"), file).unwrap();
        let entries = oml_core::manifest::bundle_archive::parse(&bytes).unwrap();
        for (name, contents) in entries {
            fs::write(folder.join(name.replace('.', "_")), contents).unwrap();
        }
        fs::write(folder.join("small"), &bytes).unwrap();
    }
    let read = |name: &str| fs::read(folder.join(name)).unwrap();
    let bytes = read("small");
    let bundle = bundle_file::parse(&bytes).unwrap();
    assert_eq!(fault(&judged(&bytes)), "");
    let file = read("challenge");
    let challenge = challenge_file::parse(&file).unwrap();
    let response = response_file::parse(&read("response")).unwrap();
    let digest = Sha256::digest(&file).into();
    assert_eq!(
        fault(&check_response(&bundle, &challenge, &digest, &response)),
        ""
    );
}

#[test]
fn what_no_reader_takes_is_refused() {
    let bytes = material(8).bundle();
    let entries = oml_core::manifest::bundle_archive::parse(&bytes).unwrap();
    let fault = |entries: &[(&'static str, &[u8])]| {
        let bytes = oml_core::manifest::bundle_archive::render(entries).unwrap();
        bundle_file::parse(&bytes).unwrap_err().to_string()
    };
    for place in [0, 1, 2, 4] {
        let mut fewer = entries.clone();
        let (name, _) = fewer.remove(place);
        assert_eq!(fault(&fewer), format!("bundle: expected {name}, got none"));
    }
    let mut swapped = entries.clone();
    let openings = swapped[1].1;
    swapped[1].1 = swapped[2].1;
    let told = fault(&swapped);
    assert_eq!(
        told,
        "bundle entry openings.jsonl: format: expected \"oml-opening\", got \"oml-transcript\""
    );
    swapped[1].1 = &openings[..openings.len() - 1];
    let told = fault(&swapped);
    assert!(
        told.starts_with("bundle entry openings.jsonl: oml-opening entries[4].line:"),
        "{told}"
    );
    let text = String::from_utf8(entries[0].1.to_vec()).unwrap();
    for (old, new, expected) in [
        (
            "secret queries",
            "open queries",
            "oml-claim statement: expected the figures in words, got other words",
        ),
        (
            "\"candidates\":3,\"responses\"",
            "\"candidates\":2,\"responses\"",
            "oml-claim candidates: expected 2, got 3",
        ),
        (
            "\"candidates\":3,\"model",
            "\"candidates\":2,\"model",
            "oml-claim candidates: expected 3, got 2",
        ),
        (
            "\"leaves\":8",
            "\"leaves\":0",
            "oml-claim leaves: expected 1 to 262144, got 0",
        ),
        (
            "\"conclusion\":\"present\"",
            "\"conclusion\":\"proved\"",
            "oml-claim figures.conclusion: expected a conclusion, got another text",
        ),
        (
            "\"name\":\"controls.json\"",
            "\"name\":\"../controls\"",
            "oml-claim entries[2].name: expected an entry of a bundle, got another",
        ),
    ] {
        let changed = text.replace(old, new);
        let mut entries = entries.clone();
        entries[0].1 = changed.as_bytes();
        let expected = format!("bundle entry claim.json: {expected}");
        assert_eq!(fault(&entries), expected);
    }
    let spaced = [entries[4].1, b" "].concat();
    let mut entries = entries;
    entries[4].1 = &spaced;
    let told = fault(&entries);
    assert_eq!(
        told,
        "bundle entry signature.json: oml-signature spelling: expected the one that is written, got another"
    );
}
