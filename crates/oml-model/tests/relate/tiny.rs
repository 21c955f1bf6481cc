//! Small Llamas from seeds, and their training on a text that is in this repository.

use std::collections::BTreeMap;
use std::path::Path;

use oml_kernels::Isa;
use oml_model::backend::Objective;
use oml_model::checkpoint::Checkpoint;
use oml_model::config::ModelConfig;
use oml_model::decoder::{Decoder, Mode, TrainingSequence, Weights as DecoderWeights};
use oml_model::engine::Engine;
use oml_model::sampler::SequenceRandom;
use oml_model::train::{AdamWOptions, Pull, Trainer};
use serde_json::{Map, Value, json};

use super::changes::{Model, Tensor};

/// Printable ASCII, and one sign for everything else.
const VOCABULARY: usize = 96;
const WINDOW: usize = 48;
const SEQUENCES: usize = 16;

/// What a small model is like.
#[derive(Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) hidden: usize,
    pub(crate) units: usize,
    pub(crate) layers: usize,
}

pub(crate) const SMALL: Shape = Shape {
    hidden: 32,
    units: 96,
    layers: 3,
};

/// A normal draw (Box and Muller).
pub(crate) fn normal(random: &mut SequenceRandom) -> f64 {
    let (radius, angle) = (1.0 - random.uniform(), random.uniform());
    (-2.0 * radius.ln()).sqrt() * (std::f64::consts::TAU * angle).cos()
}

/// A model that was never trained: maps normal with deviation 1/√inputs, norms near 1.
pub(crate) fn untrained(shape: Shape, seed: u64) -> Model {
    let fields = json!({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu", "hidden_size": shape.hidden,
        "intermediate_size": shape.units, "num_hidden_layers": shape.layers, "num_attention_heads": 4, "num_key_value_heads": 2,
        "vocab_size": VOCABULARY, "max_position_embeddings": 256, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
        "tie_word_embeddings": true,
    });
    random(fields.as_object().unwrap(), seed)
}

/// Random weights for any configuration.
pub(crate) fn random(config: &Map<String, Value>, seed: u64) -> Model {
    let mut random = SequenceRandom::new(seed);
    let shapes = ModelConfig::from_json(config).unwrap().tensor_shapes();
    let mut tensors = BTreeMap::new();
    for (name, shape) in shapes {
        let scale = 1.0 / (*shape.last().unwrap() as f64).sqrt();
        let values = (0..shape.iter().product()).map(|_| match shape.len() {
            1 => 1.0 + 0.1 * normal(&mut random) as f32,
            _ => (scale * normal(&mut random)) as f32,
        });
        let values = values.collect();
        tensors.insert(name, Tensor { shape, values });
    }
    Model {
        config: config.clone(),
        tensors,
        companions: Vec::new(),
    }
}

/// The text: the licence of this repository, which stays as it is.
fn text() -> Vec<u32> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../LICENSE");
    let bytes = std::fs::read(path).unwrap();
    let token = |byte: u8| match byte {
        b' '..=b'~' => u32::from(byte - b' '),
        _ => VOCABULARY as u32 - 1,
    };
    bytes.into_iter().map(token).collect()
}

/// Trains all weights; every model of a `data` seed sees the same windows in the same order. Gives the first and the last
/// step's loss beside.
pub(crate) fn train(
    model: &Model,
    steps: usize,
    learning_rate: f32,
    data: u64,
) -> (Model, [f32; 2]) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model");
    model.write(&path);
    let checkpoint = Checkpoint::open(&path).unwrap();
    let engine = Engine {
        isa: Some(Isa::detect()),
        threads: Some(2),
    };
    let mut backend = engine.cpu();
    let weights = DecoderWeights::load(&mut backend, &checkpoint, Mode::Trainable).unwrap();
    let decoder = Decoder::new(backend, checkpoint.config(), weights);
    let mut trainer = Trainer::new(decoder, AdamWOptions::default(), 4096);
    let text = text();
    let mut random = SequenceRandom::new(data);
    let mut losses = [0.0; 2];
    for step in 0..steps {
        let weight = 1.0 / (SEQUENCES * (WINDOW - 1)) as f32;
        let sequences: Vec<TrainingSequence> = (0..SEQUENCES)
            .map(|_| {
                let start = (random.next_u64() % (text.len() - WINDOW) as u64) as usize;
                let ids = text[start..start + WINDOW].to_vec();
                let objective = |t: usize| (t - 1, Objective::Token { id: ids[t], weight });
                TrainingSequence {
                    objectives: (1..WINDOW).map(objective).collect(),
                    ids: ids.clone(),
                }
            })
            .collect();
        let views: Vec<&TrainingSequence> = sequences.iter().collect();
        let warm = ((step + 1) as f32 / 20.0).min(1.0);
        let found = trainer.step(&views, None, warm * learning_rate, Pull::default());
        losses[usize::from(step > 0)] = found.loss as f32;
    }
    let mut trained = model.clone();
    let weights = &trainer.decoder.weights;
    for (name, tensor) in &mut trained.tensors {
        let range = weights.map.get(name).unwrap().range();
        tensor.values.copy_from_slice(&weights.flat[range]);
    }
    (trained, losses)
}
