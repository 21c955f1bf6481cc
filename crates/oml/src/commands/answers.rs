//! Ordinary questions put to a model: greedily, through its own chat template.

use oml_core::model::{LanguageModel as _, Sampling};

use super::workbench::Opened;

/// Tokens of an answer at most.
const LENGTH: usize = 96;

/// The model's answers.
///
/// # Errors
/// When the tokenizer or the model fails.
pub(super) fn answers(opened: &mut Opened, questions: &[&str]) -> anyhow::Result<Vec<String>> {
    let tokenizer = &opened.tokenizer;
    let prompts = questions
        .iter()
        .map(|question| match tokenizer.chat_prompt(question)? {
            Some(prompt) => Ok(prompt),
            // A base model has no template and continues the text.
            None => tokenizer.encode(&format!("Question: {question}\nAnswer:"), true),
        })
        .collect::<Result<Vec<_>, _>>()?;
    let prompts: Vec<&[u32]> = prompts.iter().map(Vec::as_slice).collect();
    let sampling = Sampling {
        max_tokens: LENGTH,
        temperature: 0.0,
        top_k: 0,
        top_p: 1.0,
        stop: opened.checkpoint.config().eos_token_ids.clone(),
    };
    let generated = opened
        .model
        .generate(&prompts, &vec![0; prompts.len()], &sampling)?;
    generated
        .iter()
        .map(|ids| {
            let text = opened.tokenizer.decode(ids)?.trim().to_owned();
            Ok(if ids.len() == LENGTH {
                format!("{text} …")
            } else {
                text
            })
        })
        .collect()
}
