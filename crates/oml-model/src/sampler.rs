//! Choosing the next token from logits: greedy, or temperature with top-k and top-p (nucleus sampling, arXiv 1904.09751).

use oml_core::model::Sampling;
use oml_kernels::{Isa, exp_scaled, max};

/// A reproducible source of uniform numbers for one sequence (SplitMix64, doi:10.1145/2714064.2660195).
#[derive(Clone, Debug)]
pub struct SequenceRandom(u64);

impl SequenceRandom {
    /// The stream of this seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number, uniform over all u64.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// The next number, uniform in [0, 1) with 53 bits.
    pub fn uniform(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// The first of the largest logits.
pub fn argmax(logits: &[f32]) -> u32 {
    let mut best = 0;
    for (i, v) in logits.iter().enumerate() {
        if *v > logits[best] {
            best = i;
        }
    }
    best as u32
}

/// One token from `logits`; a temperature of 0 is greedy and draws nothing.
pub fn sample(isa: Isa, logits: &[f32], sampling: &Sampling, random: &mut SequenceRandom) -> u32 {
    if sampling.temperature <= 0.0 {
        return argmax(logits);
    }
    let scaled: Vec<f32> = logits.iter().map(|l| l / sampling.temperature).collect();
    let mut weights = vec![0.0; logits.len()];
    exp_scaled(isa, &scaled, max(isa, &scaled), 1.0, &mut weights);
    if sampling.top_k == 0 && sampling.top_p >= 1.0 {
        return draw(
            weights.iter().enumerate().map(|(id, w)| (id as u32, *w)),
            random,
        );
    }
    let descending = |a: &u32, b: &u32| {
        logits[*b as usize]
            .total_cmp(&logits[*a as usize])
            .then(a.cmp(b))
    };
    let mut ids: Vec<u32> = (0..logits.len() as u32).collect();
    if sampling.top_k > 0 && sampling.top_k < ids.len() {
        ids.select_nth_unstable_by(sampling.top_k - 1, descending);
        ids.truncate(sampling.top_k);
    }
    ids.sort_unstable_by(descending);
    if sampling.top_p < 1.0 {
        let weight = |id: &u32| f64::from(weights[*id as usize]);
        let limit = f64::from(sampling.top_p) * ids.iter().map(weight).sum::<f64>();
        let mut mass = 0.0;
        let kept = ids.iter().take_while(|id| {
            let before = mass;
            mass += weight(id);
            before < limit
        });
        let kept = kept.count().max(1);
        ids.truncate(kept);
    }
    draw(ids.iter().map(|id| (*id, weights[*id as usize])), random)
}

/// Draws in proportion to the weights.
fn draw(weighted: impl Iterator<Item = (u32, f32)> + Clone, random: &mut SequenceRandom) -> u32 {
    let total: f64 = weighted.clone().map(|(_, w)| f64::from(w)).sum();
    let mut left = random.uniform() * total;
    let mut last = 0;
    for (id, weight) in weighted {
        left -= f64::from(weight);
        last = id;
        if left < 0.0 {
            break;
        }
    }
    last
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(sampling: &Sampling) -> [usize; 4] {
        let logits = [1.0f32, 3.0, 2.0, -1.0];
        let mut random = SequenceRandom::new(7);
        let mut counts = [0; 4];
        for _ in 0..20_000 {
            counts[sample(Isa::detect(), &logits, sampling, &mut random) as usize] += 1;
        }
        counts
    }

    fn sampling(temperature: f32, top_k: usize, top_p: f32) -> Sampling {
        Sampling {
            max_tokens: 1,
            temperature,
            top_k,
            top_p,
            stop: vec![],
        }
    }

    #[test]
    fn follows_the_distribution() {
        let got = counts(&sampling(1.0, 0, 1.0));
        let total: f64 = [1.0f64, 3.0, 2.0, -1.0].iter().map(|v| v.exp()).sum();
        for (count, logit) in got.iter().zip([1.0f64, 3.0, 2.0, -1.0]) {
            let expected = logit.exp() / total;
            let error = (expected * (1.0 - expected) / 20_000.0).sqrt();
            assert!((*count as f64 / 20_000.0 - expected).abs() < 5.0 * error);
        }
    }

    #[test]
    fn cuts_the_tail() {
        assert_eq!(counts(&sampling(0.0, 0, 1.0)), [0, 20_000, 0, 0]);
        assert_eq!(counts(&sampling(1.0, 1, 1.0)), [0, 20_000, 0, 0]);
        let got = counts(&sampling(1.0, 2, 1.0));
        assert!(got[0] == 0 && got[3] == 0 && got[1] > got[2] && got[2] > 0);
        assert_eq!(counts(&sampling(1.0, 0, 0.5)), [0, 20_000, 0, 0]);
    }
}
