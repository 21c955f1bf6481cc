//! The statement of a claim, in words and figures.
//!
//! ```text
//! {"format":"oml-claim","version":1,"statement":text,"tool":text,"time":seconds since 1970,"owner":"0x…","owner_id":hex,"root":hex,
//!  "leaves":number,"strategy":{…as in a fingerprint set…},"candidates":number,"model_digest":hex,"tokenizer_hash":hex,
//!  "suspect":{"url":text,"api":text,"model":text} or {"model":text,"digest":hex},"null":number,"null_basis":text,"alpha":number,
//!  "figures":{"conclusion":text,"queries":number,"hits":number,"decoys":number,"decoy_hits":number,"unanswered":number,"wraps":number,
//!             "log10_e_value":number,"log10_p_value":number,"log10_fisher":number?},
//!  "contents":[{"name":text,"sha256":hex},…]}
//! ```
//!
//! `statement` says the same in words, and is refused where it says anything else. `contents` names every other entry of the bundle except
//! the signature, whose message holds the SHA-256 of this file.

use serde::{Deserialize, Serialize};

use super::bundle_archive::ENTRIES;
use super::field::{Hex, List, Text};
use super::fingerprint_file::StrategyFile;
use super::{FileError, Kind};
use crate::audit::{Conclusion, Suspect};
use crate::bundle::{Figures, Statement};
use crate::check::Null;
use crate::claim::Share;
use crate::fingerprint::MAX_COUNT;

/// Most bytes of a statement.
pub const MAX_BYTES: usize = 1 << 20;
const MAX_NAME: usize = 4096;
const MAX_WORDS: usize = 1 << 16;
const KIND: Kind = Kind {
    format: "oml-claim",
    version: 1,
    max_bytes: MAX_BYTES,
};

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ClaimFile {
    format: Text<64>,
    version: u32,
    statement: Text<MAX_WORDS>,
    tool: Text<MAX_NAME>,
    time: u64,
    owner: Text<64>,
    owner_id: Hex<16>,
    root: Hex<32>,
    leaves: u64,
    strategy: StrategyFile,
    candidates: usize,
    model_digest: Hex<32>,
    tokenizer_hash: Hex<32>,
    suspect: SuspectFile,
    null: f64,
    null_basis: Text<MAX_NAME>,
    alpha: f64,
    figures: FiguresFile,
    contents: List<ContentFile, { ENTRIES.len() }>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SuspectFile {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    url: Option<Text<MAX_NAME>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    api: Option<Text<64>>,
    model: Text<MAX_NAME>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    digest: Option<Hex<32>>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FiguresFile {
    conclusion: Text<64>,
    queries: u64,
    hits: u64,
    decoys: u64,
    decoy_hits: u64,
    unanswered: u64,
    wraps: u64,
    log10_e_value: f64,
    log10_p_value: f64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    log10_fisher: Option<f64>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ContentFile {
    name: Text<64>,
    sha256: Hex<32>,
}

/// The bytes of a statement.
///
/// # Errors
/// [`FileError::Json`], which a correct serialiser never gives.
pub fn render(statement: &Statement) -> Result<Vec<u8>, FileError> {
    let json = |error| FileError::json(KIND.format, &error);
    let mut bytes = serde_json::to_vec(&ClaimFile::from(statement)).map_err(json)?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// Reads a statement.
///
/// # Errors
/// Any fault of the file, words that say something else than its figures among them.
pub fn parse(bytes: &[u8]) -> Result<Statement, FileError> {
    KIND.parse::<ClaimFile>(bytes)?.try_into()
}

impl From<&Statement> for ClaimFile {
    fn from(statement: &Statement) -> Self {
        let content = |&(name, sha256): &(&'static str, _)| ContentFile {
            name: Text(name.into()),
            sha256: Hex(sha256),
        };
        Self {
            format: Text(KIND.format.into()),
            version: KIND.version,
            statement: Text(statement.to_string()),
            tool: Text(statement.tool.clone()),
            time: statement.time,
            owner: Text(statement.owner.to_string()),
            owner_id: Hex(statement.owner_id),
            root: Hex(statement.root),
            leaves: statement.leaves,
            strategy: statement.strategy.into(),
            candidates: statement.strategy.candidates(),
            model_digest: Hex(statement.model_digest),
            tokenizer_hash: Hex(statement.tokenizer_hash),
            suspect: SuspectFile::from(&statement.suspect),
            null: statement.null.rate,
            null_basis: Text(statement.null.basis.clone()),
            alpha: statement.alpha,
            figures: statement.figures.into(),
            contents: List(statement.contents.iter().map(content).collect()),
        }
    }
}

impl TryFrom<ClaimFile> for Statement {
    type Error = FileError;

    fn try_from(file: ClaimFile) -> Result<Self, FileError> {
        let contents = file.contents.0.into_iter().enumerate();
        let contents = contents.map(|(entry, content)| {
            let known = ENTRIES.into_iter().find(|name| *name == content.name.0);
            let name = known.ok_or_else(|| FileError::Entry {
                file: KIND.format,
                entry,
                field: "name",
                expected: "an entry of a bundle".into(),
                got: "another".into(),
            })?;
            Ok((name, content.sha256.0))
        });
        let owner = file.owner.0.parse();
        let statement = Self {
            tool: file.tool.0,
            time: file.time,
            owner: owner.map_err(|_| fault("owner", "an address", "another text"))?,
            owner_id: file.owner_id.0,
            root: file.root.0,
            leaves: file.leaves,
            strategy: file.strategy.try_into()?,
            model_digest: file.model_digest.0,
            tokenizer_hash: file.tokenizer_hash.0,
            suspect: file.suspect.try_into()?,
            null: Null {
                rate: file.null,
                basis: file.null_basis.0,
            },
            alpha: file.alpha,
            figures: file.figures.try_into()?,
            contents: contents.collect::<Result<_, FileError>>()?,
        };
        if !(1..=MAX_COUNT as u64).contains(&statement.leaves) {
            let expected = format!("1 to {MAX_COUNT}");
            return Err(fault("leaves", &expected, &statement.leaves.to_string()));
        }
        statement
            .strategy
            .validate()
            .map_err(|source| FileError::Set {
                file: KIND.format,
                source,
            })?;
        if file.candidates != statement.strategy.candidates() {
            let expected = statement.strategy.candidates().to_string();
            return Err(fault("candidates", &expected, &file.candidates.to_string()));
        }
        if file.statement.0 != statement.to_string() {
            return Err(fault("statement", "the figures in words", "other words"));
        }
        Ok(statement)
    }
}

impl From<&Suspect> for SuspectFile {
    fn from(suspect: &Suspect) -> Self {
        match suspect {
            Suspect::Endpoint { url, api, model } => Self {
                url: Some(Text(url.clone())),
                api: Some(Text(api.clone())),
                model: Text(model.clone()),
                digest: None,
            },
            Suspect::Checkpoint { name, digest } => Self {
                url: None,
                api: None,
                model: Text(name.clone()),
                digest: Some(Hex(*digest)),
            },
        }
    }
}

impl TryFrom<SuspectFile> for Suspect {
    type Error = FileError;

    fn try_from(file: SuspectFile) -> Result<Self, FileError> {
        match (file.url, file.api, file.digest) {
            (Some(url), Some(api), None) => Ok(Self::Endpoint {
                url: url.0,
                api: api.0,
                model: file.model.0,
            }),
            (None, None, Some(digest)) => Ok(Self::Checkpoint {
                name: file.model.0,
                digest: digest.0,
            }),
            _ => Err(fault("suspect", "url and api, or digest", "another")),
        }
    }
}

impl From<Figures> for FiguresFile {
    fn from(figures: Figures) -> Self {
        Self {
            conclusion: Text(figures.conclusion.into()),
            queries: figures.fingerprints.trials,
            hits: figures.fingerprints.hits,
            decoys: figures.decoys.trials,
            decoy_hits: figures.decoys.hits,
            unanswered: figures.unanswered,
            wraps: figures.wraps,
            log10_e_value: figures.log10_e_value,
            log10_p_value: figures.log10_p_value,
            log10_fisher: figures.log10_fisher,
        }
    }
}

impl TryFrom<FiguresFile> for Figures {
    type Error = FileError;

    fn try_from(file: FiguresFile) -> Result<Self, FileError> {
        let conclusions = [Conclusion::Present, Conclusion::Absent, Conclusion::Open];
        let mut names = conclusions.into_iter().map(Conclusion::name);
        let conclusion = names.find(|name| *name == file.conclusion.0);
        Ok(Self {
            conclusion: conclusion
                .ok_or_else(|| fault("figures.conclusion", "a conclusion", "another text"))?,
            fingerprints: Share {
                hits: file.hits,
                trials: file.queries,
            },
            decoys: Share {
                hits: file.decoy_hits,
                trials: file.decoys,
            },
            unanswered: file.unanswered,
            wraps: file.wraps,
            log10_e_value: file.log10_e_value,
            log10_p_value: file.log10_p_value,
            log10_fisher: file.log10_fisher,
        })
    }
}

fn fault(field: &'static str, expected: &str, got: &str) -> FileError {
    FileError::Field {
        file: KIND.format,
        field,
        expected: expected.into(),
        got: got.into(),
    }
}
