//! How often licensees who compare their copies are traced, and how often an innocent one is accused.
//!
//! ```sh
//! cargo bench -p oml-core --bench trace -- balanced 1000       # sizes 256 to 2,048, 2 to 5 colluders
//! cargo bench -p oml-core --bench trace -- mixed 1000
//! cargo bench -p oml-core --bench trace -- balanced 10000 5 1024   # one size and coalition
//! cargo bench -p oml-core --bench trace -- balanced 1000 5 1024 0.9 0.003   # forgetting 10 %, chance hits 0.3 %
//! ```
//!
//! Every trial has an owner's seed of its own (a hash of the line and the trial's number), real assignments of N = 200
//! copies, the first K copies as the coalition, and a stream for the coalition's coins. The last two arguments are the
//! recall of what the coalition answers with a hit, and the rate at which a miss comes out as a hit.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a table for a reader"
)]

mod coalition;

use std::process::ExitCode;
use std::thread;

use coalition::{Strategy, chance, draw, information};
use oml_core::claim::clopper_pearson;
use oml_core::copies::{Assignment, Bias, Copies, CopiesError, DEFAULT_ALPHA, Observation, trace};
use oml_core::derive::{Purpose, Scope, derive_numbered};
use oml_core::merkle::keccak256;
use oml_core::random::Stream;
use oml_core::secret::OwnerSeed;

const COPIES: u32 = 200;
const SIZES: [usize; 4] = [256, 512, 1024, 2048];
const COALITIONS: [u32; 4] = [2, 3, 4, 5];
const CONFIDENCE: f64 = 0.95;
const SCOPE: Scope<'static> = Scope {
    model_digest: &[0; 32],
    copy_id: "",
};

/// One line of the table.
#[derive(Clone, Copy)]
struct Case {
    bias: Bias,
    strategy: Strategy,
    colluders: u32,
    fingerprints: usize,
    recall: f64,
    chance: f64,
}

/// Trials in which a colluder, and an innocent, was accused.
#[derive(Clone, Copy, Default)]
struct Counts {
    traced: u64,
    wrong: u64,
}

fn main() -> ExitCode {
    match run(&arguments()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => {
            eprintln!("{fault}");
            ExitCode::from(2)
        }
    }
}

/// What the user gave, without what cargo adds.
fn arguments() -> Vec<String> {
    let given = std::env::args().skip(1);
    given.filter(|word| word != "--bench").collect()
}

fn run(arguments: &[String]) -> Result<(), String> {
    let word = |i: usize| arguments.get(i).map(String::as_str);
    let bias = word(0).and_then(Bias::from_name);
    let bias = bias.ok_or("first argument: expected balanced or mixed")?;
    let trials: u64 = number(word(1), 1000, "trials")?;
    let colluders = match word(2) {
        Some(_) => vec![number(word(2), 5, "colluders")?],
        None => COALITIONS.to_vec(),
    };
    let sizes = match word(3) {
        Some(_) => vec![number(word(3), 1024, "fingerprints")?],
        None => SIZES.to_vec(),
    };
    let recall = number(word(4), 1.0, "recall")?;
    let chance = number(word(5), 0.0, "chance")?;
    if trials == 0 || sizes.contains(&0) || colluders.iter().any(|k| !(1..=COPIES).contains(k)) {
        return Err(format!(
            "expected at least 1 trial, 1 fingerprint, and 1 to {COPIES} colluders"
        ));
    }
    println!(
        "{} bias, {COPIES} copies, alpha {DEFAULT_ALPHA}, {trials} trials a line, recall {recall}, chance hits {chance}",
        bias.name()
    );
    println!(
        "| colluders | fingerprints | strategy | traced, % | 95 % interval | innocent accused |"
    );
    println!("|---|---|---|---|---|---|");
    let mut wrong = 0;
    let mut lines = 0;
    for colluders in colluders {
        for &fingerprints in &sizes {
            for strategy in Strategy::ALL {
                let case = Case {
                    bias,
                    strategy,
                    colluders,
                    fingerprints,
                    recall,
                    chance,
                };
                let counts = simulate(case, trials).map_err(|error| error.to_string())?;
                let interval = clopper_pearson(counts.traced, trials, CONFIDENCE);
                println!(
                    "| {colluders} | {fingerprints} | {} | {:.1} | {:.1} to {:.1} | {} |",
                    strategy.name(),
                    100.0 * counts.traced as f64 / trials as f64,
                    100.0 * interval.low,
                    100.0 * interval.high,
                    counts.wrong
                );
                wrong += counts.wrong;
                lines += 1;
            }
        }
        let hits = Strategy::Optimal.hits(bias, colluders as usize);
        let theta: Vec<String> = hits.iter().map(|p| format!("{p:.3}")).collect();
        eprintln!(
            "optimal for {colluders}: hits with probability {} where 0 to {colluders} members hold it; {:.4} nats an answer",
            theta.join(", "),
            information(bias, &hits)
        );
    }
    let trials = lines * trials;
    let interval = clopper_pearson(wrong, trials, CONFIDENCE);
    println!(
        "an innocent accused in {wrong} of {trials} trials: {:.1e}, 95 % interval {:.1e} to {:.1e}",
        wrong as f64 / trials as f64,
        interval.low,
        interval.high
    );
    Ok(())
}

fn number<T: std::str::FromStr>(word: Option<&str>, default: T, name: &str) -> Result<T, String> {
    word.map_or(Ok(default), |word| {
        word.parse()
            .map_err(|_| format!("{name}: expected a number, got {word}"))
    })
}

/// Runs all trials of a case, spread over the machine's threads; the result does not depend on how many there are.
fn simulate(case: Case, trials: u64) -> Result<Counts, CopiesError> {
    let hits = case.strategy.hits(case.bias, case.colluders as usize);
    let threads = thread::available_parallelism().map_or(1, |n| n.get() as u64);
    thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|first| {
                let hits = &hits;
                let own = (first..trials).step_by(threads as usize);
                scope.spawn(move || {
                    let mut counts = Counts::default();
                    for number in own {
                        let (traced, wrong) = trial(case, hits, number)?;
                        counts.traced += u64::from(traced);
                        counts.wrong += u64::from(wrong);
                    }
                    Ok(counts)
                })
            })
            .collect();
        let mut sum = Counts::default();
        for worker in workers {
            let counts: Counts = match worker.join() {
                Ok(counts) => counts?,
                Err(panic) => std::panic::resume_unwind(panic),
            };
            sum.traced += counts.traced;
            sum.wrong += counts.wrong;
        }
        Ok(sum)
    })
}

/// Whether a colluder, and whether an innocent, is accused.
fn trial(case: Case, hits: &[f64], number: u64) -> Result<(bool, bool), CopiesError> {
    let line = [
        case.bias.name().as_bytes(),
        case.strategy.name().as_bytes(),
        &case.colluders.to_le_bytes(),
        &(case.fingerprints as u64).to_le_bytes(),
        &number.to_le_bytes(),
    ];
    let seed = keccak256(&line);
    let owner = OwnerSeed::new(seed);
    let copies = Copies {
        count: COPIES,
        bias: case.bias,
    };
    let assignment = Assignment::new(&owner, SCOPE, [0; 32], copies, case.fingerprints)?;
    let members = (1..=case.colluders)
        .map(|copy| assignment.members(copy))
        .collect::<Result<Vec<_>, _>>()?;
    let mut coins = Stream::new(&derive_numbered(&owner, Purpose::Evaluation, SCOPE, 0));
    let drawn;
    let hits = if case.strategy == Strategy::Random {
        drawn = draw(&mut coins, case.colluders as usize);
        &drawn
    } else {
        hits
    };
    let mut answer = |index: usize| {
        let holders = members.iter().filter(|m| m.as_slice()[index]).count();
        let differ = holders > 0 && holders < members.len();
        if differ && case.strategy == Strategy::Refuse {
            return Observation::Refused;
        }
        let hit = if chance(&mut coins, hits[holders]) {
            chance(&mut coins, case.recall)
        } else {
            chance(&mut coins, case.chance)
        };
        if hit {
            Observation::Hit
        } else {
            Observation::Miss
        }
    };
    let seen: Vec<_> = (0..case.fingerprints).map(&mut answer).collect();
    let report = trace(&assignment, &seen, DEFAULT_ALPHA)?;
    let mut outcome = (false, false);
    for suspicion in report.accused() {
        if suspicion.copy <= case.colluders {
            outcome.0 = true;
        } else {
            outcome.1 = true;
        }
    }
    Ok(outcome)
}
