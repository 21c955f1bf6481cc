//! Agreement of two maps: to how many units two matchings, made apart, give the same partner.
//!
//! ```text
//! h = units whose gate's partner is their up map's partner too,   n = units of the smaller side
//! p = P(Bin(n, rate) ≥ h)
//! ```
//!
//! In a copy both matchings find the original's unit, wherever it was moved, and whatever turned the stream around it. Were
//! the two maps of a unit independent of each other, two unrelated models would agree about once a layer (the fixed points
//! of a random permutation). But units that any two models have in common agree in both maps, so the rate is a bound with
//! room for those, measured on unrelated models and not derived.

use crate::claim::ln_binomial_tail;

use super::matching::Pair;

/// Share of units on which unrelated models may agree at most; the page on relatedness says what was measured.
pub const DEFAULT_AGREEMENT_RATE: f64 = 0.1;

/// Units on which two matchings agree.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Agreement {
    /// Units that could have had a partner.
    pub units: u64,
    /// Units to which both matchings give the same partner.
    pub agreeing: u64,
}

impl Agreement {
    /// Agreement of two matchings of one layer, each in the order of its first units, where the smaller model has `units`.
    #[must_use]
    pub fn of(one: &[Pair], other: &[Pair], units: usize) -> Self {
        let mut other = other.iter().peekable();
        let mut agreeing = 0;
        for pair in one {
            while other.next_if(|next| next.first < pair.first).is_some() {}
            let partner = other.next_if(|next| next.first == pair.first);
            agreeing += u64::from(partner.is_some_and(|next| next.second == pair.second));
        }
        Self {
            units: units as u64,
            agreeing,
        }
    }

    /// Adds what was counted in another layer.
    pub fn merge(&mut self, other: Self) {
        self.units += other.units;
        self.agreeing += other.agreeing;
    }

    /// The share of units that agree; 0 without units.
    #[must_use]
    pub fn share(&self) -> f64 {
        if self.units > 0 {
            self.agreeing as f64 / self.units as f64
        } else {
            0.0
        }
    }

    /// ln P(Bin(units, `rate`) ≥ agreeing).
    #[must_use]
    pub fn ln_p_value(&self, rate: f64) -> f64 {
        ln_binomial_tail(self.agreeing, self.units, rate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(list: &[(u32, u32)]) -> Vec<Pair> {
        let pair = |&(first, second): &(u32, u32)| Pair {
            first,
            second,
            similarity: 1.0,
        };
        list.iter().map(pair).collect()
    }

    #[test]
    fn partners_are_compared_unit_by_unit() {
        let gate = pairs(&[(0, 5), (2, 1), (3, 3), (7, 0)]);
        let up = pairs(&[(0, 5), (1, 1), (3, 4), (7, 0), (8, 8)]);
        let found = Agreement::of(&gate, &up, 10);
        assert_eq!(
            found,
            Agreement {
                units: 10,
                agreeing: 2
            }
        );
        assert_eq!(Agreement::of(&up, &gate, 10), found);
        assert_eq!(Agreement::of(&gate, &[], 10).agreeing, 0);
        assert_eq!(found.share(), 0.2);
    }

    #[test]
    fn a_share_at_the_rate_is_no_evidence() {
        let found = |agreeing| Agreement {
            units: 1000,
            agreeing,
        };
        assert!(found(100).ln_p_value(0.1) > -1.0);
        assert!(found(10).ln_p_value(0.1) > -1e-20);
        assert!(found(200).ln_p_value(0.1) < -40.0);
        assert_eq!(Agreement::default().ln_p_value(0.1), 0.0);
        assert_eq!(Agreement::default().share(), 0.0);
    }
}
