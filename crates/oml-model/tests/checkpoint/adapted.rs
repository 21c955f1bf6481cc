//! Adapters as PEFT writes them, on top of their base model, and wrong ones.

use std::fs;
use std::path::Path;

use oml_model::checkpoint::{Checkpoint, is_adapter};
use serde_json::{Value, json};

use crate::support::{config, f32_bytes, safetensors_of, tensors, write_folder};

const MAP: &str = "base_model.model.model.layers.1.mlp.up_proj";
const WEIGHT: &str = "model.layers.1.mlp.up_proj.weight";

/// An adapter of rank 2 on the one map of 12 outputs and 8 inputs.
struct Adapter {
    config: Value,
    tensors: Vec<(String, Vec<usize>, Vec<f32>)>,
}

impl Adapter {
    fn new() -> Self {
        let values = |count: usize, step: f32| (0..count).map(|i| i as f32 * step - 1.0).collect();
        Self {
            config: json!({
                "peft_type": "LORA", "r": 2, "lora_alpha": 8, "target_modules": ["up_proj"], "bias": "none", "use_rslora": false,
                "use_dora": false, "fan_in_fan_out": false, "modules_to_save": null, "rank_pattern": {}, "lora_bias": false,
                "base_model_name_or_path": "somebody/base", "inference_mode": true,
            }),
            tensors: vec![
                (
                    format!("{MAP}.lora_A.weight"),
                    vec![2, 8],
                    values(16, 0.125),
                ),
                (
                    format!("{MAP}.lora_B.weight"),
                    vec![12, 2],
                    values(24, 0.0625),
                ),
            ],
        }
    }

    fn write(&self, folder: &Path) {
        fs::create_dir_all(folder).unwrap();
        fs::write(folder.join("adapter_config.json"), self.config.to_string()).unwrap();
        let entries: Vec<_> = self
            .tensors
            .iter()
            .map(|(name, shape, values)| {
                (name.as_str(), "F32", shape.as_slice(), f32_bytes(values))
            })
            .collect();
        fs::write(
            folder.join("adapter_model.safetensors"),
            safetensors_of(&entries),
        )
        .unwrap();
    }
}

fn base(folder: &Path) {
    write_folder(folder, &config(), &tensors(&config()));
}

fn read(checkpoint: &Checkpoint, name: &str) -> Vec<f32> {
    let info = checkpoint.tensors().find(|info| info.name == name).unwrap();
    let mut out = vec![0.0; info.elements()];
    checkpoint.read_f32(name, &mut out).unwrap();
    out
}

/// `W + scale · B·A`, row by row.
fn expected(weight: &[f32], adapter: &Adapter, scale: f32) -> Vec<f32> {
    let (a, b) = (&adapter.tensors[0].2, &adapter.tensors[1].2);
    let value = |(place, w): (usize, &f32)| {
        let (row, column) = (place / 8, place % 8);
        let product: f32 = (0..2).map(|k| b[2 * row + k] * a[8 * k + column]).sum();
        w + scale * product
    };
    weight.iter().enumerate().map(value).collect()
}

#[test]
fn an_adapter_is_added_to_the_weights_it_names_and_to_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let (model, path) = (folder.path().join("base"), folder.path().join("adapter"));
    base(&model);
    let plain = Checkpoint::open(&model).unwrap();
    let weight = read(&plain, WEIGHT);
    let mut adapter = Adapter::new();
    let mut digests = vec![plain.digest().unwrap()];
    for (rslora, scale) in [(false, 4.0), (true, 8.0 / 2f32.sqrt())] {
        adapter.config["use_rslora"] = rslora.into();
        adapter.write(&path);
        assert!(is_adapter(&path) && !is_adapter(&model));
        let adapted = Checkpoint::open_adapter(&path, Some(&model)).unwrap();
        let got = read(&adapted, WEIGHT);
        for (got, expected) in got.iter().zip(expected(&weight, &adapter, scale)) {
            assert!((got - expected).abs() < 1e-5, "{got} {expected}");
        }
        for info in plain.tensors().filter(|info| info.name != WEIGHT) {
            assert_eq!(read(&adapted, &info.name), read(&plain, &info.name));
        }
        digests.push(adapted.digest().unwrap());
    }
    adapter.tensors[0].2[0] += 1.0;
    adapter.write(&path);
    // The base may stand in the configuration, as a path.
    adapter.config["base_model_name_or_path"] = model.display().to_string().into();
    adapter.write(&path);
    let adapted = Checkpoint::open_adapter(&path, None).unwrap();
    digests.push(adapted.digest().unwrap());
    digests.sort_unstable();
    digests.dedup();
    assert_eq!(digests.len(), 4);
}

#[test]
fn magnitudes_are_the_lengths_of_rows() {
    let folder = tempfile::tempdir().unwrap();
    let (model, path) = (folder.path().join("base"), folder.path().join("adapter"));
    base(&model);
    let mut adapter = Adapter::new();
    adapter.config["use_dora"] = true.into();
    let magnitudes: Vec<f32> = (1..=12).map(|i| i as f32).collect();
    let name = format!("{MAP}.lora_magnitude_vector");
    adapter.tensors.push((name, vec![12], magnitudes.clone()));
    adapter.write(&path);
    let adapted = Checkpoint::open_adapter(&path, Some(&model)).unwrap();
    let weight = read(&adapted, WEIGHT);
    for (row, magnitude) in weight.chunks(8).zip(magnitudes) {
        let length = row.iter().map(|w| w * w).sum::<f32>().sqrt();
        assert!((length - magnitude).abs() < 1e-4, "{length} {magnitude}");
    }
}

#[test]
fn every_fault_of_an_adapter_has_its_message() {
    type Change = fn(&mut Adapter);
    let table: [(Change, &str); 18] = [
        (
            |a| a.config["peft_type"] = "IA3".into(),
            "adapter_config.json: peft_type: expected LORA, got IA3",
        ),
        (
            |a| a.config["r"] = 0.into(),
            "adapter_config.json: r: expected at least 1, got 0",
        ),
        (
            |a| a.config["bias"] = "all".into(),
            "adapter_config.json: bias: expected none, got all",
        ),
        (
            |a| a.config["lora_bias"] = true.into(),
            "adapter_config.json: lora_bias: expected false, got true",
        ),
        (
            |a| a.config["fan_in_fan_out"] = true.into(),
            "adapter_config.json: fan_in_fan_out: expected false, got true",
        ),
        (
            |a| a.config["modules_to_save"] = json!(["lm_head"]),
            "adapter_config.json: modules_to_save: expected none, got lm_head",
        ),
        (
            |a| a.config["rank_pattern"] = json!({"up_proj": 4}),
            "adapter_config.json: rank_pattern and alpha_pattern: expected none, got some",
        ),
        (
            |a| a.config["target_modules"] = json!(["up_proj", "wqkv"]),
            "adapter_config.json: target_modules: expected modules that the weights have adapters for, got wqkv",
        ),
        (
            |a| a.config["target_modules"] = json!("up_.*"),
            "adapter_config.json: target_modules: expected a list of names, or all-linear, got up_.*",
        ),
        (
            |a| a.config["target_modules"] = Value::Null,
            "adapter_config.json: target_modules: expected a list of names, or all-linear, got none",
        ),
        (
            |a| {
                for tensor in &mut a.tensors {
                    tensor.0 = tensor.0.replace("up_proj", "wqkv");
                }
            },
            "adapter: base_model.model.model.layers.1.mlp.wqkv.lora_A.weight: expected half of a low-rank adapter of a linear map of the base \
             model, got another tensor",
        ),
        (
            |a| a.tensors[0].0 = "base_model.model.model.norm.lora_A.weight".into(),
            "adapter: base_model.model.model.norm.lora_A.weight: expected half of a low-rank adapter of a linear map of the base model, got \
             another tensor",
        ),
        (
            |a| {
                a.tensors.push((
                    format!("{MAP}.lora_magnitude_vector"),
                    vec![12],
                    vec![1.0; 12],
                ))
            },
            "adapter: base_model.model.model.layers.1.mlp.up_proj.lora_magnitude_vector: expected half of a low-rank adapter of a linear map of \
             the base model, got another tensor",
        ),
        (
            |a| drop(a.tensors.pop()),
            "adapter: base_model.model.model.layers.1.mlp.up_proj.lora_B.weight: missing",
        ),
        (
            |a| a.config["use_dora"] = true.into(),
            "adapter: base_model.model.model.layers.1.mlp.up_proj.lora_magnitude_vector: missing",
        ),
        (
            |a| a.tensors[0].1 = vec![4, 4],
            "adapter: base_model.model.model.layers.1.mlp.up_proj.lora_A.weight: shape: expected [2, 8], got [4, 4]",
        ),
        (
            |a| a.config["r"] = 3.into(),
            "adapter: base_model.model.model.layers.1.mlp.up_proj.lora_A.weight: shape: expected [3, 8], got [2, 8]",
        ),
        (
            |a| a.config["r"] = "two".into(),
            "adapter_config.json: invalid type: string \"two\", expected usize",
        ),
    ];
    let folder = tempfile::tempdir().unwrap();
    let (model, path) = (folder.path().join("base"), folder.path().join("adapter"));
    base(&model);
    let fault = |adapter: &Adapter, base: Option<&Path>| {
        adapter.write(&path);
        let message = Checkpoint::open_adapter(&path, base).err().unwrap();
        let root = folder.path().display().to_string();
        let message = message.to_string().replace(&format!("{root}/"), "");
        message.replace("adapter/", "")
    };
    for (change, expected) in table {
        let mut adapter = Adapter::new();
        change(&mut adapter);
        let message = fault(&adapter, Some(&model));
        assert!(message.starts_with(expected), "{message}\n{expected}");
    }
    assert_eq!(
        fault(&Adapter::new(), None),
        "adapter_config.json: base_model_name_or_path: expected the path of the base model, got \"somebody/base\", where nothing is"
    );
    // Not a number, found where the weight is read.
    let mut adapter = Adapter::new();
    adapter.tensors[1].2[3] = f32::NAN;
    adapter.write(&path);
    let adapted = Checkpoint::open_adapter(&path, Some(&model)).unwrap();
    let message = adapted.read_f32(WEIGHT, &mut [0.0; 96]).unwrap_err();
    assert!(
        message
            .to_string()
            .ends_with("lora_B.weight: expected finite numbers, got NaN at 3"),
        "{message}"
    );
    let message = Checkpoint::open(&path).err().unwrap().to_string();
    assert!(
        message.ends_with("got an adapter without its base model"),
        "{message}"
    );
    fs::remove_file(path.join("adapter_model.safetensors")).unwrap();
    let message = Checkpoint::open_adapter(&path, Some(&model)).err().unwrap();
    assert!(
        message
            .to_string()
            .contains("adapter_model.safetensors: open: "),
        "{message}"
    );
}
