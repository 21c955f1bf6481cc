//! Prompt augmentation: queries inside prompts drawn at random, so that fingerprints survive what deployments put around them.

use oml_core::prompt::Prompt;

use crate::{
    sampler::SequenceRandom,
    tokenizer::{TextTokenizer, TokenizerError},
};

/// One in this many draws is random tokens instead of a prompt, where the recipe has both.
const PADDING_SHARE: u64 = 4;

/// The prompts of a run, with the tokenizer that reads them.
pub struct Prompting {
    tokenizer: TextTokenizer,
    prompts: Vec<Prompt>,
}

impl Prompting {
    /// Of `prompts`, those that this tokenizer can render: without a chat template conversations are left out.
    pub fn new(tokenizer: TextTokenizer, mut prompts: Vec<Prompt>) -> Self {
        prompts.retain(|prompt| tokenizer.takes(prompt));
        Self { tokenizer, prompts }
    }

    /// The prompts that are drawn from.
    pub fn prompts(&self) -> &[Prompt] {
        &self.prompts
    }

    /// Tokens of a query inside the prompt that makes it longest.
    pub(super) fn longest(&self, query: &str) -> Result<usize, TokenizerError> {
        let mut longest = 0;
        for prompt in &self.prompts {
            longest = longest.max(self.tokenizer.prompted(prompt, query)?.len());
        }
        Ok(longest)
    }

    /// The ids of a query (`ids` where nothing is around it) inside a prompt, or behind at most `padding` random tokens.
    pub(super) fn draw(
        &self,
        query: &str,
        ids: &[u32],
        padding: usize,
        random: &mut SequenceRandom,
    ) -> Result<Vec<u32>, TokenizerError> {
        let mut below = |limit: usize| (random.next_u64() % limit as u64) as usize;
        let pads = padding > 0 && (self.prompts.is_empty() || below(PADDING_SHARE as usize) == 0);
        if !pads {
            return self
                .tokenizer
                .prompted(&self.prompts[below(self.prompts.len())], query);
        }
        let special = ids.iter().take_while(|id| self.tokenizer.is_special(**id));
        let (first, rest) = ids.split_at(special.count());
        let mut padded = first.to_vec();
        let size = self.tokenizer.vocabulary_size();
        for _ in 0..=below(padding) {
            let id = below(size) as u32;
            if !self.tokenizer.is_special(id) {
                padded.push(id);
            }
        }
        padded.extend_from_slice(rest);
        Ok(padded)
    }
}
