//! Prompts: templates, the built-in lists, and files of them.

use std::fs;
use std::path::Path;

use oml_core::manifest::{FileError, prompts_file};
use oml_core::prompt::{self, Prompt, Template, TemplateError};

fn chat(system: Option<&str>, user: &str, answer: &str) -> Prompt {
    Prompt::Chat {
        system: system.map(str::to_owned),
        user: Template::new(user).unwrap(),
        answer: answer.to_owned(),
    }
}

#[test]
fn a_template_has_one_place() {
    let template = Template::new("Q: {}\nA:").unwrap();
    assert_eq!(template.fill("why {} not"), "Q: why {} not\nA:");
    for (text, got) in [("no place", 0), ("", 0), ("{} and {}", 2)] {
        assert_eq!(Template::new(text), Err(TemplateError { got }));
    }
}

#[test]
fn built_in_lists_are_whole_and_apart() {
    let (training, held_out) = (prompt::training(), prompt::held_out());
    assert_eq!((training.len(), held_out.len()), (48, 20));
    let all: Vec<_> = training.iter().chain(&held_out).collect();
    for (i, prompt) in all.iter().enumerate() {
        assert!(!all[..i].contains(prompt), "{prompt:?} comes twice");
    }
    let systems = |list: &[Prompt]| -> Vec<String> {
        let system = |prompt: &Prompt| match prompt {
            Prompt::Chat { system, .. } => system.clone(),
            Prompt::Text(_) => None,
        };
        list.iter().filter_map(system).collect()
    };
    let trained = systems(&training);
    assert!(systems(&held_out).iter().all(|s| !trained.contains(s)));
}

#[test]
fn files_hold_templates_and_turns() {
    let bytes = br#"["Say: {}", {"user": "{}"}, {"system": "Be brief.", "user": "{}!", "answer": "Yes, "}]"#;
    assert_eq!(
        prompts_file::parse(bytes).unwrap(),
        [
            Prompt::Text(Template::new("Say: {}").unwrap()),
            chat(None, "{}", ""),
            chat(Some("Be brief."), "{}!", "Yes, "),
        ]
    );
}

#[test]
fn templates_of_oml_1_0_are_read() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../../shared/data/interop/oml1-augmentation_prompts_train.json");
    if !path.exists() {
        eprintln!("skipped: {} is not here", path.display());
        return;
    }
    let prompts = prompts_file::parse(&fs::read(path).unwrap()).unwrap();
    assert_eq!(prompts.len(), 50);
    assert!(!prompts.iter().any(Prompt::is_chat));
}

#[test]
fn faults_of_a_file_are_named() {
    let fault = |text: &str| {
        prompts_file::parse(text.as_bytes())
            .unwrap_err()
            .to_string()
    };
    assert_eq!(
        fault(r#"["{}", "no place"]"#),
        "prompts file template: expected exactly one {}, got 0 in entry 2"
    );
    assert_eq!(
        fault("[]"),
        "prompts file prompts: expected at least one, got none"
    );
    for text in [
        "{}",
        "[1]",
        r#"[{"system": "no user"}]"#,
        r#"[{"user": "{}", "assistant": "?"}]"#,
        r#"[{"user": "{}", "user": "{}"}]"#,
        r#"["{}"] []"#,
    ] {
        let error = prompts_file::parse(text.as_bytes());
        assert!(matches!(error, Err(FileError::Json { .. })), "{text}");
    }
    let long = vec![b' '; prompts_file::MAX_BYTES + 1];
    assert!(matches!(
        prompts_file::parse(&long),
        Err(FileError::TooLarge { .. })
    ));
}
