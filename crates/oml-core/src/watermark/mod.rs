//! Watermarks: text that a model draws with the owner's key can be told from other text, by whoever has the key, with an exact p-value.
//!
//! A watermark changes how a token is drawn and nothing about the weights. What the key says of a token depends on the few tokens
//! before it, its *context* ([`Contexts`]), and on the token ([`Values`]). Three schemes:
//!
//! | scheme | what is done to the draw | what it costs | test |
//! |---|---|---|---|
//! | [`SynthId`] | a tournament prefers tokens whose bits are 1, as much as the distribution leaves room | nothing on average over keys | weighted sum of binomials |
//! | [`Kgw`] | δ is added to the logits of the green share γ of the tokens | the distribution is another | binomial |
//! | [`Gumbel`] | the key's numbers take the place of the random ones | nothing on average over keys; one answer per prompt and seed | Gamma |
//!
//! A text's first tokens have no whole context of its own before them and are drawn plainly: the detector sees the answer, not the
//! question. Temperature, top-k and top-p come first, and the watermark acts on what they leave; of that on the *head* alone, the tokens with
//! at least 2⁻¹⁷ of the largest's probability. Whether the token comes from the head is drawn plainly, so no probability is lost or won.
//!
//! Sources: Dathathri and others, "Scalable watermarking for identifying large language model outputs", Nature 634 (2024);
//! Kirchenbauer and others, "A Watermark for Large Language Models" (arXiv 2301.10226) and "On the Reliability of Watermarks for
//! Large Language Models" (arXiv 2306.04634); Aaronson, talk of 2022, as in "Watermarking GPT outputs"; Fernandez and others, "Three
//! Bricks to Consolidate Watermarks for LLMs" (arXiv 2308.00113), for exact tests on tokens scored once.

mod candidates;
mod context;
mod detect;
mod error;
mod gumbel;
mod key;
mod kgw;
mod synthid;
mod values;

pub use candidates::Candidates;
pub use context::Contexts;
pub use detect::{Detection, Detector, MAX_TOKENS, NULL};
pub use error::WatermarkError;
pub use gumbel::{Gumbel, ln_gamma_tail};
pub use key::WatermarkKey;
pub use kgw::Kgw;
pub use synthid::SynthId;
pub use values::Values;

use crate::secret::OwnerSeed;

/// Tokens of context at most.
pub const MAX_CONTEXT: usize = 16;

/// How tokens are marked, with its parameters; a text is found with the parameters it was made with.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Scheme {
    /// Tournament sampling.
    SynthId(SynthId),
    /// Green list.
    Kgw(Kgw),
    /// Exponential minimum.
    Gumbel(Gumbel),
}

impl Scheme {
    /// All schemes with their default parameters.
    pub const ALL: [Self; 3] = [
        Self::SynthId(SynthId::DEFAULT),
        Self::Kgw(Kgw::DEFAULT),
        Self::Gumbel(Gumbel::DEFAULT),
    ];

    /// The name, which enters the derivation of the key.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::SynthId(_) => "synthid",
            Self::Kgw(_) => "kgw",
            Self::Gumbel(_) => "gumbel",
        }
    }

    /// Tokens of context.
    #[must_use]
    pub const fn context(&self) -> usize {
        match self {
            Self::SynthId(scheme) => scheme.context(),
            Self::Kgw(scheme) => scheme.context(),
            Self::Gumbel(scheme) => scheme.context(),
        }
    }

    /// Whether a context that came before in the same text is left unmarked: a scheme that is unbiased for one draw with a key is so for
    /// a text only where no draw of the key is used twice.
    #[must_use]
    pub const fn masks_repeats(&self) -> bool {
        !matches!(self, Self::Kgw(_))
    }
}

/// A scheme under an owner's key.
#[derive(Debug, Clone, PartialEq)]
pub struct Watermark {
    scheme: Scheme,
    key: WatermarkKey,
}

impl Watermark {
    /// The owner's watermark: the same for all models of the owner.
    #[must_use]
    pub fn new(owner: &OwnerSeed, scheme: Scheme) -> Self {
        let key = WatermarkKey::derive(owner, scheme.name());
        Self { scheme, key }
    }

    /// How tokens are marked.
    #[must_use]
    pub const fn scheme(&self) -> &Scheme {
        &self.scheme
    }

    /// For a text that begins.
    #[must_use]
    pub fn contexts(&self) -> Contexts {
        Contexts::new(self.scheme.context())
    }

    /// The context under which the next token is marked; `None` where it is not.
    #[must_use]
    pub fn marked<'a>(&self, contexts: &'a Contexts) -> Option<&'a [u32]> {
        match self.scheme.masks_repeats() {
            true => contexts.fresh(),
            false => contexts.last(),
        }
    }

    /// Draws the next token among `candidates` under the marks of `context`. `uniform` gives numbers in [0, 1).
    #[must_use]
    pub fn draw(
        &self,
        context: &[u32],
        candidates: Candidates,
        uniform: &mut dyn FnMut() -> f64,
    ) -> u32 {
        let mut head = match candidates.head_or_tail(uniform()) {
            Ok(head) => head,
            Err(token) => return token,
        };
        let values = Values::new(&self.key, context).of(head.ids());
        match &self.scheme {
            Scheme::SynthId(scheme) => scheme.play(&values, head.weights_mut()),
            Scheme::Kgw(scheme) => scheme.favour(&values, head.weights_mut()),
            Scheme::Gumbel(scheme) => return scheme.choose(&values, &head),
        }
        head.pick(uniform())
    }

    /// The greedy token among `logits` under the marks of `context`, where the scheme marks greedy text: a green list does. The others
    /// live on the randomness of the draw, and leave greedy text as it is (`None`).
    #[must_use]
    pub fn greedy(&self, context: &[u32], logits: &[f32]) -> Option<u32> {
        let Scheme::Kgw(scheme) = &self.scheme else {
            return None;
        };
        let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        // No other can come first.
        let ids = (0u32..).zip(logits);
        let ids: Vec<u32> = ids
            .filter(|(_, logit)| **logit >= largest - scheme.delta())
            .map(|(id, _)| id)
            .collect();
        let values = Values::new(&self.key, context).of(&ids);
        let raised = |(id, value): (&u32, &u64)| {
            let bonus = if scheme.is_green(*value) {
                scheme.delta()
            } else {
                0.0
            };
            (
                logits
                    .get(*id as usize)
                    .copied()
                    .unwrap_or(f32::NEG_INFINITY)
                    + bonus,
                *id,
            )
        };
        let all = ids.iter().zip(&values).map(raised);
        // The first of the largest, as without a watermark.
        let best = all.reduce(|best, next| if next.0 > best.0 { next } else { best });
        best.map(|(_, id)| id)
    }
}
