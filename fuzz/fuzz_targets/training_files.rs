//! Prompts, instructions or a recipe of any bytes are read, or refused with an error; a recipe that was read comes back.
#![no_main]

use libfuzzer_sys::fuzz_target;
use oml_core::manifest::{instructions_file, prompts_file};
use oml_core::prompt::Prompt;
use oml_model::train::Recipe;

fuzz_target!(|bytes: &[u8]| {
    for prompt in prompts_file::parse(bytes).unwrap_or_default() {
        let (Prompt::Text(template) | Prompt::Chat { user: template, .. }) = &prompt;
        assert!(template.fill("query").contains("query"));
        assert!(!prompt.to_string().contains('\n'));
    }
    if let Ok(instructions) = instructions_file::parse(bytes) {
        assert!(!instructions.is_empty());
    }
    let recipe = std::str::from_utf8(bytes)
        .ok()
        .and_then(|text| toml::from_str::<Recipe>(text).ok());
    if let Some(recipe) = recipe.filter(|recipe| recipe.validate().is_ok()) {
        let rendered = recipe.render().expect("what is valid can be written");
        assert_eq!(
            toml::from_str::<Recipe>(&rendered).expect("and read"),
            recipe
        );
        assert!(recipe.resolved(8).validate().is_ok());
        assert!(recipe.learning_rate_at(0, 0.0).is_finite());
    }
});
