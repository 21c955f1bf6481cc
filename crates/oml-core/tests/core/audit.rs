//! Audits from their terms to the verdict, and the transcript that holds them.

use oml_core::audit::{
    Answer, Ask, Conclusion, Due, Entry, Event, Known, Matcher, Mode, Progress, Put, ReplayError,
    Rule, Subject, Suspect, Terms, Verdict, replay,
};
use oml_core::check::Null;
use oml_core::manifest::FileError;
use oml_core::manifest::transcript_file::{self, Transcript};
use oml_core::prompt::{Prompt, Template};
use proptest::prelude::*;

const LEAVES: u64 = 40;

fn template(text: &str) -> Prompt {
    Prompt::Text(Template::new(text).unwrap())
}

fn terms() -> Terms {
    Terms {
        time: 1_700_000_000_000,
        tool: "oml 0".into(),
        root: [3; 32],
        leaves: LEAVES,
        strategy: "perinucleus".into(),
        suspect: Suspect::Endpoint {
            url: "http://127.0.0.1:1/v1/completions".into(),
            api: "completions".into(),
            model: "m".into(),
        },
        seed: [9; 32],
        pairs: vec![(0, 19), (30, 39)],
        most: 30,
        rule: Rule {
            mode: Mode::Prefix,
            tokens: 4,
        },
        wraps: vec![template("{}")],
        decoys: 1,
        decoy_basis: "text".into(),
        null: Null {
            rate: 0.01,
            basis: "controls".into(),
        },
        alpha: 1e-6,
        least_recall: 0.2,
        futility: 1e-3,
    }
}

fn query(index: u64) -> String {
    format!("query {index}")
}

fn response(index: u64) -> String {
    format!(" response {index}")
}

/// Runs an audit of a suspect that answers as `says` tells; requests leave `side_by_side`.
fn run(terms: Terms, side_by_side: usize, says: impl Fn(&Ask) -> Option<String>) -> Vec<u8> {
    let (mut transcript, mut bytes) = Transcript::begin(terms).unwrap();
    let mut progress = Progress::new(&transcript.terms);
    let matcher = Matcher::new(transcript.terms.rule, None);
    while Verdict::of(&transcript.terms, &progress).conclusion == Conclusion::Open {
        let due = progress.due(side_by_side);
        if due.is_empty() {
            break;
        }
        let mut asks = Vec::new();
        for due in due {
            let number = progress.requests().len() as u64;
            let (text, responses) = match due.subject {
                Subject::Fingerprint(index) => (query(index), vec![]),
                Subject::Decoy(number) => (format!("decoy {number}"), vec![response(number % 7)]),
            };
            let ask = Ask {
                number,
                subject: due.subject,
                wrap: due.wrap,
                put: Put::new(&transcript.terms.wraps[due.wrap], &text),
                responses,
                request: "{}".into(),
            };
            progress.ask(number, due).unwrap();
            bytes.extend(transcript.push(0, Event::Ask(ask.clone())).unwrap());
            asks.push(ask);
        }
        for ask in asks {
            let text = says(&ask);
            let answer = Answer {
                number: ask.number,
                status: Some(200),
                body: b"\xff raw".to_vec(),
                cut: false,
                fault: text.is_none().then(|| "cut off".into()),
                text: text.clone(),
                elapsed: 3,
            };
            bytes.extend(transcript.push(1, Event::Answer(answer)).unwrap());
            if let Some(text) = text {
                let responses = match ask.subject {
                    Subject::Fingerprint(index) => vec![response(index)],
                    Subject::Decoy(_) => ask.responses,
                };
                let hit = matcher.is_hit(&ask.put.text, &responses, &text).unwrap();
                progress.answer(ask.number, hit).unwrap();
            }
        }
    }
    bytes
}

/// What a reader with all texts makes of a transcript.
fn judged(transcript: &Transcript) -> Result<Verdict, ReplayError> {
    let texts: Vec<(String, String)> = (0..LEAVES).map(|i| (query(i), response(i))).collect();
    let known = |index: u64| {
        let (query, response) = texts.get(index as usize)?;
        Some(Known {
            query,
            responses: vec![response],
        })
    };
    let matcher = Matcher::new(transcript.terms.rule, None);
    let progress = replay(&transcript.terms, &transcript.entries, known, &matcher)?;
    Ok(Verdict::of(&transcript.terms, &progress))
}

fn owned(ask: &Ask) -> Option<String> {
    Some(match ask.subject {
        Subject::Fingerprint(index) => format!("response {index} and more"),
        Subject::Decoy(_) => "something".into(),
    })
}

#[test]
fn a_marked_suspect_is_found_after_a_few_queries() {
    let bytes = run(terms(), 1, owned);
    let transcript = transcript_file::parse(&bytes).unwrap();
    let verdict = judged(&transcript).unwrap();
    assert_eq!(verdict.conclusion, Conclusion::Present);
    assert_eq!(verdict.fingerprints.hits, 4);
    assert_eq!(verdict.fingerprints.trials, 4);
    assert!(verdict.decoys.trials >= 3 && verdict.decoys.hits == 0);
    assert!(verdict.ln_e_value >= 1e6_f64.ln());
    assert_eq!(verdict.course.len(), 4);
    assert_eq!(verdict.unanswered, 0);
}

#[test]
fn an_innocent_suspect_is_given_up() {
    let bytes = run(terms(), 3, |_| Some("something else".into()));
    let verdict = judged(&transcript_file::parse(&bytes).unwrap()).unwrap();
    assert_eq!(verdict.conclusion, Conclusion::Open);
    assert_eq!(verdict.fingerprints.trials, 30);
    let patient = Terms {
        least_recall: 0.5,
        ..terms()
    };
    let bytes = run(patient, 3, |_| Some("something else".into()));
    let verdict = judged(&transcript_file::parse(&bytes).unwrap()).unwrap();
    assert_eq!(verdict.conclusion, Conclusion::Absent);
    assert!(verdict.fingerprints.trials < 20);
}

#[test]
fn an_answer_that_is_lost_is_a_miss() {
    let bytes = run(terms(), 1, |ask| match ask.number % 2 {
        0 => owned(ask),
        _ => None,
    });
    let verdict = judged(&transcript_file::parse(&bytes).unwrap()).unwrap();
    assert!(verdict.unanswered > 0);
    assert!(verdict.fingerprints.trials > verdict.fingerprints.hits);
}

#[test]
fn each_wrap_is_tried_until_one_brings_a_hit() {
    let wrapped = Terms {
        wraps: vec![template("{}"), template("Q: {}"), template("Say: {}")],
        decoys: 0,
        ..terms()
    };
    let bytes = run(wrapped, 4, |ask| match ask.put.text.starts_with("Q: ") {
        true => owned(ask),
        false => Some("nothing".into()),
    });
    let verdict = judged(&transcript_file::parse(&bytes).unwrap()).unwrap();
    assert_eq!(verdict.conclusion, Conclusion::Present);
    let [plain, question, say] = verdict.by_wrap[..] else {
        panic!("three wraps")
    };
    assert_eq!((plain.hits, say.trials), (0, 0));
    assert_eq!(question.hits, question.trials);
    assert_eq!(verdict.fingerprints.hits, question.hits);
}

#[test]
fn entries_that_leave_the_plan_are_refused() {
    let terms = terms();
    let mut progress = Progress::new(&terms);
    let due = progress.due(2);
    assert!(progress.ask(1, due[0]).is_err());
    assert!(progress.ask(0, due[1]).is_err());
    let again = Due { wrap: 1, ..due[0] };
    assert!(progress.ask(0, again).is_err());
    progress.ask(0, due[0]).unwrap();
    assert!(progress.ask(1, due[0]).is_err());
    assert!(progress.answer(1, true).is_err());
    progress.answer(0, true).unwrap();
    assert!(progress.answer(0, false).is_err());
}

#[test]
fn a_transcript_comes_back_and_a_torn_line_is_cut() {
    let bytes = run(terms(), 2, owned);
    let transcript = transcript_file::parse(&bytes).unwrap();
    assert_eq!(transcript.terms, terms());
    let (again, whole) = transcript_file::recover(&bytes[..bytes.len() - 1]).unwrap();
    assert!(whole < bytes.len() - 1 && bytes[whole - 1] == b'\n');
    assert_eq!(again.entries.len() + 1, transcript.entries.len());
    assert!(transcript_file::parse(&bytes[..bytes.len() - 1]).is_err());
    // It goes on from there to the same bytes.
    let mut again = again;
    let Entry { time, event } = transcript.entries.last().unwrap().clone();
    assert_eq!(again.push(time, event).unwrap(), &bytes[whole..]);
    assert_eq!(again.head(), transcript.head());
}

#[test]
fn lines_cannot_be_left_out_exchanged_or_repeated() {
    let bytes = run(terms(), 1, owned);
    let lines: Vec<&[u8]> = bytes.split_inclusive(|byte| *byte == b'\n').collect();
    let without = |place: usize| [&lines[..place], &lines[place + 1..]].concat().concat();
    for place in 0..lines.len() - 1 {
        assert!(transcript_file::parse(&without(place)).is_err(), "{place}");
    }
    let mut exchanged = lines.clone();
    exchanged.swap(2, 3);
    assert!(transcript_file::parse(&exchanged.concat()).is_err());
    let repeated = [&lines[..3], &lines[2..]].concat().concat();
    let error = transcript_file::parse(&repeated).err().unwrap();
    assert!(
        matches!(
            error,
            FileError::Entry {
                entry: 3,
                field: "previous",
                ..
            }
        ),
        "{error}"
    );
    assert!(transcript_file::parse(b"").is_err());
    assert!(transcript_file::parse(b"\n").is_err());
}

#[test]
fn texts_that_are_not_the_fingerprints_are_noticed() {
    let bytes = run(terms(), 1, owned);
    let transcript = transcript_file::parse(&bytes).unwrap();
    let matcher = Matcher::new(transcript.terms.rule, None);
    let other = |_| {
        Some(Known {
            query: "another",
            responses: vec![" response"],
        })
    };
    let put = replay(&transcript.terms, &transcript.entries, other, &matcher);
    assert!(matches!(put, Err(ReplayError::Put { .. })));
    let none = replay(&transcript.terms, &transcript.entries, |_| None, &matcher);
    assert!(matches!(none, Err(ReplayError::Unknown { .. })));
}

#[test]
fn terms_out_of_range_are_named() {
    type Fault = (&'static str, fn(&mut Terms));
    let faults: [Fault; 9] = [
        ("alpha", |t| t.alpha = 0.0),
        ("least_recall", |t| t.least_recall = 1.0),
        ("futility", |t| t.futility = f64::NAN),
        ("null rate", |t| t.null.rate = 0.0),
        ("wraps", |t| t.wraps.clear()),
        ("decoys", |t| t.decoys = 17),
        ("tokens", |t| t.rule.tokens = 0),
        ("pairs", |t| t.pairs = vec![(0, 40)]),
        ("most", |t| t.most = 31),
    ];
    for (field, fault) in faults {
        let mut terms = terms();
        fault(&mut terms);
        assert_eq!(terms.validate().unwrap_err().field, field);
        let error = Transcript::begin(terms).err().unwrap();
        assert!(matches!(error, FileError::Field { field: named, .. } if named == field));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// A changed byte is noticed, except in the last line, which nothing is bound to: its hash is what has to be published.
    #[test]
    fn a_changed_byte_is_noticed(place in 0usize..1 << 16, flip in 1u8..=255) {
        let bytes = run(terms(), 1, owned);
        let before = transcript_file::parse(&bytes).unwrap();
        let mut changed = bytes.clone();
        changed[place % bytes.len()] ^= flip;
        if let Ok(after) = transcript_file::parse(&changed) {
            prop_assert_ne!(after.head(), before.head());
        }
    }
}
