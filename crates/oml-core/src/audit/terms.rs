//! What is fixed before the first query leaves.

use super::matching::Rule;
use crate::check::Null;
use crate::merkle::Hash;
use crate::prompt::Prompt;

/// Most wraps of one audit.
pub const MAX_WRAPS: usize = 64;
/// Most decoys for each fingerprint.
pub const MAX_DECOYS: usize = 16;
/// Most tokens of an answer that are asked for.
pub const MAX_TOKENS: u32 = 512;

/// Who is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Suspect {
    /// A live endpoint.
    Endpoint {
        /// Where requests go.
        url: String,
        /// Name of its interface.
        api: String,
        /// The model that it is asked for.
        model: String,
    },
    /// Weights at hand.
    Checkpoint {
        /// What it is called.
        name: String,
        /// Digest of its tensors.
        digest: Hash,
    },
}

/// The terms of an audit.
#[derive(Debug, Clone, PartialEq)]
pub struct Terms {
    /// When the audit began, in milliseconds since 1970.
    pub time: u64,
    /// Program and version.
    pub tool: String,
    /// Merkle root of the whole set.
    pub root: Hash,
    /// Fingerprints of the whole set.
    pub leaves: u64,
    /// Name of the strategy that made it.
    pub strategy: String,
    /// Who is asked.
    pub suspect: Suspect,
    /// Seed of the order.
    pub seed: [u8; 32],
    /// Numbers of the fingerprints that may be asked, as ranges that rise: first and last.
    pub pairs: Vec<(usize, usize)>,
    /// Most fingerprints that are asked.
    pub most: u64,
    /// When an answer counts as a response.
    pub rule: Rule,
    /// What is put around each query, one after the other until one brings a hit; at least one.
    pub wraps: Vec<Prompt>,
    /// Decoys for each fingerprint.
    pub decoys: usize,
    /// Where decoys come from, in words.
    pub decoy_basis: String,
    /// Probability that an innocent model hits a fingerprint inside any of the wraps, with its basis.
    pub null: Null,
    /// The claim is made at an e-value of 1/α.
    pub alpha: f64,
    /// A model that answers less than this share is not worth asking on.
    pub least_recall: f64,
    /// The audit gives up at an e-value of 1/this against `least_recall`.
    pub futility: f64,
}

/// Terms that cannot be used.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{field}: expected {expected}, got {got}")]
pub struct TermsError {
    /// Which.
    pub field: &'static str,
    /// What is allowed.
    pub expected: String,
    /// What was found.
    pub got: String,
}

impl Terms {
    /// Refuses terms that make no sense.
    ///
    /// # Errors
    /// The field, what it may be, and what it is.
    pub fn validate(&self) -> Result<(), TermsError> {
        let share = |field, value: f64| {
            ensure(
                field,
                value > 0.0 && value < 1.0,
                "above 0 and below 1",
                value,
            )
        };
        share("alpha", self.alpha)?;
        share("least_recall", self.least_recall)?;
        share("futility", self.futility)?;
        let null = self.null.rate;
        ensure(
            "null rate",
            null > 0.0 && null <= 1.0,
            "above 0, at most 1",
            null,
        )?;
        let within = |field, value: usize, low: usize, high: usize| {
            let expected = format!("{low} to {high}");
            ensure(field, (low..=high).contains(&value), &expected, value)
        };
        within("wraps", self.wraps.len(), 1, MAX_WRAPS)?;
        within("decoys", self.decoys, 0, MAX_DECOYS)?;
        within("tokens", self.rule.tokens as usize, 1, MAX_TOKENS as usize)?;
        let leaves = usize::try_from(self.leaves).unwrap_or(usize::MAX);
        within("leaves", leaves, 1, crate::fingerprint::MAX_COUNT)?;
        let rising = self.pairs.iter().all(|(first, last)| first <= last)
            && self.pairs.windows(2).all(|two| two[0].1 < two[1].0);
        let inside = self.pairs.last().is_some_and(|(_, last)| *last < leaves);
        ensure(
            "pairs",
            rising && inside,
            "ranges that rise below the number of leaves",
            "others",
        )?;
        let most = usize::try_from(self.most).unwrap_or(usize::MAX);
        within("most", most, 1, self.indices().count())
    }

    /// Numbers of the fingerprints that may be asked, rising.
    pub fn indices(&self) -> impl Iterator<Item = u64> + '_ {
        let ranges = self.pairs.iter();
        ranges.flat_map(|&(first, last)| (first..=last).map(|index| index as u64))
    }
}

fn ensure(
    field: &'static str,
    holds: bool,
    expected: &str,
    got: impl ToString,
) -> Result<(), TermsError> {
    if holds {
        return Ok(());
    }
    Err(TermsError {
        field,
        expected: expected.into(),
        got: got.to_string(),
    })
}
