//! The fingerprint file: a set, encrypted for its owner, with the same bytes for the same seed and set.
//!
//! The plaintext is the JSON of the set, with `format` `oml-fingerprint-set`; binary values are hexadecimal; it is encrypted as
//! `manifest::envelope` says, with `format` `oml-fingerprints`.

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::field::{Hex, List, Text};
use super::{FileError, Kind, envelope};
use crate::copies::{Bias, Copies};
use crate::fingerprint::{
    Fingerprint, FingerprintSet, MAX_COPY_ID_BYTES, MAX_COUNT, MAX_RESPONSES, MAX_TEXT_BYTES,
    MAX_TOKENS, Response, SetHeader,
};
use crate::secret::{OwnerSeed, Salt};
use crate::strategy::{FirstToken, Strategy, Style, Writing, perinucleus::Rule, perplexity::Band};

/// Most bytes of a fingerprint file.
pub const MAX_BYTES: usize = 256 << 20;
const ENVELOPE: Kind = Kind {
    format: "oml-fingerprints",
    version: 1,
    max_bytes: MAX_BYTES,
};
/// Base64 of the largest body and the header stay within the envelope's limit.
const SET: Kind = Kind {
    format: "oml-fingerprint-set",
    version: 1,
    max_bytes: MAX_BYTES / 4 * 3 - 4096,
};

/// A set in the clear, as it is encrypted here and in slices.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SetFile {
    format: Text<64>,
    version: u32,
    strategy: StrategyFile,
    model_digest: Hex<32>,
    tokenizer_hash: Hex<32>,
    vocabulary_size: usize,
    copy_id: Text<MAX_COPY_ID_BYTES>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    copies: Option<CopiesFile>,
    query_length: usize,
    response_length: usize,
    fingerprints: List<FingerprintFile, MAX_COUNT>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct CopiesFile {
    count: u32,
    bias: Text<64>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct StrategyFile {
    name: Text<64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f32>,
    /// What natural queries are; sentences where it is missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    style: Option<Text<64>>,
    /// How they begin; with a word where it is missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    first_token: Option<Text<64>>,
    /// Percentiles of benign text that their perplexity lies between; anywhere where it is missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    band: Option<[f64; 2]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    threshold: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    candidates: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    responses: Option<usize>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FingerprintFile {
    index: usize,
    query: Text<MAX_TEXT_BYTES>,
    query_ids: List<u32, MAX_TOKENS>,
    responses: List<ResponseFile, MAX_RESPONSES>,
    salt: Hex<32>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ResponseFile {
    text: Text<MAX_TEXT_BYTES>,
    ids: List<u32, MAX_TOKENS>,
    probabilities: List<f32, MAX_TOKENS>,
}

/// Encrypts `set` for `owner`: the bytes of the fingerprint file.
///
/// # Errors
/// [`FileError::TooLarge`] for a set that no reader would accept.
pub fn seal(set: &FingerprintSet, owner: &OwnerSeed) -> Result<Vec<u8>, FileError> {
    let json = |error: serde_json::Error| FileError::json(SET.format, &error);
    let plaintext = Zeroizing::new(serde_json::to_vec(&SetFile::from(set)).map_err(json)?);
    SET.judge_size(plaintext.len())?;
    envelope::seal(ENVELOPE, &plaintext, owner)
}

/// Decrypts and validates a fingerprint file.
///
/// # Errors
/// Any fault of the file: too large, not this format or version, another owner's, altered, or no usable set.
pub fn open(bytes: &[u8], owner: &OwnerSeed) -> Result<FingerprintSet, FileError> {
    parse_set(&envelope::open(ENVELOPE, bytes, owner)?)
}

/// Reads the decrypted contents of a fingerprint file.
///
/// # Errors
/// As [`open`], without the owner's.
pub fn parse_set(plaintext: &[u8]) -> Result<FingerprintSet, FileError> {
    let file: SetFile = SET.parse(plaintext)?;
    file.try_into()
}

impl TryFrom<SetFile> for FingerprintSet {
    type Error = FileError;

    fn try_from(file: SetFile) -> Result<Self, FileError> {
        SET.judge(&file.format.0, file.version)?;
        let header = SetHeader {
            strategy: file.strategy.try_into()?,
            model_digest: file.model_digest.0,
            tokenizer_hash: file.tokenizer_hash.0,
            vocabulary_size: file.vocabulary_size,
            copy_id: file.copy_id.0,
            copies: file.copies.map(Copies::try_from).transpose()?,
            query_length: file.query_length,
            response_length: file.response_length,
        };
        let fingerprints = file.fingerprints.0.into_iter().map(Fingerprint::from);
        Self::new(header, fingerprints.collect()).map_err(|source| FileError::Set {
            file: SET.format,
            source,
        })
    }
}

impl From<&FingerprintSet> for SetFile {
    fn from(set: &FingerprintSet) -> Self {
        let header = set.header();
        Self {
            format: Text(SET.format.into()),
            version: SET.version,
            strategy: header.strategy.into(),
            model_digest: Hex(header.model_digest),
            tokenizer_hash: Hex(header.tokenizer_hash),
            vocabulary_size: header.vocabulary_size,
            copy_id: Text(header.copy_id.clone()),
            copies: header.copies.map(CopiesFile::from),
            query_length: header.query_length,
            response_length: header.response_length,
            fingerprints: List(
                set.fingerprints()
                    .iter()
                    .map(FingerprintFile::from)
                    .collect(),
            ),
        }
    }
}

impl From<&Fingerprint> for FingerprintFile {
    fn from(fingerprint: &Fingerprint) -> Self {
        Self {
            index: fingerprint.index,
            query: Text(fingerprint.query.clone()),
            query_ids: List(fingerprint.query_ids.clone()),
            responses: List(
                fingerprint
                    .responses
                    .iter()
                    .map(ResponseFile::from)
                    .collect(),
            ),
            salt: Hex(*fingerprint.salt.expose()),
        }
    }
}

impl From<FingerprintFile> for Fingerprint {
    fn from(file: FingerprintFile) -> Self {
        Self {
            index: file.index,
            query: file.query.0,
            query_ids: file.query_ids.0,
            responses: file.responses.0.into_iter().map(Response::from).collect(),
            salt: Salt::new(file.salt.0),
        }
    }
}

impl From<&Response> for ResponseFile {
    fn from(response: &Response) -> Self {
        Self {
            text: Text(response.text.clone()),
            ids: List(response.ids.clone()),
            probabilities: List(response.probabilities.clone()),
        }
    }
}

impl From<ResponseFile> for Response {
    fn from(file: ResponseFile) -> Self {
        Self {
            text: file.text.0,
            ids: file.ids.0,
            probabilities: file.probabilities.0,
        }
    }
}

impl From<Copies> for CopiesFile {
    fn from(copies: Copies) -> Self {
        Self {
            count: copies.count,
            bias: Text(copies.bias.name().into()),
        }
    }
}

impl TryFrom<CopiesFile> for Copies {
    type Error = FileError;

    fn try_from(file: CopiesFile) -> Result<Self, FileError> {
        let bias = Bias::from_name(&file.bias.0).ok_or_else(|| FileError::Field {
            file: SET.format,
            field: "copies.bias",
            expected: "balanced or mixed".into(),
            got: "another".into(),
        })?;
        Ok(Self {
            count: file.count,
            bias,
        })
    }
}

impl From<Strategy> for StrategyFile {
    fn from(strategy: Strategy) -> Self {
        let (writing, rule) = (strategy.writing(), strategy.rule());
        let style = writing.map(|writing| writing.style);
        let first_token = writing.map(|writing| writing.first_token);
        let chosen = rule.filter(|_| !matches!(strategy, Strategy::InverseNucleus { .. }));
        Self {
            name: Text(strategy.name().into()),
            temperature: writing.map(|writing| writing.temperature),
            style: style
                .filter(|style| *style != Style::default())
                .map(|style| Text(style.name().into())),
            first_token: first_token
                .filter(|first| *first != FirstToken::default())
                .map(|first| Text(first.name().into())),
            band: writing
                .and_then(|writing| writing.band)
                .map(|band| [band.low, band.high]),
            threshold: rule.map(|rule| rule.threshold),
            candidates: chosen.map(|rule| rule.candidates),
            responses: chosen.map(|rule| rule.responses),
        }
    }
}

impl TryFrom<StrategyFile> for Strategy {
    type Error = FileError;

    fn try_from(file: StrategyFile) -> Result<Self, FileError> {
        let name = file.name.0.as_str();
        let style = match &file.style {
            None => Style::default(),
            Some(style) => Style::from_name(&style.0).ok_or_else(|| FileError::Field {
                file: SET.format,
                field: "strategy.style",
                expected: "sentence, question or instruction".into(),
                got: style.0.clone(),
            })?,
        };
        let first_token = match &file.first_token {
            None => FirstToken::default(),
            Some(first) => FirstToken::from_name(&first.0).ok_or_else(|| FileError::Field {
                file: SET.format,
                field: "strategy.first_token",
                expected: "word, tokenizer or none".into(),
                got: first.0.clone(),
            })?,
        };
        let writing = file.temperature.map(|temperature| Writing {
            temperature,
            style,
            first_token,
            band: file.band.map(|[low, high]| Band { low, high }),
        });
        let numbers = (file.threshold, file.candidates, file.responses);
        let rule = match numbers {
            (Some(threshold), Some(candidates), Some(responses)) => Some(Rule {
                threshold,
                candidates,
                responses,
            }),
            _ => None,
        };
        let strategy = match (name, writing, rule, numbers) {
            ("perinucleus", Some(writing), Some(rule), _) => Self::Perinucleus { writing, rule },
            ("inverse_nucleus", Some(writing), None, (Some(threshold), None, None)) => {
                Self::InverseNucleus { writing, threshold }
            }
            ("english", Some(writing), None, (None, None, None)) => Self::English { writing },
            ("english_random_response", Some(writing), None, (None, None, None)) => {
                Self::EnglishRandomResponse { writing }
            }
            ("chain_hash", Some(writing), None, (None, None, None)) => Self::ChainHash { writing },
            ("custom", None, Some(rule), _) => Self::Custom { rule },
            ("random_word", None, None, (None, None, None)) => Self::RandomWord,
            ("imported", None, None, (None, None, None)) => Self::Imported,
            (name, ..) if NAMES.contains(&name) => return Err(parameters(name)),
            (name, ..) => {
                return Err(FileError::Field {
                    file: SET.format,
                    field: "strategy.name",
                    expected: format!("one of {}", NAMES.join(", ")),
                    got: name.into(),
                });
            }
        };
        // What natural queries are like, without a temperature, belongs to nothing.
        let of_writing = file.style.is_some() || file.first_token.is_some() || file.band.is_some();
        if of_writing && strategy.writing().is_none() {
            return Err(parameters(strategy.name()));
        }
        Ok(strategy)
    }
}

/// Names of all strategies.
const NAMES: [&str; 8] = [
    "perinucleus",
    "inverse_nucleus",
    "english",
    "english_random_response",
    "chain_hash",
    "random_word",
    "custom",
    "imported",
];

fn parameters(name: &str) -> FileError {
    FileError::Field {
        file: SET.format,
        field: "strategy",
        expected: format!("the parameters of {name}"),
        got: "others".into(),
    }
}
