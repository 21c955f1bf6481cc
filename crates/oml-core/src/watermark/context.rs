//! What came before a token of a text: its context, and whether the same context came earlier in the same text.
//!
//! A repeated context would meet the same values again, and what is unbiased for one draw would be biased for the text: the text would
//! repeat itself more often than the model's. So schemes that promise to change nothing leave it unmarked.
//!
//! Source: Dathathri and others, Nature 634 (2024), "repeated context masking" over one response.

use std::collections::BTreeSet;

/// The tokens of one text so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contexts {
    width: usize,
    tokens: Vec<u32>,
    /// Contexts of tokens that are there.
    seen: BTreeSet<Box<[u32]>>,
}

impl Contexts {
    /// For a text that begins, and contexts of `width` tokens.
    #[must_use]
    pub const fn new(width: usize) -> Self {
        Self {
            width,
            tokens: Vec::new(),
            seen: BTreeSet::new(),
        }
    }

    /// The context of the next token; `None` where the text is shorter.
    #[must_use]
    pub fn last(&self) -> Option<&[u32]> {
        let start = self.tokens.len().checked_sub(self.width)?;
        self.tokens.get(start..)
    }

    /// The context of the next token, where it is the first with it.
    #[must_use]
    pub fn fresh(&self) -> Option<&[u32]> {
        self.last().filter(|context| !self.seen.contains(*context))
    }

    /// Takes the next token.
    pub fn push(&mut self, token: u32) {
        if let Some(context) = self.last() {
            let context = context.into();
            self.seen.insert(context);
        }
        // No more than a context is looked at again.
        if self.tokens.len() > self.width {
            self.tokens.remove(0);
        }
        self.tokens.push(token);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_context_is_fresh_once() {
        let mut contexts = Contexts::new(2);
        let mut fresh = Vec::new();
        for token in [1, 2, 3, 1, 2, 4, 1, 2, 3, 1] {
            fresh.push(contexts.fresh().map(<[u32]>::to_vec));
            contexts.push(token);
        }
        let some = |a, b| Some(vec![a, b]);
        assert_eq!(
            fresh,
            [
                None,
                None,
                some(1, 2),
                some(2, 3),
                some(3, 1),
                None,
                some(2, 4),
                some(4, 1),
                None,
                None
            ]
        );
        assert_eq!(contexts.last(), Some(&[3, 1][..]));
    }
}
