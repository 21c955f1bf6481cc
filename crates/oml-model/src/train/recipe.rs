//! Everything that decides training, as it stands in a recipe file (TOML, one flat table).
//!
//! Every key has a default, so an empty file is a recipe; unknown keys are refused. The resolved recipe is written beside each result.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{AdamWOptions, OptimizerName, OptimizerOptions, subset};
use crate::{
    config::Family,
    decoder::{ALL_LINEAR, AdapterSpec},
};

/// Bytes of a recipe file that are read at most.
pub const MAX_RECIPE_BYTES: usize = 1 << 16;

/// Epochs, or steps of warm-up, at most.
const MAX_STEPS: u32 = 100_000;
/// Benign tokens at most: the base's hidden states on them are held in memory.
const MAX_BENIGN_TOKENS: usize = 1 << 24;

/// How the learning rate goes down after the warm-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Schedule {
    /// It does not.
    Constant,
    /// In a straight line to `final_learning_rate`.
    Linear,
    /// Along half a cosine to `final_learning_rate`.
    Cosine,
}

/// What the model is held to on benign text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BenignTarget {
    /// The base model's distribution at every position: `KL(base ‖ model)`.
    Base,
    /// The text's own next tokens.
    Text,
}

/// When the weights are averaged with the base.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AverageAt {
    /// After every step.
    Step,
    /// After every epoch.
    Epoch,
    /// Not in training: gradients are taken, and the result is, at the average. That is what OML 1.0 comes to, whose averaged copies the
    /// optimizer overwrites from its own weights.
    Gradient,
}

/// A training recipe.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Recipe {
    /// Seed of the order of training and of the benign text.
    pub seed: u64,
    /// Passes over the fingerprints at most.
    pub epochs: u32,
    /// Fingerprints per step.
    pub batch_size: usize,
    /// Tokens that lie side by side in one packed micro-batch.
    pub micro_batch_tokens: usize,
    /// Peak learning rate.
    pub learning_rate: f32,
    /// Learning rate at the last epoch.
    pub final_learning_rate: f32,
    /// Steps over which the learning rate rises to its peak.
    pub warmup_steps: u32,
    /// How it goes down.
    pub schedule: Schedule,
    /// AdamW's first decay.
    pub beta1: f32,
    /// AdamW's second decay.
    pub beta2: f32,
    /// AdamW's epsilon.
    pub eps: f32,
    /// Decoupled weight decay.
    pub weight_decay: f32,
    /// Largest norm of a step's gradient; 0 leaves it.
    pub max_grad_norm: f32,
    /// A fingerprint whose loss (nats per token) is below this sits out until the next full pass.
    pub skip_loss: f32,
    /// Every how many epochs all fingerprints take part.
    pub full_pass_every: u32,
    /// Recall at which training may stop.
    pub target_recall: f64,
    /// Epochs that training goes on after the target is reached, in which the best state is still sought.
    pub settle_epochs: u32,
    /// Every how many epochs recall and divergence are measured even if the running recall is below the target.
    pub evaluate_every: u32,
    /// Factor on the divergence from the base model on benign text; 0 trains on fingerprints alone.
    pub kl_weight: f32,
    /// Benign sequences per step.
    pub benign_batch: usize,
    /// Tokens of a benign sequence.
    pub benign_length: usize,
    /// Benign sequences in all; the last eighth is held out and decides which state is the best. 0 leaves it to [`Recipe::resolved`].
    pub benign_sequences: usize,
    /// L2-SP: decoupled pull towards the base, times the learning rate.
    pub distance: f32,
    /// Weight averaging with the base after every step.
    pub average: f32,
    /// Rank of low-rank adapters; 0 trains all weights.
    pub lora_rank: usize,
    /// Numerator of the adapters' scale.
    pub lora_alpha: f32,
    /// The maps that get an adapter, in PEFT's names.
    pub target_modules: Vec<String>,
    /// Seconds after which the state is saved, so that a killed run can resume.
    pub save_seconds: u64,
    /// What the model is held to on benign text.
    pub benign_target: BenignTarget,
    /// When `average` takes place.
    pub average_at: AverageAt,
    /// How often each response is also trained inside a prompt drawn at random; 0 trains queries as they are.
    pub augment: usize,
    /// Random tokens before a query at most, in place of a prompt now and then.
    pub augment_padding: usize,
    /// Recall inside prompts at which training may stop.
    pub target_prompted_recall: f64,
    /// Fine-tuning steps after which a fingerprint's gradient is taken; 0 takes it where the weights are.
    pub persist_steps: u32,
    /// Every how many steps that is done.
    pub persist_every: u32,
    /// Instruction sequences of a fine-tuning step.
    pub persist_batch: usize,
    /// Root mean square of the weights' changes in a fine-tuning step.
    pub persist_distance: f32,
    /// Largest share of the base that is merged into the weights before a fingerprint's gradient is taken.
    pub merge_share: f32,
    /// Which optimizer.
    pub optimizer: OptimizerName,
    /// Momentum of `sgd`.
    pub momentum: f32,
    /// Layers that are trained, each a number or a range such as `20-29`; all where there are none.
    pub train_layers: Vec<String>,
    /// Tensors that are trained, as names or patterns; all where there are none.
    pub train_modules: Vec<String>,
    /// Units of each feed-forward block that are trained, the last ones, and nothing else; 0 leaves it to the other keys.
    pub train_units: usize,
    /// Share of the trained tensors' elements that is trained: those with the largest gradients on the set at the start; 0 trains all.
    pub mask_share: f64,
    /// Whether adapters have magnitudes (DoRA).
    pub use_dora: bool,
    /// Whether the backward pass computes each layer again instead of keeping what it needs of all.
    pub gradient_checkpointing: bool,
}

impl Default for Recipe {
    fn default() -> Self {
        Self {
            seed: 0,
            epochs: 24,
            batch_size: 64,
            micro_batch_tokens: 2048,
            learning_rate: 1e-4,
            final_learning_rate: 1e-5,
            warmup_steps: 2,
            schedule: Schedule::Linear,
            beta1: 0.9,
            beta2: 0.95,
            eps: 1e-8,
            weight_decay: 0.0,
            max_grad_norm: 1.0,
            skip_loss: 0.3,
            full_pass_every: 4,
            target_recall: 0.999,
            settle_epochs: 8,
            evaluate_every: 8,
            kl_weight: 1.0,
            benign_batch: 12,
            benign_length: 32,
            benign_sequences: 0,
            distance: 0.0,
            average: 0.0,
            lora_rank: 0,
            lora_alpha: 32.0,
            target_modules: vec![ALL_LINEAR.to_owned()],
            save_seconds: 120,
            benign_target: BenignTarget::Base,
            average_at: AverageAt::Step,
            augment: 0,
            augment_padding: 0,
            target_prompted_recall: 0.98,
            persist_steps: 0,
            persist_every: 2,
            persist_batch: 8,
            persist_distance: 1e-5,
            merge_share: 0.0,
            optimizer: OptimizerName::AdamW,
            momentum: 0.9,
            train_layers: Vec::new(),
            train_modules: Vec::new(),
            train_units: 0,
            mask_share: 0.0,
            use_dora: false,
            gradient_checkpointing: false,
        }
    }
}

/// A recipe that cannot be followed.
#[derive(Debug, Error, PartialEq)]
pub enum RecipeError {
    /// It cannot be written as TOML.
    #[error("recipe: {0}")]
    Syntax(String),
    /// A value outside its range.
    #[error("recipe key '{key}': expected {expected}, got {got}")]
    Value {
        /// The key.
        key: &'static str,
        /// What it may be.
        expected: &'static str,
        /// What it is.
        got: String,
    },
    /// A layer that the model does not have.
    #[error("recipe key 'train_layers': expected layers from 0 to {last}, got {got}")]
    Layer {
        /// The model's last layer.
        last: usize,
        /// What was named.
        got: String,
    },
}

impl Recipe {
    /// The optimizer and its constants.
    pub fn optimizer(&self) -> OptimizerOptions {
        OptimizerOptions {
            name: self.optimizer,
            adamw: AdamWOptions {
                beta1: self.beta1,
                beta2: self.beta2,
                eps: self.eps,
                weight_decay: self.weight_decay,
                max_grad_norm: (self.max_grad_norm > 0.0).then_some(self.max_grad_norm),
            },
            momentum: self.momentum,
        }
    }

    /// The layers that get adapters; all where there are none.
    ///
    /// # Errors
    /// A layer that the model does not have.
    pub fn adapted_layers(&self, layers: usize) -> Result<Option<Vec<usize>>, RecipeError> {
        let chosen = subset::chosen_layers(self, layers)?;
        Ok(chosen.map(|chosen| (0..layers).filter(|n| chosen[*n]).collect()))
    }

    /// The adapters that are trained; `None` where the weights are.
    ///
    /// # Errors
    /// A layer that the model does not have.
    pub fn adapters(&self, layers: usize) -> Result<Option<AdapterSpec>, RecipeError> {
        if self.lora_rank == 0 {
            return Ok(None);
        }
        Ok(Some(AdapterSpec {
            rank: self.lora_rank,
            alpha: self.lora_alpha,
            target_modules: self.target_modules.clone(),
            layers: self.adapted_layers(layers)?,
            use_dora: self.use_dora,
        }))
    }

    /// The recipe as a file with every value.
    ///
    /// # Errors
    /// Never for a recipe that is valid.
    pub fn render(&self) -> Result<String, RecipeError> {
        toml::to_string(self).map_err(|e| RecipeError::Syntax(e.to_string()))
    }

    /// The recipe for a set of fingerprints, with numbers in place of what is left to its size: small sets draw less benign text.
    pub fn resolved(&self, fingerprints: usize) -> Self {
        let mut recipe = self.clone();
        if recipe.benign_sequences == 0 {
            recipe.benign_sequences = fingerprints.saturating_mul(3).clamp(256, 768);
        }
        recipe
    }

    /// Checks every value.
    ///
    /// # Errors
    /// The first value outside its range.
    pub fn validate(&self) -> Result<(), RecipeError> {
        let check = |key, ok: bool, expected, got: &dyn ToString| {
            if ok {
                Ok(())
            } else {
                Err(RecipeError::Value {
                    key,
                    expected,
                    got: got.to_string(),
                })
            }
        };
        let positive = |v: f32| v.is_finite() && v > 0.0;
        let share = |v: f32| (0.0..1.0).contains(&v);
        check(
            "epochs",
            (1..=MAX_STEPS).contains(&self.epochs),
            "1 to 100000",
            &self.epochs,
        )?;
        check(
            "batch_size",
            (1..=65_536).contains(&self.batch_size),
            "1 to 65536",
            &self.batch_size,
        )?;
        check(
            "micro_batch_tokens",
            (16..=65_536).contains(&self.micro_batch_tokens),
            "16 to 65536",
            &self.micro_batch_tokens,
        )?;
        check(
            "learning_rate",
            positive(self.learning_rate) && self.learning_rate < 1.0,
            "above 0 and below 1",
            &self.learning_rate,
        )?;
        let last = self.final_learning_rate;
        check(
            "final_learning_rate",
            last >= 0.0 && last <= self.learning_rate,
            "0 to learning_rate",
            &last,
        )?;
        check(
            "warmup_steps",
            self.warmup_steps <= MAX_STEPS,
            "0 to 100000",
            &self.warmup_steps,
        )?;
        check("beta1", share(self.beta1), "0 to below 1", &self.beta1)?;
        check("beta2", share(self.beta2), "0 to below 1", &self.beta2)?;
        check("eps", positive(self.eps), "above 0", &self.eps)?;
        check(
            "weight_decay",
            share(self.weight_decay),
            "0 to below 1",
            &self.weight_decay,
        )?;
        check(
            "max_grad_norm",
            self.max_grad_norm.is_finite() && self.max_grad_norm >= 0.0,
            "0 or above",
            &self.max_grad_norm,
        )?;
        check(
            "skip_loss",
            self.skip_loss.is_finite() && self.skip_loss >= 0.0,
            "0 or above",
            &self.skip_loss,
        )?;
        check(
            "full_pass_every",
            self.full_pass_every > 0,
            "1 or above",
            &self.full_pass_every,
        )?;
        check(
            "target_recall",
            (0.0..=1.0).contains(&self.target_recall),
            "0 to 1",
            &self.target_recall,
        )?;
        check(
            "settle_epochs",
            self.settle_epochs <= MAX_STEPS,
            "0 to 100000",
            &self.settle_epochs,
        )?;
        check(
            "evaluate_every",
            self.evaluate_every > 0,
            "1 or above",
            &self.evaluate_every,
        )?;
        check(
            "kl_weight",
            self.kl_weight.is_finite() && self.kl_weight >= 0.0,
            "0 or above",
            &self.kl_weight,
        )?;
        check(
            "benign_batch",
            self.benign_batch <= 65_536,
            "at most 65536",
            &self.benign_batch,
        )?;
        check(
            "benign_length",
            (2..=4096).contains(&self.benign_length),
            "2 to 4096",
            &self.benign_length,
        )?;
        check(
            "benign_sequences",
            self.benign_sequences == 0 || (8..=1 << 20).contains(&self.benign_sequences),
            "0 or 8 to 1048576",
            &self.benign_sequences,
        )?;
        let benign_tokens = self.benign_sequences.saturating_mul(self.benign_length);
        check(
            "benign_sequences",
            benign_tokens <= MAX_BENIGN_TOKENS,
            "at most 16777216 tokens, benign_sequences times benign_length",
            &benign_tokens,
        )?;
        check(
            "distance",
            self.distance.is_finite() && self.distance >= 0.0,
            "0 or above",
            &self.distance,
        )?;
        check(
            "average",
            share(self.average),
            "0 to below 1",
            &self.average,
        )?;
        check(
            "lora_rank",
            self.lora_rank <= 4096,
            "at most 4096",
            &self.lora_rank,
        )?;
        check(
            "lora_alpha",
            positive(self.lora_alpha),
            "above 0",
            &self.lora_alpha,
        )?;
        let families = || Family::ALL.into_iter().flat_map(Family::target_modules);
        let known = |t: &String| t == ALL_LINEAR || families().any(|module| module == t.as_str());
        check(
            "target_modules",
            self.target_modules.iter().all(known),
            "all-linear, or names of linear maps such as q_proj, v_proj",
            &self.target_modules.join(", "),
        )?;
        check(
            "target_modules",
            self.lora_rank == 0 || !self.target_modules.is_empty(),
            "at least one map",
            &"none",
        )?;
        check("augment", self.augment <= 16, "at most 16", &self.augment)?;
        check(
            "augment_padding",
            self.augment_padding <= 1024,
            "at most 1024",
            &self.augment_padding,
        )?;
        check(
            "augment_padding",
            self.augment_padding == 0 || self.augment > 0,
            "0 where augment is 0",
            &self.augment_padding,
        )?;
        check(
            "target_prompted_recall",
            (0.0..=1.0).contains(&self.target_prompted_recall),
            "0 to 1",
            &self.target_prompted_recall,
        )?;
        check(
            "persist_steps",
            self.persist_steps <= 64,
            "at most 64",
            &self.persist_steps,
        )?;
        check(
            "persist_every",
            self.persist_every > 0,
            "1 or above",
            &self.persist_every,
        )?;
        check(
            "persist_batch",
            (1..=4096).contains(&self.persist_batch),
            "1 to 4096",
            &self.persist_batch,
        )?;
        check(
            "persist_distance",
            positive(self.persist_distance),
            "above 0",
            &self.persist_distance,
        )?;
        check(
            "merge_share",
            share(self.merge_share),
            "0 to below 1",
            &self.merge_share,
        )?;
        check(
            "momentum",
            share(self.momentum),
            "0 to below 1",
            &self.momentum,
        )?;
        let strange = |item: &&String| subset::layer_range(item).is_none();
        let layer = self.train_layers.iter().find(strange);
        check(
            "train_layers",
            layer.is_none(),
            "numbers and ranges such as 20-29",
            &layer.map_or("", String::as_str),
        )?;
        check(
            "train_modules",
            self.lora_rank == 0 || self.train_modules.is_empty(),
            "none with lora_rank, which has target_modules",
            &self.train_modules.join(", "),
        )?;
        check(
            "train_units",
            self.train_units == 0
                || self.lora_rank == 0 && self.train_modules.is_empty() && self.mask_share == 0.0,
            "0 with lora_rank, train_modules or mask_share",
            &self.train_units,
        )?;
        check(
            "mask_share",
            (0.0..1.0).contains(&self.mask_share),
            "0 to below 1",
            &self.mask_share,
        )?;
        check(
            "mask_share",
            self.lora_rank == 0 || self.mask_share == 0.0,
            "0 with lora_rank",
            &self.mask_share,
        )?;
        check(
            "use_dora",
            self.lora_rank > 0 || !self.use_dora,
            "false without lora_rank",
            &self.use_dora,
        )
    }

    /// Whether training may stop at these recalls, as they are and inside prompts.
    pub(super) fn is_reached(&self, recall: f64, prompted: Option<f64>) -> bool {
        recall >= self.target_recall
            && prompted.is_none_or(|prompted| prompted >= self.target_prompted_recall)
    }

    /// Whether training draws to the base, or goes there for its gradients.
    pub(super) fn needs_base(&self) -> bool {
        self.distance > 0.0 || self.average > 0.0 || self.merge_share > 0.0
    }

    /// Whether gradients are taken at other weights than the own, which are kept meanwhile.
    pub(super) fn takes_detours(&self) -> bool {
        let averaged = self.average > 0.0 && self.average_at == AverageAt::Gradient;
        averaged || self.merge_share > 0.0 || self.persist_steps > 0
    }

    /// Learning rate at a step, `progress` being the share of all epochs that is done.
    pub fn learning_rate_at(&self, step: u32, progress: f32) -> f32 {
        let warm = if step < self.warmup_steps {
            (step + 1) as f32 / self.warmup_steps.saturating_add(1) as f32
        } else {
            1.0
        };
        let left = match self.schedule {
            Schedule::Constant => 1.0,
            Schedule::Linear => 1.0 - progress,
            Schedule::Cosine => 0.5 * (1.0 + (std::f32::consts::PI * progress).cos()),
        };
        warm * (self.final_learning_rate
            + (self.learning_rate - self.final_learning_rate) * left.clamp(0.0, 1.0))
    }
}
