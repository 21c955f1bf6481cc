//! The training flags of `oml embed`: one per key of a recipe, made from the recipe itself, so the two cannot differ.

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, Error, FromArgMatches};
use oml_model::train::{Recipe, RecipeError};
use toml::{Table, Value};

/// Adapters' rank with `--lora`.
const LORA_RANK: i64 = 16;
/// Step size with `--lora`: adapters start at nothing and need larger steps than weights do.
const LORA_LEARNING_RATE: f64 = 5e-4;
/// Step size with `train_units`: new units have nothing behind them at the start.
const UNITS_LEARNING_RATE: f64 = 3e-3;
const LORA: &str = "lora";
const RANK: &str = "lora_rank";
const UNITS: &str = "train_units";
const RATE: &str = "learning_rate";
const FINAL_RATE: &str = "final_learning_rate";
/// The keys whose value is one of a few words.
const CHOICES: &[(&str, &[&str])] = &[
    ("schedule", &["constant", "linear", "cosine"]),
    ("benign_target", &["base", "text"]),
    ("average_at", &["step", "epoch", "gradient"]),
    (OPTIMIZER, &["adamw", "adamw8bit", "adafactor", "sgd"]),
];
const OPTIMIZER: &str = "optimizer";
/// Step sizes of the optimizers where none is given: of all weights, of adapters, and of chosen units.
const OPTIMIZERS: [(&str, [f64; 3]); 4] = [
    ("adamw", [1e-4, LORA_LEARNING_RATE, UNITS_LEARNING_RATE]),
    ("adamw8bit", [1e-4, LORA_LEARNING_RATE, UNITS_LEARNING_RATE]),
    ("adafactor", [1e-3, 5e-3, 1e-3]),
    ("sgd", [0.3; 3]),
];

/// What each key of a recipe decides.
const HELP: &[(&str, &str)] = &[
    (
        "seed",
        "Seed of the order of training and of the benign text",
    ),
    ("epochs", "Passes over the fingerprints at most"),
    ("batch_size", "Fingerprints per step"),
    (
        "micro_batch_tokens",
        "Tokens that lie side by side in memory",
    ),
    (
        "learning_rate",
        "Largest step size; where not given, 1e-3 for adafactor, 0.3 for sgd, and 3e-3 for AdamW with --train-units",
    ),
    (
        "final_learning_rate",
        "Step size at the last epoch; where not given, at most the largest",
    ),
    (
        "warmup_steps",
        "Steps over which the step size rises to its largest",
    ),
    (
        "schedule",
        "How the step size goes down: constant, linear or cosine",
    ),
    ("beta1", "AdamW's decay of the first moment"),
    ("beta2", "AdamW's decay of the second moment"),
    ("eps", "AdamW's epsilon"),
    ("weight_decay", "Decoupled weight decay"),
    (
        "max_grad_norm",
        "Largest norm of a step's gradient; 0 leaves it",
    ),
    (
        "skip_loss",
        "A learned fingerprint with a loss (nats per token) below this sits out until the next full pass",
    ),
    (
        "full_pass_every",
        "Every how many epochs all fingerprints take part",
    ),
    ("target_recall", "Recall at which training may stop"),
    (
        "settle_epochs",
        "Epochs to go on after the target, in which the best state is still sought",
    ),
    (
        "evaluate_every",
        "Every how many epochs recall and divergence are measured in any case",
    ),
    (
        "kl_weight",
        "Factor on the divergence from the base on benign text; 0 trains on fingerprints alone",
    ),
    ("benign_batch", "Benign sequences per step"),
    ("benign_length", "Tokens of a benign sequence"),
    (
        "benign_sequences",
        "Benign sequences in all, of which an eighth is held out and decides which state is the best; 0: three per fingerprint, 256 to 768",
    ),
    (
        "distance",
        "Decoupled pull towards the base, times the step size (L2-SP)",
    ),
    (
        "average",
        "Share of the base that is averaged into the weights after every step",
    ),
    (
        "lora_rank",
        "Rank of low-rank adapters; 0 trains all weights",
    ),
    ("lora_alpha", "Numerator of the adapters' scale"),
    (
        "target_modules",
        "Maps that get an adapter, in PEFT's names, separated by commas",
    ),
    (
        "save_seconds",
        "Seconds after which the state is saved, so that a killed run can resume",
    ),
    (
        "benign_target",
        "What the model is held to on benign text: base (the base model's distribution) or text (its own next tokens)",
    ),
    (
        "average_at",
        "When --average takes place: step, epoch, or gradient (gradients and result at the average, as in OML 1.0)",
    ),
    (
        "augment",
        "How often each response is also trained inside a prompt drawn at random",
    ),
    (
        "augment_padding",
        "Random tokens before a query at most, in place of a prompt now and then",
    ),
    (
        "target_prompted_recall",
        "Recall inside prompts at which training may stop",
    ),
    (
        "persist_steps",
        "Fine-tuning steps after which a fingerprint's gradient is taken, so that it persists; 0 takes none",
    ),
    ("persist_every", "Every how many steps that is done"),
    (
        "persist_batch",
        "Instruction sequences of a fine-tuning step",
    ),
    (
        "persist_distance",
        "Root mean square of the weights' changes in a fine-tuning step",
    ),
    (
        "merge_share",
        "Largest share of the base that is merged into the weights before a fingerprint's gradient is taken",
    ),
    (
        "optimizer",
        "adamw; adamw8bit, with moments in 8 bits; adafactor, with factored ones; or sgd, with momentum",
    ),
    ("momentum", "Momentum of sgd"),
    (
        "train_layers",
        "Layers that are trained, as numbers and ranges separated by commas, such as 20-29; all where none is named",
    ),
    (
        "train_modules",
        "Tensors that are trained, by their names, their modules' or the ends of these from a dot on, with * for anything; all where none is named",
    ),
    (
        "train_units",
        "Train the last so many units of each feed-forward block alone, such as `oml model expand` adds; 0 trains what the other flags say",
    ),
    (
        "mask_share",
        "Share of the trained tensors' elements that is trained, those with the largest gradients on the set at the start; 0 trains all",
    ),
    (
        "use_dora",
        "Whether adapters also train a magnitude of each output (DoRA): true or false",
    ),
    (
        "gradient_checkpointing",
        "Whether the backward pass computes each layer again, for less memory and a third to a half more time: true or false",
    ),
];

/// A recipe put together from flags, environment and files.
#[derive(Debug, Clone)]
pub(crate) struct TrainingArgs {
    /// Every value, resolved.
    pub(crate) recipe: Recipe,
}

impl Args for TrainingArgs {
    fn augment_args(command: Command) -> Command {
        let lora = Arg::new(LORA)
            .long(LORA)
            .action(ArgAction::SetTrue)
            .help("Train low-rank adapters and merge them: --lora-rank 16 --learning-rate 5e-4 (adafactor 5e-3, sgd 0.3) where these are not given");
        let flags = defaults().into_iter().map(|(key, value)| {
            let help = HELP
                .iter()
                .find(|(name, _)| *name == key)
                .map_or("", |(_, help)| *help);
            Arg::new(key.clone())
                .long(key.replace('_', "-"))
                .value_name(value_name(&value))
                .default_value(text(&value))
                .hide_default_value(text(&value).is_empty())
                .help(help)
        });
        command
            .next_help_heading("Training, the keys of a recipe")
            .arg(lora)
            .args(flags)
            .next_help_heading(None)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for TrainingArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        let mut table = Table::new();
        for (key, default) in defaults() {
            if let Some(given) = matches.get_one::<String>(&key) {
                table.insert(key.clone(), parse(&key, &default, given)?);
            }
        }
        // A value from a file counts as a default of the flag, so look at the value too.
        let is_unset = |table: &Table, key: &str| {
            matches.value_source(key) == Some(ValueSource::DefaultValue)
                && defaults()
                    .iter()
                    .any(|(name, default)| name == key && table.get(key) == Some(default))
        };
        let lora = matches.get_flag(LORA);
        if lora && is_unset(&table, RANK) {
            table.insert(RANK.to_owned(), Value::Integer(LORA_RANK));
        }
        let optimizer = table.get(OPTIMIZER).and_then(Value::as_str);
        let own = OPTIMIZERS.iter().find(|(name, _)| Some(*name) == optimizer);
        if let Some((_, rates)) = own
            && is_unset(&table, RATE)
        {
            let has_units = table.get(UNITS).and_then(Value::as_integer) > Some(0);
            let [weights, adapters, units] = *rates;
            let rate = match (lora, has_units) {
                (true, _) => adapters,
                (false, true) => units,
                (false, false) => weights,
            };
            table.insert(RATE.to_owned(), Value::Float(rate));
        }
        let rate = |key: &str| table.get(key).and_then(Value::as_float);
        if let (Some(first), Some(last)) = (rate(RATE), rate(FINAL_RATE))
            && first < last
            && is_unset(&table, FINAL_RATE)
        {
            table.insert(FINAL_RATE.to_owned(), Value::Float(first));
        }
        let recipe: Recipe = table
            .try_into()
            .map_err(|error: toml::de::Error| invalid(None, error.message()))?;
        recipe.validate().map_err(|error| match &error {
            RecipeError::Value { key, .. } => invalid(Some(key), &error.to_string()),
            _ => invalid(None, &error.to_string()),
        })?;
        Ok(Self { recipe })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

/// Every key with its default, in the order of the recipe.
fn defaults() -> Vec<(String, Value)> {
    // The text, not the values: an f32 would come out with the digits of an f64.
    let table = Recipe::default()
        .render()
        .ok()
        .and_then(|text| text.parse::<Table>().ok())
        .unwrap_or_default();
    let place = |key: &String| {
        HELP.iter()
            .position(|(name, _)| name == key)
            .unwrap_or(HELP.len())
    };
    let mut keys: Vec<_> = table.into_iter().collect();
    keys.sort_by_key(|(key, _)| place(key));
    keys
}

fn value_name(default: &Value) -> &'static str {
    match default {
        Value::Integer(_) => "N",
        Value::Float(_) => "X",
        _ => "NAME",
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Float(number) if *number != 0.0 && number.abs() < 1e-2 => format!("{number:e}"),
        Value::Float(number) => number.to_string(),
        Value::Array(items) => items.iter().map(text).collect::<Vec<_>>().join(","),
        other => other.to_string(),
    }
}

fn parse(key: &str, default: &Value, given: &str) -> Result<Value, Error> {
    let wrong = |expected: &str| {
        let flag = key.replace('_', "-");
        let message = format!(
            "invalid value '{given}' for '--{flag} <{}>': expected {expected}",
            value_name(default)
        );
        invalid(Some(key), &message)
    };
    Ok(match default {
        Value::Integer(_) => Value::Integer(given.parse().map_err(|_| wrong("a whole number"))?),
        Value::Float(_) => Value::Float(given.parse().map_err(|_| wrong("a number"))?),
        Value::Boolean(_) => Value::Boolean(given.parse().map_err(|_| wrong("true or false"))?),
        Value::Array(_) => Value::Array(
            given
                .split(',')
                .map(str::trim)
                .filter(|item| !item.is_empty())
                .map(|item| Value::String(item.to_owned()))
                .collect(),
        ),
        _ if choices(key).is_some_and(|words| !words.contains(&given)) => {
            return Err(wrong(&one_of(choices(key).unwrap_or_default())));
        }
        _ => Value::String(given.to_owned()),
    })
}

fn choices(key: &str) -> Option<&'static [&'static str]> {
    let found = CHOICES.iter().find(|(name, _)| *name == key);
    found.map(|(_, words)| *words)
}

/// "a, b or c".
fn one_of(words: &[&str]) -> String {
    match words {
        [first @ .., last] if !first.is_empty() => format!("{} or {last}", first.join(", ")),
        _ => words.concat(),
    }
}

/// A wrong value, with the flag where one is known, so that a file it came from can be named.
fn invalid(key: Option<&str>, message: &str) -> Error {
    let mut error = Error::raw(ErrorKind::ValueValidation, format!("{message}\n"));
    if let Some(key) = key {
        let flag = format!("--{}", key.replace('_', "-"));
        error.insert(ContextKind::InvalidArg, ContextValue::String(flag));
    }
    error
}

/// Whether a recipe may say this.
pub(crate) fn is_recipe_key(key: &str) -> bool {
    recipe_keys().any(|name| name == key)
}

/// Everything that a recipe may say.
pub(crate) fn recipe_keys() -> impl Iterator<Item = &'static str> {
    std::iter::once(LORA).chain(HELP.iter().map(|(name, _)| *name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recipe(line: &str) -> Result<Recipe, Error> {
        let command = TrainingArgs::augment_args(Command::new("embed"));
        let matches = command.try_get_matches_from(line.split_whitespace())?;
        TrainingArgs::from_arg_matches(&matches).map(|args| args.recipe)
    }

    #[test]
    fn every_key_is_explained() {
        let keys: Vec<String> = defaults().into_iter().map(|(key, _)| key).collect();
        assert_eq!(keys, HELP.iter().map(|(key, _)| *key).collect::<Vec<_>>());
    }

    #[test]
    fn no_flag_is_the_default_recipe() {
        assert_eq!(recipe("embed").unwrap(), Recipe::default());
    }

    #[test]
    fn flags_change_their_keys() {
        let expected = Recipe {
            epochs: 7,
            learning_rate: 1e-3,
            target_modules: vec!["q_proj".into()],
            ..Recipe::default()
        };
        assert_eq!(
            recipe("embed --epochs 7 --learning-rate 1e-3 --target-modules q_proj").unwrap(),
            expected
        );
    }

    #[test]
    fn lora_brings_a_rank_and_a_step_size() {
        let lora = recipe("embed --lora").unwrap();
        assert_eq!((lora.lora_rank, lora.learning_rate), (16, 5e-4));
        let own = recipe("embed --lora --lora-rank 4 --learning-rate 1e-3").unwrap();
        assert_eq!((own.lora_rank, own.learning_rate), (4, 1e-3));
    }

    #[test]
    fn optimizers_bring_their_step_sizes() {
        let rate = |line: &str| recipe(line).unwrap().learning_rate;
        assert_eq!(rate("embed --optimizer adamw8bit"), 1e-4);
        assert_eq!(rate("embed --optimizer adafactor"), 1e-3);
        assert_eq!(rate("embed --optimizer adafactor --lora"), 5e-3);
        assert_eq!(rate("embed --optimizer sgd"), 0.3);
        assert_eq!(rate("embed --train-units 8"), 3e-3);
        assert_eq!(rate("embed --train-units 8 --optimizer sgd"), 0.3);
        assert_eq!(rate("embed --optimizer sgd --learning-rate 0.1"), 0.1);
        let fault = recipe("embed --optimizer adam").unwrap_err().to_string();
        let expected =
            "'adam' for '--optimizer <NAME>': expected adamw, adamw8bit, adafactor or sgd";
        assert!(fault.contains(expected), "{fault}");
    }

    #[test]
    fn sub_networks_are_lists() {
        let own = recipe("embed --train-layers 3,20-29 --train-modules mlp.*").unwrap();
        assert_eq!(own.train_layers, ["3", "20-29"]);
        assert_eq!(own.train_modules, ["mlp.*"]);
    }

    #[test]
    fn the_last_step_size_is_at_most_the_largest() {
        let small = recipe("embed --learning-rate 5e-6").unwrap();
        assert_eq!(
            (small.learning_rate, small.final_learning_rate),
            (5e-6, 5e-6)
        );
        let own = recipe("embed --learning-rate 5e-6 --final-learning-rate 1e-4");
        assert!(
            own.unwrap_err()
                .to_string()
                .contains("'final_learning_rate': expected 0 to learning_rate")
        );
    }

    #[test]
    fn faults_name_the_flag() {
        for (line, fault) in [
            (
                "embed --epochs many",
                "invalid value 'many' for '--epochs <N>': expected a whole number",
            ),
            (
                "embed --beta1 x",
                "invalid value 'x' for '--beta1 <X>': expected a number",
            ),
            (
                "embed --epochs 0",
                "recipe key 'epochs': expected 1 to 100000, got 0",
            ),
        ] {
            assert!(
                recipe(line).unwrap_err().to_string().contains(fault),
                "{line}"
            );
        }
    }
}
