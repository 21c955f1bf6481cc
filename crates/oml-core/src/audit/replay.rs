//! A transcript read again: whether it follows its terms and the opened fingerprints, and how far it came.

use super::matching::Matcher;
use super::plan::Subject;
use super::progress::{Due, Progress, ProgressError};
use super::terms::Terms;
use super::transcript::{Entry, Event, Put};
use crate::model::ModelError;

/// Texts of a fingerprint, as its owner has them or as they were opened.
#[derive(Clone)]
pub struct Known<'a> {
    /// The query.
    pub query: &'a str,
    /// The valid responses.
    pub responses: Vec<&'a str>,
}

/// What is wrong with a transcript.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// It does not follow its plan.
    #[error("transcript: {0}")]
    Plan(#[from] ProgressError),
    /// A fingerprint was asked whose texts are not known.
    #[error(
        "transcript: request {number}: expected an opened fingerprint, got {index}, which is not"
    )]
    Unknown {
        /// Number of the request.
        number: u64,
        /// Number of the fingerprint.
        index: u64,
    },
    /// What was put is not the query of the fingerprint inside the wrap.
    #[error(
        "transcript: request {number}: expected the query of fingerprint {index} inside wrap {wrap}, got another text"
    )]
    Put {
        /// Number of the request.
        number: u64,
        /// Number of the fingerprint.
        index: u64,
        /// Number of the wrap.
        wrap: usize,
    },
    /// The tokenizer fails.
    #[error(transparent)]
    Model(#[from] ModelError),
}

/// Follows `entries` under `terms`; `known` gives the texts of a fingerprint by its number in the whole set.
///
/// # Errors
/// The first entry that does not follow.
pub fn replay<'a>(
    terms: &Terms,
    entries: &[Entry],
    known: impl Fn(u64) -> Option<Known<'a>>,
    matcher: &Matcher<'_>,
) -> Result<Progress, ReplayError> {
    let mut progress = Progress::new(terms);
    // What each request put, and what would be a hit.
    let mut puts: Vec<(&str, Vec<&str>)> = Vec::new();
    for entry in entries {
        match &entry.event {
            Event::Ask(ask) => {
                let due = Due {
                    subject: ask.subject,
                    wrap: ask.wrap,
                };
                progress.ask(ask.number, due)?;
                puts.push(match ask.subject {
                    Subject::Decoy(_) => {
                        let responses = ask.responses.iter().map(String::as_str);
                        (&ask.put.text, responses.collect())
                    }
                    Subject::Fingerprint(index) => {
                        let number = ask.number;
                        let known = known(index).ok_or(ReplayError::Unknown { number, index })?;
                        let wrap = ask.wrap;
                        // The plan has just accepted the wrap.
                        let put = terms
                            .wraps
                            .get(wrap)
                            .map(|wrap| Put::new(wrap, known.query));
                        if put.as_ref() != Some(&ask.put) {
                            return Err(ReplayError::Put {
                                number,
                                index,
                                wrap,
                            });
                        }
                        (&ask.put.text, known.responses)
                    }
                });
            }
            Event::Answer(answer) => {
                let number = answer.number;
                let place = usize::try_from(number).ok();
                let Some((prompt, responses)) = place.and_then(|place| puts.get(place)) else {
                    let expected = "an answer to a request that left";
                    return Err(ProgressError { number, expected }.into());
                };
                if let Some(text) = &answer.text {
                    progress.answer(number, matcher.is_hit(prompt, responses, text)?)?;
                }
            }
        }
    }
    Ok(progress)
}
