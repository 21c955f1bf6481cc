//! Gradients of the whole loss against central differences `(L(θ + h·d) − L(θ − h·d)) / 2h`.
//!
//! For each tensor d is the gradient's own direction, where the difference is its norm, and the axes of its largest elements.

use oml_kernels::{Floats, Isa};
use oml_model::{
    backend::{Backend, Cpu, Directions, Objective, Teacher, Weight},
    checkpoint::Checkpoint,
    decoder::{
        ALL_LINEAR, AdapterSpec, Adapters, Decoder, Mode, ParameterMap, TrainingSequence, Weights,
    },
    sampler::SequenceRandom,
    train::{AdamWOptions, BenignText, Pull, Trainer},
};

use crate::model::{available, causal, checkpoint, engine, exact, language, norm, texts, trainer};

const STEP: f64 = 4e-3;
const AXES: usize = 3;

/// The base model's hidden states and head, which the trained model is to follow.
struct Base {
    hidden: Floats,
    head: Weight,
}

impl Base {
    fn new(name: &str, checkpoint: &Checkpoint, isa: Isa, texts: &[Vec<u32>]) -> Self {
        let mut backend = engine(isa).cpu();
        let benign = BenignText {
            sequences: texts.to_vec(),
        };
        let states = benign.hidden_states(&mut causal(name, isa));
        let mut hidden = backend.buffer(states.len());
        backend.upload(&states, &mut hidden, 0);
        let config = checkpoint.config();
        let (outputs, inputs) = (config.vocab_size, config.hidden_size);
        let mut values = vec![0.0; outputs * inputs];
        checkpoint
            .read_f32(&config.head_tensor(), &mut values)
            .unwrap();
        let head = backend.weight_frozen(&values, outputs, inputs, Directions::Forward);
        Self { hidden, head }
    }

    fn teacher(&self) -> Teacher<'_, Cpu> {
        Teacher {
            hidden: &self.hidden,
            head: &self.head,
        }
    }
}

/// Every other sequence follows the base model instead of its own tokens.
fn followed(texts: &[Vec<u32>]) -> Vec<TrainingSequence> {
    let mut row = 0;
    let mut sequences = language(texts);
    for (i, sequence) in sequences.iter_mut().enumerate() {
        for (_, objective) in &mut sequence.objectives {
            let (Objective::Token { weight, .. } | Objective::Teacher { weight, .. }) = *objective;
            if i % 2 == 0 {
                *objective = Objective::Teacher { row, weight };
            }
            row += 1;
        }
    }
    sequences
}

fn flat(trainer: &mut Trainer<Cpu>) -> &mut Floats {
    let decoder = &mut trainer.decoder;
    match &mut decoder.adapters {
        Some(adapters) => &mut adapters.flat,
        None => &mut decoder.weights.flat,
    }
}

/// Moves everything that is trained away from where it starts.
fn disturb(trainer: &mut Trainer<Cpu>, size: f32) {
    let mut random = SequenceRandom::new(11);
    for value in flat(trainer).iter_mut() {
        *value += size * (2.0 * random.uniform() as f32 - 1.0);
    }
}

fn with_adapters(checkpoint: &Checkpoint, isa: Isa, modules: &[&str]) -> Trainer<Cpu> {
    let mut backend = engine(isa).cpu();
    let mode = Mode::Frozen(Directions::Both);
    let weights = Weights::load(&mut backend, checkpoint, mode).unwrap();
    let mut decoder = Decoder::new(backend, checkpoint.config(), weights);
    let sizes = *decoder.sizes();
    let spec = AdapterSpec {
        rank: 3,
        alpha: 6.0,
        target_modules: modules.iter().map(|m| (*m).to_owned()).collect(),
        layers: None,
        use_dora: false,
    };
    let mut random = SequenceRandom::new(5);
    decoder.adapters = Some(Adapters::new(
        &mut decoder.backend,
        &sizes,
        &spec,
        &mut || random.uniform() as f32,
    ));
    Trainer::new(decoder, AdamWOptions::default(), 4096)
}

/// Every tensor: its gradient is finite, not zero, and what the loss does when the tensor is moved.
fn check(
    what: &str,
    trainer: &mut Trainer<Cpu>,
    map: &ParameterMap,
    sequences: &[TrainingSequence],
    base: Option<&Base>,
) {
    let views: Vec<&TrainingSequence> = sequences.iter().collect();
    let teacher = || base.map(Base::teacher);
    trainer.accumulate(&views, teacher(), false);
    let gradients = trainer.gradients().to_vec();
    for entry in &map.entries {
        let gradient = &gradients[entry.range()];
        assert!(
            gradient.iter().all(|g| g.is_finite()),
            "{what}: {}",
            entry.name
        );
        let length = norm(gradient);
        assert!(length > 1e-4, "{what}: {} has no gradient", entry.name);
        let mut order: Vec<usize> = (0..gradient.len()).collect();
        order.sort_by(|a, b| gradient[*b].abs().total_cmp(&gradient[*a].abs()));
        let along = gradient.iter().map(|g| f64::from(*g) / length).collect();
        let axis = |i: &usize| {
            let mut axis = vec![0.0; gradient.len()];
            axis[*i] = 1.0;
            axis
        };
        let mut directions: Vec<Vec<f64>> = vec![along];
        directions.extend(order.iter().take(AXES).map(axis));
        for direction in directions {
            let start = flat(trainer)[entry.range()].to_vec();
            let mut loss_at = |distance: f64| {
                let place = &mut flat(trainer)[entry.range()];
                for ((p, s), d) in place.iter_mut().zip(&start).zip(&direction) {
                    *p = (f64::from(*s) + distance * d) as f32;
                }
                trainer.accumulate(&views, teacher(), false).loss
            };
            // Two steps cancel the third derivative (Richardson).
            let mut slope = |h: f64| (loss_at(h) - loss_at(-h)) / (2.0 * h);
            let got = (4.0 * slope(STEP) - slope(2.0 * STEP)) / 3.0;
            loss_at(0.0);
            let expected: f64 = gradient
                .iter()
                .zip(&direction)
                .map(|(g, d)| f64::from(*g) * d)
                .sum();
            assert!(
                (expected - got).abs() < 2e-2 * expected.abs() + 1e-3,
                "{what}: {}: gradient {expected}, difference {got}",
                entry.name
            );
        }
    }
}

#[test]
fn gradients_of_all_weights_for_tokens() {
    for name in [
        "gemma",
        "gemma2",
        "gemma3",
        "gpt-neox",
        "gpt-neox-sequential",
        "llama-biases",
        "llama-gqa-tied",
        "phi3",
        "qwen2",
        "qwen3",
    ] {
        let (checkpoint, sequences) = (checkpoint(name), language(&texts(3)));
        let mut trainer = trainer(&checkpoint, Isa::Portable, AdamWOptions::default());
        let map = trainer.decoder.weights.map.clone();
        check(name, &mut trainer, &map, &sequences, None);
    }
}

#[test]
fn gradients_of_all_weights_towards_the_base() {
    for name in ["gemma2", "llama-gqa-tied", "llama-rope-yarn"] {
        for isa in exact() {
            let (checkpoint, texts) = (checkpoint(name), texts(4));
            let base = Base::new(name, &checkpoint, isa, &texts);
            let mut trainer = trainer(&checkpoint, isa, AdamWOptions::default());
            disturb(&mut trainer, 0.05);
            let map = trainer.decoder.weights.map.clone();
            let what = format!("{name} {isa}");
            check(&what, &mut trainer, &map, &followed(&texts), Some(&base));
        }
    }
}

#[test]
fn gradients_of_adapters() {
    let all = &[ALL_LINEAR][..];
    for (name, modules, maps) in [
        ("gemma2", all, 7),
        ("gpt-neox", all, 4),
        ("llama-biases", all, 7),
        ("llama-gqa-tied", &["k_proj", "v_proj", "up_proj"][..], 3),
        ("phi3", all, 4),
    ] {
        let (checkpoint, texts) = (checkpoint(name), texts(5));
        let base = Base::new(name, &checkpoint, Isa::Portable, &texts);
        let mut trainer = with_adapters(&checkpoint, Isa::Portable, modules);
        let map = trainer.decoder.adapters.as_ref().unwrap().map.clone();
        assert_eq!(map.entries.len(), 2 * 2 * maps, "{name}");
        disturb(&mut trainer, 0.1);
        check(name, &mut trainer, &map, &followed(&texts), Some(&base));
    }
}

/// `dA = scale·Bᵀ·dW` and `dB = scale·dW·Aᵀ`, dW being the gradient of the merged weights. Where experts are chosen differences say nothing,
/// for a step may change a choice.
#[test]
fn gradients_of_adapters_follow_those_of_the_weights() {
    for name in ["mixtral", "qwen3"] {
        let (checkpoint, sequences) = (checkpoint(name), language(&texts(5)));
        let views: Vec<&TrainingSequence> = sequences.iter().collect();
        let mut beside = with_adapters(&checkpoint, Isa::Portable, &[ALL_LINEAR]);
        disturb(&mut beside, 0.1);
        let adapters = beside.decoder.adapters.as_ref().unwrap();
        let (values, map, scale) = (
            adapters.flat.to_vec(),
            adapters.map.clone(),
            f64::from(adapters.spec.scale()),
        );
        let mut whole = trainer(&checkpoint, Isa::Portable, AdamWOptions::default());
        let weights = whole.decoder.weights.map.clone();
        for entry in &weights.entries {
            let weight = &mut whole.decoder.weights.flat[entry.range()];
            adapters.merge(&values, &entry.name, weight);
        }
        beside.accumulate(&views, None, false);
        whole.accumulate(&views, None, false);
        for entry in &map.entries {
            let stem = entry.name.strip_prefix("base_model.model.").unwrap();
            let (stem, is_a) = match stem.strip_suffix(".lora_A.weight") {
                Some(stem) => (stem, true),
                None => (stem.strip_suffix(".lora_B.weight").unwrap(), false),
            };
            let other = if is_a { "lora_B" } else { "lora_A" };
            let other = map
                .get(&format!("base_model.model.{stem}.{other}.weight"))
                .unwrap();
            let weight = weights.get(&format!("{stem}.weight")).unwrap();
            let (outputs, inputs) = (weight.shape[0], weight.shape[1]);
            let rank = entry.shape[usize::from(!is_a)];
            let (other, d_weight) = (&values[other.range()], &whole.gradients()[weight.range()]);
            let dot = |at: &dyn Fn(usize) -> (usize, usize), length: usize| {
                let product = |(w, o): (usize, usize)| f64::from(d_weight[w]) * f64::from(other[o]);
                scale * (0..length).map(|k| product(at(k))).sum::<f64>()
            };
            let expected: Vec<f64> = if is_a {
                let places = (0..rank).flat_map(|r| (0..inputs).map(move |i| (r, i)));
                let sum = |(r, i)| dot(&|k| (k * inputs + i, k * rank + r), outputs);
                places.map(sum).collect()
            } else {
                let places = (0..outputs).flat_map(|o| (0..rank).map(move |r| (o, r)));
                let sum = |(o, r)| dot(&|k| (o * inputs + k, r * inputs + k), inputs);
                places.map(sum).collect()
            };
            let got = &beside.gradients()[entry.range()];
            let largest = expected.iter().fold(0.0, |most: f64, e| most.max(e.abs()));
            assert!(largest > 0.0);
            for (e, g) in expected.iter().zip(got) {
                assert!(
                    (e - f64::from(*g)).abs() < 1e-3 * largest,
                    "{name} {}",
                    entry.name
                );
            }
        }
    }
}

#[test]
fn a_model_that_is_its_base_has_no_divergence() {
    let (checkpoint, texts) = (checkpoint("mistral"), texts(6));
    let base = Base::new("mistral", &checkpoint, Isa::Portable, &texts);
    let mut trainer = trainer(&checkpoint, Isa::Portable, AdamWOptions::default());
    let mut sequences = language(&texts);
    let objectives = sequences.iter_mut().flat_map(|s| &mut s.objectives);
    for (row, (_, objective)) in objectives.enumerate() {
        *objective = Objective::Teacher { row, weight: 1.0 };
    }
    let views: Vec<&TrainingSequence> = sequences.iter().collect();
    let losses = trainer.accumulate(&views, Some(base.teacher()), false);
    assert!(losses.rows.iter().all(|r| r.loss.abs() < 1e-5));
    assert!(norm(trainer.gradients()) < 1e-3);
}

#[test]
fn adapters_learn_alike_on_every_instruction_set() {
    let all = &[ALL_LINEAR][..];
    let (checkpoint, texts) = (checkpoint("llama-biases"), texts(7));
    let sequences = language(&texts);
    let views: Vec<&TrainingSequence> = sequences.iter().collect();
    let learn = |isa| {
        let mut trainer = with_adapters(&checkpoint, isa, all);
        let mut losses = Vec::new();
        for _ in 0..30 {
            losses.push(trainer.step(&views, None, 1e-2, Pull::default()).loss);
        }
        losses
    };
    let expected = learn(Isa::Portable);
    assert!(expected[29] < 0.8 * expected[0], "{expected:?}");
    for isa in available() {
        let tolerance = if isa == Isa::Amx { 2e-2 } else { 2e-3 };
        for (step, (e, g)) in expected.iter().zip(learn(isa)).enumerate() {
            assert!(
                (g / e - 1.0).abs() < tolerance,
                "{isa}, step {step}: {e} {g}"
            );
        }
    }
}
