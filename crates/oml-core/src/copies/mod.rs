//! Copies for licensees: which copy holds which fingerprints, and which copies a suspect's answers point to.
//!
//! Every copy gets its own random subset of one set ([`Assignment`]), derived from the owner's seed. A suspect's answers
//! ([`Observation`]) are held against each copy's subset by two scores ([`score`], [`channel`]); the distribution of an
//! innocent copy's score is known exactly ([`tail`]), since its subset was drawn without regard to the answers. So
//! [`trace()`] can state the probability of accusing an innocent whatever a coalition of licensees did.
//!
//! Sources: Tardos, "Optimal probabilistic fingerprint codes" (STOC 2003, J. ACM 55, 2008); Škorić, Katzenbeisser and
//! Celik, "Symmetric Tardos fingerprinting codes for arbitrary alphabet sizes" (Des. Codes Cryptogr. 46, 2008).

mod assignment;
mod bias;
pub mod channel;
mod error;
mod observation;
pub mod score;
pub mod tail;
mod trace;

pub use assignment::{Assignment, Members};
pub use bias::{Bias, Share};
pub use error::CopiesError;
pub use observation::{Observation, Tally};
pub use trace::{DEFAULT_ALPHA, NULL, ScoreName, Suspicion, TraceReport, trace};

/// Most copies of one set.
pub const MAX_COPIES: u32 = 1 << 16;

/// How a set is divided among licensees: with the owner's seed, this determines every copy's subset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Copies {
    /// Number of copies; they are numbered from 1. More can be added later: no copy's subset depends on it.
    pub count: u32,
    /// How likely a copy holds a fingerprint.
    pub bias: Bias,
}

impl Copies {
    /// Refuses a number of copies that makes no sense.
    ///
    /// # Errors
    /// [`CopiesError::Count`].
    pub const fn validate(self) -> Result<(), CopiesError> {
        if self.count == 0 || self.count > MAX_COPIES {
            return Err(CopiesError::Count { got: self.count });
        }
        Ok(())
    }
}
