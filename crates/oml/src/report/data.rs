//! What a report shows: plain values, ready to print, each number with the basis it rests on.

use serde::Serialize;

/// Everything on the page.
#[derive(Debug, Clone)]
pub(crate) struct Report {
    /// What was done, in a line.
    pub(crate) title: String,
    /// What a reader should know first, in a sentence or two.
    pub(crate) summary: String,
    /// The three to five numbers that matter most.
    pub(crate) headlines: Vec<Headline>,
    /// Training, in order of time.
    pub(crate) history: Vec<Moment>,
    /// When the weights that were kept were reached.
    pub(crate) chosen_seconds: Option<f64>,
    /// Probability of each response before and after.
    pub(crate) shifts: Vec<Shift>,
    /// What the model can do, before and after.
    pub(crate) utility: Vec<Utility>,
    /// The same questions answered by both models.
    pub(crate) answers: Vec<Answer>,
    /// Every other number, with its basis.
    pub(crate) facts: Vec<Fact>,
    /// Every setting of the run, by name.
    pub(crate) settings: Vec<(String, String)>,
    /// Program, version, machine and day, in a line.
    pub(crate) made_by: String,
}

/// A number set large.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Headline {
    pub(crate) value: String,
    pub(crate) label: String,
    pub(crate) basis: String,
}

/// A point in the course of training.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Moment {
    pub(crate) seconds: f64,
    /// Mean cross-entropy on response tokens, in nats.
    pub(crate) loss: f64,
    /// Share of fingerprints answered, where it was measured.
    pub(crate) recall: Option<f64>,
}

/// Probability of a response given its query.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shift {
    pub(crate) before: f64,
    pub(crate) after: f64,
}

/// A measured value with its standard error, where one is known.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Measured {
    pub(crate) value: f64,
    pub(crate) standard_error: Option<f64>,
}

/// How a value is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Unit {
    /// As it is.
    Plain,
    /// A share, written as a percentage.
    Percent,
}

/// Which direction is the good one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Better {
    Lower,
    Higher,
}

/// One measure of what a model can do.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Utility {
    pub(crate) name: String,
    /// On what it was measured and how.
    pub(crate) basis: String,
    pub(crate) unit: Unit,
    pub(crate) better: Better,
    /// `None` where the base is the yardstick itself.
    pub(crate) base: Option<Measured>,
    pub(crate) fingerprinted: Measured,
}

impl Unit {
    /// The value as it is printed.
    pub(crate) fn text(self, value: f64) -> String {
        match self {
            Self::Plain if value.abs() < 0.1 => format!("{value:.4}"),
            Self::Plain => format!("{value:.2}"),
            Self::Percent => format!("{:.1} %", 100.0 * value),
        }
    }
}

impl Better {
    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::Lower => "lower is better",
            Self::Higher => "higher is better",
        }
    }
}

/// One question and what each model says.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) question: String,
    pub(crate) base: String,
    pub(crate) fingerprinted: String,
}

/// A number and what it rests on.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Fact {
    pub(crate) name: String,
    pub(crate) value: String,
    pub(crate) basis: String,
}
