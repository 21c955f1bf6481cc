//! The bundle of a claim, `*.omlclaim`: an archive ([`super::bundle_archive`]) of these files.
//!
//! | entry | what |
//! |---|---|
//! | `claim.json` | the statement, and the SHA-256 of every other entry except the signature ([`super::claim_file`]) |
//! | `openings.jsonl` | the opened fingerprints with their proofs ([`super::openings_file`]) |
//! | `transcript.jsonl` | the audit ([`super::transcript_file`]) |
//! | `controls.json` | what controls answered, where there are any ([`super::controls_file`]) |
//! | `time/rfc3161.tsr`, `time/git.objects` | time proofs, where there are any ([`crate::time_proof`]) |
//! | `signature.json` | the owner's signature ([`super::signature_file`]) |
//!
//! Every byte is bound: the archive has one spelling, the statement's digest is signed, the statement names the digests of the others, and
//! the signature's file has one spelling too. A file that is read here is well formed; whether it holds, [`crate::bundle::Judge`] says.

use sha2::{Digest, Sha256};

use super::bundle_archive::{
    self, ArchiveError, CONTROLS, ENTRIES, GIT, LEDGER, OPENINGS, RFC3161, SIGNATURE, STATEMENT,
    TRANSCRIPT,
};
use super::{FileError, claim_file, controls_file, openings_file, signature_file, transcript_file};
use crate::bundle::{Bundle, ClaimMessage, Statement};
use crate::eip712::Domain;
use crate::merkle::Hash;
use crate::signing::SigningKey;

/// The parts of a bundle beside statement and signature: each entry's bytes, in order.
pub type Parts<'a> = Vec<bundle_archive::Entry<'a>>;

/// A bundle that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// The archive is wrong.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// One entry is wrong.
    #[error("bundle entry {name}: {source}")]
    Entry {
        /// Its name.
        name: &'static str,
        /// The fault.
        source: FileError,
    },
}

/// SHA-256 of each part, as the statement names them.
#[must_use]
pub fn digests(parts: &[bundle_archive::Entry<'_>]) -> Vec<(&'static str, Hash)> {
    let digest = |&(name, bytes): &(&'static str, &[u8])| (name, Sha256::digest(bytes).into());
    parts.iter().map(digest).collect()
}

/// Signs `statement`, whose contents are the [`digests`] of `parts`, and gives the bytes of the bundle.
///
/// # Errors
/// A bundle that no reader would accept.
pub fn render(
    statement: &Statement,
    parts: &[bundle_archive::Entry<'_>],
    key: &SigningKey,
) -> Result<Vec<u8>, BundleError> {
    let at = |name| move |source| BundleError::Entry { name, source };
    let claim = claim_file::render(statement).map_err(at(STATEMENT))?;
    let message = ClaimMessage {
        root: statement.root,
        statement: Sha256::digest(&claim).into(),
        leaves: statement.leaves,
        time: statement.time,
    };
    let signature = key.sign(&Domain::OFF_CHAIN.digest(&message));
    let signature = signature_file::render(&key.address(), &signature).map_err(at(SIGNATURE))?;
    let mut entries = vec![(STATEMENT, claim.as_slice())];
    entries.extend_from_slice(parts);
    entries.push((SIGNATURE, &signature));
    let bytes = bundle_archive::render(&entries)?;
    parse(&bytes)?;
    Ok(bytes)
}

/// Reads a bundle.
///
/// # Errors
/// Any fault of the archive or of an entry.
pub fn parse(bytes: &[u8]) -> Result<Bundle<'_>, BundleError> {
    let entries = bundle_archive::parse(bytes)?;
    let optional = |name: &'static str| {
        let mut found = entries.iter().filter(|(other, _)| *other == name);
        found.next().map(|(_, bytes)| *bytes)
    };
    let required = |name| optional(name).ok_or(ArchiveError::Missing { name });
    let at = |name| move |source| BundleError::Entry { name, source };
    let claim = required(STATEMENT)?;
    let statement = claim_file::parse(claim).map_err(at(STATEMENT))?;
    let opened = openings_file::parse(required(OPENINGS)?).map_err(at(OPENINGS))?;
    let transcript = transcript_file::parse(required(TRANSCRIPT)?).map_err(at(TRANSCRIPT))?;
    let controls = optional(CONTROLS).map(controls_file::parse).transpose();
    let (signer, signature) = signature_file::parse(required(SIGNATURE)?).map_err(at(SIGNATURE))?;
    let others = &ENTRIES[1..ENTRIES.len() - 1];
    let parts: Parts<'_> = entries
        .iter()
        .copied()
        .filter(|(name, _)| others.contains(name))
        .collect();
    Ok(Bundle {
        statement,
        digest: Sha256::digest(claim).into(),
        opened,
        transcript,
        controls: controls.map_err(at(CONTROLS))?.unwrap_or_default(),
        rfc3161: optional(RFC3161),
        git: optional(GIT),
        ledger: optional(LEDGER),
        signer,
        signature,
        contents: digests(&parts),
    })
}
