//! Pairs of any bytes are imported, or refused with an error; what was imported comes back through every export.
#![no_main]

use libfuzzer_sys::fuzz_target;
use oml_core::derive::Scope;
use oml_core::fingerprint::FingerprintSet;
use oml_core::import::{ImportError, ImportOptions, import};
use oml_core::manifest::{FileError, pairs_file, perinucleus_file, plain_file};
use oml_core::model::{Continuation, LanguageModel, ModelError, Sampling, TokenScore};
use oml_core::secret::OwnerSeed;
use oml_core::tokenizer::Tokenizer;

/// One token per byte.
struct Bytes;

impl Tokenizer for Bytes {
    fn vocabulary_size(&self) -> usize {
        256
    }

    fn encode(&self, text: &str, _: bool) -> Result<Vec<u32>, ModelError> {
        Ok(text.bytes().map(u32::from).collect())
    }

    fn decode(&self, ids: &[u32]) -> Result<String, ModelError> {
        let bytes = ids.iter().map(|&id| id as u8).collect();
        String::from_utf8(bytes).map_err(|error| ModelError(error.into()))
    }

    fn token(&self, _: u32) -> Option<String> {
        None
    }

    fn chat_prompt(&self, _: &str) -> Result<Option<Vec<u32>>, ModelError> {
        Ok(None)
    }

    fn hash(&self) -> [u8; 32] {
        [1; 32]
    }
}

impl LanguageModel for Bytes {
    fn vocabulary_size(&self) -> usize {
        256
    }

    fn score(&mut self, items: &[Continuation<'_>]) -> Result<Vec<Vec<TokenScore>>, ModelError> {
        let score = |&id: &u32| TokenScore {
            log_probability: -(id as f32) / 16.0,
            rank: id,
        };
        let item = |item: &Continuation<'_>| item.continuation.iter().map(score).collect();
        Ok(items.iter().map(item).collect())
    }

    fn next_distributions(
        &mut self,
        _: &[&[u32]],
        _: &mut dyn FnMut(usize, &[f32]),
    ) -> Result<(), ModelError> {
        Ok(())
    }

    fn generate(
        &mut self,
        _: &[&[u32]],
        _: &[u64],
        _: &Sampling,
    ) -> Result<Vec<Vec<u32>>, ModelError> {
        Ok(Vec::new())
    }
}

fn imported(bytes: &[u8]) -> Result<FingerprintSet, ImportError> {
    let pairs = pairs_file::parse(bytes)?;
    let owner = OwnerSeed::new([7; 32]);
    let options = ImportOptions {
        scope: Scope::OWNER,
        longest: 6000,
    };
    Ok(import(&mut Bytes, &Bytes, &owner, options, pairs)?.set)
}

fuzz_target!(|bytes: &[u8]| {
    let Ok(set) = imported(bytes) else { return };
    let renders: [fn(&FingerprintSet) -> Result<Vec<u8>, FileError>; 2] =
        [perinucleus_file::render, plain_file::render];
    for render in renders {
        let exported = render(&set).expect("a set that was imported can be exported");
        let again = imported(&exported).expect("an export can be imported");
        assert_eq!(render(&again).expect("and exported"), exported);
    }
});
