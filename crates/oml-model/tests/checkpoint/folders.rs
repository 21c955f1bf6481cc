//! Hugging Face folders: whole, in shards, and wrong.

use std::fs;
use std::path::Path;

use oml_model::checkpoint::Checkpoint;
use serde_json::{Value, json};

use crate::support::{config, f32_bytes, safetensors_of, tensors, write_folder};

/// The error of a folder that starts good and is changed, without the folder's path.
fn fault(change: impl Fn(&Path)) -> String {
    let folder = tempfile::tempdir().unwrap();
    let config = config();
    write_folder(folder.path(), &config, &tensors(&config));
    change(folder.path());
    let message = Checkpoint::open(folder.path()).err().unwrap().to_string();
    let path = folder.path().display().to_string();
    message
        .replace(&format!("{path}/"), "")
        .replace(&path, "folder")
}

fn set_config(folder: &Path, name: &str, value: Value) {
    let mut fields = config();
    fields.insert(name.into(), value);
    fs::write(
        folder.join("config.json"),
        Value::Object(fields).to_string(),
    )
    .unwrap();
}

#[test]
fn a_folder_gives_its_weights() {
    let folder = tempfile::tempdir().unwrap();
    let config = config();
    let all = tensors(&config);
    write_folder(folder.path(), &config, &all);
    let checkpoint = Checkpoint::open(folder.path()).unwrap();
    let names: Vec<_> = checkpoint
        .tensors()
        .map(|tensor| tensor.name.as_str())
        .collect();
    assert_eq!(
        names,
        all.iter()
            .map(|tensor| tensor.name.as_str())
            .collect::<Vec<_>>()
    );
    for tensor in &all {
        let mut out = vec![0.0; tensor.values.len()];
        checkpoint.read_f32(&tensor.name, &mut out).unwrap();
        assert_eq!(out, tensor.values);
    }
    let mut short = [0.0; 3];
    let message = checkpoint
        .read_f32("model.norm.weight", &mut short)
        .unwrap_err()
        .to_string();
    assert_eq!(
        message,
        "model.norm.weight: expected a buffer of 8 numbers, got 3"
    );
    assert!(checkpoint.read_f32("lm_head.bias", &mut short).is_err());
}

#[test]
fn every_fault_of_a_folder_has_its_message() {
    let transpose = |folder: &Path| {
        let mut all = tensors(&config());
        all[0].shape.reverse();
        write_folder(folder, &config(), &all);
    };
    assert_eq!(
        fault(|folder| fs::remove_file(folder.join("config.json")).unwrap()),
        "folder: expected a folder with config.json or a GGUF file, got a folder without config.json"
    );
    assert_eq!(
        fault(|folder| fs::write(folder.join("config.json"), "{").unwrap()),
        "config.json: EOF while parsing an object at line 1 column 1"
    );
    assert_eq!(
        fault(|folder| fs::write(folder.join("config.json"), vec![b' '; (1 << 20) + 1]).unwrap()),
        "config.json: expected at most 1048576 bytes, got 1048577"
    );
    assert_eq!(
        fault(|folder| set_config(folder, "model_type", json!("mamba"))),
        "config.json: model_type: expected one of gemma, gemma2, gemma3_text, gpt_neox, llama, mistral, mixtral, phi3, qwen2, qwen3, got mamba"
    );
    assert_eq!(
        fault(|folder| fs::remove_file(folder.join("model.safetensors")).unwrap()),
        "model.safetensors: open: No such file or directory (os error 2)"
    );
    assert_eq!(
        fault(|folder| set_config(folder, "num_hidden_layers", json!(3))),
        "folder: model.layers.2.input_layernorm.weight: missing"
    );
    assert_eq!(
        fault(|folder| set_config(folder, "num_hidden_layers", json!(1))),
        "folder: model.layers.1.input_layernorm.weight: no such tensor in a model of this configuration"
    );
    assert_eq!(
        fault(|folder| set_config(folder, "vocab_size", json!(4_000_000))),
        "folder: model.embed_tokens.weight: shape: expected [4000000, 8], got [16, 8]"
    );
    assert_eq!(
        fault(transpose),
        "folder: model.embed_tokens.weight: shape: expected [16, 8], got [8, 16]"
    );
    assert_eq!(
        fault(|folder| fs::write(
            folder.join("generation_config.json"),
            r#"{"eos_token_id":[99]}"#
        )
        .unwrap()),
        "generation_config.json: eos_token_id: expected a token below vocab_size 16, got 99"
    );
}

#[test]
fn small_companions_are_small() {
    for (name, most) in [
        ("generation_config.json", 1 << 20),
        ("special_tokens_map.json", 1 << 20),
        ("tokenizer_config.json", 16 << 20),
    ] {
        let write = |folder: &Path| fs::write(folder.join(name), vec![b' '; most + 1]).unwrap();
        let expected = format!("{name}: expected at most {most} bytes, got {}", most + 1);
        assert_eq!(fault(write), expected);
    }
}

#[test]
fn numbers_that_are_not_finite_are_refused() {
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let folder = tempfile::tempdir().unwrap();
        let config = config();
        let mut all = tensors(&config);
        all[0].values[5] = bad;
        write_folder(folder.path(), &config, &all);
        let checkpoint = Checkpoint::open(folder.path()).unwrap();
        let message = checkpoint
            .read_f32("model.embed_tokens.weight", &mut [0.0; 128])
            .unwrap_err()
            .to_string();
        let expected = format!(
            "model.safetensors: model.embed_tokens.weight: expected finite numbers, got {bad} at 5"
        );
        assert!(message.ends_with(&expected), "{message}");
    }
}

/// Splits the small model over two shards.
fn write_shards(folder: &Path) {
    let all = tensors(&config());
    fs::remove_file(folder.join("model.safetensors")).unwrap();
    let mut map = serde_json::Map::new();
    for (name, part) in [("a.safetensors", &all[..5]), ("b.safetensors", &all[5..])] {
        let entries: Vec<_> = part
            .iter()
            .map(|tensor| {
                (
                    tensor.name.as_str(),
                    "F32",
                    tensor.shape.as_slice(),
                    f32_bytes(&tensor.values),
                )
            })
            .collect();
        fs::write(folder.join(name), safetensors_of(&entries)).unwrap();
        map.extend(part.iter().map(|tensor| (tensor.name.clone(), json!(name))));
    }
    write_index(folder, json!(map));
}

fn write_index(folder: &Path, map: Value) {
    let index = json!({"metadata": {"total_size": 1}, "weight_map": map});
    fs::write(
        folder.join("model.safetensors.index.json"),
        index.to_string(),
    )
    .unwrap();
}

#[test]
fn shards_are_one_model() {
    let (whole, parts) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let config = config();
    for folder in [&whole, &parts] {
        write_folder(folder.path(), &config, &tensors(&config));
    }
    write_shards(parts.path());
    let digest = |path: &Path| Checkpoint::open(path).unwrap().digest().unwrap();
    assert_eq!(digest(whole.path()), digest(parts.path()));
}

#[test]
fn every_fault_of_an_index_has_its_message() {
    let with_map = |change: &dyn Fn(&mut serde_json::Map<String, Value>)| {
        fault(|folder| {
            write_shards(folder);
            let path = folder.join("model.safetensors.index.json");
            let index: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
            let mut map = index["weight_map"].as_object().unwrap().clone();
            change(&mut map);
            write_index(folder, json!(map));
        })
    };
    let norm = "model.norm.weight";
    assert_eq!(
        fault(|folder| write_index(folder, json!([]))),
        "model.safetensors.index.json: weight_map: expected a map from tensors to files, got none"
    );
    for place in [
        "../b.safetensors",
        "/b.safetensors",
        "x/b.safetensors",
        "..",
        "",
    ] {
        assert_eq!(
            with_map(&|map| {
                map.insert(norm.into(), json!(place));
            }),
            format!(
                "model.safetensors.index.json: {norm}: expected the name of a file in the folder, got \"{place}\""
            )
        );
    }
    assert_eq!(
        with_map(&|map| {
            map.insert(norm.into(), json!("a.safetensors"));
        }),
        "b.safetensors: model.norm.weight: no such tensor in a model of this configuration"
    );
    assert_eq!(
        with_map(&|map| {
            map.insert("extra".into(), json!("a.safetensors"));
        }),
        "a.safetensors: extra: not in this file, where the index places it"
    );
    assert_eq!(
        with_map(&|map| {
            map.insert(norm.into(), json!("c.safetensors"));
        }),
        "b.safetensors: model.norm.weight: no such tensor in a model of this configuration"
    );
}

#[test]
fn a_file_that_is_no_checkpoint_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("text.gguf");
    fs::write(&path, "not a model").unwrap();
    let message = Checkpoint::open(&path).err().unwrap().to_string();
    assert!(
        message.ends_with(r#"text.gguf: magic: expected "GGUF", got "not ""#),
        "{message}"
    );
    let message = Checkpoint::open(&folder.path().join("absent"))
        .err()
        .unwrap()
        .to_string();
    assert!(
        message.ends_with("absent: open: No such file or directory (os error 2)"),
        "{message}"
    );
}
