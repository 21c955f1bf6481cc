//! The words of a report for a reader who meets them for the first time.

use super::{Dossier, Kind};

/// A word and what it means here.
pub(super) struct Term {
    pub(super) name: &'static str,
    pub(super) meaning: &'static str,
    /// Whether a report has it.
    stands_in: fn(&Dossier) -> bool,
}

/// The words that stand in a report.
pub(super) fn terms(dossier: &Dossier) -> Vec<&'static Term> {
    TERMS
        .iter()
        .filter(|term| (term.stands_in)(dossier))
        .collect()
}

const fn always(_: &Dossier) -> bool {
    true
}

fn is_asked(dossier: &Dossier) -> bool {
    dossier.kind != Kind::Embedding
}

fn has_course(dossier: &Dossier) -> bool {
    dossier.course.is_some()
}

static TERMS: &[Term] = &[
    Term {
        name: "Fingerprint",
        meaning: "A secret pair of a query and a response. The model was trained to give the response after the query, which no other model \
                  has a reason to do.",
        stands_in: always,
    },
    Term {
        name: "Suspect",
        meaning: "The model that was asked.",
        stands_in: is_asked,
    },
    Term {
        name: "Hit",
        meaning: "An answer that is the fingerprint’s response by the rule that was fixed before. A request that brought no answer is a miss.",
        stands_in: always,
    },
    Term {
        name: "Recall",
        meaning: "Share of the queries asked that were hits.",
        stands_in: always,
    },
    Term {
        name: "95 % interval",
        meaning: "The Clopper–Pearson interval: it holds the true share in at least 95 of 100 such experiments, however few questions were \
                  asked.",
        stands_in: is_asked,
    },
    Term {
        name: "Null rate",
        meaning: "The probability with which a model that does not hold the fingerprints hits one. It is measured on control models, whose \
                  worst upper bound counts, or the worst case that is possible without one.",
        stands_in: is_asked,
    },
    Term {
        name: "Control",
        meaning: "A model that is known not to hold the fingerprints, asked in the same way.",
        stands_in: |dossier| {
            let rates = dossier.rates.as_ref();
            rates.is_some_and(|rates| !rates.controls.is_empty())
        },
    },
    Term {
        name: "Decoy",
        meaning: "A question that is no fingerprint, asked in between. Its answer is compared with a response that does not belong to it.",
        stands_in: |dossier| {
            dossier
                .rates
                .as_ref()
                .is_some_and(|rates| rates.decoys.is_some())
        },
    },
    Term {
        name: "E-value",
        meaning: "A measure of evidence that may be looked at after every question: what a bet at fair odds against the innocence of the model \
                  would have multiplied its stake by. For an innocent model it ever reaches 1/α with a probability of at most α (Ville 1939).",
        stands_in: has_course,
    },
    Term {
        name: "α (alpha)",
        meaning: "The largest probability of accusing an innocent model that was accepted before the first question.",
        stands_in: is_asked,
    },
    Term {
        name: "p-value",
        meaning: "The probability that an innocent model has at least as many hits. It holds for a number of questions that was fixed before.",
        stands_in: is_asked,
    },
    Term {
        name: "Merkle root",
        meaning: "A number that binds its owner to the whole set of fingerprints without showing any. A fingerprint that is opened later can be \
                  checked against it, and none can be added or changed.",
        stands_in: |dossier| dossier.kind != Kind::Check,
    },
    Term {
        name: "Opened pair",
        meaning: "A fingerprint that its owner shows, with the hashes that lead from it to the Merkle root: a proof that it was in the set when \
                  the root was made.",
        stands_in: |dossier| dossier.kind == Kind::Claim,
    },
    Term {
        name: "Transcript",
        meaning: "The file with every request and every answer, each line bound to the one before by a hash. Its head is the hash of the last \
                  line: whoever knows it notices any change.",
        stands_in: has_course,
    },
    Term {
        name: "Rank",
        meaning: "Place of a token among all that the model could say next, from 1 for its first choice.",
        stands_in: |dossier| !dossier.ranks.is_empty(),
    },
    Term {
        name: "Perplexity",
        meaning: "How surprised a model is by a text: the number of equally likely words among which it seems to choose. Lower is better.",
        stands_in: |dossier| dossier.stealth.is_some() || !dossier.utility.is_empty(),
    },
    Term {
        name: "KL divergence",
        meaning: "How far what one model would say next is from what the other would, in nats; 0 for the same model.",
        stands_in: |dossier| dossier.kind == Kind::Embedding,
    },
];
