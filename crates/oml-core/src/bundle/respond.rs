//! The answer to a judge's challenge: how the owner signs it, and what the judge checks of it.

use super::challenge::Challenge;
use super::check::{Check, Outcome};
use super::openings::{Opened, check_openings};
use super::{Bundle, ResponseMessage};
use crate::eip712::Domain;
use crate::manifest::FileError;
use crate::manifest::response_file::{self, Response};
use crate::merkle::Hash;
use crate::signing::SigningKey;

/// The bytes of the owner's answer: `opened` are the challenged fingerprints, by rising numbers.
///
/// # Errors
/// [`FileError::Json`], which a correct serialiser never gives.
pub fn respond(
    challenge: &Challenge,
    digest: &Hash,
    opened: &[Opened],
    time: u64,
    key: &SigningKey,
) -> Result<Vec<u8>, FileError> {
    let (lines, openings) = response_file::render_openings(opened)?;
    let message = ResponseMessage {
        root: challenge.root,
        challenge: *digest,
        openings,
        time,
    };
    let signature = key.sign(&Domain::OFF_CHAIN.digest(&message));
    response_file::render(digest, time, &signature, &lines)
}

/// Checks an answer to the judge's own challenge, whose file has the SHA-256 `digest`.
#[must_use]
pub fn check_response(
    bundle: &Bundle<'_>,
    challenge: &Challenge,
    digest: &Hash,
    response: &Response,
) -> Vec<Check> {
    vec![
        Check::new(
            "challenge",
            "the challenge is one to this claim and its set, and the response is one to this challenge",
            belongs(bundle, challenge, digest, response),
        ),
        Check::new(
            "response signature",
            "the response is signed by the key behind the claim's owner",
            signature(bundle, digest, response),
        ),
        Check::new(
            "response",
            "the owner opened exactly the fingerprints that the judge drew among all, so the owner holds the set",
            opened(bundle, challenge, response),
        ),
    ]
}

fn belongs(
    bundle: &Bundle<'_>,
    challenge: &Challenge,
    digest: &Hash,
    response: &Response,
) -> Outcome {
    let statement = &bundle.statement;
    let table = [
        (
            "a challenge to this claim",
            challenge.claim == bundle.digest,
        ),
        ("a challenge to this root", challenge.root == statement.root),
        (
            "a challenge to all leaves",
            challenge.leaves == statement.leaves,
        ),
        (
            "a response to this challenge",
            response.challenge == *digest,
        ),
    ];
    match table.into_iter().find(|(_, same)| !same) {
        Some((expected, _)) => Outcome::Fails(format!("expected {expected}, got another")),
        None => Outcome::Holds(format!(
            "{} of {} fingerprints",
            challenge.count, challenge.leaves
        )),
    }
}

fn signature(bundle: &Bundle<'_>, digest: &Hash, response: &Response) -> Outcome {
    let message = ResponseMessage {
        root: bundle.statement.root,
        challenge: *digest,
        openings: response.openings,
        time: response.time,
    };
    let owner = bundle.statement.owner;
    match response
        .signature
        .recover(&Domain::OFF_CHAIN.digest(&message))
    {
        Ok(signer) if signer == owner => Outcome::Holds(format!("by {signer}")),
        Ok(signer) => Outcome::Fails(format!("expected {owner}, got {signer}")),
        Err(fault) => Outcome::Fails(fault.to_string()),
    }
}

fn opened(bundle: &Bundle<'_>, challenge: &Challenge, response: &Response) -> Outcome {
    let number = |opened: &Opened| opened.opening.index;
    let got: Vec<u64> = response.opened.iter().map(number).collect();
    if challenge.leaves != bundle.statement.leaves || got != challenge.indices() {
        return Outcome::Fails("expected the fingerprints that were drawn, got others".into());
    }
    let statement = &bundle.statement;
    let checked = check_openings(&statement.root, statement.leaves, &response.opened);
    Outcome::of(checked.map(|()| format!("{} opened", got.len())))
}
