//! Writing adapters as PEFT reads them.

use std::io::{BufWriter, Write as _};
use std::path::Path;

use serde_json::{Value, json};

use super::write::{NewFolder, create, finish, write_weights};
use super::{CheckpointError, DType, TensorInfo};
use crate::decoder::{AdapterSpec, ParameterMap};

/// PEFT's names of the files.
pub(super) const CONFIG: &str = "adapter_config.json";
pub(super) const ADAPTER: &str = "adapter_model.safetensors";

/// Writes adapters, laid out in `values` as `map` says, into the new folder `out`. `base` is what PEFT will show as the base model.
///
/// # Errors
/// `out` exists, its parent cannot be written in or has too little space, or a value is not finite. Nothing is left behind.
pub fn write_adapter(
    out: &Path,
    spec: &AdapterSpec,
    map: &ParameterMap,
    values: &[f32],
    base: &str,
) -> Result<(), CheckpointError> {
    let config = format!("{:#}\n", config(spec, map, base)).into_bytes();
    let folder = NewFolder::create(out, 4 * values.len() as u64 + config.len() as u64)?;
    let tensors: Vec<TensorInfo> = map
        .entries
        .iter()
        .map(|entry| TensorInfo {
            name: entry.name.clone(),
            shape: entry.shape.clone(),
            dtype: DType::F32,
        })
        .collect();
    let tensors: Vec<&TensorInfo> = tensors.iter().collect();
    let mut supply = |name: &str, out: &mut [f32]| {
        if let Some(entry) = map.get(name) {
            out.copy_from_slice(&values[entry.range()]);
        }
        Ok(())
    };
    let path = folder.path.join(ADAPTER);
    write_weights(&path, &tensors, DType::F32, &mut supply, out)?;
    let path = folder.path.join(CONFIG);
    let file = BufWriter::new(create(&path)?);
    finish(&path, file, |file| file.write_all(&config))?;
    folder.publish()
}

fn config(spec: &AdapterSpec, map: &ParameterMap, base: &str) -> Value {
    let mut modules: Vec<&str> = map
        .entries
        .iter()
        .filter_map(|entry| {
            entry
                .name
                .strip_suffix(".lora_A.weight")?
                .rsplit('.')
                .next()
        })
        .collect();
    modules.sort_unstable();
    modules.dedup();
    json!({
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "inference_mode": true,
        "r": spec.rank,
        "lora_alpha": spec.alpha,
        "lora_dropout": 0.0,
        "target_modules": modules,
        "layers_to_transform": spec.layers,
        "bias": "none",
        "fan_in_fan_out": false,
        "use_dora": spec.use_dora,
        "use_rslora": false,
    })
}
