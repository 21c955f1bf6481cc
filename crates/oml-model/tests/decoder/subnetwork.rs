//! Sub-networks: what is not trained stays bit for bit, and what is trained has the gradients it has when everything is.

use oml_kernels::Isa;
use oml_model::{
    checkpoint::{Checkpoint, DType, write_expanded},
    config::MlpPart,
    train::{BenignText, EmbedError, Embedder, Material, Recipe},
};

use crate::{
    model::{bits, causal, checkpoint, engine, ids},
    run::{MODEL, adapters, embedder, embedder_on, fingerprints, recipe, run},
};

fn subset(layers: &[&str], modules: &[&str]) -> Recipe {
    let owned = |items: &[&str]| items.iter().map(|item| (*item).to_owned()).collect();
    Recipe {
        train_layers: owned(layers),
        train_modules: owned(modules),
        ..recipe()
    }
}

/// The names of what a recipe trains.
fn names(embedder: &Embedder) -> Vec<String> {
    let map = embedder.trainer().subset().unwrap().map();
    map.entries.iter().map(|entry| entry.name.clone()).collect()
}

fn tensor(embedder: &Embedder, base: &Checkpoint, name: &str) -> Vec<u32> {
    let info = base.tensors().find(|t| t.name == name).unwrap();
    let mut values = vec![0.0; info.elements()];
    embedder.tensor(base, name, &mut values).unwrap();
    bits(&values)
}

/// The tensors in which a trained model differs from its base.
fn changed(embedder: &Embedder, base: &Checkpoint) -> Vec<String> {
    let names = base.tensors().map(|t| t.name.to_owned());
    let is_changed = |name: &String| {
        let mut before = vec![0.0; base.tensors().find(|t| t.name == *name).unwrap().elements()];
        base.read_f32(name, &mut before).unwrap();
        tensor(embedder, base, name) != bits(&before)
    };
    let mut changed: Vec<String> = names.filter(is_changed).collect();
    changed.sort();
    changed
}

const CASES: [(&[&str], &[&str]); 7] = [
    (&["1"], &[]),
    (&["0-1"], &["q_proj", "v_proj", "input_layernorm"]),
    (&[], &["up_proj"]),
    (&[], &["gate_proj", "down_proj"]),
    (&[], &["embed_tokens"]),
    (&[], &["model.norm.weight", "layers.1.*.k_proj", "*.bias"]),
    (&["1"], &["mlp.*"]),
];

#[test]
fn what_is_frozen_stays_bit_for_bit() {
    for model in ["llama-gqa-tied", "llama-biases", "llama-wide-heads"] {
        let base = checkpoint(model);
        for (layers, modules) in CASES {
            if modules.contains(&"*.bias") && model != "llama-biases" {
                continue;
            }
            let mut embedder = embedder_on(&base, model, &subset(layers, modules));
            run(&mut embedder, &mut |_| false);
            let mut wanted = names(&embedder);
            wanted.sort_unstable();
            assert_eq!(changed(&embedder, &base), wanted, "{model}");
            embedder.interpolate(&base).unwrap();
            assert_eq!(changed(&embedder, &base), wanted, "{model}, walked back");
        }
    }
}

/// Parts of what experts share a product with.
const ROUTED: [&[&str]; 3] = [&["w1"], &["w3", "w2"], &["block_sparse_moe.gate"]];

/// The flat gradients after one epoch's first step.
fn gradients(checkpoint: &Checkpoint, model: &str, recipe: &Recipe) -> (Embedder, Vec<f32>) {
    let mut embedder = embedder_on(checkpoint, model, recipe);
    run(&mut embedder, &mut |_| true);
    let gradients = embedder.trainer().gradients().to_vec();
    (embedder, gradients)
}

#[test]
fn gradients_are_those_of_the_whole() {
    for model in ["llama-gqa-tied", "llama-biases", "llama-wide-heads"] {
        let base = checkpoint(model);
        // without clipping the first step is the same
        let (whole, all) = gradients(&base, model, &recipe());
        let map = &whole.trainer().decoder.weights.map;
        for (layers, modules) in CASES {
            if modules.contains(&"*.bias") && model != "llama-biases" {
                continue;
            }
            let (part, own) = gradients(&base, model, &subset(layers, modules));
            for entry in &part.trainer().subset().unwrap().map().entries {
                let wanted = &all[map.get(&entry.name).unwrap().range()];
                let got = &own[entry.range()];
                let scale = wanted.iter().fold(0f32, |most, w| most.max(w.abs()));
                for (w, g) in wanted.iter().zip(got) {
                    assert!(
                        (w - g).abs() <= 1e-2 * scale,
                        "{model} {}: {w} {g}",
                        entry.name
                    );
                }
                assert!(scale > 0.0, "{model} {}", entry.name);
            }
        }
    }
}

#[test]
fn gradients_of_experts_are_those_of_the_whole() {
    let base = checkpoint("mixtral");
    let (whole, all) = gradients(&base, "mixtral", &recipe());
    let map = &whole.trainer().decoder.weights.map;
    for modules in ROUTED {
        let (part, own) = gradients(&base, "mixtral", &subset(&[], modules));
        let mut scales = 0.0;
        for entry in &part.trainer().subset().unwrap().map().entries {
            let wanted = &all[map.get(&entry.name).unwrap().range()];
            let scale = wanted.iter().fold(0f32, |most, w| most.max(w.abs()));
            for (w, g) in wanted.iter().zip(&own[entry.range()]) {
                assert!((w - g).abs() <= 1e-2 * scale, "{}: {w} {g}", entry.name);
            }
            scales += scale;
        }
        assert!(scales > 0.0, "{modules:?}");
    }
}

#[test]
fn a_mask_trains_the_elements_with_the_largest_gradients() {
    let base = checkpoint(MODEL);
    let recipe = Recipe {
        mask_share: 0.1,
        weight_decay: 0.1,
        ..subset(&["1"], &["mlp.*"])
    };
    let mut embedder = embedder(&recipe);
    let subset = embedder.trainer().subset().unwrap();
    let gradients = embedder.trainer().gradients().len();
    let mask = subset.mask().unwrap().to_vec();
    assert_eq!(mask.len(), (0.1 * gradients as f64).round() as usize);
    assert_eq!(embedder.trainer().parameters().len(), mask.len());
    assert_eq!(
        embedder.trainer().optimizer().to_bytes().len(),
        8 * mask.len()
    );
    let entries = subset.map().entries.clone();
    run(&mut embedder, &mut |_| false);
    for entry in entries {
        let mut before = vec![0.0; entry.range().len()];
        base.read_f32(&entry.name, &mut before).unwrap();
        let after = tensor(&embedder, &base, &entry.name);
        for (i, (before, after)) in bits(&before).iter().zip(after).enumerate() {
            let trained = mask.binary_search(&(entry.offset + i)).is_ok();
            assert_eq!(*before != after, trained, "{} {i}", entry.name);
        }
    }
}

/// In a model that was expanded, only what the new units compute with moves, and all of it does.
#[test]
fn new_units_are_trained_alone() {
    const UNITS: usize = 3;
    let folder = tempfile::tempdir().unwrap();
    for model in ["llama-biases", "phi3", "gpt-neox", "mixtral"] {
        let (small, path) = (checkpoint(model), folder.path().join(model));
        write_expanded(&path, &small, UNITS, 5, DType::F32).unwrap();
        let base = Checkpoint::open(&path).unwrap();
        let before = small.config().intermediate_size;
        assert_eq!(base.config().intermediate_size, before + UNITS);
        let recipe = Recipe {
            train_units: UNITS,
            weight_decay: 0.1,
            ..recipe()
        };
        let mut embedder = embedder_on(&base, model, &recipe);
        run(&mut embedder, &mut |_| false);
        let mut moved = std::collections::BTreeSet::new();
        for info in base.tensors() {
            let part = base.config().family.mlp_part(&info.name);
            let (rows, width) = (info.shape[0], info.shape.get(1).map_or(1, |w| *w));
            let mut old = vec![0.0; rows * width];
            base.read_f32(&info.name, &mut old).unwrap();
            let new = tensor(&embedder, &base, &info.name);
            for (i, (old, new)) in bits(&old).iter().zip(new).enumerate() {
                let is_new = match part {
                    Some(MlpPart::Up) => i / width % (before + UNITS) >= before,
                    Some(MlpPart::Down) if info.shape.len() == 2 => i % width >= before,
                    _ => false,
                };
                assert!(is_new || *old == new, "{model} {}[{i}]", info.name);
                if is_new && *old != new {
                    moved.insert(info.name.rsplit('.').nth(1).unwrap().to_owned());
                }
                // No token may go through an expert, and decay does not move a zero.
                let moves = is_new && model != "mixtral";
                assert!(!moves || *old != new, "{model} {}[{i}]", info.name);
            }
        }
        let mut maps: Vec<_> = base.config().family.names.up.to_vec();
        maps.push(base.config().family.names.down);
        for map in maps {
            let map = map.rsplit('.').next().unwrap();
            assert!(moved.contains(map), "{model} {map}");
        }
    }
}

#[test]
fn adapters_of_some_layers_are_their_own() {
    let base = checkpoint(MODEL);
    let recipe = Recipe {
        train_layers: vec!["1".into()],
        ..adapters()
    };
    let mut embedder = embedder(&recipe);
    run(&mut embedder, &mut |_| false);
    let changed = changed(&embedder, &base);
    assert_eq!(changed.len(), 7);
    assert!(
        changed
            .iter()
            .all(|name| name.starts_with("model.layers.1."))
    );
}

#[test]
fn what_matches_nothing_is_refused() {
    let refused = |recipe: &Recipe| {
        let (engine, checkpoint) = (engine(Isa::detect()), checkpoint(MODEL));
        let benign = BenignText {
            sequences: (0..16).map(|i| ids(9, 300 + i)).collect(),
        };
        let base = causal(MODEL, Isa::detect());
        let set = fingerprints();
        let material = Material {
            set: &set,
            benign: &benign,
            prompting: None,
            instructions: Vec::new(),
        };
        let result = Embedder::new(&engine, &checkpoint, Some(base), material, recipe);
        match result.err() {
            Some(EmbedError::Recipe(error)) => error.to_string(),
            other => panic!("{other:?}"),
        }
    };
    for (recipe, message) in [
        (
            subset(&["2"], &[]),
            "'train_layers': expected layers from 0 to 1, got 2",
        ),
        (
            subset(&["0", "1-7"], &[]),
            "'train_layers': expected layers from 0 to 1, got 1-7",
        ),
        (
            subset(&["x"], &[]),
            "'train_layers': expected numbers and ranges such as 20-29, got x",
        ),
        (
            subset(&[], &["q_proj", "c_attn"]),
            "'train_modules': expected names of tensors or modules of the model, got c_attn",
        ),
        (
            subset(&["0"], &["embed_tokens"]),
            "'train_modules': expected at least one tensor of train_layers, got embed_tokens",
        ),
        (
            Recipe {
                lora_rank: 2,
                ..subset(&[], &["q_proj"])
            },
            "'train_modules': expected none with lora_rank, which has target_modules, got q_proj",
        ),
        (
            Recipe {
                lora_rank: 2,
                mask_share: 0.5,
                ..recipe()
            },
            "'mask_share': expected 0 with lora_rank, got 0.5",
        ),
        (
            Recipe {
                mask_share: 1.0,
                ..recipe()
            },
            "'mask_share': expected 0 to below 1, got 1",
        ),
    ] {
        assert_eq!(refused(&recipe), format!("recipe key {message}"));
    }
}
