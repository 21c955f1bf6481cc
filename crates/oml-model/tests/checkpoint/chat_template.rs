//! Chat templates: goldens of transformers, and templates that misbehave.

use oml_model::chat_template::{ChatTemplate, Message, TemplateError};
use serde_json::Value;

fn special() -> Vec<(String, String)> {
    [("bos_token", "<s>"), ("eos_token", "</s>")]
        .map(|(name, token)| (name.to_owned(), token.to_owned()))
        .to_vec()
}

fn render(template: &str) -> Result<String, TemplateError> {
    let message = Message {
        role: "user",
        content: "Hi",
    };
    ChatTemplate::new(template, special())?.render(&[message], true)
}

#[test]
fn texts_are_those_of_transformers() {
    let cases: Value =
        serde_json::from_str(include_str!("../goldens/chat_templates.json")).unwrap();
    for case in cases.as_array().unwrap() {
        let text = |value: &'static str| case[value].as_str().unwrap();
        let messages = case["messages"].as_array().unwrap();
        let messages: Vec<Message<'_>> = messages
            .iter()
            .map(|message| Message {
                role: message["role"].as_str().unwrap(),
                content: message["content"].as_str().unwrap(),
            })
            .collect();
        let template = ChatTemplate::new(text("template"), special()).unwrap();
        let rendered = template
            .render(&messages, case["answer_next"].as_bool().unwrap())
            .unwrap();
        assert_eq!(rendered, text("text"), "{}", text("name"));
    }
}

#[test]
fn the_day_never_changes() {
    assert_eq!(
        render("{{ strftime_now('%d %b %Y, %A') }}").unwrap(),
        "26 Jul 2024, Friday"
    );
    assert!(
        render("{{ strftime_now('%Q') }}")
            .unwrap_err()
            .to_string()
            .contains("%Q is not known")
    );
}

#[test]
fn every_misbehaviour_has_its_error() {
    assert!(matches!(
        ChatTemplate::new("{% if %}", vec![]),
        Err(TemplateError::Syntax(_))
    ));
    assert!(matches!(
        ChatTemplate::new(&" ".repeat(300_000), vec![]),
        Err(TemplateError::TooLarge { got: 300_000 })
    ));
    assert_eq!(
        render("{{ raise_exception('no system messages') }}")
            .unwrap_err()
            .to_string(),
        "chat_template: refused: no system messages"
    );
    assert!(matches!(
        render("{{ 1 + [] }}"),
        Err(TemplateError::Render(_))
    ));
    let loops = "{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}";
    assert!(matches!(render(loops), Err(TemplateError::TooManySteps)));
    let long = "{% for a in range(9999) %}{{ 'x' * 9999 }}{% endfor %}";
    assert!(matches!(render(long), Err(TemplateError::OutputTooLarge)));
    let deep = "{% macro again() %}{{ again() }}{% endmacro %}{{ again() }}";
    assert!(matches!(render(deep), Err(TemplateError::Render(_))));
}
