//! What a grant has used, and whether one call more fits.
//!
//! ```text
//! calls (8) ‖ owed (16) ‖ promised (16) ‖ sequence (16) ‖ not_after (8), big-endian
//! ```

use super::{Admission, Budget, Decision};

/// Counters of one grant.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct GrantState {
    /// Calls accepted.
    pub calls: u64,
    /// What they cost.
    pub owed: u128,
    /// The most that the payer has promised.
    pub promised: u128,
    /// The highest number accepted, where the grant counts upwards.
    pub sequence: u128,
    /// When the grant ends.
    pub not_after: u64,
}

impl GrantState {
    /// Bytes of a stored state.
    pub const BYTES: usize = 64;

    /// Takes one call more, or says why not and changes nothing. `signed` where the permission was signed under this grant.
    ///
    /// # Errors
    /// The decision against the admission.
    pub fn admit(
        &mut self,
        admission: &Admission,
        budget: &Budget,
        signed: bool,
    ) -> Result<(), Decision> {
        let mut next = *self;
        next.not_after = budget.not_after;
        next.calls = self.calls.saturating_add(1);
        if next.calls > budget.max_calls {
            return Err(Decision::CallsSpent);
        }
        next.owed = self.owed.saturating_add(admission.price);
        if next.owed > budget.max_spend {
            return Err(Decision::SpendSpent);
        }
        if signed {
            if let Some(sequence) = admission.sequence {
                if sequence <= self.sequence {
                    return Err(Decision::OutOfSequence);
                }
                next.sequence = sequence;
            }
            // Permissions may arrive in any order, so the highest promise covers all calls.
            next.promised = self.promised.max(admission.promised);
            if next.promised < next.owed {
                return Err(Decision::Underpaid);
            }
        }
        *self = next;
        Ok(())
    }

    /// The stored form.
    #[must_use]
    pub fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[..8].copy_from_slice(&self.calls.to_be_bytes());
        bytes[8..24].copy_from_slice(&self.owed.to_be_bytes());
        bytes[24..40].copy_from_slice(&self.promised.to_be_bytes());
        bytes[40..56].copy_from_slice(&self.sequence.to_be_bytes());
        bytes[56..].copy_from_slice(&self.not_after.to_be_bytes());
        bytes
    }

    /// Reads the stored form.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; Self::BYTES]) -> Self {
        fn part<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
            std::array::from_fn(|i| bytes[at + i])
        }
        Self {
            calls: u64::from_be_bytes(part(bytes, 0)),
            owed: u128::from_be_bytes(part(bytes, 8)),
            promised: u128::from_be_bytes(part(bytes, 24)),
            sequence: u128::from_be_bytes(part(bytes, 40)),
            not_after: u64::from_be_bytes(part(bytes, 56)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admission(sequence: Option<u128>, promised: u128) -> Admission {
        Admission {
            permission: [1; 32],
            expires: 10,
            time: 1,
            sequence,
            budgets: Vec::new(),
            promised,
            price: 5,
            token: String::new(),
        }
    }

    const BUDGET: Budget = Budget {
        grant: [2; 32],
        max_calls: 3,
        max_spend: 12,
        not_after: 99,
    };

    #[test]
    fn spending_ends_before_calls() {
        let mut state = GrantState::default();
        assert_eq!(state.admit(&admission(None, 5), &BUDGET, true), Ok(()));
        let too_little = state.admit(&admission(None, 9), &BUDGET, true);
        assert_eq!(too_little, Err(Decision::Underpaid));
        assert_eq!(state.calls, 1);
        assert_eq!(state.admit(&admission(None, 12), &BUDGET, true), Ok(()));
        let over = state.admit(&admission(None, 15), &BUDGET, true);
        assert_eq!(over, Err(Decision::SpendSpent));
        assert_eq!((state.calls, state.owed), (2, 10));
    }

    #[test]
    fn an_earlier_promise_may_come_later() {
        let mut state = GrantState::default();
        assert_eq!(state.admit(&admission(None, 10), &BUDGET, true), Ok(()));
        assert_eq!(state.admit(&admission(None, 5), &BUDGET, true), Ok(()));
    }

    #[test]
    fn numbers_go_upwards() {
        let mut state = GrantState::default();
        assert_eq!(state.admit(&admission(Some(7), 9), &BUDGET, true), Ok(()));
        let again = state.admit(&admission(Some(7), 12), &BUDGET, true);
        assert_eq!(again, Err(Decision::OutOfSequence));
        assert_eq!(state.admit(&admission(Some(8), 12), &BUDGET, true), Ok(()));
    }

    #[test]
    fn calls_of_an_outer_grant_count_alone() {
        let mut state = GrantState::default();
        let few = Budget {
            max_calls: 1,
            ..BUDGET
        };
        assert_eq!(state.admit(&admission(None, 0), &few, false), Ok(()));
        let over = state.admit(&admission(None, 0), &few, false);
        assert_eq!(over, Err(Decision::CallsSpent));
    }

    #[test]
    fn bytes_are_read_back() {
        let state = GrantState {
            calls: 1,
            owed: 2 << 70,
            promised: 3,
            sequence: u128::MAX,
            not_after: 5,
        };
        assert_eq!(GrantState::from_bytes(&state.to_bytes()), state);
    }
}
