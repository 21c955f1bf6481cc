//! The real model, as `oml model fetch smollm2-135m-instruct` writes it, in the folder that `OML_TEST_MODEL` names.

use std::path::PathBuf;

use oml_model::chat_template::Message;
use oml_model::checkpoint::Checkpoint;
use serde_json::Value;

/// The digest of what transformers makes of the same GGUF file, in F32.
const TRANSFORMERS_DIGEST: &str =
    "5f2be9d59528a62d59c19b259099d5376d9ea60ba5e677530ac95749fc67ce0c";

#[test]
fn weights_and_tokens_are_those_of_transformers() {
    let Some(path) = std::env::var_os("OML_TEST_MODEL").map(PathBuf::from) else {
        println!(
            "skipped: OML_TEST_MODEL does not name the fetched folder of SmolLM2-135M-Instruct"
        );
        return;
    };
    let model = Checkpoint::open(&path).unwrap();
    let digest: String = model
        .digest()
        .unwrap()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    assert_eq!(digest, TRANSFORMERS_DIGEST);
    assert_eq!(model.config().eos_token_ids, [2]);

    let golden: Value =
        serde_json::from_str(include_str!("../goldens/smollm2_tokens.json")).unwrap();
    let ids = |value: &Value| -> Vec<u32> {
        let ids = value.as_array().unwrap().iter();
        ids.map(|id| id.as_u64().unwrap() as u32).collect()
    };
    let tokenizer = model.tokenizer().unwrap();
    assert_eq!(tokenizer.vocabulary_size(), 49152);
    let texts = golden["texts"].as_array().unwrap();
    for (text, expected) in texts.iter().zip(golden["ids"].as_array().unwrap()) {
        let text = text.as_str().unwrap();
        assert_eq!(
            tokenizer.encode(text, true).unwrap(),
            ids(expected),
            "{text:?}"
        );
    }
    for chat in golden["chats"].as_array().unwrap() {
        let messages = chat["messages"].as_array().unwrap().iter();
        let messages: Vec<Message<'_>> = messages
            .map(|message| Message {
                role: message["role"].as_str().unwrap(),
                content: message["content"].as_str().unwrap(),
            })
            .collect();
        let text = tokenizer.render(&messages, true).unwrap();
        assert_eq!(tokenizer.encode(&text, false).unwrap(), ids(&chat["ids"]));
    }
}
