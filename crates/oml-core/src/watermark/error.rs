//! Parameters that make no watermark, and texts that are too long to test.

/// Why there is no watermark with these parameters, or no test of this text.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
pub enum WatermarkError {
    /// No context, or one that no edited text keeps.
    #[error("context: expected 1 to {limit} tokens, got {got}")]
    Context {
        /// Tokens.
        got: usize,
        /// [`MAX_CONTEXT`](super::MAX_CONTEXT).
        limit: usize,
    },
    /// More layers than a value has bits, or none.
    #[error("layers: expected 1 to 64, got {got}")]
    Layers {
        /// Layers.
        got: u32,
    },
    /// A share of green tokens that is none.
    #[error("gamma: expected a number above 0 and below 1, got {got}")]
    Gamma {
        /// Share.
        got: f64,
    },
    /// A bonus that does nothing or is infinite.
    #[error("delta: expected a number above 0 and at most 20, got {got}")]
    Delta {
        /// Bonus in logits.
        got: f32,
    },
    /// A text longer than the test is made for.
    #[error("text: expected at most {limit} tokens, got {got}")]
    TooLong {
        /// Tokens.
        got: usize,
        /// [`MAX_TOKENS`](super::MAX_TOKENS).
        limit: usize,
    },
}
