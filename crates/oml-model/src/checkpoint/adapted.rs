//! A model with an adapter as PEFT writes it (LoRA, rsLoRA, DoRA), added to the base model's weights as they are read.
//!
//! ```text
//! adapter_config.json        peft_type LORA, r, lora_alpha, target_modules, use_rslora, use_dora, bias none, base_model_name_or_path
//! adapter_model.safetensors  base_model.model.STEM.lora_A.weight [r, inputs], .lora_B.weight [outputs, r], .lora_magnitude_vector [outputs]
//! W' = W + scale · B·A       scale = lora_alpha / r, or lora_alpha / √r with use_rslora; with magnitudes every row is scaled to its own
//! ```
//!
//! Whatever else changes weights (other kinds, ranks that differ, biases, modules saved whole, embeddings) is refused by name: a suspect
//! that is read in part would be another model. Source: PEFT's `LoraConfig` and `save_pretrained`.

use std::collections::HashMap;
use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::adapter::{ADAPTER, CONFIG};
use super::digest::{self, PREFIX_ADAPTED};
use super::{
    Checkpoint, CheckpointError, Form, Found, Place, TensorInfo, read_capped, safetensors,
};
use crate::decoder::{LowRank, add_low_rank};

/// Most bytes of an adapter's configuration.
const MAX_CONFIG_BYTES: u64 = 1 << 20;
/// What PEFT puts before the names of the base model's modules.
const PREFIX: &str = "base_model.model.";

/// What an adapter adds to a model's weights.
pub(super) struct Adapter {
    scale: f32,
    /// By the name of the weight that it changes.
    maps: HashMap<String, Map>,
}

/// What it adds to one weight.
struct Map {
    a: Found,
    b: Found,
    magnitudes: Option<Found>,
}

/// PEFT's configuration, as far as it decides what is computed.
#[derive(Deserialize)]
struct Config {
    peft_type: String,
    r: usize,
    lora_alpha: f32,
    target_modules: Option<Targets>,
    base_model_name_or_path: Option<String>,
    #[serde(default)]
    use_rslora: bool,
    #[serde(default)]
    use_dora: bool,
    #[serde(default)]
    fan_in_fan_out: bool,
    bias: Option<String>,
    lora_bias: Option<bool>,
    modules_to_save: Option<Vec<String>>,
    rank_pattern: Option<HashMap<String, serde_json::Value>>,
    alpha_pattern: Option<HashMap<String, serde_json::Value>>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Targets {
    Names(Vec<String>),
    Pattern(String),
}

/// Whether `path` is a folder with an adapter and no model.
pub fn is_adapter(path: &Path) -> bool {
    path.join(CONFIG).is_file() && !path.join("config.json").is_file()
}

impl Checkpoint {
    /// Opens the adapter in the folder `path` on top of its base model: `base`, or what the adapter names, where that is a path.
    ///
    /// # Errors
    /// [`CheckpointError::MissingBase`], a field of the configuration that asks for something else, a tensor that is no part of a map's
    /// adapter, is missing or has another shape, and whatever is wrong with the base model.
    pub fn open_adapter(path: &Path, base: Option<&Path>) -> Result<Self, CheckpointError> {
        let file = path.join(CONFIG);
        let bytes = read_capped(&file, MAX_CONFIG_BYTES)?;
        let config: Config =
            serde_json::from_slice(&bytes).map_err(|source| CheckpointError::Json {
                file: file.clone(),
                source,
            })?;
        config.check(&file)?;
        let mut checkpoint = Self::open(&config.base(base, &file)?)?;
        let found = open_weights(&path.join(ADAPTER), &mut checkpoint.files)?;
        let maps = maps(&checkpoint, &config, found, path)?;
        config.check_targets(&maps, &file)?;
        let rank = config.r as f32;
        checkpoint.adapter = Some(Adapter {
            scale: config.lora_alpha / if config.use_rslora { rank.sqrt() } else { rank },
            maps,
        });
        Ok(checkpoint)
    }

    /// Adds what the adapter has for the weight `name`, if there is one and it has something.
    pub(super) fn adapt(&self, name: &str, weight: &mut [f32]) -> Result<(), CheckpointError> {
        let Some((adapter, map)) = self
            .adapter
            .as_ref()
            .and_then(|adapter| Some((adapter, adapter.maps.get(name)?)))
        else {
            return Ok(());
        };
        let read = |found: &Found| {
            let mut values = vec![0.0; found.info.elements()];
            self.read_found(found, &mut values).map(|()| values)
        };
        let (a, b) = (read(&map.a)?, read(&map.b)?);
        let magnitudes = map.magnitudes.as_ref().map(read).transpose()?;
        let low_rank = LowRank {
            a: &a,
            b: &b,
            rank: map.a.info.shape[0],
            scale: adapter.scale,
            magnitudes: magnitudes.as_deref(),
        };
        add_low_rank(&low_rank, weight);
        match weight.iter().position(|number| !number.is_finite()) {
            None => Ok(()),
            Some(index) => Err(CheckpointError::NotFinite {
                path: self.files[map.b.place.file].0.clone(),
                tensor: map.b.info.name.clone(),
                index,
                got: weight[index],
            }),
        }
    }

    /// The digest of weights under an adapter: SHA-256 over `"oml adapted v1"`, the base model's digest, the scale's bits as u32, and the
    /// adapter's tensors as those of a model.
    pub(super) fn adapted_digest(&self, base: [u8; 32]) -> Result<[u8; 32], CheckpointError> {
        let Some(adapter) = &self.adapter else {
            return Ok(base);
        };
        let mut hash = Sha256::new();
        hash.update(PREFIX_ADAPTED);
        hash.update(base);
        hash.update(adapter.scale.to_bits().to_le_bytes());
        let maps = adapter.maps.values();
        let tensors = maps.flat_map(|map| [Some(&map.a), Some(&map.b), map.magnitudes.as_ref()]);
        digest::add(self, &mut hash, tensors.flatten().collect())?;
        Ok(hash.finalize().into())
    }
}

impl Config {
    /// Refuses what would be computed otherwise than here.
    fn check(&self, file: &Path) -> Result<(), CheckpointError> {
        let is_none =
            |patterns: &Option<HashMap<_, _>>| patterns.as_ref().is_none_or(HashMap::is_empty);
        let bias = self.bias.as_deref().unwrap_or("none");
        let saved = self.modules_to_save.as_deref().unwrap_or_default();
        let table: [(&str, bool, String, String); 8] = [
            (
                "peft_type",
                self.peft_type == "LORA",
                "LORA".into(),
                self.peft_type.clone(),
            ),
            ("r", self.r > 0, "at least 1".into(), self.r.to_string()),
            (
                "lora_alpha",
                self.lora_alpha.is_finite(),
                "a number".into(),
                self.lora_alpha.to_string(),
            ),
            ("bias", bias == "none", "none".into(), bias.into()),
            (
                "lora_bias",
                self.lora_bias != Some(true),
                "false".into(),
                "true".into(),
            ),
            (
                "fan_in_fan_out",
                !self.fan_in_fan_out,
                "false".into(),
                "true".into(),
            ),
            (
                "modules_to_save",
                saved.is_empty(),
                "none".into(),
                saved.join(", "),
            ),
            (
                "rank_pattern and alpha_pattern",
                is_none(&self.rank_pattern) && is_none(&self.alpha_pattern),
                "none".into(),
                "some".into(),
            ),
        ];
        match table.into_iter().find(|(_, holds, ..)| !holds) {
            None => Ok(()),
            Some((name, _, expected, got)) => Err(field(file, name, expected, got)),
        }
    }

    /// The base model's path.
    fn base(&self, base: Option<&Path>, file: &Path) -> Result<PathBuf, CheckpointError> {
        if let Some(base) = base {
            return Ok(base.to_owned());
        }
        let named = self.base_model_name_or_path.as_deref().unwrap_or_default();
        let path = Path::new(named);
        match !named.is_empty() && path.exists() {
            true => Ok(path.to_owned()),
            false => Err(CheckpointError::MissingBase {
                file: file.to_owned(),
                got: named.to_owned(),
            }),
        }
    }

    /// Every target has a map, and every map is one of the targets.
    fn check_targets(
        &self,
        maps: &HashMap<String, Map>,
        file: &Path,
    ) -> Result<(), CheckpointError> {
        let targets = match &self.target_modules {
            Some(Targets::Names(names)) => names,
            Some(Targets::Pattern(name)) if name == "all-linear" => return Ok(()),
            Some(Targets::Pattern(pattern)) => {
                let expected = "a list of names, or all-linear".to_owned();
                return Err(field(file, "target_modules", expected, pattern.clone()));
            }
            None => {
                let expected = "a list of names, or all-linear".to_owned();
                return Err(field(file, "target_modules", expected, "none".to_owned()));
            }
        };
        let hits = |target: &str, weight: &str| {
            let stem = weight.strip_suffix(".weight").unwrap_or(weight);
            let rest = stem.strip_suffix(target);
            rest.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        };
        let fault = |expected: &str, got: &str| {
            Err(field(
                file,
                "target_modules",
                expected.to_owned(),
                got.to_owned(),
            ))
        };
        if let Some(idle) = targets
            .iter()
            .find(|target| !maps.keys().any(|weight| hits(target, weight)))
        {
            return fault("modules that the weights have adapters for", idle);
        }
        let mut weights: Vec<&String> = maps.keys().collect();
        weights.sort_unstable();
        let is_target = |weight: &str| targets.iter().any(|target| hits(target, weight));
        match weights.into_iter().find(|weight| !is_target(weight)) {
            Some(other) => fault(
                &format!("the module of {other} among them"),
                &targets.join(", "),
            ),
            None => Ok(()),
        }
    }
}

fn open_weights(
    path: &Path,
    files: &mut Vec<(PathBuf, File)>,
) -> Result<Vec<Found>, CheckpointError> {
    let file = File::open(path).map_err(CheckpointError::io(path, "open"))?;
    let metadata = file.metadata();
    let length = metadata.map_err(CheckpointError::io(path, "open"))?.len();
    let tensors = safetensors::read_header(BufReader::new(&file), length, path)?;
    let found = tensors.into_iter().map(|tensor| Found {
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
    let found = found.collect();
    files.push((path.to_owned(), file));
    Ok(found)
}

/// Sorts an adapter's tensors by the weights that they change, and holds their shapes against these.
fn maps(
    base: &Checkpoint,
    config: &Config,
    found: Vec<Found>,
    path: &Path,
) -> Result<HashMap<String, Map>, CheckpointError> {
    let mut parts: HashMap<String, [Option<Found>; 3]> = HashMap::new();
    for found in found {
        let halves = [".lora_A.weight", ".lora_B.weight", ".lora_magnitude_vector"];
        let name = found.info.name.strip_prefix(PREFIX).unwrap_or_default();
        let place = halves
            .iter()
            .enumerate()
            .find_map(|(place, half)| Some((place, name.strip_suffix(half)?)));
        let weight = place.map(|(place, stem)| (place, format!("{stem}.weight")));
        let known = weight.filter(|(place, weight)| {
            let is_map = base
                .find(weight)
                .is_ok_and(|base| base.info.shape.len() == 2);
            is_map && (*place < 2 || config.use_dora)
        });
        let Some((place, weight)) = known else {
            return Err(CheckpointError::UnknownTarget {
                path: path.to_owned(),
                tensor: found.info.name,
            });
        };
        parts.entry(weight).or_default()[place] = Some(found);
    }
    let mut maps = HashMap::new();
    for (weight, [a, b, magnitudes]) in parts {
        let stem = weight.strip_suffix(".weight").unwrap_or(&weight);
        let missing = |half: &str| CheckpointError::MissingTensor {
            path: path.to_owned(),
            tensor: format!("{PREFIX}{stem}.{half}"),
        };
        let a = a.ok_or_else(|| missing("lora_A.weight"))?;
        let b = b.ok_or_else(|| missing("lora_B.weight"))?;
        if config.use_dora && magnitudes.is_none() {
            return Err(missing("lora_magnitude_vector"));
        }
        let shape = &base.find(&weight)?.info.shape;
        let expected = [
            (&a, vec![config.r, shape[1]]),
            (&b, vec![shape[0], config.r]),
        ];
        let magnitude = magnitudes.iter().map(|found| (found, vec![shape[0]]));
        for (found, expected) in expected.into_iter().chain(magnitude) {
            if found.info.shape != expected {
                return Err(CheckpointError::Shape {
                    path: path.to_owned(),
                    tensor: found.info.name.clone(),
                    expected,
                    got: found.info.shape.clone(),
                });
            }
        }
        maps.insert(weight, Map { a, b, magnitudes });
    }
    Ok(maps)
}

fn field(file: &Path, field: &str, expected: String, got: String) -> CheckpointError {
    CheckpointError::Field {
        file: file.to_owned(),
        field: field.to_owned(),
        expected,
        got,
    }
}
