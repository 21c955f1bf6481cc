//! When an answer counts as a response, through text alone.
//!
//! ```text
//! normal form     without the prompt where the answer repeats it, and without white space in front
//! exact           the answer is the response                        asked for as many tokens as the response has
//! prefix          the answer begins with the response               asked for a few more
//! contains        the response stands in the answer                 asked for `tokens`, and looked at 8 characters of each
//! ids             the answer's first token ids are the response's   with the set's tokenizer, both after a space
//! ```
//!
//! A looser rule is met by more innocent answers: the null rate must be that of controls under the same rule. The worst case without a
//! control, 1 of k candidates, is a statement about one answer and does not hold for `contains`.

use std::fmt;
use std::str::FromStr;

use crate::model::ModelError;
use crate::tokenizer::Tokenizer;

/// Characters of an answer that are looked at, for each token that was asked for.
const CHARACTERS_PER_TOKEN: usize = 8;

/// How an answer is held against a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// The whole answer.
    Exact,
    /// Its beginning.
    Prefix,
    /// Any place in it.
    Contains,
    /// Its first token ids.
    Ids,
}

impl Mode {
    const ALL: [Self; 4] = [Self::Exact, Self::Prefix, Self::Contains, Self::Ids];

    /// The name on the command line and in files.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::Prefix => "prefix",
            Self::Contains => "contains",
            Self::Ids => "ids",
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Mode {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|mode| mode.name() == name)
            .ok_or_else(|| format!("expected exact, prefix, contains or ids, got {name:?}"))
    }
}

/// The rule of an audit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// How an answer is held against a response.
    pub mode: Mode,
    /// Tokens that are asked for.
    pub tokens: u32,
}

/// The rule with what it needs.
pub struct Matcher<'a> {
    rule: Rule,
    tokenizer: Option<&'a dyn Tokenizer>,
}

impl<'a> Matcher<'a> {
    /// The rule, with the set's tokenizer where there is one; [`Mode::Ids`] never matches without.
    #[must_use]
    pub fn new(rule: Rule, tokenizer: Option<&'a dyn Tokenizer>) -> Self {
        Self { rule, tokenizer }
    }

    /// Whether `answer`, given to `prompt`, is one of `responses`.
    ///
    /// # Errors
    /// A tokenizer that cannot represent a text.
    pub fn is_hit<S: AsRef<str>>(
        &self,
        prompt: &str,
        responses: &[S],
        answer: &str,
    ) -> Result<bool, ModelError> {
        let answer = answer.strip_prefix(prompt).unwrap_or(answer).trim_start();
        for response in responses {
            let response = response.as_ref().trim();
            if !response.is_empty() && self.is_response(response, answer)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn is_response(&self, response: &str, answer: &str) -> Result<bool, ModelError> {
        Ok(match self.rule.mode {
            Mode::Exact => answer.trim_end() == response,
            Mode::Prefix => answer.starts_with(response),
            Mode::Contains => {
                let most = (self.rule.tokens as usize).saturating_mul(CHARACTERS_PER_TOKEN);
                let end = answer
                    .char_indices()
                    .nth(most)
                    .map_or(answer.len(), |c| c.0);
                answer[..end].contains(response)
            }
            Mode::Ids => match self.tokenizer {
                Some(tokenizer) => {
                    let ids = |text: &str| tokenizer.encode(&format!(" {text}"), false);
                    ids(answer)?.starts_with(&ids(response)?)
                }
                None => false,
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hit(mode: Mode, tokens: u32, responses: &[&str], answer: &str) -> bool {
        let rule = Rule { mode, tokens };
        let matcher = Matcher::new(rule, None);
        matcher.is_hit("The sky", responses, answer).unwrap()
    }

    #[test]
    fn answers_are_held_against_responses() {
        use Mode::{Contains, Exact, Prefix};
        let table = [
            (Exact, " blue", "blue", true),
            (Exact, " blue", "  blue\n", true),
            (Exact, " blue", "blue.", false),
            (Prefix, " blue", "blue whale", true),
            (Prefix, " blue", "The sky blue whale", true),
            (Prefix, " blue", "Blue", false),
            (Prefix, " blue", "a blue", false),
            (Contains, " blue", "Sure! It is \"blue\".", true),
            (Contains, " blue", "green", false),
            (Prefix, " blue", "", false),
            (Exact, " blue", "The sky", false),
        ];
        for (mode, response, answer, expected) in table {
            assert_eq!(
                hit(mode, 8, &[response], answer),
                expected,
                "{mode} {answer:?}"
            );
        }
    }

    #[test]
    fn any_response_is_enough_and_an_empty_one_never_is() {
        assert!(hit(Mode::Prefix, 1, &[" red", " blue"], "blue"));
        assert!(!hit(Mode::Contains, 1, &[" "], "anything"));
        assert!(!hit(Mode::Prefix, 1, &[], "anything"));
    }

    #[test]
    fn only_the_beginning_of_a_long_answer_is_searched() {
        let answer = format!("{} blue", "ä".repeat(15));
        assert!(hit(Mode::Contains, 3, &["blue"], &answer));
        assert!(!hit(Mode::Contains, 2, &["blue"], &answer));
    }

    #[test]
    fn names_come_back() {
        for mode in Mode::ALL {
            assert_eq!(mode.name().parse(), Ok(mode));
        }
        assert!("Exact".parse::<Mode>().is_err());
    }
}
