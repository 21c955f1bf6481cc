//! How conspicuous the queries of a set are: their perplexity beside that of benign text.

use std::fmt;

use oml_core::fingerprint::FingerprintSet;
use oml_core::strategy::perplexity::{Benign, Place};
use serde::Serialize;

use super::workbench::Opened;

/// Queries of a large set that are measured.
const MOST: usize = 1_024;
/// The percentile of benign text that a filter might refuse from.
const FILTER: f64 = 99.0;
/// Share of a set beyond it that is worth a warning: five times that of benign text.
const EASY: f64 = 0.05;

/// What is measured, and on what.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Stealth {
    /// Median perplexity of a query under the base model.
    median_perplexity: f64,
    /// Median percentile of a query among benign pieces of its length.
    median_percentile: f64,
    /// Share of the queries above the 99th percentile.
    above_99th: f64,
    /// Share of the queries below the 1st percentile.
    below_1st: f64,
    /// Queries that were measured.
    queries: usize,
    /// Beginnings of sentences that they were compared with.
    benign_pieces: usize,
    /// Text those are from.
    text: String,
}

impl Stealth {
    /// Measures a set; `None` where its queries are single tokens that nothing precedes.
    ///
    /// # Errors
    /// When the model fails.
    pub(super) fn measure(
        base: &mut Opened,
        set: &FingerprintSet,
        benign: &Benign,
        text: &str,
    ) -> anyhow::Result<Option<Self>> {
        let count = set.count().min(MOST);
        let queries: Vec<&[u32]> = (0..count)
            .map(|i| &*set.fingerprints()[i * set.count() / count].query_ids)
            .collect();
        let places = benign.places(&mut base.model, &queries)?;
        let places: Vec<Place> = places.into_iter().flatten().collect();
        if places.is_empty() {
            return Ok(None);
        }
        let median = |value: fn(&Place) -> f64| {
            let mut values: Vec<f64> = places.iter().map(value).collect();
            values.sort_unstable_by(f64::total_cmp);
            (values[(values.len() - 1) / 2] + values[values.len() / 2]) / 2.0
        };
        let share = |is_there: fn(f64) -> bool| {
            let there = places.iter().filter(|place| is_there(place.percentile));
            there.count() as f64 / places.len() as f64
        };
        Ok(Some(Self {
            median_perplexity: median(|place| place.perplexity),
            median_percentile: median(|place| place.percentile),
            above_99th: share(|percentile| percentile > FILTER),
            below_1st: share(|percentile| percentile < 100.0 - FILTER),
            queries: places.len(),
            benign_pieces: benign.count(),
            text: text.to_owned(),
        }))
    }

    /// What to warn of.
    pub(super) fn warning(&self) -> Option<String> {
        (self.above_99th > EASY).then(|| {
            format!(
                "queries: a filter by perplexity that refuses 1 % of {} refuses {:.1} % of them",
                self.text,
                100.0 * self.above_99th
            )
        })
    }
}

impl fmt::Display for Stealth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "  median perplexity of a query  {:.1}, percentile {:.0} of benign text; {:.1} % above the 99th, {:.1} % below the 1st",
            self.median_perplexity,
            self.median_percentile,
            100.0 * self.above_99th,
            100.0 * self.below_1st
        )?;
        writeln!(
            f,
            "                                ({} queries, {} beginnings of sentences in {}, on the base model)",
            self.queries, self.benign_pieces, self.text
        )
    }
}
