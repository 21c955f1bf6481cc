//! Whether p-values of relatedness are what they say: pairs of random models that share nothing, or units that all models
//! have in common, in places and with signs of their own.
//!
//! ```sh
//! cargo bench -p oml-core --bench relatedness -- 100000             # pairs of models a line
//! ```
//!
//! A model has 4 layers of 64 units, each a gate and an up row of 32 normal numbers. A share of the units is common to all
//! models: its rows in the second model are those of the first with noise of half their size, its number is drawn anew, and
//! its up row is turned by a coin. Printed is how often each p-value is at or below a level; `indices` is the statistic of
//! arXiv 2502.12292 for comparison, Spearman's correlation of a unit's two partners' numbers (here partners are nearest
//! neighbours, there an assignment). Seeds are the numbers of the trials, so the table comes out the same.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a table for a reader"
)]

use std::process::ExitCode;
use std::thread;

use oml_core::claim::clopper_pearson;
use oml_core::relatedness::{
    Agreement, Evidence, Order, Pair, Sense, Signs, TestName, assess, mutual_nearest,
};

const LAYERS: usize = 4;
const UNITS: usize = 64;
const WIDTH: usize = 32;
const NOISE: f64 = 0.5;
const COMMON: [f64; 4] = [0.0, 0.05, 0.1, 0.3];
const LEVELS: [f64; 4] = [0.05, 0.01, 1e-3, 1e-4];
const ROWS: [&str; 5] = [
    "unit_order",
    "unit_signs",
    "agreement",
    "verdict",
    "indices",
];

/// How often each p-value is at or below each level.
type Counts = [[u64; LEVELS.len()]; ROWS.len()];

fn main() -> ExitCode {
    let word = std::env::args().skip(1).find(|word| word != "--bench");
    let trials: u64 = match word.as_deref().map_or(Ok(10_000), str::parse) {
        Ok(trials) if trials > 0 => trials,
        _ => {
            eprintln!("first argument: expected a number of pairs");
            return ExitCode::from(2);
        }
    };
    println!("{trials} pairs a line: {LAYERS} layers of {UNITS} units, rows of {WIDTH} numbers");
    print!("| units in common | p-value |");
    LEVELS.iter().for_each(|level| print!(" ≤ {level} |"));
    println!("\n|---|---|---|---|---|---|");
    for common in COMMON {
        let counts = simulate(common, trials);
        for (name, counts) in ROWS.iter().zip(counts) {
            print!("| {:.0} % | {name} |", 100.0 * common);
            for count in counts {
                let interval = clopper_pearson(count, trials, 0.95);
                let share = count as f64 / trials as f64;
                print!(
                    " {share:.5} ({:.5} to {:.5}) |",
                    interval.low, interval.high
                );
            }
            println!();
        }
    }
    ExitCode::SUCCESS
}

/// Runs all trials, spread over the machine's threads; the result does not depend on how many there are.
fn simulate(common: f64, trials: u64) -> Counts {
    let threads = thread::available_parallelism().map_or(1, |n| n.get() as u64);
    thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|first| {
                scope.spawn(move || {
                    let mut counts = Counts::default();
                    for number in (first..trials).step_by(threads as usize) {
                        let found = trial(common, number);
                        for (counts, ln_p) in counts.iter_mut().zip(found) {
                            for (count, level) in counts.iter_mut().zip(LEVELS) {
                                *count += u64::from(ln_p <= level.ln());
                            }
                        }
                    }
                    counts
                })
            })
            .collect();
        let mut sum = Counts::default();
        for worker in workers {
            let counts = worker
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            for (sum, counts) in sum.iter_mut().zip(counts) {
                for (sum, count) in sum.iter_mut().zip(counts) {
                    *sum += count;
                }
            }
        }
        sum
    })
}

/// ln of the p-values of [`ROWS`] for a pair of models.
fn trial(common: f64, number: u64) -> [f64; ROWS.len()] {
    let mut random = Random(number.wrapping_mul(0x2545_f491_4f6c_dd1d) ^ common.to_bits());
    let mut signs = Signs::default();
    let mut evidence = Evidence::default();
    let mut indices = Order::default();
    for _ in 0..LAYERS {
        let (own, other) = layer(&mut random, common);
        let gate = mutual_nearest(&cosines(&own[0], &other[0]), UNITS, Sense::Signed);
        let cosines = cosines(&own[1], &other[1]);
        let up = mutual_nearest(&cosines, UNITS, Sense::Blind);
        for pair in &gate {
            signs.add(cosines[pair.first as usize * UNITS + pair.second as usize]);
        }
        evidence.unit_order.add(&gate);
        evidence.agreement.merge(Agreement::of(&gate, &up, UNITS));
        let partner = |pair: &Pair| up.iter().find(|other| other.first == pair.first);
        let both = gate.iter().filter_map(|pair| {
            Some(Pair {
                first: pair.second,
                second: partner(pair)?.second,
                similarity: 1.0,
            })
        });
        indices.add(&both.collect::<Vec<_>>());
    }
    evidence.unit_signs = Some(signs);
    let Ok(verdict) = assess(&evidence, 0.5) else {
        return [0.0; ROWS.len()];
    };
    let of = |name| verdict.tests.iter().find(|test| test.name == name);
    let ln_p = |name| of(name).and_then(|test| test.ln_p_value).unwrap_or(0.0);
    [
        ln_p(TestName::UnitOrder),
        ln_p(TestName::UnitSigns),
        ln_p(TestName::Agreement),
        verdict.ln_p_value,
        indices.ln_p_value(),
    ]
}

/// Gate and up rows of a layer of two models, of length 1.
fn layer(random: &mut Random, common: f64) -> ([Vec<f32>; 2], [Vec<f32>; 2]) {
    let draw =
        |random: &mut Random| -> Vec<f64> { (0..UNITS * WIDTH).map(|_| random.normal()).collect() };
    let own = [draw(random), draw(random)];
    let mut other = [draw(random), draw(random)];
    let mut places: Vec<usize> = (0..UNITS).collect();
    for i in (1..UNITS).rev() {
        places.swap(i, random.below(i + 1));
    }
    let shared = (common * UNITS as f64) as usize;
    for (unit, place) in places.into_iter().enumerate().take(shared) {
        let sign = if random.below(2) == 0 { 1.0 } else { -1.0 };
        for (map, sign) in [(0, 1.0), (1, sign)] {
            let from = &own[map][unit * WIDTH..][..WIDTH];
            let to = &mut other[map][place * WIDTH..][..WIDTH];
            for (to, from) in to.iter_mut().zip(from) {
                *to = sign * (from + NOISE * *to);
            }
        }
    }
    (own.map(normalised), other.map(normalised))
}

fn normalised(rows: Vec<f64>) -> Vec<f32> {
    let scaled = rows.chunks_exact(WIDTH).flat_map(|row| {
        let length = row.iter().map(|x| x * x).sum::<f64>().sqrt();
        row.iter().map(move |x| (x / length) as f32)
    });
    scaled.collect()
}

fn cosines(own: &[f32], other: &[f32]) -> Vec<f32> {
    let mut all = Vec::with_capacity(UNITS * UNITS);
    for a in own.chunks_exact(WIDTH) {
        for b in other.chunks_exact(WIDTH) {
            all.push(a.iter().zip(b).map(|(x, y)| x * y).sum());
        }
    }
    all
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn uniform(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Below `bound`, which is small, so the bias is too.
    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    fn normal(&mut self) -> f64 {
        let (radius, angle) = (1.0 - self.uniform(), self.uniform());
        (-2.0 * radius.ln()).sqrt() * (std::f64::consts::TAU * angle).cos()
    }
}
