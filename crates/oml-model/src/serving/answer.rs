//! The text of an answer as its tokens come: whole characters only, and nothing that may be the beginning of a stop text.
//!
//! A token's text depends on the tokens before it (spaces, characters in several tokens). So a window of tokens is decoded with and
//! without the new ones, and what the new ones add is the text; the window moves on where that text ends in a whole character.

use std::sync::Arc;

use oml_core::model::ModelError;
use oml_core::serving::{Ending, Event, Listener};

use crate::tokenizer::TextTokenizer;

/// One answer on its way to its listener.
pub(super) struct Answer {
    tokenizer: Arc<TextTokenizer>,
    stop: Vec<String>,
    listener: Listener,
    tokens: Vec<u32>,
    /// Where the window begins, and where its tokens begin that no text has come of.
    window: usize,
    unread: usize,
    /// Text that may be the beginning of a stop text.
    held: String,
}

impl Answer {
    pub(super) fn new(
        tokenizer: Arc<TextTokenizer>,
        stop: Vec<String>,
        listener: Listener,
    ) -> Self {
        Self {
            tokenizer,
            stop: stop.into_iter().filter(|text| !text.is_empty()).collect(),
            listener,
            tokens: Vec::new(),
            window: 0,
            unread: 0,
            held: String::new(),
        }
    }

    /// Tells the listener.
    pub(super) fn hear(&mut self, event: Event) -> bool {
        (self.listener)(event)
    }

    /// Takes the next token; `false` where the answer is at its end or nobody listens.
    pub(super) fn push(&mut self, token: u32) -> bool {
        self.tokens.push(token);
        match self.new_text(false) {
            Ok(text) => self.tell(&text),
            Err(error) => self.fail(error),
        }
    }

    /// The answer is complete; `false`, always, since nothing follows.
    pub(super) fn end(&mut self, ending: Ending) -> bool {
        match self.new_text(true) {
            Err(error) => return self.fail(error),
            Ok(text) => {
                if !self.tell(&text) {
                    return false;
                }
            }
        }
        let held = std::mem::take(&mut self.held);
        if held.is_empty() || self.hear(Event::Text(held)) {
            self.finish(ending);
        }
        false
    }

    /// What the tokens add that no text has come of; with `all`, the parts of a character too.
    fn new_text(&mut self, all: bool) -> Result<String, ModelError> {
        let decode = |ids: &[u32]| {
            let text = self.tokenizer.decode(ids);
            text.map_err(|error| ModelError(Box::new(error)))
        };
        let before = decode(&self.tokens[self.window..self.unread])?;
        let after = decode(&self.tokens[self.window..])?;
        let part = after.ends_with('\u{fffd}') && !all;
        let Some(new) = after.strip_prefix(&before).filter(|_| !part) else {
            // A window whose beginning reads otherwise with the new tokens waits, as a part of a character does.
            return Ok(match all {
                true => after.chars().skip(before.chars().count()).collect(),
                false => String::new(),
            });
        };
        let new = new.to_owned();
        if !new.is_empty() {
            self.window = self.unread;
            self.unread = self.tokens.len();
        }
        Ok(new)
    }

    /// Passes on what cannot be part of a stop text.
    fn tell(&mut self, text: &str) -> bool {
        self.held.push_str(text);
        let stopped = self
            .stop
            .iter()
            .filter_map(|stop| self.held.find(stop))
            .min();
        if let Some(at) = stopped {
            self.held.truncate(at);
            let told = std::mem::take(&mut self.held);
            if told.is_empty() || self.hear(Event::Text(told)) {
                self.finish(Ending::Stop);
            }
            return false;
        }
        let kept = self.stop.iter().map(|stop| overlap(&self.held, stop)).max();
        let told = self.held.len() - kept.unwrap_or(0);
        if told == 0 {
            return true;
        }
        let rest = self.held.split_off(told);
        let told = std::mem::replace(&mut self.held, rest);
        self.hear(Event::Text(told))
    }

    fn finish(&mut self, ending: Ending) {
        let tokens = self.tokens.len();
        self.hear(Event::Ended { ending, tokens });
    }

    fn fail(&mut self, error: ModelError) -> bool {
        self.hear(Event::Failed(error));
        false
    }
}

/// Bytes at the end of `text` that begin `stop`.
fn overlap(text: &str, stop: &str) -> usize {
    let ends = stop.char_indices().map(|(at, _)| at).skip(1);
    ends.filter(|at| text.ends_with(&stop[..*at]))
        .max()
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::overlap;

    #[test]
    fn the_longest_beginning_counts() {
        assert_eq!(overlap("one two", "two three"), 3);
        assert_eq!(overlap("aaa", "aab"), 2);
        assert_eq!(overlap("é", "éa"), 2);
        assert_eq!(overlap("one", "two"), 0);
        assert_eq!(overlap("two", "two"), 0);
    }
}
