//! How often an audit that may stop at any moment claims an innocent model, and how soon it claims a guilty one.
//!
//! ```sh
//! cargo bench -p oml-core --bench audit -- 1000000              # simulated audits per line
//! cargo bench -p oml-core --bench audit -- 10000 1 128 0.0365   # a measured model: 1 hit among 128 fingerprints, null rate 3.65 %
//! ```
//!
//! For a measured model each audit asks its fingerprints in another random order, without replacement.
//!
//! Every audit asks up to 256 queries, looks at its e-value after each of them, and stops when it claims (e-value 1/α) or gives up
//! (e-value 1000 against a recall of 0.2). Innocent models hit at exactly the null rate. Coins come from a SplitMix64 stream per line, seeded
//! by the line's place; intervals are 95 %, Clopper–Pearson.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a table for a reader"
)]

use std::process::ExitCode;

use oml_core::claim::{clopper_pearson, hits_to_claim, ln_futility};

const QUERIES: u64 = 256;
const LEAST_RECALL: f64 = 0.2;
const FUTILITY: f64 = 1e-3;
const CONFIDENCE: f64 = 0.95;
const NULLS: [f64; 4] = [0.003, 0.01, 0.1, 1.0 / 3.0];
const ALPHAS: [f64; 3] = [0.05, 1e-3, 1e-6];

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args()
        .skip(1)
        .filter(|word| word != "--bench")
        .collect();
    let number = |place: usize| words.get(place).map(|word| word.parse::<f64>());
    let (audits, measured) = match (number(0), number(1), number(2), number(3)) {
        (None, ..) => (1_000_000, None),
        (Some(Ok(audits)), None, ..) => (audits as u64, None),
        (Some(Ok(audits)), Some(Ok(hits)), Some(Ok(count)), Some(Ok(null))) => {
            (audits as u64, Some((hits as u64, count as u64, null)))
        }
        _ => {
            eprintln!(
                "expected a number of audits, and the hits, fingerprints and null rate of a measured model"
            );
            return ExitCode::from(2);
        }
    };
    if let Some((hits, count, null)) = measured {
        let result = Rule::new(null, 1e-6).resample(hits, count, audits);
        println!(
            "{hits} hits among {count}, null rate {null}: {} of {audits} audits claim at 1e-6, {:.1} % give up, median {} queries",
            result.claimed,
            100.0 * result.given_up as f64 / audits as f64,
            result.median_queries
        );
        return ExitCode::SUCCESS;
    }
    println!("{audits} audits a line, up to {QUERIES} queries each\n");
    println!("innocent models: claims whenever one may stop, at most alpha of them");
    println!(
        "null rate   alpha    claimed   share (95 % interval)        given up, median queries"
    );
    let mut line = 0;
    for null in NULLS {
        for alpha in ALPHAS {
            line += 1;
            let rule = Rule::new(null, alpha);
            let result = rule.run(null, audits, line);
            let interval = clopper_pearson(result.claimed, audits, CONFIDENCE);
            println!(
                "{null:<10.4}  {alpha:<7.0e}  {:<8}  {:.2e} ({:.1e} to {:.1e})   {:.1} %, {}",
                result.claimed,
                result.claimed as f64 / audits as f64,
                interval.low,
                interval.high,
                100.0 * result.given_up as f64 / audits as f64,
                result.median_queries
            );
        }
    }
    println!("\nguilty models at alpha 1e-6: share that is claimed, median queries");
    println!(
        "recall     {}",
        NULLS.map(|null| format!("null {null:<14.4}")).join("")
    );
    for tenth in 1..=9 {
        let recall = f64::from(tenth) / 10.0;
        let cells = NULLS.map(|null| {
            line += 1;
            let result = Rule::new(null, 1e-6).run(recall, audits.min(100_000), line);
            let share = result.claimed as f64 / audits.min(100_000) as f64;
            format!("{:>6.2} %, {:<9}", 100.0 * share, result.median_queries)
        });
        println!("{recall:<9.1}  {}", cells.join(""));
    }
    ExitCode::SUCCESS
}

/// When an audit stops, by the number of queries.
struct Rule {
    /// Fewest hits that claim.
    claim: Vec<u64>,
    /// Most hits that give up; none gives up where it is negative.
    give_up: Vec<i64>,
}

struct Outcome {
    claimed: u64,
    given_up: u64,
    median_queries: u64,
}

impl Rule {
    fn new(null: f64, alpha: f64) -> Self {
        let claim = (0..=QUERIES).map(|n| hits_to_claim(n, null, alpha).unwrap_or(u64::MAX));
        let give_up = (0..=QUERIES).map(|n| {
            let gives_up =
                |hits: &u64| ln_futility(*hits, n - hits, LEAST_RECALL) >= -FUTILITY.ln();
            (0..=n).take_while(gives_up).count() as i64 - 1
        });
        Self {
            claim: claim.collect(),
            give_up: give_up.collect(),
        }
    }

    /// Audits of a model that hits with probability `rate`.
    fn run(&self, rate: f64, audits: u64, line: u64) -> Outcome {
        let mut coins = Coins(line);
        let threshold = (rate * 2f64.powi(64)) as u64;
        self.simulate(audits, QUERIES, |_, _| coins.next() < threshold)
    }

    /// Audits of a model that answers `hits` of `count` fingerprints, in random orders.
    fn resample(&self, hits: u64, count: u64, audits: u64) -> Outcome {
        let mut coins = Coins(0);
        self.simulate(audits, count.min(QUERIES), |asked, hit| {
            let left = (count - asked).max(1) as f64;
            let threshold = ((hits - hit) as f64 / left * 2f64.powi(64)) as u64;
            coins.next() < threshold
        })
    }

    /// `hits(asked, hit)` says whether the next query hits, after `asked` queries of which `hit` did.
    fn simulate(
        &self,
        audits: u64,
        queries: u64,
        mut hits_next: impl FnMut(u64, u64) -> bool,
    ) -> Outcome {
        let (mut claimed, mut given_up) = (0, 0);
        let mut lengths = vec![0u64; QUERIES as usize + 1];
        for _ in 0..audits {
            let (mut hits, mut n) = (0u64, 0usize);
            while n < queries as usize {
                hits += u64::from(hits_next(n as u64, hits));
                n += 1;
                if hits >= self.claim[n] {
                    claimed += 1;
                    break;
                }
                if hits as i64 <= self.give_up[n] {
                    given_up += 1;
                    break;
                }
            }
            lengths[n] += 1;
        }
        let mut below = 0;
        let median = lengths.iter().position(|count| {
            below += count;
            2 * below >= audits
        });
        Outcome {
            claimed,
            given_up,
            median_queries: median.unwrap_or(0) as u64,
        }
    }
}

/// SplitMix64 (Steele, Lea and Flood, 2014).
struct Coins(u64);

impl Coins {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}
