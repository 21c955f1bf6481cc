//! The log probabilities in a transcript, read from the answers as they came.

use std::collections::HashMap;

use oml_core::audit::{
    Ask, Confidence, Event, Mode, Progress, ScoredToken, Subject, Suspect, ln_beginning,
    ln_response,
};
use oml_core::manifest::transcript_file::Transcript;
use oml_server::endpoint::{Api, read_reply};

use super::desk::Pairs;

/// How sure the suspect was of its hits; `length` is the number of a response's tokens. None where the rule says nothing of where a
/// response stands, or nothing was scored.
pub(super) fn measure(
    transcript: &Transcript,
    progress: &Progress,
    pairs: &Pairs<'_>,
    length: usize,
) -> Option<Confidence> {
    let Suspect::Endpoint { api, .. } = &transcript.terms.suspect else {
        return None;
    };
    if !matches!(transcript.terms.rule.mode, Mode::Exact | Mode::Prefix) {
        return None;
    }
    let api: Api = api.parse().ok()?;
    let mut asks: HashMap<u64, &Ask> = HashMap::new();
    let (mut hits, mut decoys) = (Vec::new(), Vec::new());
    for entry in &transcript.entries {
        match &entry.event {
            Event::Ask(ask) => {
                asks.insert(ask.number, ask);
            }
            Event::Answer(answer) if answer.text.is_some() => {
                let place = usize::try_from(answer.number).ok();
                let request = place.and_then(|place| progress.requests().get(place));
                let (Some(request), Some(ask)) = (request, asks.get(&answer.number)) else {
                    continue;
                };
                let Some(tokens) = tokens(api, &answer.body) else {
                    continue;
                };
                match ask.subject {
                    Subject::Decoy(_) => decoys.extend(ln_beginning(length, &tokens)),
                    Subject::Fingerprint(index) if request.hit == Some(true) => {
                        let known = pairs.known(index);
                        let mut responses = known.iter().flat_map(|known| &known.responses);
                        hits.extend(responses.find_map(|text| ln_response(text, &tokens)));
                    }
                    Subject::Fingerprint(_) => (),
                }
            }
            Event::Answer(_) => (),
        }
    }
    Confidence::of(&hits, &decoys)
}

fn tokens(api: Api, body: &[u8]) -> Option<Vec<ScoredToken>> {
    let tokens = read_reply(api, body).ok()?.tokens?;
    let scored = tokens.into_iter().map(|token| ScoredToken {
        text: token.text,
        ln_probability: token.log_probability,
    });
    Some(scored.collect())
}
