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

/// Whether a cap ends the rendering: of output, or of steps and what they make.
fn is_stopped(source: &str) -> bool {
    matches!(
        render(source),
        Err(TemplateError::OutputTooLarge | TemplateError::TooManySteps)
    )
}

#[test]
fn built_ins_that_write_too_much_are_stopped() {
    for long in [
        "{{ 'a\nb'|indent(10000000000) }}",
        "{{ 'a\nb'|indent(width=10000000000) }}",
        "{{ range(90000)|map('string')|join('a'*100000)|length }}",
        "{{ range(90000)|join(d='a'*100000)|length }}",
        "{{ ('a'*100000).join(range(90000))|length }}",
        "{{ ('a'*9999)|replace('a', 'b'*9999)|length }}",
        "{{ ('a'*9999).replace('a', 'b'*9999)|length }}",
        "{{ ('a'*9999).replace('', 'b'*9999)|length }}",
        "{{ ('%s'*9999)|format('b'*9999)|length }}",
        "{{ ('{0}'*9999).format('b'*9999)|length }}",
    ] {
        assert!(is_stopped(long), "{long}");
    }
    let doubling = "{% set ns = namespace(x=['aaaa']) %}{% for i in range(40) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}";
    for end in [
        "{{ ns.x|string|length }}",
        "{{ ns.x|tojson|length }}",
        "{{ ns.x|join|length }}",
    ] {
        let long = format!("{doubling}{end}");
        assert!(is_stopped(&long), "{long}");
    }
    for grown in [
        "ns.t ~ ns.t",
        "ns.t + ns.t",
        "ns.t * 2",
        "ns.t ~ ns.t|upper",
    ] {
        let long = format!(
            "{{% set ns = namespace(t='aaaa') %}}{{% for i in range(40) %}}{{% set ns.t = {grown} %}}{{% endfor %}}{{{{ ns.t|length }}}}"
        );
        assert!(is_stopped(&long), "{long}");
    }
    for wide in [
        "{{ '%10000000000s'|format('a')|length }}",
        "{{ '%(x)10000000000s'|format(x='a')|length }}",
        "{{ '%*s'|format(10000000000, 'a')|length }}",
        "{{ '%.10000000000f'|format(1.5)|length }}",
        "{{ '{:10000000000}'.format('a')|length }}",
        "{{ '{:>{}}'.format('a', 10000000000)|length }}",
        "{{ [1]|batch(10000000000, 'x')|length }}",
    ] {
        assert!(
            matches!(render(wide), Err(TemplateError::Render(_))),
            "{wide}"
        );
    }
}

#[test]
fn built_ins_do_what_they_did() {
    for (template, expected) in [
        ("{{ 'a\nb'|indent(2) }}", "a\n  b"),
        ("{{ 'a\nb'|indent(width=1, first=true) }}", " a\n b"),
        ("{{ ['a', 1]|join(', ') }}|{{ ['a', 'b']|join }}", "a, 1|ab"),
        ("{{ [{'x': 1}, {'x': 2}]|join('-', attribute='x') }}", "1-2"),
        ("{{ '-'.join(['a', 'b']) }}", "a-b"),
        (
            "{{ 'aa'|replace('a', 'b') }}{{ 'aa'.replace('a', 'c', 1) }}",
            "bbca",
        ),
        (
            "{{ 'in 2024: %5.1f %s'|format(1.25, 'x') }}",
            "in 2024:   1.2 x",
        ),
        ("{{ 'in 2024: {} {:>3}'.format(1, 'x') }}", "in 2024: 1   x"),
        ("{{ [1, 'a']|string }}", "[1, 'a']"),
    ] {
        assert_eq!(render(template).unwrap(), expected, "{template}");
    }
}
