//! The audit of a suspect through what it says: what is asked in which order, what counts as a hit, and what follows.
//!
//! ```text
//! terms ──▶ plan ──▶ ask, answer, ask, answer, … ──▶ verdict
//! ```
//!
//! The terms are fixed before the first query leaves: which set, which suspect, which rule, which null rate, when to stop. Every
//! request and answer is an entry of the transcript ([`crate::manifest::transcript_file`]), and the verdict is a function of the
//! transcript and of the opened fingerprints alone, so that whoever judges a claim computes it again.

mod confidence;
mod decoy;
mod matching;
mod null;
mod plan;
mod progress;
mod replay;
mod terms;
mod transcript;
mod verdict;

pub use confidence::{Confidence, ScoredToken, ln_beginning, ln_response};
pub use decoy::{Decoy, DecoyError, from_text};
pub use matching::{Matcher, Mode, Rule};
pub use null::null;
pub use plan::{Subject, plan};
pub use progress::{Due, Progress, ProgressError, Request};
pub use replay::{Known, ReplayError, replay};
pub use terms::{MAX_DECOYS, MAX_TOKENS, MAX_WRAPS, Suspect, Terms, TermsError};
pub use transcript::{Answer, Ask, Entry, Event, Put};
pub use verdict::{Conclusion, Course, Step, Verdict};
