//! Choosing the next token from logits: greedy, or temperature with top-k and top-p (nucleus sampling, arXiv 1904.09751), and a watermark
//! on what these leave. Greedy text carries a watermark only where the scheme has one for it ([`Watermark::greedy`]).

use oml_core::model::Sampling;
use oml_core::watermark::{Candidates, Watermark};
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

/// A watermark, and the context under which it marks the next token.
pub type Mark<'a> = (&'a Watermark, &'a [u32]);

/// One token from `logits`; a temperature of 0 is greedy and draws nothing.
pub fn sample(
    isa: Isa,
    logits: &[f32],
    sampling: &Sampling,
    random: &mut SequenceRandom,
    mark: Option<Mark<'_>>,
) -> u32 {
    if sampling.temperature <= 0.0 {
        let marked = mark.and_then(|(watermark, context)| watermark.greedy(context, logits));
        return marked.unwrap_or_else(|| argmax(logits));
    }
    let scaled: Vec<f32> = logits.iter().map(|l| l / sampling.temperature).collect();
    let mut weights = vec![0.0; logits.len()];
    exp_scaled(isa, &scaled, max(isa, &scaled), 1.0, &mut weights);
    if sampling.top_k == 0 && sampling.top_p >= 1.0 {
        return draw(
            weights.iter().enumerate().map(|(id, w)| (id as u32, *w)),
            random,
            mark,
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
    draw(
        ids.iter().map(|id| (*id, weights[*id as usize])),
        random,
        mark,
    )
}

/// Draws in proportion to the weights, or as the mark says.
fn draw(
    weighted: impl Iterator<Item = (u32, f32)> + Clone,
    random: &mut SequenceRandom,
    mark: Option<Mark<'_>>,
) -> u32 {
    if let Some((watermark, context)) = mark {
        // What has no probability is no candidate.
        let candidates: Candidates = weighted.filter(|(_, weight)| *weight > 0.0).collect();
        return watermark.draw(context, candidates, &mut || random.uniform());
    }
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
    use oml_core::secret::OwnerSeed;
    use oml_core::watermark::Scheme;

    use super::*;

    fn counts(sampling: &Sampling) -> [usize; 4] {
        let logits = [1.0f32, 3.0, 2.0, -1.0];
        let mut random = SequenceRandom::new(7);
        let mut counts = [0; 4];
        for _ in 0..20_000 {
            counts[sample(Isa::detect(), &logits, sampling, &mut random, None) as usize] += 1;
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

    /// What top-k and top-p cut off stays cut off, and over keys the others have their probabilities.
    #[test]
    fn a_watermark_acts_on_what_is_left() {
        let logits = [1.0f32, 3.0, 2.0, -1.0];
        for scheme in [Scheme::ALL[0], Scheme::ALL[2]] {
            let mut counts = [0usize; 4];
            for key in 0..4_000u64 {
                let mut seed = [0; 32];
                seed[..8].copy_from_slice(&key.to_le_bytes());
                let watermark = Watermark::new(&OwnerSeed::new(seed), scheme);
                let mark = Some((&watermark, &[1u32, 2, 3, 4][..]));
                let mut random = SequenceRandom::new(key);
                let sampling = sampling(1.0, 2, 1.0);
                let id = sample(Isa::detect(), &logits, &sampling, &mut random, mark);
                counts[id as usize] += 1;
            }
            let expected = 4_000.0 / (1.0 + (-1f64).exp());
            let error = (expected * (1.0 - expected / 4_000.0)).sqrt();
            assert!(
                (counts[1] as f64 - expected).abs() < 4.0 * error,
                "{counts:?}"
            );
            assert_eq!(counts[1] + counts[2], 4_000);
        }
    }

    #[test]
    fn greedy_is_greedy_but_for_a_green_list() {
        let logits: Vec<f32> = (0..64).map(|i| -0.01 * i as f32).collect();
        let greedy = sampling(0.0, 0, 1.0);
        let chosen = Scheme::ALL.map(|scheme| {
            let watermark = Watermark::new(&OwnerSeed::new([3; 32]), scheme);
            let contexts: Vec<u32> = (0..40).collect();
            let ids = contexts.windows(4).map(|window| {
                let context = &window[..scheme.context()];
                let mut random = SequenceRandom::new(1);
                sample(
                    Isa::detect(),
                    &logits,
                    &greedy,
                    &mut random,
                    Some((&watermark, context)),
                )
            });
            ids.collect::<Vec<u32>>()
        });
        assert!(chosen[0].iter().chain(&chosen[2]).all(|id| *id == 0));
        assert!(chosen[1].iter().filter(|id| **id != 0).count() > 10);
    }
}
