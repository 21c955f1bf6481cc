//! The verdict: the smallest p-value of all tests, times their number.
//!
//! Bonferroni's factor counts every test there is, made or not, so that the verdict does not depend on which ones a pair of
//! models allows. It holds however the tests depend on each other.

use super::agreement::{Agreement, DEFAULT_AGREEMENT_RATE};
use super::order::Order;
use super::signs::Signs;

/// Default significance level of the verdict.
pub const DEFAULT_ALPHA: f64 = 1e-6;

/// A test of relatedness.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TestName {
    /// The order of the feed-forward units.
    UnitOrder,
    /// The signs of the feed-forward units.
    UnitSigns,
    /// The order of the residual stream's coordinates.
    CoordinateOrder,
    /// Agreement of a unit's two maps.
    Agreement,
}

impl TestName {
    /// Every test.
    pub const ALL: [Self; 4] = [
        Self::UnitOrder,
        Self::UnitSigns,
        Self::CoordinateOrder,
        Self::Agreement,
    ];

    /// Its name in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::UnitOrder => "unit_order",
            Self::UnitSigns => "unit_signs",
            Self::CoordinateOrder => "coordinate_order",
            Self::Agreement => "agreement",
        }
    }

    /// Whether its null holds by symmetry, and not as far as was measured.
    #[must_use]
    pub const fn is_exact(self) -> bool {
        !matches!(self, Self::Agreement)
    }

    /// What its p-value assumes, in words.
    #[must_use]
    pub const fn null(self) -> &'static str {
        match self {
            Self::UnitOrder => {
                "trained apart: the units of one model stand in no particular order, so every order of matched units is as likely"
            }
            Self::UnitSigns => {
                "trained apart: a unit and its opposite compute the same, so the signs of matched units are fair coins"
            }
            Self::CoordinateOrder => {
                "trained apart: the coordinates of one model's stream stand in no particular order, so every order of matched ones is as \
                 likely"
            }
            Self::Agreement => {
                "unrelated models agree on at most the stated share of units, each by itself; the share was measured, not proven"
            }
        }
    }
}

/// What was found in two models.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Evidence {
    /// Order of matched units, over all layers.
    pub unit_order: Order,
    /// Signs of matched units; `None` where blocks have no gate.
    pub unit_signs: Option<Signs>,
    /// Order of matched coordinates of the embeddings; `None` where no tokens are shared.
    pub coordinate_order: Option<Order>,
    /// Agreement of the two maps, over all layers.
    pub agreement: Agreement,
}

/// One test's result.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Test {
    /// Which test.
    pub name: TestName,
    /// ln of its p-value, not yet times the number of tests; `None` where the models do not allow the test.
    pub ln_p_value: Option<f64>,
}

/// Whether two models are related, with what it rests on.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    /// Every test, in the order of [`TestName::ALL`].
    pub tests: [Test; 4],
    /// ln of the verdict's p-value.
    pub ln_p_value: f64,
    /// ln of the p-value that these units would give in a perfect copy.
    pub ln_least: f64,
    /// Significance level.
    pub alpha: f64,
    /// The share of units on which unrelated models may agree.
    pub agreement_rate: f64,
    /// Whether p ≤ α.
    pub related: bool,
}

impl Verdict {
    /// The tests that would each give this verdict alone.
    pub fn carriers(&self) -> impl Iterator<Item = TestName> {
        let most = self.alpha.ln() - (self.tests.len() as f64).ln();
        let carries = move |test: &&Test| test.ln_p_value.is_some_and(|ln_p| ln_p <= most);
        self.tests.iter().filter(carries).map(|test| test.name)
    }
}

/// A setting out of range.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RelatednessError {
    /// The significance level is not a probability.
    #[error("alpha: expected a number above 0 and below 1, got {got}")]
    Alpha {
        /// The value given.
        got: String,
    },
}

/// The verdict on `evidence` at significance level `alpha`.
///
/// # Errors
/// [`RelatednessError::Alpha`].
pub fn assess(evidence: &Evidence, alpha: f64) -> Result<Verdict, RelatednessError> {
    if !(alpha > 0.0 && alpha < 1.0) {
        return Err(RelatednessError::Alpha {
            got: alpha.to_string(),
        });
    }
    let rate = DEFAULT_AGREEMENT_RATE;
    let ln_p_value = |name| match name {
        TestName::UnitOrder => Some(evidence.unit_order.ln_p_value()),
        TestName::UnitSigns => evidence.unit_signs.map(|signs| signs.ln_p_value()),
        TestName::CoordinateOrder => evidence.coordinate_order.map(|order| order.ln_p_value()),
        TestName::Agreement => Some(evidence.agreement.ln_p_value(rate)),
    };
    let tests = TestName::ALL.map(|name| Test {
        name,
        ln_p_value: ln_p_value(name),
    });
    let p_values = tests.iter().filter_map(|test| test.ln_p_value);
    let smallest = p_values.fold(0.0, f64::min);
    let count = (tests.len() as f64).ln();
    let corrected = |ln_p: f64| (ln_p + count).min(0.0);
    let everywhere = Agreement {
        agreeing: evidence.agreement.units,
        ..evidence.agreement
    };
    let ln_p_value = corrected(smallest);
    Ok(Verdict {
        tests,
        ln_p_value,
        ln_least: corrected(everywhere.ln_p_value(rate)).min(ln_p_value),
        alpha,
        agreement_rate: rate,
        related: ln_p_value <= alpha.ln(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn evidence(same: u64, agreeing: u64) -> Evidence {
        Evidence {
            unit_signs: Some(Signs { pairs: 100, same }),
            agreement: Agreement {
                units: 100,
                agreeing,
            },
            ..Evidence::default()
        }
    }

    #[test]
    fn the_smallest_p_value_counts_four_times() {
        let verdict = assess(&evidence(100, 5), 1e-6).unwrap();
        let expected = (4.0 * 0.5f64.powi(100)).ln();
        assert!((verdict.ln_p_value - expected).abs() < 1e-9);
        assert!(verdict.related);
        assert_eq!(
            verdict.carriers().collect::<Vec<_>>(),
            [TestName::UnitSigns]
        );
        assert_eq!(verdict.tests[2].ln_p_value, None);
        let verdict = assess(&evidence(50, 60), 1e-6).unwrap();
        assert!(verdict.related);
        assert_eq!(
            verdict.carriers().collect::<Vec<_>>(),
            [TestName::Agreement]
        );
    }

    #[test]
    fn chance_is_not_related_and_p_is_at_most_one() {
        let verdict = assess(&evidence(50, 5), 1e-6).unwrap();
        assert_eq!((verdict.related, verdict.ln_p_value), (false, 0.0));
        assert_eq!(verdict.carriers().count(), 0);
        let none = assess(&Evidence::default(), 1e-6).unwrap();
        assert_eq!(
            (none.related, none.ln_p_value, none.ln_least),
            (false, 0.0, 0.0)
        );
    }

    #[test]
    fn a_level_that_is_no_probability_is_refused() {
        for alpha in [0.0, 1.0, -1.0, f64::NAN, f64::INFINITY] {
            let error = assess(&Evidence::default(), alpha).unwrap_err();
            assert!(error.to_string().starts_with("alpha: expected"), "{error}");
        }
    }
}
