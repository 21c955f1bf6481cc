//! The coalition's behaviour as the answers show it, and the score that fits it.
//!
//! A coalition of K copies answers a query depending on how many of them, c, hold its fingerprint:
//!
//! ```text
//! θ_c(y) = P(answer y | c of K hold it),   c = 0..=K        c ~ Bin(K, p) for a fingerprint of share p
//! weight of a copy that holds it: ln( P(y | it holds, p) / P(y | p) ),     of one that does not: likewise
//! ```
//!
//! θ is estimated by expectation maximisation from the numbers of hits, misses and refusals per class alone, held lightly
//! to the coalition that asks a random member. It covers a single copy that forgot some fingerprints as well as
//! majority, minority, refusal and mixtures of them. K is not known and taken as [`COALITION`] throughout; what that costs
//! where it is smaller is in the measurements (`benches/trace`).
//!
//! The estimate uses no copy's subset, so it may be as wrong as it likes without harm to innocents; it only costs power.
//!
//! Sources: Furon and Pérez-Freire, "EM decoding of Tardos traitor tracing codes" (ACM MM&Sec 2009); Meerwald and Furon,
//! "Toward practical joint decoding of binary Tardos fingerprinting codes" (IEEE TIFS 7, 2012).

use super::observation::{HIT, MISS, SYMBOLS, Tally};
use super::score::{Table, Weight};
use super::{Bias, Share};

/// Size K of the coalition that is assumed.
pub const COALITION: usize = 5;
/// Fingerprints of each c that the prior counts for.
const PRIOR: f64 = 1.0;
/// Share of the prior that any answer gets, also one that a random member would not give.
const ANYTHING: f64 = 0.02;
/// How far the start is from the prior, towards all answers alike.
const SPREAD: f64 = 0.1;
/// Rounds of expectation maximisation.
const ROUNDS: usize = 60;

/// Probabilities of the answers, `[c][symbol]`.
type Channel = [[f64; SYMBOLS]; COALITION + 1];

/// The score that fits the answers: log likelihood ratios under the estimated behaviour.
#[must_use]
pub fn fitted(bias: Bias, all: &Tally) -> Table {
    let channel = estimate(bias, all);
    let row = |share: &Share| {
        let p = share.probability();
        let others = binomial(COALITION - 1, p);
        let mut row = [Weight::default(); SYMBOLS];
        for (symbol, weight) in row.iter_mut().enumerate() {
            let given = |held: usize| -> f64 {
                let answers = channel[held..].iter().map(|answers| answers[symbol]);
                others
                    .iter()
                    .zip(answers)
                    .map(|(p, answer)| p * answer)
                    .sum()
            };
            let (held, absent) = (given(1), given(0));
            let any = p * held + (1.0 - p) * absent;
            *weight = Weight {
                held: (held / any).ln(),
                absent: (absent / any).ln(),
            };
        }
        row
    };
    Table(bias.shares().iter().map(row).collect())
}

/// The most likely behaviour, given the prior.
fn estimate(bias: Bias, all: &Tally) -> Channel {
    let prior: Channel = std::array::from_fn(|c| {
        let hit = c as f64 / COALITION as f64;
        let mut answers = [ANYTHING / SYMBOLS as f64; SYMBOLS];
        answers[HIT] += (1.0 - ANYTHING) * hit;
        answers[MISS] += (1.0 - ANYTHING) * (1.0 - hit);
        answers
    });
    let holders: Vec<Vec<f64>> = bias
        .shares()
        .iter()
        .map(|share| binomial(COALITION, share.probability()))
        .collect();
    let mut channel =
        prior.map(|answers| answers.map(|p| (1.0 - SPREAD) * p + SPREAD / SYMBOLS as f64));
    for _ in 0..ROUNDS {
        let mut counts = prior.map(|answers| answers.map(|p| PRIOR * p));
        for (holders, seen) in holders.iter().zip(&all.0) {
            for symbol in 0..SYMBOLS {
                let parts = holders
                    .iter()
                    .zip(&channel)
                    .map(|(p, answers)| p * answers[symbol]);
                let per_part = f64::from(seen[symbol]) / parts.sum::<f64>();
                for ((counts, p), answers) in counts.iter_mut().zip(holders).zip(&channel) {
                    counts[symbol] += per_part * p * answers[symbol];
                }
            }
        }
        channel = counts.map(|answers| {
            let sum: f64 = answers.iter().sum();
            answers.map(|count| count / sum)
        });
    }
    channel
}

/// P(Bin(n, p) = c) for c from 0 to n.
fn binomial(n: usize, p: f64) -> Vec<f64> {
    let mut probabilities = vec![1.0];
    for _ in 0..n {
        let mut next = vec![0.0; probabilities.len() + 1];
        for (c, probability) in probabilities.iter().enumerate() {
            next[c] += probability * (1.0 - p);
            next[c + 1] += probability * p;
        }
        probabilities = next;
    }
    probabilities
}

#[cfg(test)]
mod tests {
    use super::super::observation::REFUSED;
    use super::*;

    /// Expected answers of a coalition of [`COALITION`] with behaviour `channel`, from many fingerprints.
    fn expected(bias: Bias, channel: &Channel) -> Tally {
        let row = |share: &Share| {
            let holders = binomial(COALITION, share.probability());
            std::array::from_fn(|symbol| {
                let p: f64 = holders
                    .iter()
                    .zip(channel)
                    .map(|(p, a)| p * a[symbol])
                    .sum();
                (1e6 * share.weight() * p).round() as u32
            })
        };
        Tally(bias.shares().iter().map(row).collect())
    }

    /// Probability of each answer per class.
    fn rates(bias: Bias, channel: &Channel) -> Vec<[f64; SYMBOLS]> {
        let row = |share: &Share| {
            let holders = binomial(COALITION, share.probability());
            std::array::from_fn(|s| holders.iter().zip(channel).map(|(p, a)| p * a[s]).sum())
        };
        bias.shares().iter().map(row).collect()
    }

    #[test]
    fn the_estimate_gives_what_was_seen() {
        let mut majority = [[0.0; SYMBOLS]; COALITION + 1];
        let mut refusing = majority;
        for c in 0..=COALITION {
            majority[c][if 2 * c > COALITION { HIT } else { MISS }] = 1.0;
            refusing[c][match c {
                0 => MISS,
                COALITION => HIT,
                _ => REFUSED,
            }] = 1.0;
        }
        for bias in [Bias::Balanced, Bias::Mixed] {
            for channel in [majority, refusing] {
                let fit = estimate(bias, &expected(bias, &channel));
                for (got, want) in rates(bias, &fit).iter().zip(rates(bias, &channel)) {
                    for (got, want) in got.iter().zip(want) {
                        assert!((got - want).abs() < 0.02, "{got} {want}");
                    }
                }
            }
        }
    }

    #[test]
    fn refusals_of_a_coalition_speak_for_its_members() {
        let mut refusing = [[0.0, 0.0, 1.0]; COALITION + 1];
        refusing[0] = [0.0, 1.0, 0.0];
        refusing[COALITION] = [1.0, 0.0, 0.0];
        let table = fitted(Bias::Mixed, &expected(Bias::Mixed, &refusing));
        // A share of 1/8: where nobody holds the fingerprint, nobody refuses.
        let weight = table.0[2][REFUSED];
        assert!(weight.held > 0.5 && weight.absent < 0.0, "{weight:?}");
    }

    #[test]
    fn weights_are_finite_for_any_answers() {
        for counts in [
            [0, 0, 0],
            [1, 0, 0],
            [0, 1 << 18, 0],
            [0, 0, 7],
            [1 << 17, 3, 1 << 17],
        ] {
            for bias in [Bias::Balanced, Bias::Mixed] {
                let table = fitted(bias, &Tally(vec![counts; 3]));
                let weights = table.0.iter().flatten();
                assert!(weights.flat_map(|w| [w.held, w.absent]).all(f64::is_finite));
            }
        }
    }
}
