//! What is done to copies of a model: everything here keeps the function or most of it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use oml_model::checkpoint::Checkpoint;
use oml_model::sampler::SequenceRandom;
use serde_json::{Map, Value, json};

/// A tensor, rows first.
#[derive(Clone)]
pub(crate) struct Tensor {
    pub(crate) shape: Vec<usize>,
    pub(crate) values: Vec<f32>,
}

/// A whole Llama in memory.
#[derive(Clone)]
pub(crate) struct Model {
    pub(crate) config: Map<String, Value>,
    pub(crate) tensors: BTreeMap<String, Tensor>,
    pub(crate) companions: Vec<(String, Vec<u8>)>,
}

const EMBEDDING: &str = "model.embed_tokens.weight";
const HEAD: &str = "lm_head.weight";

impl Model {
    /// Reads a folder or a GGUF file of a Llama.
    pub(crate) fn read(path: &Path) -> Self {
        let checkpoint = Checkpoint::open(path).unwrap();
        let config = checkpoint.config();
        let fields = json!({
            "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu", "hidden_size": config.hidden_size,
            "intermediate_size": config.intermediate_size, "num_hidden_layers": config.num_hidden_layers,
            "num_attention_heads": config.num_attention_heads, "num_key_value_heads": config.num_key_value_heads,
            "vocab_size": config.vocab_size, "max_position_embeddings": config.max_position_embeddings,
            "rms_norm_eps": config.rms_norm_eps, "rope_theta": config.rope_theta,
            "tie_word_embeddings": config.tie_word_embeddings,
        });
        let mut tensors = BTreeMap::new();
        for info in checkpoint.tensors() {
            let mut values = vec![0.0; info.elements()];
            checkpoint.read_f32(&info.name, &mut values).unwrap();
            let shape = info.shape.clone();
            tensors.insert(info.name.clone(), Tensor { shape, values });
        }
        Self {
            config: fields.as_object().unwrap().clone(),
            tensors,
            companions: checkpoint.companions().to_vec(),
        }
    }

    /// Writes a Hugging Face folder in f32.
    pub(crate) fn write(&self, folder: &Path) {
        let mut header = Map::new();
        let mut end = 0;
        for (name, tensor) in &self.tensors {
            let begin = end;
            end += 4 * tensor.values.len();
            let entry =
                json!({"dtype": "F32", "shape": tensor.shape, "data_offsets": [begin, end]});
            header.insert(name.clone(), entry);
        }
        let header = Value::Object(header).to_string().into_bytes();
        let mut file = (header.len() as u64).to_le_bytes().to_vec();
        file.extend(header);
        for tensor in self.tensors.values() {
            file.extend(tensor.values.iter().flat_map(|x| x.to_le_bytes()));
        }
        fs::create_dir(folder).unwrap();
        fs::write(folder.join("model.safetensors"), file).unwrap();
        let config = Value::Object(self.config.clone()).to_string();
        fs::write(folder.join("config.json"), config).unwrap();
        for (name, bytes) in &self.companions {
            fs::write(folder.join(name), bytes).unwrap();
        }
    }

    pub(crate) fn size(&self, field: &str) -> usize {
        self.config[field].as_u64().unwrap() as usize
    }

    pub(crate) fn layers(&self) -> usize {
        self.size("num_hidden_layers")
    }

    pub(crate) fn map(&mut self, layer: usize, part: &str) -> &mut Tensor {
        let name = format!("model.layers.{layer}.{part}.weight");
        self.tensors.get_mut(&name).unwrap()
    }

    /// Edits every matrix.
    fn each_matrix(mut self, edit: impl Fn(&mut Tensor)) -> Self {
        self.tensors
            .values_mut()
            .filter(|tensor| tensor.shape.len() == 2)
            .for_each(edit);
        self
    }

    /// Rebuilds every layer's feed-forward block from units of the old one: `(unit, factor of up, factor of down)`.
    fn rebuild(mut self, mut choose: impl FnMut(&Self, usize) -> Vec<(usize, f32, f32)>) -> Self {
        for layer in 0..self.layers() {
            let chosen = choose(&self, layer);
            for (part, is_up) in [("mlp.gate_proj", false), ("mlp.up_proj", true)] {
                let old = self.map(layer, part);
                let width = old.shape[1];
                let rows = chosen.iter().flat_map(|&(unit, up, _)| {
                    let factor = if is_up { up } else { 1.0 };
                    old.values[unit * width..][..width]
                        .iter()
                        .map(move |x| factor * x)
                });
                let values = rows.collect();
                *old = Tensor {
                    shape: vec![chosen.len(), width],
                    values,
                };
            }
            let old = self.map(layer, "mlp.down_proj");
            let (height, width) = (old.shape[0], old.shape[1]);
            let values = old
                .values
                .chunks_exact(width)
                .flat_map(|row| chosen.iter().map(|&(unit, _, down)| down * row[unit]))
                .collect();
            *old = Tensor {
                shape: vec![height, chosen.len()],
                values,
            };
            self.config
                .insert("intermediate_size".into(), json!(chosen.len()));
        }
        self
    }
}

/// The mean of two models.
pub(crate) fn merged(mut one: Model, other: &Model) -> Model {
    for (name, tensor) in &mut one.tensors {
        for (x, y) in tensor.values.iter_mut().zip(&other.tensors[name].values) {
            *x = 0.5 * (*x + y);
        }
    }
    one
}

/// The smallest weights of every matrix set to zero.
pub(crate) fn pruned(model: Model, share: f64) -> Model {
    model.each_matrix(|tensor| {
        let mut sizes: Vec<f32> = tensor.values.iter().map(|x| x.abs()).collect();
        let at = (share * sizes.len() as f64) as usize;
        let (_, limit, _) = sizes.select_nth_unstable_by(at, f32::total_cmp);
        let limit = *limit;
        tensor
            .values
            .iter_mut()
            .filter(|x| x.abs() < limit)
            .for_each(|x| *x = 0.0);
    })
}

/// Every matrix rounded to signed `bits` bits with one scale per 32 numbers, as GGUF's Q8_0 and Q4_0 are.
pub(crate) fn rounded(model: Model, bits: u32) -> Model {
    let most = ((1 << (bits - 1)) - 1) as f32;
    model.each_matrix(|tensor| {
        for block in tensor.values.chunks_mut(32) {
            let largest = block.iter().fold(0f32, |m, x| m.max(x.abs()));
            let scale = largest / most;
            if scale > 0.0 {
                block
                    .iter_mut()
                    .for_each(|x| *x = (*x / scale).round() * scale);
            }
        }
    })
}

/// The units with the smallest norms removed.
pub(crate) fn narrowed(model: Model, share: f64) -> Model {
    model.rebuild(|model, layer| {
        let tensor = &model.tensors[&format!("model.layers.{layer}.mlp.up_proj.weight")];
        let norm = |row: &[f32]| row.iter().map(|x| x * x).sum::<f32>();
        let norms: Vec<f32> = tensor
            .values
            .chunks_exact(tensor.shape[1])
            .map(norm)
            .collect();
        let mut order: Vec<usize> = (0..norms.len()).collect();
        order.sort_by(|a, b| norms[*b].total_cmp(&norms[*a]));
        order.truncate(norms.len() - (share * norms.len() as f64) as usize);
        order.sort_unstable();
        order.into_iter().map(|unit| (unit, 1.0, 1.0)).collect()
    })
}

/// Units in another order, and with `turned` some with both linear maps turned and scaled: the same function.
pub(crate) fn shuffled(model: Model, seed: u64, turned: bool) -> Model {
    let mut random = SequenceRandom::new(seed);
    model.rebuild(|model, _| {
        let order = order(model.size("intermediate_size"), &mut random);
        let mut factor = || {
            let sign = if random.uniform() < 0.5 { -1.0 } else { 1.0 };
            sign * (0.5 + 1.5 * random.uniform()) as f32
        };
        order
            .into_iter()
            .map(|unit| {
                let factor = if turned { factor() } else { 1.0 };
                (unit, factor, 1.0 / factor)
            })
            .collect()
    })
}

/// Layers removed, the first and the last never.
pub(crate) fn shortened(mut model: Model, every: usize) -> Model {
    let layers = model.layers();
    let kept: Vec<usize> = (0..layers)
        .filter(|l| *l == 0 || *l + 1 == layers || l % every != 1)
        .collect();
    let mut tensors = BTreeMap::new();
    for (name, tensor) in &model.tensors {
        let Some(rest) = name.strip_prefix("model.layers.") else {
            tensors.insert(name.clone(), tensor.clone());
            continue;
        };
        let (layer, part) = rest.split_once('.').unwrap();
        let layer: usize = layer.parse().unwrap();
        if let Some(place) = kept.iter().position(|l| *l == layer) {
            tensors.insert(format!("model.layers.{place}.{part}"), tensor.clone());
        }
    }
    model.tensors = tensors;
    model
        .config
        .insert("num_hidden_layers".into(), json!(kept.len()));
    model
}

/// Queries scaled up and keys down, and all norms folded into the maps behind them: the same function.
pub(crate) fn folded(mut model: Model) -> Model {
    for layer in 0..model.layers() {
        for (norm, readers) in [
            (
                "input_layernorm",
                &["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"][..],
            ),
            (
                "post_attention_layernorm",
                &["mlp.gate_proj", "mlp.up_proj"][..],
            ),
        ] {
            let weights = std::mem::take(&mut model.map(layer, norm).values);
            for reader in readers {
                scale_columns(model.map(layer, reader), &weights);
            }
            model.map(layer, norm).values = vec![1.0; weights.len()];
        }
        for (part, factor) in [("self_attn.q_proj", 3.0), ("self_attn.k_proj", 1.0 / 3.0)] {
            model
                .map(layer, part)
                .values
                .iter_mut()
                .for_each(|x| *x *= factor);
        }
    }
    let mut head = model.tensors[EMBEDDING].clone();
    let last = model.tensors.get_mut("model.norm.weight").unwrap();
    let weights = std::mem::replace(&mut last.values, vec![1.0; head.shape[1]]);
    scale_columns(&mut head, &weights);
    model.tensors.insert(HEAD.into(), head);
    model
        .config
        .insert("tie_word_embeddings".into(), json!(false));
    model
}

/// A folded model with its whole stream rotated at random: the same function, and no weight is what it was.
pub(crate) fn rotated(model: Model, seed: u64) -> Model {
    let mut model = folded(model);
    let width = model.size("hidden_size");
    let rotation = Rotation::new(width, seed);
    for (name, tensor) in &mut model.tensors {
        if name.ends_with("o_proj.weight") || name.ends_with("down_proj.weight") {
            let columns = tensor.shape[1];
            rotation.apply(|i, j, cos, sin| {
                let (above, below) = tensor.values.split_at_mut(j * columns);
                let first = &mut above[i * columns..][..columns];
                for (x, y) in first.iter_mut().zip(&mut below[..columns]) {
                    (*x, *y) = (cos * *x - sin * *y, sin * *x + cos * *y);
                }
            });
        } else if tensor.shape.len() == 2 {
            for row in tensor.values.chunks_exact_mut(width) {
                rotation.apply(|i, j, cos, sin| {
                    (row[i], row[j]) = (cos * row[i] - sin * row[j], sin * row[i] + cos * row[j]);
                });
            }
        }
    }
    model
}

/// An orthogonal map that mixes every coordinate with every other: rounds of plane rotations, each over random pairs.
struct Rotation(Vec<(usize, usize, f32, f32)>);

impl Rotation {
    const ROUNDS: usize = 12;

    fn new(width: usize, seed: u64) -> Self {
        let mut random = SequenceRandom::new(seed);
        let mut planes = Vec::new();
        for _ in 0..Self::ROUNDS {
            let order = order(width, &mut random);
            for pair in order.chunks_exact(2) {
                let (sin, cos) = (std::f64::consts::TAU * random.uniform()).sin_cos();
                let (i, j) = (pair[0].min(pair[1]), pair[0].max(pair[1]));
                planes.push((i, j, cos as f32, sin as f32));
            }
        }
        Self(planes)
    }

    /// Calls `turn` with the planes of all rounds in order.
    fn apply(&self, mut turn: impl FnMut(usize, usize, f32, f32)) {
        self.0
            .iter()
            .for_each(|&(i, j, cos, sin)| turn(i, j, cos, sin));
    }
}

/// The numbers below `count` in a random order.
fn order(count: usize, random: &mut SequenceRandom) -> Vec<usize> {
    let mut order: Vec<usize> = (0..count).collect();
    for i in (1..count).rev() {
        order.swap(i, (random.next_u64() % (i as u64 + 1)) as usize);
    }
    order
}

fn scale_columns(tensor: &mut Tensor, weights: &[f32]) {
    for row in tensor.values.chunks_exact_mut(weights.len()) {
        row.iter_mut().zip(weights).for_each(|(x, w)| *x *= w);
    }
}
