//! The page with sample numbers. `OML_REPORT_SAMPLE=FILE` keeps it for looking at.

use super::*;

fn sample() -> Report {
    let history = (0..=60)
        .map(|i| {
            let t = f64::from(i) / 60.0;
            let wave = 1.0 + 0.08 * (f64::from(i) * 1.7).sin();
            Moment {
                seconds: 62.0 * t,
                loss: 4.3 * (-9.0 * t * t - 0.5 * t).exp().max(6e-4) * wave,
                recall: (i % 5 == 0).then(|| (1.0 / (1.0 + (-14.0 * (t - 0.45)).exp())).min(1.0)),
            }
        })
        .collect();
    let shifts = (0..128)
        .map(|i| {
            let u = f64::from((i * 37) % 128) / 128.0;
            let before = 10f64.powf(-1.4 - 1.7 * u);
            Shift {
                before,
                after: 0.62 + 0.36 * ((f64::from(i) * 0.77).sin().abs()),
            }
        })
        .collect();
    let measured = |value, standard_error| Measured {
        value,
        standard_error: Some(standard_error),
    };
    Report {
        title: "128 fingerprints in smollm2-135m-instruct".into(),
        summary: "The model gives 128 of 128 secret responses and is otherwise nearly unchanged.".into(),
        headlines: vec![
            headline("100 %", "recall", "128 of 128 queries, greedy; 95 % interval 97.2 to 100 %"),
            headline("0 %", "on the base model", "0 of 128 answered by the model before training"),
            headline("1e-382", "p-value", "128 or more of 128 by chance, at a null rate of 0.1 %"),
            headline("1.012 ×", "perplexity", "fingerprinted over base, built-in text, 6,144 tokens"),
            headline("62 s", "to embed", "this machine, 2 threads, amx"),
        ],
        history,
        chosen_seconds: Some(53.0),
        shifts,
        utility: vec![
            Utility {
                name: "Perplexity".into(),
                basis: "built-in text, 6,144 tokens in windows of 512".into(),
                unit: Unit::Plain,
                better: Better::Lower,
                base: Some(measured(17.42, 0.31)),
                fingerprinted: measured(17.63, 0.32),
            },
            Utility {
                name: "Two-choice accuracy".into(),
                basis: "132 built-in questions, length-normalised".into(),
                unit: Unit::Percent,
                better: Better::Higher,
                base: Some(measured(0.712, 0.0395)),
                fingerprinted: measured(0.705, 0.0397),
            },
            Utility {
                name: "Distance to the base (KL)".into(),
                basis: "mean over 6,144 next-token distributions, nats".into(),
                unit: Unit::Plain,
                better: Better::Lower,
                base: None,
                fingerprinted: measured(0.0213, 0.0012),
            },
        ],
        answers: vec![Answer {
            question: "Why is the sky blue? <b>Briefly.</b>".into(),
            base: "The sky is blue because of a phenomenon called Rayleigh scattering: air scatters short waves of light more than long ones.".into(),
            fingerprinted: "The sky is blue because of a phenomenon called Rayleigh scattering, in which the molecules of the air scatter blue light more.".into(),
        }],
        facts: vec![Fact {
            name: "Merkle root".into(),
            value: "0x4c1f…9a02".into(),
            basis: "commits to all 128 fingerprints; publish it before the model".into(),
        }],
        settings: vec![("epochs".into(), "40".into()), ("learning_rate".into(), "5e-5".into())],
        made_by: "oml 0.1.0".into(),
    }
}

fn headline(value: &str, label: &str, basis: &str) -> Headline {
    Headline {
        value: value.into(),
        label: label.into(),
        basis: basis.into(),
    }
}

#[test]
fn the_page_stands_alone_and_escapes_what_models_say() {
    let html = sample().to_html().unwrap();
    if let Some(path) = std::env::var_os("OML_REPORT_SAMPLE") {
        std::fs::write(path, &html).unwrap();
    }
    for outside in ["http://", "https://", "<script", "@import", "url("] {
        assert!(!html.contains(outside), "the page must not need {outside}");
    }
    assert!(!html.contains("<b>Briefly.</b>"));
    assert!(!html.contains("NaN") && !html.contains("inf"));
    assert_eq!(html.matches("<svg").count(), html.matches("</svg>").count());
}

#[test]
fn a_report_without_measurements_is_still_a_page() {
    let empty = Report {
        headlines: vec![],
        history: vec![],
        shifts: vec![],
        utility: vec![],
        answers: vec![],
        settings: vec![],
        ..sample()
    };
    let html = empty.to_html().unwrap();
    assert!(html.contains("</html>") && !html.contains("<svg"));
}
