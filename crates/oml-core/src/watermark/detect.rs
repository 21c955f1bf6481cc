//! Is the watermark in a text? Each scored token is new evidence, so that the p-value is exact.
//!
//! A token is scored under the context before it. What was counted once is not counted again, since it would say the same: for
//! schemes that mask repeats, a token is scored where its context comes for the first time, as it was marked; for a green list,
//! where the pair of context and token does. The values of distinct pairs are independent and uniform whatever the text, if it
//! does not depend on the key.
//!
//! Source: arXiv 2306.04634; arXiv 2308.00113.

use std::collections::{BTreeMap, BTreeSet};

use super::{Scheme, SynthId, Values, Watermark, WatermarkError, ln_gamma_tail};
use crate::copies::tail::Innocent;

/// Tokens of a text at most.
pub const MAX_TOKENS: usize = 1 << 18;
/// Nulls that are kept for other texts with as many scored tokens.
const KEPT: usize = 512;

/// What the p-value is about, in words.
pub const NULL: &str = "the text was made without regard to this key";

/// What the text shows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Detection {
    /// Tokens of the text.
    pub tokens: usize,
    /// Tokens that count.
    pub scored: u32,
    /// Mean of what is counted: weighted bits, green tokens, or −ln(1 − u); 0 where nothing is.
    pub mean: f64,
    /// What the mean would be under the null.
    pub expected: f64,
    /// Natural logarithm of the p-value; 0 where nothing counts.
    pub ln_p_value: f64,
}

impl Detection {
    /// Probability of a text with as much or more of the watermark, under the null.
    #[must_use]
    pub fn p_value(&self) -> f64 {
        self.ln_p_value.exp()
    }
}

/// Tests texts, and keeps what tests of several texts share.
#[derive(Debug, Clone, Default)]
pub struct Detector {
    /// By layers and scored tokens.
    nulls: BTreeMap<(u32, u32), Innocent>,
}

impl Detector {
    /// Tests a text of these token ids for a watermark.
    ///
    /// # Errors
    /// When it is too long.
    pub fn detect(
        &mut self,
        watermark: &Watermark,
        ids: &[u32],
    ) -> Result<Detection, WatermarkError> {
        if ids.len() > MAX_TOKENS {
            return Err(WatermarkError::TooLong {
                got: ids.len(),
                limit: MAX_TOKENS,
            });
        }
        let values = watermark.values(ids);
        let scored = values.len() as u32;
        let share = |sum: f64| sum / f64::from(scored.max(1));
        let (mean, expected, ln_p_value) = match &watermark.scheme {
            Scheme::SynthId(scheme) => {
                let ones = scheme.ones(&values);
                let score = scheme.score(&ones);
                let all = scheme.score(&vec![1; scheme.layers() as usize]);
                (share(score / all), 0.5, self.ln_tail(scheme, scored, score))
            }
            Scheme::Kgw(scheme) => {
                let green = values.iter().filter(|v| scheme.is_green(**v)).count() as u64;
                let p = scheme.ln_p_value(green, scored);
                (share(green as f64), scheme.gamma(), p)
            }
            Scheme::Gumbel(scheme) => {
                let sum: f64 = values.iter().map(|v| scheme.score(*v)).sum();
                (share(sum), 1.0, ln_gamma_tail(scored, sum))
            }
        };
        Ok(Detection {
            tokens: ids.len(),
            scored,
            mean,
            expected,
            ln_p_value,
        })
    }

    fn ln_tail(&mut self, scheme: &SynthId, scored: u32, score: f64) -> f64 {
        if scored == 0 {
            return 0.0;
        }
        if self.nulls.len() >= KEPT {
            self.nulls.clear();
        }
        let null = self.nulls.entry((scheme.layers(), scored));
        null.or_insert_with(|| scheme.null(scored)).tail(score).ln()
    }
}

impl Watermark {
    /// The value of every token of a text that is scored.
    #[must_use]
    pub fn values(&self, ids: &[u32]) -> Vec<u64> {
        let mut contexts = self.contexts();
        let mut pairs = BTreeSet::new();
        let mut values = Vec::new();
        for id in ids {
            if let Some(context) = self.marked(&contexts) {
                let once = self.scheme.masks_repeats();
                if once || pairs.insert((Box::<[u32]>::from(context), *id)) {
                    values.push(Values::new(&self.key, context).at(*id));
                }
            }
            contexts.push(*id);
        }
        values
    }
}
