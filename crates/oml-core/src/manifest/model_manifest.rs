//! The manifest beside a fingerprinted model: what it was made from, how, and what was measured.
//!
//! JSON with `format` `oml-model`, version 1; digests are hexadecimal, the recipe is the TOML text with every resolved
//! value, and every measurement carries its basis. It holds nothing secret and can be published with the model.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::field::{Hex, List, Text};
use super::{FileError, Kind};

const KIND: Kind = Kind {
    format: "oml-model",
    version: 1,
    max_bytes: 16 << 20,
};
const MAX_RECIPE_BYTES: usize = 1 << 20;
const MAX_WORDS_BYTES: usize = 4096;
const MAX_MEASUREMENTS: usize = 256;

/// What is known about one fingerprinted model.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelManifest {
    /// Version of the program that made the model.
    pub tool_version: String,
    /// Digest of the model it was made from.
    pub base_digest: [u8; 32],
    /// Digest of the model itself.
    pub result_digest: [u8; 32],
    /// Hash of the tokenizer.
    pub tokenizer_hash: [u8; 32],
    /// Merkle root of the embedded set.
    pub merkle_root: [u8; 32],
    /// Licensee's copy of the set that is embedded, from 1; the whole set where there is none.
    pub copy: Option<u32>,
    /// Fingerprints embedded.
    pub count: usize,
    /// The training recipe as TOML, every value resolved.
    pub recipe: String,
    /// Public seeds by what they drive.
    pub seeds: BTreeMap<String, u64>,
    /// Measured recall.
    pub recall: Measurement,
    /// Measured utilities.
    pub utility: Vec<Measurement>,
}

/// One measured number with its basis.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Measurement {
    /// What was measured, such as `recall` or `perplexity`.
    pub name: String,
    /// The value.
    pub value: f64,
    /// Its standard error, where one is known.
    pub stderr: Option<f64>,
    /// The base model's value by the same measurement.
    pub base: Option<f64>,
    /// Data, sample size and conditions, in words.
    pub basis: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ManifestFile {
    format: Text<64>,
    version: u32,
    tool_version: Text<MAX_WORDS_BYTES>,
    base_digest: Hex<32>,
    result_digest: Hex<32>,
    tokenizer_hash: Hex<32>,
    merkle_root: Hex<32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    copy: Option<u32>,
    count: usize,
    recipe: Text<MAX_RECIPE_BYTES>,
    seeds: BTreeMap<String, u64>,
    recall: Measurement,
    utility: List<Measurement, MAX_MEASUREMENTS>,
}

/// The bytes of the manifest file.
///
/// # Errors
/// [`FileError::Field`] for a number that is not finite, which JSON cannot hold.
pub fn render(manifest: &ModelManifest) -> Result<Vec<u8>, FileError> {
    for measurement in manifest.utility.iter().chain([&manifest.recall]) {
        let numbers = [
            Some(measurement.value),
            measurement.stderr,
            measurement.base,
        ];
        if let Some(number) = numbers
            .into_iter()
            .flatten()
            .find(|number| !number.is_finite())
        {
            return Err(FileError::Field {
                file: KIND.format,
                field: "measurement",
                expected: format!("a finite {}", measurement.name),
                got: number.to_string(),
            });
        }
    }
    let file = ManifestFile {
        format: Text(KIND.format.into()),
        version: KIND.version,
        tool_version: Text(manifest.tool_version.clone()),
        base_digest: Hex(manifest.base_digest),
        result_digest: Hex(manifest.result_digest),
        tokenizer_hash: Hex(manifest.tokenizer_hash),
        merkle_root: Hex(manifest.merkle_root),
        copy: manifest.copy,
        count: manifest.count,
        recipe: Text(manifest.recipe.clone()),
        seeds: manifest.seeds.clone(),
        recall: manifest.recall.clone(),
        utility: List(manifest.utility.clone()),
    };
    let mut bytes =
        serde_json::to_vec_pretty(&file).map_err(|error| FileError::json(KIND.format, &error))?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// Reads a manifest.
///
/// # Errors
/// Any fault of the file.
pub fn parse(bytes: &[u8]) -> Result<ModelManifest, FileError> {
    let file: ManifestFile = KIND.parse(bytes)?;
    Ok(ModelManifest {
        tool_version: file.tool_version.0,
        base_digest: file.base_digest.0,
        result_digest: file.result_digest.0,
        tokenizer_hash: file.tokenizer_hash.0,
        merkle_root: file.merkle_root.0,
        copy: file.copy,
        count: file.count,
        recipe: file.recipe.0,
        seeds: file.seeds,
        recall: file.recall,
        utility: file.utility.0,
    })
}
