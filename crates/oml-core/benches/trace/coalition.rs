//! Coalitions of licensees who compare their copies' answers, and what they answer in the end.
//!
//! A strategy is the probability of each answer, given that c of the K members hold a query's fingerprint, 0 < c < K.
//! Where all hold it, the answer is a hit, and where none does, a miss: the members see no difference there.
//!
//! | strategy | answer where members differ |
//! |---|---|
//! | majority | what more than half of the members say; at a tie a coin |
//! | minority | what fewer than half say; at a tie a coin |
//! | refuse | none: the query is refused |
//! | optimal | a hit with the probabilities θ_c that leave the least information about a member, I(X; Y \| P), for this bias and this K: the best a coalition can do against scores of single copies, knowing all but the seed |
//! | average | the members' weights are averaged, so a fingerprint weakens to the share c/K: a hit as often as fingerprints survive merging at that share, 8 / 67.5 / 87 / 96 % at 0.2 / 0.5 / 0.7 / 0.9, with lines between |
//! | random | a hit with probabilities θ_c of this coalition's own, each 0 or 1 with probability 1/4 and uniform between otherwise |

use oml_core::copies::Bias;
use oml_core::random::Stream;

/// Survival of fingerprints after merging, by the owner's share: "Scalable Fingerprinting of Large Language Models".
const SURVIVAL: [(f64, f64); 6] = [
    (0.0, 0.0),
    (0.2, 0.08),
    (0.5, 0.675),
    (0.7, 0.87),
    (0.9, 0.96),
    (1.0, 1.0),
];
/// Rounds and steps in which the information is made smallest.
const SWEEPS: usize = 60;
const HALVINGS: usize = 50;

/// What members do where they differ.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Strategy {
    Majority,
    Minority,
    Refuse,
    Optimal,
    Average,
    Random,
}

impl Strategy {
    pub(crate) const ALL: [Self; 6] = [
        Self::Majority,
        Self::Minority,
        Self::Refuse,
        Self::Optimal,
        Self::Average,
        Self::Random,
    ];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Majority => "majority",
            Self::Minority => "minority",
            Self::Refuse => "refuse",
            Self::Optimal => "optimal",
            Self::Average => "average",
            Self::Random => "random",
        }
    }

    /// Probability of a hit where c members hold the fingerprint, for c from 0 to `size`.
    pub(crate) fn hits(self, bias: Bias, size: usize) -> Vec<f64> {
        let vote = |c: usize| match (2 * c).cmp(&size) {
            std::cmp::Ordering::Less => 0.0,
            std::cmp::Ordering::Equal => 0.5,
            std::cmp::Ordering::Greater => 1.0,
        };
        let inside = |c: usize| match self {
            Self::Majority => vote(c),
            Self::Minority => 1.0 - vote(c),
            Self::Average => survival(c as f64 / size as f64),
            Self::Refuse | Self::Optimal | Self::Random => 0.0,
        };
        let mut hits: Vec<f64> = (0..=size).map(inside).collect();
        hits[0] = 0.0;
        hits[size] = 1.0;
        if self == Self::Optimal {
            least_information(bias, &mut hits);
        }
        hits
    }
}

/// The probabilities of one coalition that draws its own.
pub(crate) fn draw(stream: &mut Stream, size: usize) -> Vec<f64> {
    let mut hits: Vec<f64> = (0..=size)
        .map(|_| match stream.uniform_below(4) {
            0 => 0.0,
            1 => 1.0,
            _ => uniform(stream),
        })
        .collect();
    hits[0] = 0.0;
    hits[size] = 1.0;
    hits
}

/// True with probability `p`.
pub(crate) fn chance(stream: &mut Stream, p: f64) -> bool {
    uniform(stream) < p
}

fn uniform(stream: &mut Stream) -> f64 {
    (stream.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
}

fn survival(share: f64) -> f64 {
    let above = SURVIVAL.windows(2).find(|pair| share <= pair[1].0);
    above.map_or(1.0, |pair| {
        let [(low, from), (high, to)] = [pair[0], pair[1]];
        from + (to - from) * (share - low) / (high - low)
    })
}

/// Changes the inner probabilities until the information is least: it is convex in them, so one at a time will do.
fn least_information(bias: Bias, hits: &mut [f64]) {
    let size = hits.len() - 1;
    hits[1..size].fill(0.5);
    for _ in 0..SWEEPS {
        for c in 1..size {
            let (mut low, mut high) = (0.0, 1.0);
            for _ in 0..HALVINGS {
                let third = (high - low) / 3.0;
                hits[c] = low + third;
                let left = information(bias, hits);
                hits[c] = high - third;
                let right = information(bias, hits);
                if left < right {
                    high -= third;
                } else {
                    low += third;
                }
            }
            hits[c] = f64::midpoint(low, high);
        }
    }
}

/// I(X; Y | P) in nats: what one answer says about one member that holds the fingerprint (X) or not.
pub(crate) fn information(bias: Bias, hits: &[f64]) -> f64 {
    let size = hits.len() - 1;
    let mut sum = 0.0;
    for share in bias.shares() {
        let p = share.probability();
        let hit = |member: usize| -> f64 {
            (0..size)
                .map(|others| choose(size - 1, others, p) * hits[others + member])
                .sum()
        };
        let any = p * hit(1) + (1.0 - p) * hit(0);
        for (weight, q) in [(p, hit(1)), (1.0 - p, hit(0))] {
            sum += share.weight() * weight * (relative(q, any) + relative(1.0 - q, 1.0 - any));
        }
    }
    sum
}

fn relative(q: f64, any: f64) -> f64 {
    if q > 1e-15 { q * (q / any).ln() } else { 0.0 }
}

/// P(Bin(n, p) = k).
fn choose(n: usize, k: usize, p: f64) -> f64 {
    let ways: f64 = (0..k).map(|i| (n - i) as f64 / (i + 1) as f64).product();
    ways * p.powi(k as i32) * (1.0 - p).powi((n - k) as i32)
}
