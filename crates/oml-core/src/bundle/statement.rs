//! What an owner states: who, about whom, on which evidence, in figures and in words.

use std::fmt;

use crate::audit::{Suspect, Terms, Verdict};
use crate::check::Null;
use crate::claim::Share;
use crate::manifest::hex;
use crate::merkle::Hash;
use crate::signing::Address;
use crate::strategy::Strategy;
use crate::time_proof::rfc3339;

/// Figures of two computations are the same up to this share: logarithms differ between machines in their last digits.
const TOLERANCE: f64 = 1e-9;

/// The statement of a claim.
#[derive(Debug, Clone, PartialEq)]
pub struct Statement {
    /// Program and version that made the bundle.
    pub tool: String,
    /// When, in seconds since 1970.
    pub time: u64,
    /// Who signs.
    pub owner: Address,
    /// The owner's public identifier, as it stands in the owner's files.
    pub owner_id: [u8; 16],
    /// Merkle root of the set.
    pub root: Hash,
    /// Number of fingerprints in the set.
    pub leaves: u64,
    /// How the set was made.
    pub strategy: Strategy,
    /// Digest of the base model that it was made on.
    pub model_digest: Hash,
    /// Hash of that model's tokenizer.
    pub tokenizer_hash: Hash,
    /// Who was asked.
    pub suspect: Suspect,
    /// Rate at which an innocent model hits a fingerprint, inside any of the wraps, with its basis.
    pub null: Null,
    /// The claim is made at an e-value of 1/α.
    pub alpha: f64,
    /// What came out.
    pub figures: Figures,
    /// SHA-256 of every other entry of the bundle except the signature, in their order.
    pub contents: Vec<(&'static str, Hash)>,
}

/// What came out of an audit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Figures {
    /// Whether the fingerprints are there, in the audit's word for it.
    pub conclusion: &'static str,
    /// Fingerprints asked, and hits.
    pub fingerprints: Share,
    /// Decoys asked, and hits.
    pub decoys: Share,
    /// Requests without an answer.
    pub unanswered: u64,
    /// Wraps per query, at most.
    pub wraps: u64,
    /// Decimal logarithm of the largest e-value along the way.
    pub log10_e_value: f64,
    /// Decimal logarithm of the exact binomial p-value.
    pub log10_p_value: f64,
    /// Decimal logarithm of Fisher's p-value against the decoys, where there are any.
    pub log10_fisher: Option<f64>,
}

impl Figures {
    /// The figures of a verdict.
    #[must_use]
    pub fn of(terms: &Terms, verdict: &Verdict) -> Self {
        let log10 = |ln: f64| ln / std::f64::consts::LN_10;
        Self {
            conclusion: verdict.conclusion.name(),
            fingerprints: verdict.fingerprints,
            decoys: verdict.decoys,
            unanswered: verdict.unanswered,
            wraps: terms.wraps.len() as u64,
            log10_e_value: log10(verdict.ln_e_value),
            log10_p_value: log10(verdict.ln_p_value),
            log10_fisher: verdict.ln_fisher.map(log10),
        }
    }

    /// The first figure that differs from `other`, by name.
    #[must_use]
    pub fn difference(&self, other: &Self) -> Option<&'static str> {
        let same = |a: f64, b: f64| a == b || (a - b).abs() <= TOLERANCE * a.abs().max(b.abs());
        let fisher = match (self.log10_fisher, other.log10_fisher) {
            (Some(a), Some(b)) => same(a, b),
            (a, b) => a.is_none() && b.is_none(),
        };
        let table = [
            ("conclusion", self.conclusion == other.conclusion),
            (
                "queries",
                self.fingerprints.trials == other.fingerprints.trials,
            ),
            ("hits", self.fingerprints.hits == other.fingerprints.hits),
            ("decoys", self.decoys.trials == other.decoys.trials),
            ("decoy_hits", self.decoys.hits == other.decoys.hits),
            ("unanswered", self.unanswered == other.unanswered),
            ("wraps", self.wraps == other.wraps),
            (
                "log10_e_value",
                same(self.log10_e_value, other.log10_e_value),
            ),
            (
                "log10_p_value",
                same(self.log10_p_value, other.log10_p_value),
            ),
            ("log10_fisher", fisher),
        ];
        let different = table.into_iter().find(|(_, same)| !same);
        different.map(|(name, _)| name)
    }
}

/// The suspect in words.
pub(crate) struct Named<'a>(pub(crate) &'a Suspect);

impl fmt::Display for Named<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Suspect::Endpoint { url, model, .. } => write!(f, "the model {model:?} behind {url}"),
            Suspect::Checkpoint { name, digest } => {
                write!(f, "the weights {name:?} with digest {}", hex(digest))
            }
        }
    }
}

/// The statement in words: the same figures give the same words.
impl fmt::Display for Statement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Figures {
            conclusion,
            fingerprints,
            decoys,
            wraps,
            log10_e_value,
            ..
        } = self.figures;
        write!(
            f,
            "On {}, the owner {} states: {} was asked {} secret queries of a set of {} fingerprints with Merkle root 0x{}, made by \
             strategy {} with at least {} possible responses each, and gave the set's response to {}.",
            rfc3339(self.time),
            self.owner,
            Named(&self.suspect),
            fingerprints.trials,
            self.leaves,
            hex(&self.root),
            self.strategy.name(),
            self.strategy.candidates(),
            fingerprints.hits,
        )?;
        write!(
            f,
            " A model without these fingerprints is taken to give one, inside any of {wraps} wrap(s), with a probability of at most {:.3e} ({}).",
            self.null.rate, self.null.basis
        )?;
        write!(
            f,
            " The e-value reached 10^{log10_e_value:.2}; a model without the fingerprints reaches 1/{:e} with a probability of at most \
             {:e}, whenever the audit stops.",
            self.alpha, self.alpha
        )?;
        if decoys.trials > 0 {
            write!(
                f,
                " Of {} decoy queries, {} got the response that was not theirs.",
                decoys.trials, decoys.hits
            )?;
        }
        write!(f, " Conclusion: {conclusion}.")
    }
}
