//! Every kind of input to every format, hostile texts, and files that say what cannot be.

use std::f64::consts::LN_10;
use std::fs;

use oml_core::claim::{self, Share};
use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd};
use serde_json::{Value, json};

use super::{Dossier, Format, input};

const NULL: f64 = 0.036_523_825_053_548_516;
const ROOT: &str = "0x5c8ea794fd6aaa20ba52cbb55241f995bcfd9636fa8ba48ea6e05eaa8def1881";
const HEAD: &str = "4f1b9e964201f03310b02f22bc9038f92a5c1d546799fa48b320ec3a1b2c47a4";

/// What an audit of an endpoint prints, with these answers to fingerprints 3, 10, 17, ….
fn audit(hits: &[bool], conclusion: &str) -> Value {
    let mut share = Share { hits: 0, trials: 0 };
    let mut course = Vec::new();
    for hit in hits {
        share.trials += 1;
        share.hits += u64::from(*hit);
        let ln = claim::ln_e_value(share.hits, share.trials - share.hits, NULL);
        course
            .push(json!({"index": 7 * share.trials - 4, "hit": hit, "log10_e_value": ln / LN_10}));
    }
    let decoys = Share {
        hits: 0,
        trials: share.trials,
    };
    let interval = claim::clopper_pearson(share.hits, share.trials, 0.95);
    let largest = course
        .iter()
        .filter_map(|step| step["log10_e_value"].as_f64());
    json!({
        "suspect": "https://models.example/v1", "model": "helper-7b", "api": "openai-chat",
        "conclusion": conclusion, "present": conclusion == "present", "merkle_root": ROOT, "strategy": "perinucleus",
        "asked": share.trials, "hits": share.hits, "recall": share.hits as f64 / share.trials.max(1) as f64,
        "recall_low": interval.low, "recall_high": interval.high, "e_value": null,
        "log10_e_value": largest.fold(0.0, f64::max), "alpha": 1e-6, "fewest": 5, "null": NULL,
        "null_basis": "upper 95 % Clopper-Pearson bound of the worst of 1 control model(s): base hit 1 of 128",
        "log10_p_value": claim::ln_binomial_tail(share.hits, share.trials, NULL) / LN_10,
        "decoys": decoys.trials, "decoy_hits": 0, "decoy_basis": "pieces of the built-in text",
        "log10_fisher": if share.trials > 0 { Some(claim::ln_fisher(share, decoys) / LN_10) } else { None },
        "unanswered": share.trials.min(1), "requests": 3 * share.trials, "rule": "prefix", "tokens": 5,
        "wraps": [
            {"prompt": "{}", "asked": share.trials, "hits": share.hits},
            {"prompt": "system: Be brief. | user: Continue: {}", "asked": share.trials - share.hits, "hits": 0},
        ],
        "course": course,
        "controls": [{"model": "base", "digest": HEAD, "count": 128, "hits": 1}],
        "stealth": {
            "median_perplexity": 41.15, "median_percentile": 2.37, "above_99th": 0.0, "below_1st": 0.0, "queries": 128,
            "benign_pieces": 253, "text": "the built-in text",
        },
        "confidence": {"hits": share.hits, "response_probability": 0.987, "decoys": decoys.trials, "decoy_probability": 0.412},
        "transcript": "audit.jsonl", "transcript_head": HEAD, "began": 1_795_714_802_551_u64, "seconds": 171.9,
    })
}

/// What a check prints; every third fingerprint is a hit where `every` is 3.
fn check(count: u64, every: u64) -> Value {
    let hits = count.div_ceil(every);
    let ln = claim::ln_binomial_tail(hits, count, NULL);
    let needed = claim::hits_needed(count, NULL, 1e-6);
    let interval = claim::clopper_pearson(hits, count, 0.95);
    let fingerprints = (0..count).map(|index| {
        let hit = index % every == 0;
        let rank = if hit { 0 } else { 5 * index + 1 };
        json!({
            "index": index, "hit": hit, "ranks": [[rank + 1, 0], [rank]],
            "probabilities": [[0.2, 0.1], [if hit { 0.9 } else { 0.001 }]],
        })
    });
    json!({
        "model": "suspect", "count": count, "hits": hits, "recall": hits as f64 / count as f64, "recall_low": interval.low,
        "recall_high": interval.high, "p_value": ln.exp(), "log10_p_value": ln / LN_10, "null": NULL,
        "null_basis": "worst of 1 control model(s)", "alpha": 1e-6, "hits_needed": needed,
        "present": needed.is_some_and(|needed| hits >= needed),
        "controls": [{"model": "base", "count": count, "hits": 0}],
        "prompted": [{"prompt": "user: {}", "hits": 2, "count": count}], "seconds": 18.4,
        "fingerprints": fingerprints.collect::<Vec<_>>(),
    })
}

/// A manifest as `oml embed` writes it.
fn manifest() -> Value {
    json!({
        "format": "oml-model", "version": 1, "tool_version": "0.1.0", "base_digest": HEAD, "result_digest": &ROOT[2..],
        "tokenizer_hash": HEAD, "merkle_root": &ROOT[2..], "count": 128, "recipe": "seed = 0\n", "seeds": {"training": 7},
        "recall": {"name": "recall", "value": 1.0, "stderr": null, "base": 0.0, "basis": "128 of 128 fingerprints, greedy"},
        "utility": [
            {"name": "perplexity", "value": 32.58, "stderr": 1.6, "base": 32.18, "basis": "the built-in text"},
            {"name": "kl", "value": 0.0152, "stderr": 0.0011, "base": null, "basis": "the built-in text"},
        ],
    })
}

fn dossier(value: &Value) -> Dossier {
    input::of(value.to_string().as_bytes()).unwrap()
}

fn fault(value: &Value) -> String {
    input::of(value.to_string().as_bytes())
        .unwrap_err()
        .to_string()
}

fn html(dossier: &Dossier) -> String {
    dossier.render(Format::Html).unwrap()
}

fn markdown(dossier: &Dossier) -> String {
    dossier.render(Format::Markdown).unwrap()
}

/// Values that read as one text across formats.
fn samples() -> Vec<(&'static str, Value)> {
    vec![
        ("audit", audit(&[true; 8], "present")),
        ("check", check(90, 3)),
        ("embedding", manifest()),
    ]
}

#[test]
fn every_input_comes_in_every_format() {
    for (kind, value) in samples() {
        let dossier = dossier(&value);
        let page = html(&dossier);
        for outside in [
            "<script", "<link", "<img", "@import", "url(", " src=", " href=", "NaN", "inf ",
        ] {
            assert!(!page.contains(outside), "{kind}: {outside}");
        }
        assert_eq!(page.matches("<svg").count(), page.matches("</svg>").count());
        assert_eq!(
            page.matches("role=\"img\"").count(),
            page.matches("role=\"img\" aria-label=\"").count()
        );
        let sentence = page.find("<p class=\"sentence\">").unwrap();
        assert!(
            sentence < page.find("<svg").unwrap(),
            "{kind}: verdict first"
        );
        let text = markdown(&dossier);
        assert!(text.contains("## What this does not show"), "{kind}");
        assert!(
            text.find("> **").unwrap() < text.find("## ").unwrap(),
            "{kind}"
        );
        let json: Value = serde_json::from_str(&dossier.render(Format::Json).unwrap()).unwrap();
        let marks = [&json["format"], &json["version"], &json["kind"]];
        assert_eq!(marks, [&json!("oml-report"), &json!(1), &json!(kind)]);
        assert_eq!(json["verdict"]["sentence"], json!(dossier.verdict.sentence));
    }
}

#[test]
fn verdicts_say_what_was_found() {
    let said = |value: &Value| {
        let verdict = dossier(value).verdict;
        (verdict.word, verdict.sentence)
    };
    let (word, sentence) = said(&audit(&[true; 8], "present"));
    assert_eq!(word, "Present");
    assert_eq!(
        sentence,
        "The model “helper-7b” at https://models.example/v1 gave the owner’s secret answer to every one of 8 secret questions. A model that \
         never learned these fingerprints would give as much evidence, however long one asked, with a probability of at most 1\u{a0}in\u{a0}1,000,000."
    );
    let (word, sentence) = said(&audit(&[false; 30], "absent"));
    assert_eq!(word, "Absent");
    assert!(
        sentence.contains("none of the owner’s secret answers to 30 secret questions"),
        "{sentence}"
    );
    let (word, sentence) = said(&audit(&[false, true, false], "undecided"));
    assert_eq!(word, "Undecided");
    assert!(
        sentence.contains("to 1 of 3 secret questions"),
        "{sentence}"
    );
    let (word, sentence) = said(&audit(&[], "undecided"));
    assert_eq!(word, "Undecided");
    assert!(sentence.contains("to 0 secret questions"), "{sentence}");
    let (word, sentence) = said(&check(90, 3));
    assert_eq!(word, "Present");
    assert!(
        sentence.contains("for 30 of 90 secret questions"),
        "{sentence}"
    );
    let (word, sentence) = said(&check(90, 60));
    assert_eq!(word, "Not shown to be present");
    assert!(
        sentence.contains("for 2 of 90 secret questions"),
        "{sentence}"
    );
    let (word, sentence) = said(&manifest());
    assert_eq!(word, "Embedded");
    assert!(
        sentence.ends_with("On ordinary text its perplexity is 1.2\u{a0}% higher than before."),
        "{sentence}"
    );
}

#[test]
fn ranks_are_those_of_the_best_response() {
    let dossier = dossier(&check(90, 3));
    let counts: Vec<u64> = dossier.ranks.iter().map(|rank| rank.count).collect();
    // 30 hits; the others stand at 5 i + 2 for i of 1 to 89 except multiples of 3.
    assert_eq!(counts, [30, 1, 12, 47, 0]);
    assert_eq!(dossier.fingerprints[1].rank, Some(7));
    assert_eq!(dossier.fingerprints[0].probability, Some(0.9));
    assert!(html(&dossier).contains("<details><summary>All 90 fingerprints</summary>"));
}

#[test]
fn a_folder_brings_the_course_of_training() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(
        folder.path().join("oml-manifest.json"),
        manifest().to_string(),
    )
    .unwrap();
    assert!(Dossier::read(folder.path()).unwrap().training.is_none());
    let course = |recall: f64| {
        json!({
            "format": "oml-training", "version": 1, "kept_seconds": 2.0, "kept_share": 0.5,
            "frontier": [{"share": 0.5, "recall": 1.0, "perplexity_ratio": 1.01}, {"share": 1.0, "recall": 1.0, "perplexity_ratio": 1.1}],
            "moments": [[1.0, 5.5, null], [2.0, 0.1, recall]],
        })
    };
    let training = folder.path().join("oml-training.json");
    fs::write(&training, course(1.0).to_string()).unwrap();
    let page = html(&Dossier::read(folder.path()).unwrap());
    assert!(
        page.contains("<h2>Learning</h2>") && page.contains(">kept<"),
        "{page}"
    );
    fs::write(&training, course(1.5).to_string()).unwrap();
    let error = format!("{:#}", Dossier::read(folder.path()).unwrap_err());
    assert!(
        error.ends_with("oml-training.json: moments[1]: expected a number of 0 to 1, got 1.5"),
        "{error}"
    );
    fs::remove_file(folder.path().join("oml-manifest.json")).unwrap();
    let error = Dossier::read(folder.path()).unwrap_err().to_string();
    assert!(
        error.ends_with("expected oml-manifest.json in it, got none"),
        "{error}"
    );
}

const HOSTILE: &str = "<script>alert(1)</script><img src=x onerror=alert(1)> \"' --> [a](javascript:b) ![c](d) <e@f.example> www.g.example \
    https://h.example @i #1 `j` ``k`` *l* _m_ ~~n~~ $o$ | p | &lt; \\\n# q\n- r\n\n    s\n```t";

/// Puts the hostile text wherever there is a text whose form is free.
fn poison(value: &mut Value) -> usize {
    const FORMS: [&str; 7] = [
        "conclusion",
        "merkle_root",
        "digest",
        "transcript_head",
        "format",
        "base_digest",
        "result_digest",
    ];
    let mut count = 0;
    match value {
        Value::Object(fields) => {
            for (name, field) in fields {
                let is_form = FORMS.contains(&name.as_str()) || name == "tokenizer_hash";
                match field {
                    Value::String(text) if !is_form => {
                        *text = HOSTILE.to_owned();
                        count += 1;
                    }
                    _ => count += poison(field),
                }
            }
        }
        Value::Array(items) => count += items.iter_mut().map(poison).sum::<usize>(),
        _ => (),
    }
    count
}

/// What a reader of Markdown sees of a text: headings, items and tables; and whether anything can be clicked, or is HTML.
fn shape(text: &str) -> (Vec<usize>, bool) {
    let options = Options::ENABLE_TABLES
        | Options::ENABLE_STRIKETHROUGH
        | Options::ENABLE_MATH
        | Options::ENABLE_GFM;
    let (mut counts, mut live, mut in_code) = (vec![0; 5], false, false);
    for event in Parser::new_ext(text, options) {
        match event {
            Event::Start(Tag::Heading { .. }) => counts[0] += 1,
            Event::Start(Tag::Item) => counts[1] += 1,
            Event::Start(Tag::TableCell) => counts[2] += 1,
            Event::Start(Tag::CodeBlock(_)) => {
                counts[3] += 1;
                in_code = true;
            }
            Event::End(TagEnd::CodeBlock) => in_code = false,
            // Code hosts notify whom they see named.
            Event::Text(text) if !in_code => live |= text.contains(['@', '#']),
            Event::Start(Tag::Emphasis | Tag::Strong) => counts[4] += 1,
            Event::Start(
                Tag::Link { .. } | Tag::Image { .. } | Tag::HtmlBlock | Tag::Strikethrough,
            )
            | Event::Html(_)
            | Event::InlineHtml(_)
            | Event::InlineMath(_)
            | Event::DisplayMath(_) => live = true,
            _ => (),
        }
    }
    (counts, live)
}

#[test]
fn texts_of_strangers_stay_texts() {
    for (kind, benign) in samples() {
        let mut hostile = benign.clone();
        assert!(poison(&mut hostile) >= 4, "{kind}");
        // A manifest whose measurements have no known name loses its ratio of perplexities, and with it a number.
        if kind == "embedding" {
            hostile["utility"][0]["name"] = json!("perplexity");
        }
        let (benign, hostile) = (dossier(&benign), dossier(&hostile));
        let (page, plain) = (html(&hostile), html(&benign));
        assert!(page.contains("&#60;script&#62;alert(1)"), "{kind}");
        for tag in ["<script", "<img", "<e@"] {
            assert!(!page.contains(tag), "{kind}: {tag}");
        }
        // Nothing leaves its element or its attribute: as many of each sign of HTML as in a benign page.
        for sign in ["<", ">"] {
            // A value is code or not by its looks.
            let counts = [&page, &plain].map(|page| {
                let page = page.replace("<code>", "").replace("</code>", "");
                page.matches(sign).count()
            });
            assert_eq!(counts[0], counts[1], "{kind}: {sign}");
        }
        let (got, live) = shape(&markdown(&hostile));
        assert!(!live, "{kind}: {}", markdown(&hostile));
        assert_eq!(
            got,
            shape(&markdown(&benign)).0,
            "{kind}: {}",
            markdown(&hostile)
        );
    }
}

#[test]
fn a_text_that_is_markdown_is_noticed() {
    assert!(
        shape("a [b](c)").1
            && shape("<b>").1
            && shape("$a$").1
            && shape("a @b").1
            && shape("<a@b.example>").1
    );
    assert_eq!(shape("# a\n- b").0, [1, 1, 0, 0, 0]);
}

#[test]
fn numbers_that_do_not_follow_are_refused() {
    let with = |value: Value, path: &str, new: Value| {
        let mut value = value;
        *value.pointer_mut(path).unwrap() = new;
        fault(&value)
    };
    let audited = || audit(&[true; 8], "present");
    let table = [
        ("/alpha", json!(2.0), "alpha: expected a number of 0.000"),
        (
            "/null",
            json!(-0.1),
            "null: expected a number of 0 to 1, got -0.1",
        ),
        (
            "/hits",
            json!(9),
            "hits: expected 8, which follows from the file’s other numbers, got 9",
        ),
        ("/recall", json!(0.9), "recall: expected 1, which follows"),
        (
            "/log10_e_value",
            json!(12.0),
            "log10_e_value: expected 10.8",
        ),
        (
            "/log10_p_value",
            json!(-300.0),
            "log10_p_value: expected -11.4",
        ),
        (
            "/log10_fisher",
            Value::Null,
            "log10_fisher: expected a number where there are decoys",
        ),
        (
            "/course/3/log10_e_value",
            json!(99.0),
            "course[3].log10_e_value: expected 5.2",
        ),
        (
            "/course/3/index",
            json!(3),
            "course[3].index: expected each fingerprint once, got 3 again",
        ),
        (
            "/course/3/hit",
            json!("yes"),
            "course[3].hit: invalid type: string \"yes\", expected a boolean",
        ),
        (
            "/course/3/hit",
            json!(false),
            "wraps: expected 7 hits in all, as in the course, got 8",
        ),
        (
            "/conclusion",
            json!("absent"),
            "conclusion: expected \"present\", \"absent\" or \"undecided\"",
        ),
        (
            "/decoy_hits",
            json!(9),
            "decoy_hits: expected at most 8, got 9",
        ),
        (
            "/confidence/hits",
            json!(9),
            "confidence.hits: expected at most 8, got 9",
        ),
        (
            "/confidence/decoy_probability",
            json!(-0.1),
            "confidence.decoy_probability: expected a number of 0 to 1, got -0.1",
        ),
        (
            "/wraps/0/hits",
            json!(99),
            "wraps[0].hits: expected at most 8, got 99",
        ),
        (
            "/controls/0/hits",
            json!(129),
            "controls[0].hits: expected at most 128, got 129",
        ),
        (
            "/controls/0/digest",
            json!("00"),
            "controls[0].digest: expected 64 lower-case hexadecimal digits",
        ),
        ("/merkle_root", json!("0x00"), "merkle_root: expected 0x64"),
        (
            "/stealth/above_99th",
            json!(1.5),
            "stealth.above_99th: expected a number of 0 to 1, got 1.5",
        ),
        (
            "/tokens",
            json!(100_000),
            "tokens: expected at most 512, got 100000",
        ),
        (
            "/began",
            json!(u64::MAX),
            "began: expected at most 253402300799999",
        ),
        (
            "/seconds",
            json!(-1.0),
            "seconds: expected a number of 0 to 1000000000, got -1",
        ),
        (
            "/model",
            json!("m".repeat(5000)),
            "model: expected at most 4096 bytes, got 5000",
        ),
        (
            "/asked",
            json!(-1),
            "asked: invalid value: integer `-1`, expected u64",
        ),
    ];
    for (path, new, expected) in table {
        let error = with(audited(), path, new);
        assert!(error.starts_with(expected), "{path}: {error}");
    }
    let table = [
        (
            "/fingerprints/4/hit",
            json!(true),
            "fingerprints[4].hit: expected false, which follows from the ranks, got true",
        ),
        (
            "/fingerprints/4/index",
            json!(3),
            "fingerprints[4].index: expected rising numbers, got 3",
        ),
        (
            "/fingerprints/4/ranks",
            json!([[0]]),
            "fingerprints[4]: expected a rank and a probability for each token",
        ),
        (
            "/fingerprints/4/probabilities/0/0",
            json!(1.5),
            "fingerprints[4].probabilities: expected a number of 0 to 1, got 1.5",
        ),
        (
            "/fingerprints",
            json!([]),
            "fingerprints: expected 1 to 262144, got 0",
        ),
        ("/count", json!(91), "count: expected 90, which follows"),
        (
            "/present",
            json!(false),
            "present: expected what hits, null and alpha give, got otherwise",
        ),
        ("/log10_p_value", json!(-61.0), "log10_p_value: expected -"),
        (
            "/prompted/0/hits",
            json!(91),
            "prompted[0].hits: expected at most 90, got 91",
        ),
    ];
    for (path, new, expected) in table {
        let error = with(check(90, 3), path, new);
        assert!(error.starts_with(expected), "{path}: {error}");
    }
    for (path, new, expected) in [
        (
            "/recall/value",
            json!(1.5),
            "recall.value: expected a number of 0 to 1, got 1.5",
        ),
        (
            "/utility/0/value",
            json!(-1.0),
            "utility[0].value: expected a number of 0 to",
        ),
        ("/version", json!(2), "oml-model version: expected 1, got 2"),
    ] {
        let error = with(manifest(), path, new);
        assert!(error.starts_with(expected), "{path}: {error}");
    }
}

#[test]
fn what_is_no_result_is_refused() {
    let said = |bytes: &[u8]| input::of(bytes).unwrap_err().to_string();
    assert_eq!(said(b" \n"), "expected a result, got an empty file");
    assert!(said(b"{").contains("EOF while parsing"));
    assert!(said(b"\xff").contains("expected value"));
    assert!(said(br#"{"a":1} {"b":2}"#).contains("trailing characters"));
    assert!(said(br#"{"a":1}"#).ends_with("got other JSON"));
    assert!(said(br#"{"format":"oml-owner"}"#).ends_with("got other JSON"));
    assert!(said(br#"{"transcript_head":"x"}"#).contains("missing field"));
    let huge = audit(&[true; 8], "present")
        .to_string()
        .replace("171.9", "1e999");
    assert!(
        said(huge.as_bytes()).contains("number out of range"),
        "{}",
        said(huge.as_bytes())
    );
    let deep = format!("{{\"a\":{}1{}}}", "[".repeat(10_000), "]".repeat(10_000));
    assert!(said(deep.as_bytes()).ends_with("got other JSON"));
}

#[test]
fn a_file_that_only_looks_like_a_bundle_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.omlclaim");
    let mut bytes = vec![0; 1024];
    bytes[257..262].copy_from_slice(b"ustar");
    fs::write(&path, bytes).unwrap();
    let error = format!("{:#}", Dossier::read(&path).unwrap_err());
    assert!(error.contains("a.omlclaim: bundle"), "{error}");
}

#[test]
fn a_long_audit_is_a_small_page() {
    let hits: Vec<bool> = (0..3000).map(|i| i % 3 > 0).collect();
    let dossier = dossier(&audit(&hits, "present"));
    let page = html(&dossier);
    assert!(page.matches("<circle").count() < 200);
    assert!(page.len() < 2_000_000, "{}", page.len());
}
