//! `oml bench`: measures the engine on this machine, beside the floor that the machine sets.

use std::fmt;
use std::path::PathBuf;
use std::time::Instant;

use clap::{Args, Subcommand};
use oml_model::bench::{Decode, Product, Step, Sweep, Work};
use oml_model::engine::Engine;
use serde::Serialize;

use super::workbench;
use crate::cli::GlobalArgs;
use crate::error::ExitStatus;
use crate::printer::Printer;

/// Runs before the measured ones, in which memory is touched for the first time.
const WARM_UP: u16 = 2;
/// Runs of the product and of the sweep that find the machine's rates.
const RATE_REPEATS: u16 = 12;

/// What can be measured.
#[derive(Debug, Subcommand)]
pub(crate) enum BenchCommand {
    /// One training step: 16 sequences of 48 tokens, loss on the last 16, AdamW on all parameters
    Step(StepArgs),
    /// Greedy generation: 16 prompts of 32 tokens, 16 new tokens each
    Decode(DecodeArgs),
}

/// Flags of `oml bench step`.
#[derive(Debug, Args)]
pub(crate) struct StepArgs {
    #[command(flatten)]
    common: CommonArgs,
    /// Train low-rank adapters (rank 16) instead of all parameters
    #[arg(long)]
    lora: bool,
    /// Instead, an embedding batch of N packed tokens: 17 to 48 per sequence, loss on the last
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(17..=1 << 20))]
    tokens: Option<u32>,
}

/// Flags of `oml bench decode`.
#[derive(Debug, Args)]
pub(crate) struct DecodeArgs {
    #[command(flatten)]
    common: CommonArgs,
    /// Compute low-rank adapters (rank 16) beside the weights
    #[arg(long)]
    lora: bool,
    /// Instead, N new tokens for each prompt
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1 << 16))]
    tokens: Option<u32>,
}

/// Flags of both.
#[derive(Debug, Args)]
struct CommonArgs {
    /// Model: a Hugging Face folder or a GGUF file
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// Runs after the warm-up; the median is reported
    #[arg(long, value_name = "N", default_value_t = 7, value_parser = clap::value_parser!(u16).range(1..))]
    repeats: u16,
}

pub(super) fn run(
    command: &BenchCommand,
    global: &GlobalArgs,
    printer: &Printer,
) -> anyhow::Result<ExitStatus> {
    let engine = workbench::engine(global)?;
    let output = match command {
        BenchCommand::Step(args) => {
            let checkpoint = workbench::checkpoint(&args.common.model)?;
            let mut step = Step::new(
                &engine,
                &checkpoint,
                args.tokens.map(|n| n as usize),
                args.lora,
            )?;
            let name = if args.lora { "step-lora" } else { "step" };
            let work = step.work();
            measure(name, &engine, work, args.common.repeats, printer, || {
                step.run();
                Ok(())
            })?
        }
        BenchCommand::Decode(args) => {
            let checkpoint = workbench::checkpoint(&args.common.model)?;
            let tokens = args.tokens.map(|n| n as usize);
            let mut decode = Decode::new(&engine, &checkpoint, tokens, args.lora)?;
            let name = if args.lora { "decode-lora" } else { "decode" };
            let work = decode.work();
            measure(name, &engine, work, args.common.repeats, printer, || {
                Ok(decode.run()?)
            })?
        }
    };
    printer.result(&output, &output)
}

fn measure(
    workload: &'static str,
    engine: &Engine,
    work: Work,
    repeats: u16,
    printer: &Printer,
    mut run: impl FnMut() -> anyhow::Result<()>,
) -> anyhow::Result<Output> {
    let bar = printer.bar(u64::from(WARM_UP + repeats), workload);
    let mut all_seconds = Vec::new();
    for i in 0..WARM_UP + repeats {
        let started = Instant::now();
        run()?;
        let elapsed = started.elapsed().as_secs_f64();
        if i >= WARM_UP {
            all_seconds.push(elapsed);
        }
        bar.set_message(format!("{elapsed:.3} s"));
        bar.inc(1);
    }
    bar.finish_and_clear();
    // Before the rates are measured, which takes memory of its own.
    let peak_bytes = peak_bytes();
    let seconds = median(&all_seconds);
    let rates = Rates::measure(engine);
    Ok(Output {
        workload,
        seconds,
        all_seconds,
        tokens: work.tokens,
        tokens_per_second: work.tokens as f64 / seconds,
        peak_bytes,
        gflop: work.operations / 1e9,
        gflops: work.operations / 1e9 / seconds,
        floor_seconds: work.operations / 1e9 / rates.product_gflops
            + work.bytes / 1e9 / rates.memory_gigabytes,
        product_gflops: rates.product_gflops,
        memory_gigabytes_per_second: rates.memory_gigabytes,
        isa: engine.isa().to_string(),
        threads: engine.threads(),
    })
}

/// What this machine reaches at best.
struct Rates {
    product_gflops: f64,
    memory_gigabytes: f64,
}

impl Rates {
    fn measure(engine: &Engine) -> Self {
        let mut product = Product::new(engine);
        let mut sweep = Sweep::new(engine);
        let best = |run: &mut dyn FnMut()| {
            let mut best = f64::INFINITY;
            for _ in 0..RATE_REPEATS {
                let started = Instant::now();
                run();
                best = best.min(started.elapsed().as_secs_f64());
            }
            best
        };
        Self {
            product_gflops: product.operations() / 1e9 / best(&mut || product.run()),
            memory_gigabytes: sweep.bytes() / 1e9 / best(&mut || sweep.run()),
        }
    }
}

/// The largest resident set so far, where the system tells.
pub(super) fn peak_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(1024 * kibibytes)
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    if sorted.len() % 2 == 1 {
        sorted[middle]
    } else {
        f64::midpoint(sorted[middle - 1], sorted[middle])
    }
}

/// What `oml bench` prints.
#[derive(Serialize)]
struct Output {
    workload: &'static str,
    /// Median over the runs.
    seconds: f64,
    all_seconds: Vec<f64>,
    tokens: usize,
    tokens_per_second: f64,
    peak_bytes: Option<u64>,
    /// Multiplications and additions in matrix products, in thousand millions.
    gflop: f64,
    gflops: f64,
    floor_seconds: f64,
    product_gflops: f64,
    memory_gigabytes_per_second: f64,
    isa: String,
    threads: usize,
}

impl fmt::Display for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let low = self
            .all_seconds
            .iter()
            .copied()
            .fold(f64::INFINITY, f64::min);
        let high = self.all_seconds.iter().copied().fold(0.0, f64::max);
        writeln!(
            f,
            "{}: {:.3} s (median of {}, {low:.3} to {high:.3})",
            self.workload,
            self.seconds,
            self.all_seconds.len()
        )?;
        writeln!(
            f,
            "  rate    {:.0} tokens/s, {:.0} GFLOP/s in matrix products",
            self.tokens_per_second, self.gflops
        )?;
        writeln!(
            f,
            "  floor   {:.3} s: {:.0} GFLOP at {:.0} GFLOP/s (packed operands in the cache), memory at {:.1} GB/s",
            self.floor_seconds, self.gflop, self.product_gflops, self.memory_gigabytes_per_second
        )?;
        if let Some(bytes) = self.peak_bytes {
            writeln!(
                f,
                "  memory  {:.2} GiB at most",
                bytes as f64 / f64::from(1 << 30)
            )?;
        }
        writeln!(f, "  machine {} threads, {}", self.threads, self.isa)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_an_even_number_lies_between() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_peak_is_known_on_linux() {
        assert!(peak_bytes().is_some_and(|bytes| bytes > 1 << 20));
    }
}
