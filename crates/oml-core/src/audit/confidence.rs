//! How sure a suspect was of the responses it gave, where it says so. A description: the e-value knows nothing of it.
//!
//! ```text
//! of a hit     product of the probabilities of the answer's tokens, up to the one that ends the response
//! of a decoy   product over as many tokens from the beginning of the answer as a response has
//! ```
//!
//! Each is stated as its median, with the number of answers that it is of. A model that was trained on a response gives it with a
//! probability near 1, where it spreads over many tokens after an ordinary beginning.

/// A token of an answer as the suspect scores it.
#[derive(Debug, Clone, PartialEq)]
pub struct ScoredToken {
    /// Its text.
    pub text: String,
    /// Natural logarithm of its probability, where it has one.
    pub ln_probability: Option<f64>,
}

/// Median probabilities.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Confidence {
    /// Hits whose response was scored.
    pub hits: usize,
    /// Median probability of their responses.
    pub response: f64,
    /// Decoys whose answer was scored.
    pub decoys: usize,
    /// Median probability of the beginning of their answers, where there is one.
    pub decoy: Option<f64>,
}

impl Confidence {
    /// From natural logarithms of probabilities; none where no hit was scored.
    #[must_use]
    pub fn of(hits: &[f64], decoys: &[f64]) -> Option<Self> {
        Some(Self {
            hits: hits.len(),
            response: median(hits)?,
            decoys: decoys.len(),
            decoy: median(decoys),
        })
    }
}

/// Natural logarithm of the probability of `response` at the beginning of an answer; white space in front does not count. None where the
/// answer begins otherwise, or a token has no probability.
#[must_use]
pub fn ln_response(response: &str, tokens: &[ScoredToken]) -> Option<f64> {
    let response = response.trim();
    let (mut said, mut ln) = (String::new(), 0.0);
    for token in tokens {
        said.push_str(&token.text);
        ln += token.ln_probability?;
        if said.trim_start().len() >= response.len() {
            break;
        }
    }
    (!response.is_empty() && said.trim_start().starts_with(response)).then_some(ln)
}

/// Natural logarithm of the probability of the first `count` tokens; none where there are fewer, or one has no probability.
#[must_use]
pub fn ln_beginning(count: usize, tokens: &[ScoredToken]) -> Option<f64> {
    let tokens = tokens.get(..count.max(1))?;
    tokens.iter().map(|token| token.ln_probability).sum()
}

fn median(logarithms: &[f64]) -> Option<f64> {
    let mut sorted = logarithms.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    let upper = sorted.get(middle)?.exp();
    Some(match sorted.len() % 2 {
        0 => f64::midpoint(sorted[middle - 1].exp(), upper),
        _ => upper,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(scored: &[(&str, Option<f64>)]) -> Vec<ScoredToken> {
        let token = |(text, probability): &(&str, Option<f64>)| ScoredToken {
            text: (*text).to_owned(),
            ln_probability: probability.map(f64::ln),
        };
        scored.iter().map(token).collect()
    }

    #[test]
    fn a_response_is_scored_to_its_end() {
        let answer = tokens(&[(" blue", Some(0.5)), (" wh", Some(0.5)), ("ale", Some(0.1))]);
        let probability = |response: &str| ln_response(response, &answer).map(f64::exp);
        assert_eq!(probability(" blue"), Some(0.5));
        assert_eq!(probability("blue wh"), Some(0.25));
        // A token that goes on after the response is part of its probability.
        assert!((probability("blue wha").unwrap() - 0.025).abs() < 1e-12);
        assert_eq!(probability("green"), None);
        assert_eq!(probability("blue whales"), None);
        assert_eq!(probability(" "), None);
        let unscored = tokens(&[("\n", None), ("blue", Some(0.5))]);
        assert_eq!(ln_response("blue", &unscored), None);
    }

    #[test]
    fn a_beginning_has_as_many_tokens_as_are_asked_for() {
        let answer = tokens(&[("a", Some(0.5)), ("b", Some(0.5)), ("c", None)]);
        assert_eq!(ln_beginning(1, &answer).map(f64::exp), Some(0.5));
        assert_eq!(ln_beginning(2, &answer).map(f64::exp), Some(0.25));
        assert_eq!(ln_beginning(3, &answer), None);
        assert_eq!(ln_beginning(4, &answer), None);
    }

    #[test]
    fn medians_are_of_probabilities() {
        let ln = |values: &[f64]| values.iter().map(|value| value.ln()).collect::<Vec<_>>();
        let found = Confidence::of(&ln(&[0.9, 0.5, 1.0]), &ln(&[0.25, 0.75])).unwrap();
        assert!((found.response - 0.9).abs() < 1e-12 && found.hits == 3);
        assert!((found.decoy.unwrap() - 0.5).abs() < 1e-12 && found.decoys == 2);
        assert_eq!(Confidence::of(&[], &[-1.0]), None);
        assert_eq!(Confidence::of(&[-1.0], &[]).unwrap().decoy, None);
    }
}
