//! The header of a saved state, and what holds of one that a run can go on from.

use serde::{Deserialize, Serialize};

use crate::train::{Measured, Progress};

pub(super) const FORMAT: &str = "oml-embed-state";
pub(super) const VERSION: u32 = 3;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Header {
    format: String,
    version: u32,
    identity: String,
    optimizer: String,
    elements: u64,
    optimizer_steps: u32,
    epoch: u32,
    steps: usize,
    order: Vec<usize>,
    /// As bits: a loss may be infinite, which JSON cannot say.
    losses: Vec<u32>,
    hits: Vec<bool>,
    reached: Option<u32>,
    /// Recall, recall inside prompts and divergence of the best state, whose parameters are then in the file.
    best: Option<(f64, Option<f64>, f64)>,
}

/// What the run that reads a state knows.
pub(super) struct Run<'a> {
    pub(super) identity: &'a str,
    pub(super) optimizer: &'a str,
    pub(super) elements: usize,
    pub(super) items: usize,
    pub(super) epochs: u32,
    pub(super) steps_per_epoch: usize,
}

/// A field that is not what it should be.
pub(super) struct Fault {
    pub(super) field: &'static str,
    pub(super) expected: String,
    pub(super) got: String,
}

impl Header {
    pub(super) fn new(
        identity: &str,
        optimizer: &str,
        elements: usize,
        optimizer_steps: u32,
        progress: &Progress,
    ) -> Self {
        Self {
            format: FORMAT.into(),
            version: VERSION,
            identity: identity.into(),
            optimizer: optimizer.into(),
            elements: elements as u64,
            optimizer_steps,
            epoch: progress.epoch,
            steps: progress.steps,
            order: progress.order.clone(),
            losses: progress.losses.iter().map(|l| l.to_bits()).collect(),
            hits: progress.hits.clone(),
            reached: progress.reached,
            best: progress.best.map(|b| (b.recall, b.prompted, b.divergence)),
        }
    }

    pub(super) fn has_best(&self) -> bool {
        self.best.is_some()
    }

    pub(super) fn optimizer_steps(&self) -> u32 {
        self.optimizer_steps
    }

    /// Holds the header against the run.
    pub(super) fn check(&self, run: &Run<'_>) -> Result<(), Fault> {
        let check = |ok: bool, field, expected: String, got: String| {
            if ok {
                return Ok(());
            }
            Err(Fault {
                field,
                expected,
                got,
            })
        };
        check(
            self.format == FORMAT && self.version == VERSION,
            "format",
            format!("{FORMAT} {VERSION}"),
            format!("{} {}", self.format, self.version),
        )?;
        check(
            self.identity == run.identity,
            "identity",
            run.identity.into(),
            self.identity.clone(),
        )?;
        check(
            self.optimizer == run.optimizer,
            "optimizer",
            run.optimizer.into(),
            self.optimizer.clone(),
        )?;
        check(
            self.elements == run.elements as u64,
            "elements",
            run.elements.to_string(),
            self.elements.to_string(),
        )?;
        for (field, length) in [("losses", self.losses.len()), ("hits", self.hits.len())] {
            let expected = format!("{} values", run.items);
            check(length == run.items, field, expected, length.to_string())?;
        }
        let number = |bits: &u32| !f32::from_bits(*bits).is_nan();
        check(
            self.losses.iter().all(number),
            "losses",
            "numbers".into(),
            "NaN".into(),
        )?;
        check(
            self.epoch <= run.epochs,
            "epoch",
            format!("at most {}", run.epochs),
            self.epoch.to_string(),
        )?;
        check(
            self.steps <= run.steps_per_epoch,
            "steps",
            format!("at most {}", run.steps_per_epoch),
            self.steps.to_string(),
        )?;
        let most = u64::from(self.epoch) * run.steps_per_epoch as u64 + self.steps as u64;
        let most = most.min(i32::MAX as u64);
        check(
            u64::from(self.optimizer_steps) <= most,
            "optimizer_steps",
            format!("at most {most}"),
            self.optimizer_steps.to_string(),
        )?;
        self.check_order(run.items)?;
        check(
            self.reached.is_none_or(|reached| reached <= self.epoch),
            "reached",
            format!("at most epoch {}", self.epoch),
            self.reached.unwrap_or_default().to_string(),
        )?;
        if let Some((recall, prompted, divergence)) = self.best {
            let share = |value: f64| (0.0..=1.0).contains(&value);
            // rounding may put a divergence of nothing below 0
            check(
                share(recall)
                    && prompted.is_none_or(share)
                    && divergence.is_finite()
                    && divergence > -1e-3,
                "best",
                "recalls from 0 to 1 and a divergence of at least 0".into(),
                format!("{recall}, {prompted:?} and {divergence}"),
            )?;
        }
        Ok(())
    }

    fn check_order(&self, items: usize) -> Result<(), Fault> {
        let mut seen = vec![false; items];
        for item in &self.order {
            match seen.get_mut(*item) {
                Some(seen) if !*seen => *seen = true,
                _ => {
                    return Err(Fault {
                        field: "order",
                        expected: format!("each number below {items} once at most"),
                        got: item.to_string(),
                    });
                }
            }
        }
        Ok(())
    }

    pub(super) fn into_progress(self) -> Progress {
        Progress {
            epoch: self.epoch,
            order: self.order,
            steps: self.steps,
            losses: self.losses.into_iter().map(f32::from_bits).collect(),
            hits: self.hits,
            reached: self.reached,
            best: self.best.map(|(recall, prompted, divergence)| Measured {
                recall,
                prompted,
                divergence,
            }),
        }
    }
}
