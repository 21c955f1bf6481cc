//! The signs of matched units: in how many pairs the second map points the same way in both models.
//!
//! A gated block's unit adds `down · act(gate · x) · (up · x)`: with up and down both turned, it computes the same. A start
//! with a unit turned is as likely, and every usual optimizer carries the turn through to the end, so for models that were
//! trained apart the signs of matched units are fair coins, independent of everything that was used to match them:
//! `p = P(Bin(n, 1/2) ≥ h)`, exactly. Needs no order, so it outlives renumbering; without a gate there is no such symmetry.

use crate::claim::ln_binomial_tail;

/// Matched units whose second maps were compared.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Signs {
    /// Pairs that point the same way or the opposite way.
    pub pairs: u64,
    /// Pairs that point the same way.
    pub same: u64,
}

impl Signs {
    /// Adds a pair by the cosine of its second maps; 0 and what is not a number are no way to point.
    pub fn add(&mut self, cosine: f32) {
        self.pairs += u64::from(cosine > 0.0 || cosine < 0.0);
        self.same += u64::from(cosine > 0.0);
    }

    /// Adds what was counted elsewhere.
    pub fn merge(&mut self, other: Self) {
        self.pairs += other.pairs;
        self.same += other.same;
    }

    /// ln P(Bin(pairs, 1/2) ≥ same).
    #[must_use]
    pub fn ln_p_value(&self) -> f64 {
        ln_binomial_tail(self.same, self.pairs, 0.5)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn coins_are_counted() {
        let mut signs = Signs::default();
        for cosine in [0.5, -0.1, 1e-20, 0.0, -0.0, f32::NAN] {
            signs.add(cosine);
        }
        assert_eq!(signs, Signs { pairs: 3, same: 2 });
        assert!((signs.ln_p_value().exp() - 0.5).abs() < 1e-12);
        assert_eq!(Signs::default().ln_p_value(), 0.0);
        let all = Signs {
            pairs: 40_000,
            same: 40_000,
        };
        assert!((all.ln_p_value() + 40_000.0 * std::f64::consts::LN_2).abs() < 1e-6);
    }
}
