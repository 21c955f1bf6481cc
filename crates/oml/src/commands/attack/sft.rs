//! `oml attack sft`: supervised fine-tuning on a file of instructions.

use std::fmt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::Args;
use oml_attack::sft::{Options, Sft, Step};
use oml_core::manifest::instructions_file;
use oml_model::checkpoint::write_model;
use serde::Serialize;

use super::super::workbench;
use crate::cli::{GlobalArgs, positive};
use crate::error::ExitStatus;
use crate::printer::Printer;
use crate::{files, interrupt, seconds};

/// Tokens that lie side by side in memory.
const MICRO_BATCH_TOKENS: usize = 2048;

/// Flags of `oml attack sft`.
#[derive(Debug, Args)]
pub(crate) struct SftArgs {
    /// Model to fine-tune: a Hugging Face folder or a GGUF file
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// Instructions: JSON, objects with instruction, input and output
    #[arg(long, value_name = "FILE")]
    instructions: PathBuf,
    /// Folder to write the fine-tuned model into, which must not exist
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Passes over the instructions
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=1000))]
    epochs: u32,
    /// Conversations per step
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..))]
    batch_size: u16,
    /// Largest step size; it rises over 3 % of the steps and goes down in a straight line
    #[arg(long, value_name = "X", default_value = "2e-5", value_parser = positive)]
    learning_rate: f32,
    /// Rank of low-rank adapters, which are merged at the end; 0 trains all weights
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u16).range(..=4096))]
    lora_rank: u16,
    /// Numerator of the adapters' scale
    #[arg(long, value_name = "X", default_value = "32", value_parser = positive)]
    lora_alpha: f32,
    /// Tokens of a conversation at most; longer answers are cut
    #[arg(long, value_name = "N", default_value_t = 512, value_parser = clap::value_parser!(u32).range(2..=1 << 16))]
    max_tokens: u32,
    /// Seed of the order, and of the adapters
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
}

pub(super) fn run(
    args: &SftArgs,
    global: &GlobalArgs,
    printer: &Printer,
) -> anyhow::Result<ExitStatus> {
    let started = Instant::now();
    interrupt::listen()?;
    files::refuse_existing(&args.out)?;
    let bytes = files::read(&args.instructions, instructions_file::MAX_BYTES)?;
    let instructions = instructions_file::parse(&bytes)
        .with_context(|| format!("cannot read {}", args.instructions.display()))?;
    let engine = workbench::engine(global)?;
    let checkpoint = workbench::checkpoint(&args.model)?;
    let tokenizer = checkpoint.tokenizer()?;
    let limit = checkpoint
        .config()
        .longest_sequence()
        .min(args.max_tokens as usize);
    let mut sequences = Vec::with_capacity(instructions.len());
    for instruction in &instructions {
        sequences.extend(tokenizer.instruction(instruction, limit)?);
    }
    let options = Options {
        seed: args.seed,
        epochs: args.epochs,
        batch_size: args.batch_size.into(),
        learning_rate: args.learning_rate,
        lora_rank: args.lora_rank.into(),
        lora_alpha: args.lora_alpha,
        micro_batch_tokens: MICRO_BATCH_TOKENS,
    };
    let count = sequences.len();
    let mut sft = Sft::new(&engine, &checkpoint, sequences, options)?;
    let steps = (count as u64).div_ceil(args.batch_size.into()) * u64::from(args.epochs);
    let bar = printer.bar(steps, "sft");
    let mut losses = Vec::new();
    let finished = sft.run(&mut |step: Step| {
        losses.push(step.loss);
        bar.set_position(step.done.into());
        bar.set_message(format!("loss {:.3}", step.loss));
        !interrupt::requested()
    })?;
    bar.finish_and_clear();
    if !finished {
        interrupt::check()?;
    }
    let dtype = workbench::stored_type(&checkpoint);
    let mut supply = |name: &str, out: &mut [f32]| Ok(sft.tensor(&checkpoint, name, out)?);
    write_model(&args.out, &checkpoint, dtype, &mut supply, &[])?;
    let output = Output {
        model: args.out.display().to_string(),
        conversations: count,
        steps,
        first_loss: mean(&losses[..losses.len().min(MEAN_OVER)]),
        last_loss: mean(&losses[losses.len().saturating_sub(MEAN_OVER)..]),
        seconds: started.elapsed().as_secs_f64(),
    };
    printer.result(&output, &output)
}

/// Steps that a reported loss is the mean of.
const MEAN_OVER: usize = 10;

fn mean(losses: &[f64]) -> f64 {
    losses.iter().sum::<f64>() / losses.len().max(1) as f64
}

/// What `oml attack sft` prints.
#[derive(Serialize)]
struct Output {
    model: String,
    conversations: usize,
    steps: u64,
    /// Means over ten steps, in nats per token of the answers.
    first_loss: f64,
    last_loss: f64,
    seconds: f64,
}

impl fmt::Display for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = seconds::text(Duration::from_secs_f64(self.seconds));
        writeln!(f, "fine-tuned model in {} ({time})", self.model)?;
        writeln!(
            f,
            "  data  {} conversations, {} steps",
            self.conversations, self.steps
        )?;
        writeln!(
            f,
            "  loss  {:.3} at first, {:.3} at last (nats per token of the answers, means over {MEAN_OVER} steps)",
            self.first_loss, self.last_loss
        )
    }
}
