//! How likely a copy holds a fingerprint: each fingerprint has a secret share of the copies, drawn from a few values.
//!
//! With one share for all fingerprints, some strategy of a coalition makes its members look like innocents. With several,
//! a coalition does not know which share a fingerprint has, and what deceives on one betrays on another.
//!
//! | bias | shares | drawn with probability |
//! |---|---|---|
//! | `balanced` | 0.1127, 0.5, 0.8873 | 0.332, 0.336, 0.332 |
//! | `mixed` | 1/2, 1/4, 1/8 | 1/3 each |
//!
//! `balanced` is the discrete distribution for coalitions of up to six (Gauss–Legendre of order three) of Nuida et al., "An
//! improvement of discrete Tardos fingerprinting codes" (Des. Codes Cryptogr. 52, 2009): the expected sum of a coalition's
//! symmetric scores then hardly depends on its strategy. Shares and probabilities are multiples of 2⁻¹⁶, so that drawing
//! by 16-bit words is exact.

/// Denominator of shares and probabilities.
pub(super) const UNIT: u32 = 1 << 16;

/// A distribution of shares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Bias {
    /// Shares on both sides of one half, for coalitions of up to six.
    #[default]
    Balanced,
    /// Shares of one half and less: copies hold fewer fingerprints, and coalitions of four and more can escape.
    Mixed,
}

/// One possible share of the copies, and how often fingerprints have it; both in units of 2⁻¹⁶.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    pub(super) members: u32,
    pub(super) weight: u32,
}

const BALANCED: [Share; 3] = [
    Share::new(7_386, 21_759),
    Share::new(32_768, 22_018),
    Share::new(58_150, 21_759),
];
const MIXED: [Share; 3] = [
    Share::new(32_768, 21_845),
    Share::new(16_384, 21_846),
    Share::new(8_192, 21_845),
];

impl Bias {
    /// The name on the command line and in files.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Balanced => "balanced",
            Self::Mixed => "mixed",
        }
    }

    /// The bias of a name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Balanced, Self::Mixed]
            .into_iter()
            .find(|bias| bias.name() == name)
    }

    /// The shares; a fingerprint's class is a position in this list.
    #[must_use]
    pub const fn shares(self) -> &'static [Share] {
        match self {
            Self::Balanced => &BALANCED,
            Self::Mixed => &MIXED,
        }
    }

    /// The class that a uniform 16-bit word draws.
    pub(super) fn class(self, word: u16) -> usize {
        let shares = self.shares();
        let mut below = 0;
        let found = shares.iter().position(|share| {
            below += share.weight;
            u32::from(word) < below
        });
        found.unwrap_or(shares.len() - 1)
    }
}

impl Share {
    const fn new(members: u32, weight: u32) -> Self {
        Self { members, weight }
    }

    /// Probability that a copy holds a fingerprint of this class.
    #[must_use]
    pub fn probability(self) -> f64 {
        f64::from(self.members) / f64::from(UNIT)
    }

    /// Probability that a fingerprint is of this class.
    #[must_use]
    pub fn weight(self) -> f64 {
        f64::from(self.weight) / f64::from(UNIT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_a_distribution_and_shares_are_probabilities() {
        for bias in [Bias::Balanced, Bias::Mixed] {
            let shares = bias.shares();
            assert_eq!(shares.iter().map(|share| share.weight).sum::<u32>(), UNIT);
            assert!(shares.iter().all(|s| s.members > 0 && s.members < UNIT));
            assert_eq!(Bias::from_name(bias.name()), Some(bias));
        }
        assert_eq!(Bias::from_name("other"), None);
    }

    #[test]
    fn words_draw_classes_by_their_weight() {
        for bias in [Bias::Balanced, Bias::Mixed] {
            let mut counts = [0; 3];
            (0..=u16::MAX).for_each(|word| counts[bias.class(word)] += 1);
            let weights: Vec<u32> = bias.shares().iter().map(|share| share.weight).collect();
            assert_eq!(counts.to_vec(), weights);
        }
    }

    #[test]
    fn balanced_hides_no_strategy_of_a_small_coalition() {
        // E[(c − K p) / √(p (1 − p)) | c] is what an answer adds to a coalition's scores when c of its K members hold the
        // fingerprint: where it vanishes for every mixed c, the strategy does not matter.
        for size in 2..=6_u32 {
            for holders in 1..size {
                let added: f64 = Bias::Balanced
                    .shares()
                    .iter()
                    .map(|share| {
                        let p = share.probability();
                        let likelihood =
                            p.powi(holders as i32) * (1.0 - p).powi((size - holders) as i32);
                        share.weight() * likelihood * (f64::from(holders) - f64::from(size) * p)
                            / (p * (1.0 - p)).sqrt()
                    })
                    .sum();
                assert!(added.abs() < 1e-5, "{holders} of {size}: {added}");
            }
        }
    }
}
