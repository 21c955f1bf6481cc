//! The tokens that may come next, with their weights: what temperature, top-k and top-p left.

/// Of the largest weight: lighter candidates are drawn plainly. Some thousand of a vocabulary's tokens are heavier, and together the others
/// weigh less than a hundredth, so that hashing them would cost time and mark nothing.
const LIGHT: f32 = 1.0 / (1 << 17) as f32;

/// Candidates and their weights, in the order in which one is drawn; weights are not negative and in proportion to probabilities.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Candidates {
    ids: Vec<u32>,
    weights: Vec<f32>,
}

impl FromIterator<(u32, f32)> for Candidates {
    fn from_iter<T: IntoIterator<Item = (u32, f32)>>(weighted: T) -> Self {
        let (ids, weights) = weighted.into_iter().unzip();
        Self { ids, weights }
    }
}

impl Candidates {
    /// Their token ids.
    #[must_use]
    pub fn ids(&self) -> &[u32] {
        &self.ids
    }

    /// Their weights.
    #[must_use]
    pub fn weights(&self) -> &[f32] {
        &self.weights
    }

    pub(super) fn weights_mut(&mut self) -> &mut [f32] {
        &mut self.weights
    }

    /// The candidate at `uniform`, a number in [0, 1), of the sum of weights; 0 where there is none.
    #[must_use]
    pub fn pick(&self, uniform: f64) -> u32 {
        self.at(uniform * total(&self.weights))
    }

    fn at(&self, mut left: f64) -> u32 {
        let mut last = 0;
        for (id, weight) in self.ids.iter().zip(&self.weights) {
            left -= f64::from(*weight);
            last = *id;
            if left < 0.0 {
                break;
            }
        }
        last
    }

    /// The heavy candidates, or a light one, each as often as its weight says.
    pub(super) fn head_or_tail(self, uniform: f64) -> Result<Self, u32> {
        let largest = self.weights.iter().copied().fold(0.0, f32::max);
        let limit = largest * LIGHT;
        let pairs = || self.ids.iter().copied().zip(self.weights.iter().copied());
        let head: Self = pairs().filter(|(_, weight)| *weight >= limit).collect();
        let inside = total(&head.weights);
        let at = uniform * total(&self.weights);
        if at < inside || head.ids.len() == self.ids.len() {
            return Ok(head);
        }
        let tail: Self = pairs().filter(|(_, weight)| *weight < limit).collect();
        Err(tail.at(at - inside))
    }
}

pub(super) fn total(weights: &[f32]) -> f64 {
    weights.iter().map(|w| f64::from(*w)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_lost_between_head_and_tail() {
        let all: Candidates = [(5, 1.0), (6, 1e-6), (7, 0.5), (8, 3e-6)]
            .into_iter()
            .collect();
        let head = all.clone().head_or_tail(0.5).unwrap();
        assert_eq!(head.ids(), [5, 7]);
        assert_eq!(all.clone().head_or_tail(1.5 / 1.500_004), Err(6));
        assert_eq!(all.clone().head_or_tail(0.999_999_999), Err(8));
        assert_eq!(
            [0.0, 0.66, 0.67, 0.999_999_999].map(|u| all.pick(u)),
            [5, 5, 7, 8]
        );
    }

    #[test]
    fn no_candidates_are_no_fault() {
        let none = Candidates::default();
        assert_eq!(none.pick(0.5), 0);
        assert_eq!(none.clone().head_or_tail(0.5), Ok(none));
    }
}
