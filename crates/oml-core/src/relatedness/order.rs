//! The order of matched units: Spearman's rank correlation in each layer, and one p-value for all layers.
//!
//! ```text
//! ρ = 1 − 6 Σ d² / (n (n² − 1)),        d the difference of a pair's ranks among the n pairs of its layer
//! Z = Σ (n − 1) ρ / √(Σ (n − 1)),       p = P(N(0, 1) ≥ Z)
//! ```
//!
//! Under the null every layer's ranks are in a uniformly random order, independently of the other layers': the units of
//! each layer may be renumbered by themselves. Then ρ has mean 0 and variance 1/(n − 1) exactly, so Z has variance 1, and
//! it is nearer to normal than any ρ is. Each ρ has negative excess kurtosis (−4.56/n), so far out its tail is below the
//! normal one and the p-value errs to the large side; the bench `relatedness` shows it. Layers are added by Stouffer's
//! rule and not by Fisher's: what makes two models related is in all their layers, and the sum needs no p-value per layer.

use super::matching::Pair;
use super::normal::ln_upper_tail;

/// Pairs that a layer needs to count: of fewer, a normal tail says little.
pub const LEAST_PAIRS: usize = 8;

/// Whether matched units lie in the same order, over all layers seen.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Order {
    /// Pairs of the layers that count.
    pub pairs: usize,
    /// Σ (n − 1) ρ.
    sum: f64,
    /// Σ (n − 1).
    weight: f64,
}

impl Order {
    /// Adds the pairs of a layer, and gives their ρ where they are enough.
    pub fn add(&mut self, pairs: &[Pair]) -> Option<f64> {
        let n = pairs.len();
        if n < LEAST_PAIRS {
            return None;
        }
        let first = ranks(pairs.iter().map(|pair| pair.first));
        let second = ranks(pairs.iter().map(|pair| pair.second));
        let squares: f64 = first
            .iter()
            .zip(&second)
            .map(|(a, b)| (a - b) * (a - b))
            .sum();
        let n = n as f64;
        let rho = 1.0 - 6.0 * squares / (n * (n * n - 1.0));
        self.pairs += pairs.len();
        self.sum += (n - 1.0) * rho;
        self.weight += n - 1.0;
        Some(rho)
    }

    /// The mean of ρ, weighted with n − 1; 0 without pairs.
    #[must_use]
    pub fn correlation(&self) -> f64 {
        if self.weight > 0.0 {
            self.sum / self.weight
        } else {
            0.0
        }
    }

    /// ln P(a Z as large | the numbers of matched units have nothing to do with each other).
    #[must_use]
    pub fn ln_p_value(&self) -> f64 {
        if self.weight > 0.0 {
            ln_upper_tail(self.sum / self.weight.sqrt())
        } else {
            0.0
        }
    }
}

/// The rank of each number among all, from 0; they are distinct.
fn ranks(numbers: impl Iterator<Item = u32>) -> Vec<f64> {
    let mut sorted: Vec<(u32, usize)> = numbers.zip(0..).collect();
    sorted.sort_unstable();
    let mut ranks = vec![0.0; sorted.len()];
    for (rank, (_, at)) in sorted.into_iter().enumerate() {
        ranks[at] = rank as f64;
    }
    ranks
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(second: &[u32]) -> Vec<Pair> {
        let pair = |(first, second): (u32, &u32)| Pair {
            first: 10 * first,
            second: *second,
            similarity: 1.0,
        };
        (0..).zip(second).map(pair).collect()
    }

    #[test]
    fn the_correlation_is_spearmans() {
        // by hand: Σ d² = 52
        let mut order = Order::default();
        let rho = order.add(&pairs(&[3, 1, 4, 15, 9, 2, 6, 5])).unwrap();
        assert!((rho - 0.38095238095238093).abs() < 1e-12, "{rho}");
        assert_eq!(order.correlation(), rho);
    }

    #[test]
    fn the_same_order_is_significant_and_the_reverse_is_not() {
        let same: Vec<u32> = (0..101).collect();
        let reverse: Vec<u32> = (0..101).rev().collect();
        let mut order = Order::default();
        assert_eq!(order.add(&pairs(&same)), Some(1.0));
        assert!((order.ln_p_value() - ln_upper_tail(10.0)).abs() < 1e-12);
        order.add(&pairs(&same));
        assert!((order.ln_p_value() - ln_upper_tail(200f64.sqrt())).abs() < 1e-12);
        let mut order = Order::default();
        assert_eq!(order.add(&pairs(&reverse)), Some(-1.0));
        assert!(order.ln_p_value() > -1e-20);
    }

    #[test]
    fn gaps_in_the_numbers_do_not_matter() {
        let whole: Vec<u32> = (0..50).collect();
        let gaps: Vec<u32> = (0..50).map(|i| 7 * i + i % 3).collect();
        let (mut a, mut b) = (Order::default(), Order::default());
        assert_eq!(a.add(&pairs(&whole)), b.add(&pairs(&gaps)));
    }

    #[test]
    fn few_pairs_say_nothing() {
        let mut order = Order::default();
        assert_eq!(order.add(&pairs(&[0, 1, 2, 3, 4, 5, 6])), None);
        assert_eq!(
            (order.ln_p_value(), order.correlation(), order.pairs),
            (0.0, 0.0, 0)
        );
    }

    /// Every order of eight units, so the exact distribution: mean 0, variance 1/7, and no tail above the normal one's
    /// far out.
    #[test]
    fn moments_are_exact_over_all_orders() {
        let mut numbers: Vec<u32> = (0..8).collect();
        let (mut count, mut sum, mut squares, mut beyond) = (0u32, 0.0, 0.0, 0u32);
        let mut visit = |numbers: &[u32]| {
            let rho = Order::default().add(&pairs(numbers)).unwrap();
            count += 1;
            sum += rho;
            squares += rho * rho;
            beyond += u32::from(rho * 7f64.sqrt() >= 2.326);
        };
        permute(&mut numbers, 0, &mut visit);
        assert_eq!(count, 40_320);
        assert!(sum.abs() < 1e-9);
        assert!((squares / f64::from(count) - 1.0 / 7.0).abs() < 1e-12);
        assert!(f64::from(beyond) <= 0.01 * f64::from(count), "{beyond}");
    }

    fn permute(numbers: &mut Vec<u32>, from: usize, visit: &mut impl FnMut(&[u32])) {
        if from == numbers.len() {
            return visit(numbers);
        }
        for i in from..numbers.len() {
            numbers.swap(from, i);
            permute(numbers, from + 1, visit);
            numbers.swap(from, i);
        }
    }
}
