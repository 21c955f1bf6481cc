//! What the domain asks of a language model: scores, distributions and generation over token ids, batched.

/// One teacher-forced request: score every token of `continuation` after `context` and the continuation's earlier tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Continuation<'a> {
    /// Token ids that come before; at least one.
    pub context: &'a [u32],
    /// Token ids to score.
    pub continuation: &'a [u32],
}

/// How the model ranks one given token at its position.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TokenScore {
    /// Natural logarithm of the token's probability.
    pub log_probability: f32,
    /// Number of tokens the model prefers to this one; 0 is the arg-max.
    pub rank: u32,
}

impl TokenScore {
    /// The token's probability.
    #[must_use]
    pub fn probability(&self) -> f32 {
        self.log_probability.exp().min(1.0)
    }
}

/// How tokens are drawn during generation.
#[derive(Debug, Clone, PartialEq)]
pub struct Sampling {
    /// Tokens to generate at most.
    pub max_tokens: usize,
    /// Softmax temperature; 0 is greedy.
    pub temperature: f32,
    /// Draw among this many most probable tokens; 0 is all.
    pub top_k: usize,
    /// Draw among the smallest set of tokens with this much probability; 1 is all.
    pub top_p: f32,
    /// Tokens that end a sequence.
    pub stop: Vec<u32>,
}

/// A failure inside a model or tokenizer, passed through unchanged.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct ModelError(pub Box<dyn std::error::Error + Send + Sync>);

/// A causal language model: local weights and a remote endpoint both implement it, so checking is one piece of code.
pub trait LanguageModel {
    /// Number of token ids the model knows; every id passed in is below it.
    fn vocabulary_size(&self) -> usize;

    /// Scores all items in one teacher-forced pass; `out[i].len() == items[i].continuation.len()`.
    ///
    /// # Errors
    /// Whatever keeps the model from answering.
    fn score(&mut self, items: &[Continuation<'_>]) -> Result<Vec<Vec<TokenScore>>, ModelError>;

    /// Calls `visit(i, probabilities)` with the full next-token distribution (it sums to 1) after `contexts[i]`, for
    /// every `i` in order.
    ///
    /// # Errors
    /// Whatever keeps the model from answering.
    fn next_distributions(
        &mut self,
        contexts: &[&[u32]],
        visit: &mut dyn FnMut(usize, &[f32]),
    ) -> Result<(), ModelError>;

    /// Continues every prompt; `seeds[i]` drives sequence `i` alone, so a result does not depend on its batch.
    ///
    /// # Errors
    /// Whatever keeps the model from answering.
    fn generate(
        &mut self,
        prompts: &[&[u32]],
        seeds: &[u64],
        sampling: &Sampling,
    ) -> Result<Vec<Vec<u32>>, ModelError>;
}
