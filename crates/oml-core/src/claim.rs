//! Statistics of an ownership claim: how surprising are `h` hits in `n` queries if the model were not the owner's?
//!
//! ```text
//! p-value          P(Bin(n, p0) ≥ h) = Σ_{i=h}^{n} C(n,i) p0^i (1−p0)^{n−i}, summed as ln pmf(h) + ln Σ ratios
//! Clopper–Pearson  low:  P(Bin(n, low)  ≥ h) = α/2      high: P(Bin(n, high) ≤ h) = α/2   (exact coverage ≥ 1−α)
//! paper bound      FPR ≤ exp(−2M (m/M − 1/k)²) for m of M matches, one of k candidates each (0 excess: 1)
//! ```
//!
//! Sources: Clopper and Pearson, Biometrika 26 (1934); Hoeffding's inequality as used in "Scalable Fingerprinting of
//! Large Language Models" (arXiv 2502.07760).

use statrs::function::factorial::ln_binomial;

/// An interval of probabilities.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Interval {
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

/// Natural logarithm of P(Bin(`trials`, `p`) ≥ `hits`).
///
/// `hits` above `trials` has probability 0, `hits` of 0 probability 1; `p` is clamped to 0..=1.
#[must_use]
pub fn ln_binomial_tail(hits: u64, trials: u64, p: f64) -> f64 {
    let p = p.clamp(0.0, 1.0);
    if hits == 0 || p == 1.0 && hits <= trials {
        return 0.0;
    }
    if hits > trials || p == 0.0 {
        return f64::NEG_INFINITY;
    }
    if hits as f64 > trials as f64 * p {
        ln_far_tail(hits, trials, p)
    } else {
        // The mass below `hits` is the far tail of the misses.
        (-ln_far_tail(trials - hits + 1, trials, 1.0 - p).exp()).ln_1p()
    }
}

/// P(Bin(`trials`, `p`) ≥ `hits`): the exact p-value of `hits` hits under the null rate `p`.
#[must_use]
pub fn binomial_tail(hits: u64, trials: u64, p: f64) -> f64 {
    ln_binomial_tail(hits, trials, p).exp()
}

/// Fewest hits in `trials` whose p-value is at most `alpha`; `None` when not even all hits suffice.
#[must_use]
pub fn hits_needed(trials: u64, p: f64, alpha: f64) -> Option<u64> {
    let enough = |hits: u64| ln_binomial_tail(hits, trials, p) <= alpha.ln();
    if !enough(trials) {
        return None;
    }
    // The tail falls as hits rise, so the boundary is found by halving.
    let (mut low, mut high) = (0, trials);
    while low < high {
        let middle = low + (high - low) / 2;
        if enough(middle) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    Some(low)
}

/// The two-sided Clopper–Pearson interval of `hits` in `trials`; 0 to 1 when there is no trial.
#[must_use]
pub fn clopper_pearson(hits: u64, trials: u64, confidence: f64) -> Interval {
    let one_sided = f64::midpoint(1.0, confidence);
    Interval {
        low: lower_bound(hits, trials, one_sided),
        high: upper_bound(hits, trials, one_sided),
    }
}

/// The one-sided lower Clopper–Pearson bound.
#[must_use]
pub fn lower_bound(hits: u64, trials: u64, confidence: f64) -> f64 {
    if hits == 0 || trials == 0 {
        return 0.0;
    }
    let ln_alpha = (-confidence).ln_1p();
    boundary(|p| ln_binomial_tail(hits, trials, p) >= ln_alpha)
}

/// The one-sided upper Clopper–Pearson bound.
#[must_use]
pub fn upper_bound(hits: u64, trials: u64, confidence: f64) -> f64 {
    if hits >= trials {
        return 1.0;
    }
    let ln_alpha = (-confidence).ln_1p();
    boundary(|p| ln_binomial_tail(trials - hits, trials, 1.0 - p) <= ln_alpha)
}

/// The paper's bound on the false-positive rate of `matches` in `queries` with `candidates` possible responses each.
#[must_use]
pub fn paper_bound(matches: u64, queries: u64, candidates: u64) -> f64 {
    if queries == 0 || candidates == 0 {
        return 1.0;
    }
    let queries = queries as f64;
    let excess = (matches as f64 / queries - 1.0 / candidates as f64).max(0.0);
    (-2.0 * queries * excess * excess).exp()
}

/// ln P(X ≥ hits) where hits is above the mean, so that the terms fall from the first one on.
fn ln_far_tail(hits: u64, trials: u64, p: f64) -> f64 {
    if hits > trials || p <= 0.0 {
        return f64::NEG_INFINITY;
    }
    let odds = p / (1.0 - p);
    let (mut term, mut sum) = (1.0_f64, 1.0_f64);
    for i in hits..trials {
        term *= (trials - i) as f64 / (i + 1) as f64 * odds;
        sum += term;
        if term < sum * f64::EPSILON {
            break;
        }
    }
    ln_binomial(trials, hits)
        + hits as f64 * p.ln()
        + (trials - hits) as f64 * (-p).ln_1p()
        + sum.ln()
}

/// The smallest p in 0..=1 where `reached` turns true, to the last bit.
fn boundary(reached: impl Fn(f64) -> bool) -> f64 {
    let (mut low, mut high) = (0.0_f64, 1.0_f64);
    loop {
        let middle = f64::midpoint(low, high);
        if middle <= low || middle >= high {
            return high;
        }
        if reached(middle) {
            high = middle;
        } else {
            low = middle;
        }
    }
}
