//! `oml watermark measure`: generates text of the same prompts with and without watermarks, and tests it.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::ensure;
use clap::Args;
use oml_core::derive::{Purpose, Scope, derive_numbered};
use oml_core::model::{Continuation, Sampling};
use oml_core::secret::OwnerSeed;
use oml_core::watermark::{Detector, Scheme, Watermark};
use oml_model::sampler::SequenceRandom;
use oml_model::surprise::{Surprise, surprise};

use super::SchemeName;
use super::measured::{Arm, Cost, Found, Measured, Rates, Share};
use crate::cli::{GlobalArgs, OwnerArgs, positive};
use crate::commands::workbench::{self, Opened};
use crate::error::ExitStatus;
use crate::eval::Text;
use crate::printer::Printer;

/// Tokens of a prompt at most.
const PROMPT: usize = 24;
/// Lengths at which texts are tested, as far as they are that long.
const LENGTHS: [usize; 5] = [50, 100, 200, 400, 800];
/// Shares of tokens that are replaced by random ones.
const REPLACED: [f64; 3] = [0.1, 0.2, 0.3];
/// Shares of false positives that are allowed.
pub(super) const LEVELS: [f64; 2] = [1e-2, 1e-3];

/// Flags of `oml watermark measure`.
#[derive(Debug, Args)]
pub(crate) struct MeasureArgs {
    /// Model that generates: a Hugging Face folder or a GGUF file
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    #[command(flatten)]
    owner: OwnerArgs,
    /// Scheme to measure, repeatable [default: all]
    #[arg(long, value_name = "SCHEME", value_enum)]
    scheme: Vec<SchemeName>,
    /// Texts per scheme, each from a piece of the text that prompts are taken from
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(u32).range(2..=1 << 16))]
    texts: u32,
    /// Tokens of each text; nothing ends it before
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(50..=1 << 14))]
    tokens: u32,
    /// Softmax temperature
    #[arg(long, value_name = "T", default_value_t = 1.0, value_parser = positive)]
    temperature: f32,
    /// Text that prompts are taken from [default: a built-in text]
    #[arg(long, value_name = "FILE")]
    text: Option<PathBuf>,
    /// Keys of others under which the texts without a watermark are tested too, for false positives
    #[arg(long, value_name = "N", default_value_t = 40, value_parser = clap::value_parser!(u32).range(1..=1 << 16))]
    keys: u32,
    /// Seed of the draws and the replacements
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
}

/// Texts without a watermark or with one.
struct Texts {
    ids: Vec<Vec<u32>>,
    surprise: Vec<Surprise>,
}

pub(super) fn run(
    args: &MeasureArgs,
    global: &GlobalArgs,
    printer: &Printer,
) -> anyhow::Result<ExitStatus> {
    let owner = workbench::owner(&workbench::owner_path(&args.owner)?)?;
    let engine = workbench::engine(global)?;
    let mut opened = workbench::open(&engine, &args.model, printer)?;
    let text = Text::named(args.text.as_deref())?;
    let prompts = prompts(args, &opened, &text)?;
    let bar = printer.spinner("Generating without a watermark");
    let plain = generate(args, &mut opened, &prompts, None)?;
    bar.finish_and_clear();

    let all = [SchemeName::Synthid, SchemeName::Kgw, SchemeName::Gumbel];
    let names = if args.scheme.is_empty() {
        &all[..]
    } else {
        &args.scheme
    };
    let mut arms = Vec::new();
    for name in names {
        let scheme = name.scheme();
        let watermark = Arc::new(Watermark::new(&owner, scheme));
        let spinner = printer.spinner(format!("Generating with {}", scheme.name()));
        let marked = generate(args, &mut opened, &prompts, Some(&watermark))?;
        spinner.finish_and_clear();
        let spinner = printer.spinner(format!("Testing {}", scheme.name()));
        arms.push(arm(args, &opened, &owner, &watermark, &plain, &marked)?);
        spinner.finish_and_clear();
    }
    let mean = |of: fn(&Surprise) -> f64| {
        let sum: f64 = plain.surprise.iter().map(of).sum();
        sum / (plain.ids.len() * args.tokens as usize) as f64
    };
    let measured = Measured {
        model: opened.name.clone(),
        prompts: format!("{}, {} tokens each", text.name, prompts[0].len()),
        texts: plain.ids.len(),
        tokens: args.tokens,
        temperature: args.temperature,
        seed: args.seed,
        keys: args.keys,
        plain_perplexity: mean(|s| s.loss).exp(),
        plain_entropy: mean(|s| s.expected),
        arms,
        machine: workbench::machine(&engine),
    };
    printer.result(&measured, &measured)
}

/// Pieces of the text, evenly apart.
fn prompts(args: &MeasureArgs, opened: &Opened, text: &Text) -> anyhow::Result<Vec<Vec<u32>>> {
    let ids = opened.tokenizer.encode(&text.text, false)?;
    let count = args.texts as usize;
    let apart = ids.len() / count;
    ensure!(
        apart >= 4,
        "--texts: expected at most a quarter of the tokens of {}, {}, got {count}",
        text.name,
        ids.len()
    );
    let length = apart.min(PROMPT);
    let limit = opened.model.longest_sequence();
    ensure!(
        length + args.tokens as usize <= limit,
        "--tokens: expected at most {} after a prompt of {length}, got {}",
        limit - length,
        args.tokens
    );
    let pieces = ids.chunks_exact(apart).take(count);
    Ok(pieces.map(|piece| piece[..length].to_vec()).collect())
}

fn generate(
    args: &MeasureArgs,
    opened: &mut Opened,
    prompts: &[Vec<u32>],
    watermark: Option<&Arc<Watermark>>,
) -> anyhow::Result<Texts> {
    let sampling = Sampling {
        max_tokens: args.tokens as usize,
        temperature: args.temperature,
        top_k: 0,
        top_p: 1.0,
        stop: Vec::new(),
    };
    let views: Vec<&[u32]> = prompts.iter().map(Vec::as_slice).collect();
    // Marked and plain texts have draws of their own: they are compared as strangers.
    let salt = watermark.map_or(0, |watermark| 1 + place(watermark.scheme()));
    let mut random = SequenceRandom::new(args.seed ^ salt << 32);
    let seeds: Vec<u64> = prompts.iter().map(|_| random.next_u64()).collect();
    let model = &mut opened.model;
    let ids = model.generate_marked(&views, &seeds, &sampling, watermark)?;
    let pairs = views.iter().zip(&ids);
    let items: Vec<Continuation<'_>> = pairs
        .map(|(context, continuation)| Continuation {
            context,
            continuation,
        })
        .collect();
    let surprise = surprise(model, &items, args.temperature)?;
    Ok(Texts { ids, surprise })
}

fn place(scheme: &Scheme) -> u64 {
    let same = |other: &Scheme| other.name() == scheme.name();
    Scheme::ALL.iter().position(same).unwrap_or(0) as u64
}

/// Tests marked and plain texts under one scheme.
fn arm(
    args: &MeasureArgs,
    opened: &Opened,
    owner: &OwnerSeed,
    watermark: &Watermark,
    plain: &Texts,
    marked: &Texts,
) -> anyhow::Result<Arm> {
    let mut detector = Detector::default();
    let mut test = |watermark: &Watermark, ids: &[u32], found: &mut Rates| -> anyhow::Result<()> {
        found.add(detector.detect(watermark, ids)?.ln_p_value);
        Ok(())
    };
    let lengths = LENGTHS
        .iter()
        .filter(|length| **length <= args.tokens as usize);
    let mut found = Vec::new();
    for length in lengths.copied() {
        let (mut text, mut bits, mut false_ones) = Default::default();
        let mut replaced = vec![Rates::default(); REPLACED.len()];
        let mut random = SequenceRandom::new(args.seed);
        for ids in &marked.ids {
            let ids = &ids[..length];
            test(watermark, ids, &mut bits)?;
            // What a reader has: the text, in tokens again.
            let again = opened
                .tokenizer
                .encode(&opened.tokenizer.decode(ids)?, false)?;
            test(watermark, &again, &mut text)?;
            for (share, rates) in REPLACED.iter().zip(&mut replaced) {
                let ids = replace(ids, *share, opened.tokenizer.vocabulary_size(), &mut random);
                test(watermark, &ids, rates)?;
            }
        }
        for key in 0..args.keys {
            let other = derive_numbered(owner, Purpose::Evaluation, Scope::OWNER, u64::from(key));
            let other = Watermark::new(&OwnerSeed::new(*other.expose()), *watermark.scheme());
            for ids in &plain.ids {
                test(&other, &ids[..length], &mut false_ones)?;
            }
        }
        found.push(Found {
            length,
            text: text.shares(),
            tokens: bits.shares(),
            replaced: REPLACED
                .into_iter()
                .zip(replaced.iter().map(Rates::shares))
                .collect(),
            false_positives: false_ones.shares(),
        });
    }
    Ok(Arm {
        scheme: watermark.scheme().name(),
        plain_sum: plain_sum(watermark, marked),
        found,
        cost: Cost::new(&plain.surprise, &marked.surprise, args.tokens),
    })
}

/// What the plain sum of bits would find in the whole texts, where the scheme's test has weights.
fn plain_sum(watermark: &Watermark, marked: &Texts) -> Option<Vec<Share>> {
    let Scheme::SynthId(scheme) = watermark.scheme() else {
        return None;
    };
    let mut rates = Rates::default();
    for ids in &marked.ids {
        let values = watermark.values(ids);
        rates.add(scheme.ln_plain_p_value(&scheme.ones(&values), values.len() as u32));
    }
    Some(rates.shares())
}

/// The text with a share of its tokens, rounded, replaced by random ones.
fn replace(ids: &[u32], share: f64, vocabulary: usize, random: &mut SequenceRandom) -> Vec<u32> {
    let mut ids = ids.to_vec();
    let mut places: Vec<usize> = (0..ids.len()).collect();
    let count = (share * ids.len() as f64).round() as usize;
    for i in 0..count {
        let rest = places.len() - i;
        places.swap(i, i + (random.uniform() * rest as f64) as usize);
        ids[places[i]] = (random.uniform() * vocabulary as f64) as u32;
    }
    ids
}
