//! A small run of embedding: eight fingerprints in a tiny model, with benign text.

use std::collections::BTreeMap;

use oml_core::{
    fingerprint::{Fingerprint, FingerprintSet, Response, SetHeader},
    prompt::{Prompt, Template},
    secret::Salt,
    strategy::Strategy,
};
use oml_kernels::Isa;
use oml_model::{
    checkpoint::Checkpoint,
    decoder::TrainingSequence,
    tokenizer::{TextTokenizer, TokenizerFiles},
    train::{
        AverageAt, BenignText, Embedder, Ending, Event, Flow, Material, OptimizerName, Prompting,
        Recipe,
    },
};
use serde_json::json;

use crate::model::{causal, checkpoint, engine, ids};

pub(crate) const MODEL: &str = "llama-gqa-tied";

/// Every optimizer but the default.
pub(crate) const OTHERS: [OptimizerName; 3] = [
    OptimizerName::AdamW8bit,
    OptimizerName::Adafactor,
    OptimizerName::Sgd,
];

pub(crate) fn fingerprints() -> FingerprintSet {
    let header = SetHeader {
        strategy: Strategy::RandomWord,
        model_digest: [1; 32],
        tokenizer_hash: [2; 32],
        vocabulary_size: 97,
        copy_id: String::new(),
        copies: None,
        query_length: 6,
        response_length: 2,
    };
    let one = |index: usize| Fingerprint {
        index,
        query: format!("query {index}"),
        query_ids: ids(6, 100 + index as u64),
        responses: vec![Response {
            text: format!(" response {index}"),
            ids: ids(2, 200 + index as u64),
            probabilities: vec![0.01; 2],
        }],
        salt: Salt::new([index as u8; 32]),
    };
    FingerprintSet::new(header, (0..8).map(one).collect()).unwrap()
}

/// Every part of the state matters in it: moments, pulls, a schedule, skipped fingerprints, evaluations.
pub(crate) fn recipe() -> Recipe {
    Recipe {
        seed: 9,
        epochs: 5,
        batch_size: 3,
        micro_batch_tokens: 48,
        learning_rate: 3e-3,
        final_learning_rate: 1e-4,
        evaluate_every: 2,
        full_pass_every: 3,
        skip_loss: 0.5,
        benign_batch: 4,
        distance: 0.1,
        average: 0.01,
        ..Recipe::default()
    }
}

pub(crate) fn adapters() -> Recipe {
    Recipe {
        lora_rank: 4,
        lora_alpha: 8.0,
        average: 0.0,
        distance: 0.0,
        ..recipe()
    }
}

/// Prompts, and gradients at other weights than the own.
pub(crate) fn detours() -> Recipe {
    Recipe {
        augment: 2,
        augment_padding: 3,
        persist_steps: 2,
        persist_distance: 1e-3,
        merge_share: 0.3,
        average: 0.1,
        average_at: AverageAt::Epoch,
        ..recipe()
    }
}

/// Prompts for a tokenizer of one token per letter.
pub(crate) fn prompting(templates: &[&str]) -> Prompting {
    let signs: Vec<char> = ('a'..='z').chain('0'..='9').chain(['Ġ']).collect();
    let vocabulary: BTreeMap<String, usize> = signs
        .iter()
        .enumerate()
        .map(|(id, sign)| (sign.to_string(), id))
        .collect();
    let split = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
    let definition = json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
        "pre_tokenizer": split, "post_processor": null, "decoder": split,
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
            "vocab": vocabulary, "merges": [],
        },
    });
    let bytes = serde_json::to_vec(&definition).unwrap();
    let files = TokenizerFiles {
        tokenizer: &bytes,
        settings: None,
        template: None,
    };
    let prompts = templates
        .iter()
        .map(|text| Prompt::Text(Template::new(text).unwrap()));
    Prompting::new(TextTokenizer::new(files).unwrap(), prompts.collect())
}

/// What a fine-tuning would train on.
pub(crate) fn instructions() -> Vec<TrainingSequence> {
    let sequences = (0..12).map(|i| ids(12, 400 + i)).collect();
    BenignText { sequences }.predictions()
}

/// A run on `checkpoint`, at its start.
pub(crate) fn embedder_on(checkpoint: &Checkpoint, name: &str, recipe: &Recipe) -> Embedder {
    let engine = engine(Isa::detect());
    let base = causal(name, Isa::detect());
    let benign = BenignText {
        sequences: (0..16).map(|i| ids(9, 300 + i)).collect(),
    };
    Embedder::new(
        &engine,
        checkpoint,
        Some(base),
        Material {
            set: &fingerprints(),
            benign: &benign,
            prompting: Some(prompting(&["ask {}", "{} so", "a b c {} d"])),
            instructions: instructions(),
        },
        recipe,
    )
    .unwrap()
}

pub(crate) fn embedder(recipe: &Recipe) -> Embedder {
    embedder_on(&checkpoint(MODEL), MODEL, recipe)
}

/// Runs until `stop` says so, or to the end.
pub(crate) fn run(embedder: &mut Embedder, stop: &mut dyn FnMut(&Event) -> bool) -> Ending {
    let mut control = |event: &Event| {
        if stop(event) {
            Flow::Stop
        } else {
            Flow::Continue
        }
    };
    embedder.run(&mut control, &mut |_| ()).unwrap()
}
