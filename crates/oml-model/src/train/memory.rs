//! What a run of embedding needs at its peak, worked out before anything is loaded.
//!
//! A run goes through stages: where there is a mask, it chooses that; it trains; it walks back towards the base, which needs the trained values three times and nothing of
//! the optimizer; it measures what was written beside the base. The largest is the peak.
//!
//! Counted are arrays of a share of the model or of a batch. What else the program holds is a constant.

use oml_kernels::Isa;
use thiserror::Error;

use super::{Recipe, RecipeError, Subset, optimizer::state_bytes, subset};
use crate::{
    checkpoint::Checkpoint,
    config::ModelConfig,
    decoder::{ParameterMap, Sizes},
};

/// Tokenizer, threads' stacks, code, and the many small things, in bytes.
const OTHER: u64 = 96 << 20;
/// Rows of logits that exist at once.
const LOGIT_ROWS: usize = 256;

/// What a run needs besides the recipe.
#[derive(Clone, Copy, Debug)]
pub struct RunSize {
    /// Instructions, which decide the precision of what is packed.
    pub isa: Isa,
    /// Tokens of the longest fingerprint, query and response.
    pub longest: usize,
    /// Tokens of a fingerprint's response at most.
    pub response: usize,
    /// Number of sequences that are trained.
    pub items: usize,
}

/// A part of the memory of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryPart {
    /// What it holds.
    pub name: &'static str,
    /// Its size.
    pub bytes: u64,
}

/// The memory of a run, in bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemoryPlan {
    /// What is held while the stage lasts in which most is; no part is empty.
    pub parts: Vec<MemoryPart>,
}

/// A run that does not fit into a machine's memory.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("memory: expected at least {needed} bytes available for this recipe, got {available}")]
pub struct MemoryError {
    /// Bytes at the peak.
    pub needed: u64,
    /// Bytes that are available.
    pub available: u64,
}

impl MemoryPlan {
    /// The plan of a run of this recipe, resolved, on a model.
    ///
    /// # Errors
    /// A recipe that cannot be followed on this model.
    pub fn new(
        checkpoint: &Checkpoint,
        recipe: &Recipe,
        run: &RunSize,
    ) -> Result<Self, RecipeError> {
        let config = checkpoint.config();
        let weights = tensors(checkpoint);
        let adapted = recipe.lora_rank > 0;
        let subset = match adapted {
            true => None,
            false => Subset::choose(recipe, &weights, config)?,
        };
        let all = weights.length() as u64;
        // The width of what products read: bf16, or f32.
        let packed = if run.isa == Isa::Amx { 2 } else { 4 };
        let trained = match (&subset, adapted) {
            (_, true) => adapters(&weights, config, recipe)?,
            (Some(subset), _) => shapes(subset.map()),
            (None, _) => shapes(&weights),
        };
        let gradients: u64 = trained.iter().map(|[r, c]| (r * c) as u64).sum();
        // The elements of a mask; those of `mask_share` are not chosen yet.
        let chosen = match (&subset, recipe.mask_share > 0.0) {
            (_, true) => Some((gradients as f64 * recipe.mask_share) as u64),
            (Some(subset), _) => subset.mask().map(|mask| mask.len() as u64),
            (None, _) => None,
        };
        let values = chosen.unwrap_or(gradients);
        let optimized = match chosen.is_some() {
            true => vec![[1, values as usize]],
            false => trained,
        };
        let is_mixed = recipe.kl_weight > 0.0 && recipe.benign_batch > 0;
        let pulls = recipe.needs_base();
        let vocabulary = (config.vocab_size * config.hidden_size) as u64;
        let benign = (recipe.benign_sequences * recipe.benign_length) as u64;

        let model = if adapted { 2 * packed * all } else { 4 * all };
        let separate = if subset.is_some() { 4 * values } else { 0 };
        let mask = if chosen.is_some() { 12 * values } else { 0 };
        let activations = Activations::new(config, recipe, run, packed);
        let teacher = match is_mixed {
            true => packed * vocabulary + 4 * benign * config.hidden_size as u64,
            false => 0,
        };
        let part = |name, bytes| MemoryPart { name, bytes };
        let always = |model| {
            vec![
                part("weights", model),
                part("teacher's head and states", teacher),
                part("logits", activations.logits),
                part("program and tokenizer", OTHER),
            ]
        };
        let trained_values = if adapted { 4 * gradients } else { separate };

        // A mask is chosen among the magnitudes of all gradients, and these are copied for it.
        let masking = match recipe.mask_share > 0.0 {
            true => {
                let mut parts = always(model + 4 * gradients);
                parts.extend([
                    part("gradients", 4 * gradients),
                    part("choice of the mask", 8 * gradients),
                    part(
                        "activations",
                        activations.training + activations.packed_weight,
                    ),
                ]);
                parts
            }
            false => Vec::new(),
        };
        let mut training = always(model + trained_values);
        training.extend([
            part("gradients", 4 * gradients + mask),
            part(
                "optimizer",
                state_bytes(recipe.optimizer, &mut optimized.iter().copied()),
            ),
            part("base", if pulls { 4 * values } else { 0 }),
            part(
                "weights kept on detours",
                if recipe.takes_detours() {
                    4 * values
                } else {
                    0
                },
            ),
            part("best state", 4 * values),
            part(
                "activations",
                activations.training + activations.packed_weight,
            ),
        ]);
        let mut walk = always(model + trained_values);
        walk.extend([
            part("best state and base", 8 * values),
            part(
                "activations",
                activations.forward + activations.packed_weight,
            ),
        ]);
        let mut measuring = always(model + trained_values);
        measuring.extend([
            part("result and base, read again", 2 * packed * all),
            part(
                "activations",
                activations.forward + activations.packed_weight,
            ),
        ]);
        let mut largest = [masking, training, walk, measuring]
            .into_iter()
            .map(|parts| Self { parts })
            .max_by_key(Self::peak)
            .unwrap_or(Self { parts: Vec::new() });
        largest.parts.retain(|part| part.bytes > 0);
        largest
            .parts
            .sort_by_key(|part| std::cmp::Reverse(part.bytes));
        Ok(largest)
    }

    /// Bytes at the peak.
    pub fn peak(&self) -> u64 {
        self.parts.iter().map(|part| part.bytes).sum()
    }

    /// Holds the plan against what a machine has available.
    ///
    /// # Errors
    /// It does not fit.
    pub fn ensure_fits(&self, available: u64) -> Result<(), MemoryError> {
        let needed = self.peak();
        if needed > available {
            return Err(MemoryError { needed, available });
        }
        Ok(())
    }

    /// Changes of a recipe, each by itself, with which a run would fit: as lines of a recipe file.
    ///
    /// # Errors
    /// A recipe that cannot be followed on this model.
    pub fn changes_that_fit(
        checkpoint: &Checkpoint,
        recipe: &Recipe,
        run: &RunSize,
        available: u64,
    ) -> Result<Vec<String>, RecipeError> {
        use super::OptimizerName::{Adafactor, AdamW8bit};
        let smaller = recipe.micro_batch_tokens.min(256);
        let mut changes: Vec<(String, Recipe)> = Vec::new();
        let mut change = |text: String, changed: Recipe| {
            if changed != *recipe {
                changes.push((text, changed));
            }
        };
        let with = |edit: &dyn Fn(&mut Recipe)| {
            let mut changed = recipe.clone();
            edit(&mut changed);
            changed
        };
        change(
            format!("micro_batch_tokens = {smaller}"),
            with(&|r| r.micro_batch_tokens = smaller),
        );
        change(
            "gradient_checkpointing = true".into(),
            with(&|r| r.gradient_checkpointing = true),
        );
        change(
            "distance = 0 and average = 0".into(),
            with(&|r| (r.distance, r.average) = (0.0, 0.0)),
        );
        for optimizer in [AdamW8bit, Adafactor] {
            change(
                format!("optimizer = \"{}\"", optimizer.as_str()),
                with(&|r| r.optimizer = optimizer),
            );
        }
        // Adapters are no substitute for a choice among the weights.
        let chooses =
            recipe.mask_share > 0.0 || recipe.train_units > 0 || !recipe.train_modules.is_empty();
        if recipe.lora_rank == 0 && !chooses {
            change("lora_rank = 16".into(), with(&|r| r.lora_rank = 16));
            change(
                format!(
                    "lora_rank = 16, gradient_checkpointing = true and micro_batch_tokens = {smaller}"
                ),
                with(&|r| {
                    r.lora_rank = 16;
                    r.gradient_checkpointing = true;
                    r.micro_batch_tokens = smaller;
                }),
            );
        }
        let mut fitting = Vec::new();
        for (text, changed) in changes {
            if Self::new(checkpoint, &changed, run)?.peak() <= available {
                fitting.push(text);
            }
        }
        Ok(fitting)
    }
}

/// The working memory of the passes over one micro-batch.
struct Activations {
    /// Forward and backward.
    training: u64,
    /// Forward alone.
    forward: u64,
    /// The largest weight, packed for either direction, where weights are packed when they are read.
    packed_weight: u64,
    logits: u64,
}

impl Activations {
    fn new(config: &ModelConfig, recipe: &Recipe, run: &RunSize, packed: u64) -> Self {
        let sizes = Sizes::new(config);
        let (h, i) = (sizes.hidden as u64, sizes.intermediate as u64);
        let (query, qkv) = (
            sizes.heads.query_width() as u64,
            sizes.heads.qkv_width() as u64,
        );
        let micro = recipe.micro_batch_tokens.max(run.longest) as u64;
        let chosen = recipe.batch_size.min(run.items);
        let benign = match recipe.kl_weight > 0.0 {
            true => recipe.benign_batch,
            false => 0,
        };
        let step = (chosen * run.longest + benign * recipe.benign_length) as u64;
        let whole = (run.items * run.longest).max(recipe.benign_sequences * recipe.benign_length);
        let (t, forward) = (micro.min(step), micro.min(whole as u64));
        let adapted = u64::from(recipe.lora_rank > 0);
        let rank = recipe.lora_rank as u64;
        let dora = u64::from(recipe.use_dora);
        let wide = h.max(i).max(query);
        // Pairs of a token and an expert have rows of their own.
        let pairs = sizes.experts_per_token as u64;
        // Each expert keeps room for the most rows that it has had: twice an even share, say.
        let kept_pairs = match sizes.family.names.experts {
            Some(_) => (2 * pairs).min(sizes.experts as u64),
            None => pairs,
        };
        let rows = |count: u64| match sizes.family.names.experts {
            Some(_) => 4 * h * (1 + count * pairs),
            None => 0,
        };

        let input = 4 * h;
        let layer = 4 * h
            + packed * (qkv + query + 2 * i * kept_pairs)
            + rows(1)
            + 4 * 4 * 3 * rank
            + dora * (qkv + 2 * h + 2 * i) * 4;
        let below =
            4 * (2 * h + 2 * qkv) + packed * wide + adapted * (4 * 2 * i + 12 * rank) + rows(2);
        let backward = 4 * (3 * h + 2 * qkv + i * pairs)
            + rows(3)
            + adapted * 4 * 2 * i
            + packed * (wide + 2 * (2 * i).max(qkv));
        let picked = (chosen * run.response + benign * recipe.benign_length) as u64;
        let rows = LOGIT_ROWS.min(picked.min(t).max(1) as usize) as u64;
        let table = (config.vocab_size * config.hidden_size) as u64;
        let layers = sizes.layers as u64;
        let kept = layers * input
            + layer
                * if recipe.gradient_checkpointing {
                    1
                } else {
                    layers
                };
        Self {
            training: t * (kept + below + backward)
                + packed * (2 - adapted) * rows * config.vocab_size as u64,
            forward: forward * (below + packed * 2 * i * pairs),
            packed_weight: (1 - adapted) * 2 * packed * table.max(2 * i * h),
            logits: 4 * rows * config.vocab_size as u64 * if benign > 0 { 2 } else { 1 },
        }
    }
}

/// The tensors of a model.
fn tensors(checkpoint: &Checkpoint) -> ParameterMap {
    let config = checkpoint.config();
    let head = format!("{}.weight", config.family.names.head);
    let mut map = ParameterMap::default();
    for tensor in checkpoint.tensors() {
        if !(config.tie_word_embeddings && tensor.name == head) {
            map.push(tensor.name.clone(), tensor.shape.clone());
        }
    }
    map
}

/// The shapes of the adapters' tensors.
fn adapters(
    weights: &ParameterMap,
    config: &ModelConfig,
    recipe: &Recipe,
) -> Result<Vec<[usize; 2]>, RecipeError> {
    let Some(spec) = recipe.adapters(config.num_hidden_layers)? else {
        return Ok(Vec::new());
    };
    let modules = config.family.target_modules();
    let adapted = |name: &str| {
        let inside =
            subset::layer(name).filter(|n| spec.layers.as_ref().is_none_or(|own| own.contains(n)));
        inside.is_some()
            && name.strip_suffix(".weight").is_some_and(|map| {
                let module = map.rsplit('.').next().unwrap_or(map);
                modules.contains(&module) && spec.adapts(map)
            })
    };
    let mut shapes = Vec::new();
    for entry in weights.entries.iter().filter(|e| adapted(&e.name)) {
        if let [outputs, inputs] = entry.shape[..] {
            shapes.extend([[spec.rank, inputs], [outputs, spec.rank]]);
            shapes.extend(spec.use_dora.then_some([1, outputs]));
        }
    }
    Ok(shapes)
}

fn shapes(map: &ParameterMap) -> Vec<[usize; 2]> {
    let shape = |shape: &[usize]| match shape {
        [rows, columns] => [*rows, *columns],
        _ => [1, shape.iter().product()],
    };
    map.entries.iter().map(|e| shape(&e.shape)).collect()
}
