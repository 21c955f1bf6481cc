//! Whether two models were trained independently of each other, told from what lies in their weights.
//!
//! Units of the feed-forward blocks (and coordinates of the residual stream) have no names: training treats them alike, so
//! which number and which sign a unit has is an accident of each run's start. Units of two models are matched by what they
//! do ([`mutual_nearest`]), without a look at numbers and signs, and then the accidents are compared:
//!
//! ```text
//! order       Spearman's correlation of the numbers of matched units       null: a uniformly random order
//! signs       matched units whose second map points the same way           null: Bin(n, 1/2)
//! agreement   units to which two maps, matched apart, give one partner     null: Bin(n, rate), the rate a stated bound
//! verdict     p = min(1, k · the smallest of k tests' p-values)            related at α or less
//! ```
//!
//! The nulls of order and signs hold by symmetry, whatever the two models have learnt in common: renumbering the units of
//! one model, or turning the sign of a unit of a gated block in both its linear maps, gives another start that was as
//! likely, and leads to the same model, renumbered and turned. They end where somebody renumbers and turns on purpose. The
//! null of agreement does not: no such change touches it, but how often two independent models agree can only be measured.
//!
//! Source of the third, and of matching before comparing: Zhu, Ahmed, Kuditipudi and Liang, "Independence Tests for Language
//! Models" (ICML 2025, arXiv 2502.12292), whose MATCH compares two matchings by Spearman's correlation of their indices;
//! here the partners are counted, since numbers mean nothing once they were changed, and the null allows for units that
//! any two models have in common (Gurnee and others, "Universal Neurons in GPT2 Language Models", arXiv 2401.12181).

mod agreement;
mod matching;
mod normal;
mod order;
mod signs;
mod verdict;

pub use agreement::{Agreement, DEFAULT_AGREEMENT_RATE};
pub use matching::{Pair, Sense, mutual_nearest};
pub use order::{LEAST_PAIRS, Order};
pub use signs::Signs;
pub use verdict::{DEFAULT_ALPHA, Evidence, RelatednessError, Test, TestName, Verdict, assess};
