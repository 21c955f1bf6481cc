//! How high an innocent copy scores: the exact distribution, rounded against the accuser.
//!
//! Given the answers, the classes and a table of weights, an innocent copy's score is a sum of independent terms, one per
//! class and kind of answer:
//!
//! ```text
//! S = Σ_t ( n_t · absent_t + B_t · (held_t − absent_t) ),        B_t ~ Bin(n_t, p_t)
//! ```
//!
//! since a copy's subset is drawn fingerprint by fingerprint, without regard to the answers. The sum is convolved on a
//! lattice of 1/128 of the standard deviation. Every value is rounded **up** to the lattice, and what is cut off the ends
//! of a binomial (less than 10⁻³⁰ per value) is added to every tail: [`Innocent::tail`] is never below the exact
//! probability but for rounding of the arithmetic, less than 10⁻⁹ of it.

use super::score::Weight;
use statrs::function::factorial::ln_binomial;

/// Lattice cells per standard deviation.
const CELLS: f64 = 128.0;
/// Probabilities below this are cut off, and added to the tail.
const CUT: f64 = 1e-30;
/// A value this much of a cell above a lattice point counts as on it: sums of equal parts differ in their last bits.
const SLACK: f64 = 1e-6;
/// What a score is taken lower for that, in cells: more than all terms' slack together.
const MARGIN: f64 = 1e-3;

/// One independent part of an innocent's score.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Term {
    /// Fingerprints n.
    pub count: u32,
    /// Probability p that a copy holds each.
    pub probability: f64,
    /// What each adds.
    pub weight: Weight,
}

/// The distribution of an innocent copy's score.
#[derive(Debug, Clone, PartialEq)]
pub struct Innocent {
    mean: f64,
    deviation: f64,
    /// The score of the first cell.
    origin: f64,
    /// Width of a cell; 0 where every innocent has the same score.
    step: f64,
    /// P(S ≥ origin + i · step) at most, falling from 1.
    tails: Vec<f64>,
    /// What was cut off.
    cut: f64,
}

impl Innocent {
    /// The distribution of the sum of independent `terms`.
    #[must_use]
    pub fn new(terms: &[Term]) -> Self {
        let moments = |term: &Term| {
            let (n, p) = (f64::from(term.count), term.probability);
            let difference = term.weight.held - term.weight.absent;
            let mean = n * (term.weight.absent + p * difference);
            (mean, n * p * (1.0 - p) * difference * difference)
        };
        let (mean, variance) = terms
            .iter()
            .map(moments)
            .fold((0.0, 0.0), |sum, term| (sum.0 + term.0, sum.1 + term.1));
        let deviation = f64::sqrt(variance);
        let mut innocent = Self {
            mean,
            deviation,
            origin: 0.0,
            step: deviation / CELLS,
            tails: vec![1.0],
            cut: 0.0,
        };
        if innocent.step > 0.0 {
            for term in terms {
                innocent.add(term);
            }
            let mut above = 0.0;
            for cell in innocent.tails.iter_mut().rev() {
                above += *cell;
                *cell = above;
            }
        }
        innocent
    }

    /// Convolves the cells, which hold probabilities until all terms are in, with one more term.
    fn add(&mut self, term: &Term) {
        let difference = term.weight.held - term.weight.absent;
        let fixed = f64::from(term.count) * term.weight.absent;
        if term.count == 0 || difference == 0.0 {
            self.origin += fixed;
            return;
        }
        let (first, probabilities, cut) = binomial(term.count, term.probability);
        self.cut += cut;
        let value = |i: usize| fixed + (first + i) as f64 * difference;
        let last = probabilities.len() - 1;
        let low = value(0).min(value(last));
        let cell = |i: usize| ((value(i) - low) / self.step - SLACK).ceil().max(0.0) as usize;
        let width = cell(0).max(cell(last));
        let mut sum = vec![0.0; self.tails.len() + width];
        for (i, probability) in probabilities.iter().enumerate() {
            let place = &mut sum[cell(i)..][..self.tails.len()];
            for (cell, before) in place.iter_mut().zip(&self.tails) {
                *cell += before * probability;
            }
        }
        self.tails = sum;
        self.origin += low;
    }

    /// The probability that an innocent copy scores `score` or more: exact to the lattice, and never too small.
    #[must_use]
    pub fn tail(&self, score: f64) -> f64 {
        if self.step == 0.0 {
            // Every copy has this score, the guilty and the innocent.
            return 1.0;
        }
        let cell = ((score - self.origin) / self.step - MARGIN).ceil();
        if cell <= 0.0 {
            return 1.0;
        }
        let tail = self.tails.get(cell as usize).copied().unwrap_or(0.0);
        (tail + self.cut).min(1.0)
    }

    /// How many standard deviations `score` is above an innocent's mean.
    #[must_use]
    pub fn deviations(&self, score: f64) -> f64 {
        if self.deviation > 0.0 {
            (score - self.mean) / self.deviation
        } else {
            0.0
        }
    }
}

/// The probabilities of Bin(n, p) from the first to the last that is not cut off, the first value, and the mass cut off.
fn binomial(n: u32, p: f64) -> (usize, Vec<f64>, f64) {
    let odds = p / (1.0 - p);
    let mode = (f64::from(n + 1) * p).floor().min(f64::from(n));
    let at_mode = (ln_binomial(u64::from(n), mode as u64)
        + mode * p.ln()
        + (f64::from(n) - mode) * (-p).ln_1p())
    .exp();
    // From the mode on, probabilities fall on both sides.
    let mut up = vec![at_mode];
    for k in mode as u32..n {
        let next = up[up.len() - 1] * f64::from(n - k) / f64::from(k + 1) * odds;
        if next < CUT {
            break;
        }
        up.push(next);
    }
    let mut down = Vec::new();
    let mut current = at_mode;
    for k in (1..=mode as u32).rev() {
        current *= f64::from(k) / f64::from(n - k + 1) / odds;
        if current < CUT {
            break;
        }
        down.push(current);
    }
    let first = mode as usize - down.len();
    let kept = down.len() + up.len();
    let probabilities = down.into_iter().rev().chain(up).collect();
    let cut = (n as usize + 1 - kept) as f64 * CUT;
    (first, probabilities, cut)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::claim::binomial_tail;

    const PLAIN: Weight = Weight {
        held: 1.0,
        absent: 0.0,
    };

    fn term(count: u32, probability: f64, weight: Weight) -> Term {
        Term {
            count,
            probability,
            weight,
        }
    }

    #[test]
    fn one_term_is_a_binomial() {
        for (n, p) in [(1, 0.5), (20, 0.25), (341, 0.1127), (2048, 0.8873)] {
            let innocent = Innocent::new(&[term(n, p, PLAIN)]);
            let deviation = (f64::from(n) * p * (1.0 - p)).sqrt();
            for h in 0..=n {
                let exact = binomial_tail(u64::from(h), u64::from(n), p);
                let got = innocent.tail(f64::from(h));
                // Rounding up may count the neighbour below only where a cell is wider than one hit.
                assert!(
                    got >= exact * (1.0 - 1e-9),
                    "{n} {p} {h}: {got:e} {exact:e}"
                );
                if deviation < CELLS && exact > 1e-15 {
                    assert!(
                        got <= exact * (1.0 + 1e-9),
                        "{n} {p} {h}: {got:e} {exact:e}"
                    );
                }
            }
        }
    }

    #[test]
    fn sums_are_bounded_from_above_and_closely() {
        let terms = [
            term(
                9,
                0.1127,
                Weight {
                    held: 2.8,
                    absent: -0.36,
                },
            ),
            term(
                7,
                0.5,
                Weight {
                    held: -1.0,
                    absent: 1.0,
                },
            ),
            term(
                5,
                0.8873,
                Weight {
                    held: 0.36,
                    absent: -2.8,
                },
            ),
            term(
                4,
                0.5,
                Weight {
                    held: 0.3,
                    absent: 0.3,
                },
            ),
        ];
        let innocent = Innocent::new(&terms);
        let mut points = Vec::new();
        for a in 0..=9_u32 {
            for b in 0..=7_u32 {
                for c in 0..=5_u32 {
                    let (mut score, mut probability) = (4.0 * 0.3, 1.0);
                    for (term, k) in terms.iter().zip([a, b, c]) {
                        let n = term.count;
                        score +=
                            f64::from(k) * term.weight.held + f64::from(n - k) * term.weight.absent;
                        probability *= ln_binomial(u64::from(n), u64::from(k)).exp()
                            * term.probability.powi(k as i32)
                            * (1.0 - term.probability).powi((n - k) as i32);
                    }
                    points.push((score, probability));
                }
            }
        }
        let exact = |s: f64| -> f64 {
            points
                .iter()
                .filter(|(score, _)| *score >= s - 1e-9)
                .map(|(_, p)| p)
                .sum()
        };
        let deviation = innocent.deviation;
        for (score, _) in &points {
            let got = innocent.tail(*score);
            assert!(
                got >= exact(*score) - 1e-12,
                "{score}: {got} {}",
                exact(*score)
            );
            let near = exact(score - 5.0 * deviation / CELLS);
            assert!(got <= near + 1e-12, "{score}: {got} {near}");
        }
    }

    #[test]
    fn nothing_asked_accuses_nobody() {
        let innocent = Innocent::new(&[term(0, 0.5, PLAIN), term(5, 0.5, Weight::default())]);
        assert_eq!(innocent.tail(0.0), 1.0);
        assert_eq!(innocent.tail(100.0), 1.0);
        assert_eq!(innocent.deviations(100.0), 0.0);
    }

    #[test]
    fn far_tails_are_small_and_not_zero() {
        let innocent = Innocent::new(&[term(1024, 0.5, PLAIN)]);
        let far = innocent.tail(1024.0);
        assert!(far > 0.0 && far < 1e-26, "{far:e}");
    }
}
