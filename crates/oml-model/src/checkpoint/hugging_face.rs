//! Opening a Hugging Face folder: `config.json`, the tokenizer's files, `model.safetensors` or the shards that
//! `model.safetensors.index.json` lists.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::BufReader;
use std::path::{Component, Path, PathBuf};

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::{
    Checkpoint, CheckpointError, Form, Found, Place, TensorInfo, read_capped, safetensors,
};
use crate::config::{MAX_CONFIG_BYTES, ModelConfig};
use crate::tokenizer::MAX_TOKENIZER_BYTES;

const MAX_INDEX_BYTES: u64 = 64 << 20;
const MAX_SHARDS: usize = 4096;
pub(crate) const WEIGHTS: &str = "model.safetensors";
pub(crate) const INDEX: &str = "model.safetensors.index.json";

/// The files beside weights and `config.json` that belong to a model and are carried along.
pub(crate) const COMPANIONS: [&str; 9] = [
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "tokenizer.model",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
    "generation_config.json",
];

/// Bytes of a companion at most: those that are held as a tree of values are many times larger in memory.
fn most_bytes(companion: &str) -> u64 {
    match companion {
        "generation_config.json" | "special_tokens_map.json" => 1 << 20,
        "tokenizer_config.json" => 16 << 20,
        _ => MAX_TOKENIZER_BYTES,
    }
}

pub(super) fn open(path: &Path) -> Result<Checkpoint, CheckpointError> {
    let config_path = path.join("config.json");
    let fields: Map<String, Value> =
        parse(&config_path, &read_capped(&config_path, MAX_CONFIG_BYTES)?)?;
    let bad = |file: &Path| {
        let file = file.to_owned();
        |source| CheckpointError::Config { file, source }
    };
    let mut config = ModelConfig::from_json(&fields).map_err(bad(&config_path))?;
    let mut companions = Vec::new();
    for name in COMPANIONS {
        let file = path.join(name);
        if !file.is_file() {
            continue;
        }
        let bytes = read_capped(&file, most_bytes(name))?;
        if name == "generation_config.json" {
            let generation: Map<String, Value> = parse(&file, &bytes)?;
            config
                .add_generation_config(&generation)
                .map_err(bad(&file))?;
        }
        companions.push((name.to_owned(), bytes));
    }
    let mut files = Vec::new();
    let mut found = Vec::new();
    let index = path.join(INDEX);
    if index.is_file() {
        open_shards(path, &index, &mut files, &mut found)?;
    } else {
        open_weights(path.join(WEIGHTS), &mut files, &mut found)?;
    }
    Checkpoint::assemble(path, config, fields, files, found, companions)
}

fn parse<T: DeserializeOwned>(file: &Path, bytes: &[u8]) -> Result<T, CheckpointError> {
    serde_json::from_slice(bytes).map_err(|source| CheckpointError::Json {
        file: file.to_owned(),
        source,
    })
}

fn open_weights(
    path: PathBuf,
    files: &mut Vec<(PathBuf, File)>,
    found: &mut Vec<Found>,
) -> Result<(), CheckpointError> {
    let file = File::open(&path).map_err(CheckpointError::io(&path, "open"))?;
    let length = file
        .metadata()
        .map_err(CheckpointError::io(&path, "open"))?
        .len();
    for tensor in safetensors::read_header(BufReader::new(&file), length, &path)? {
        found.push(Found {
            info: TensorInfo {
                name: tensor.name,
                shape: tensor.shape,
                dtype: tensor.dtype,
            },
            place: Place {
                file: files.len(),
                offset: tensor.offset,
                length: tensor.length,
                form: Form::Plain,
            },
        });
    }
    files.push((path, file));
    Ok(())
}

/// The index maps each tensor to its shard. Shards lie in the folder itself.
fn open_shards(
    path: &Path,
    index: &Path,
    files: &mut Vec<(PathBuf, File)>,
    found: &mut Vec<Found>,
) -> Result<(), CheckpointError> {
    let wrong = |field: &str, expected: &str, got: String| CheckpointError::Field {
        file: index.to_owned(),
        field: field.to_owned(),
        expected: expected.to_owned(),
        got,
    };
    let fields: Map<String, Value> = parse(index, &read_capped(index, MAX_INDEX_BYTES)?)?;
    let Some(Value::Object(places)) = fields.get("weight_map") else {
        return Err(wrong(
            "weight_map",
            "a map from tensors to files",
            "none".into(),
        ));
    };
    let mut shards = BTreeSet::new();
    for (tensor, shard) in places {
        let name = shard.as_str().filter(|name| is_plain_name(name));
        shards.insert(name.ok_or_else(|| {
            wrong(
                tensor,
                "the name of a file in the folder",
                shard.to_string(),
            )
        })?);
    }
    if shards.len() > MAX_SHARDS {
        return Err(wrong(
            "weight_map",
            &format!("at most {MAX_SHARDS} files"),
            shards.len().to_string(),
        ));
    }
    for shard in shards {
        let before = found.len();
        open_weights(path.join(shard), files, found)?;
        for tensor in &found[before..] {
            let name = &tensor.info.name;
            if places.get(name).and_then(Value::as_str) != Some(shard) {
                return Err(CheckpointError::UnexpectedTensor {
                    path: path.join(shard),
                    tensor: name.clone(),
                });
            }
        }
    }
    let held: BTreeSet<&str> = found
        .iter()
        .map(|tensor| tensor.info.name.as_str())
        .collect();
    if let Some((tensor, shard)) = places
        .iter()
        .find(|(tensor, _)| !held.contains(tensor.as_str()))
    {
        return Err(CheckpointError::NotInShard {
            file: path.join(shard.as_str().unwrap_or_default()),
            tensor: tensor.clone(),
        });
    }
    Ok(())
}

fn is_plain_name(name: &str) -> bool {
    let mut parts = Path::new(name).components();
    matches!((parts.next(), parts.next()), (Some(Component::Normal(part)), None) if part == name)
}
