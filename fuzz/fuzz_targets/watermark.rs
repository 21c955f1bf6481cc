//! Texts of any bytes are read, or refused with an error; any ids have a p-value under every scheme.
#![no_main]

use libfuzzer_sys::fuzz_target;
use oml_core::manifest::texts_file;
use oml_core::secret::OwnerSeed;
use oml_core::watermark::{Detector, Scheme, Watermark};

fuzz_target!(|bytes: &[u8]| {
    let texts = texts_file::parse(bytes).unwrap_or_default();
    let mut lists: Vec<Vec<u32>> = texts
        .iter()
        .take(4)
        .map(|text| text.text.bytes().map(u32::from).collect())
        .collect();
    let (words, _) = bytes.as_chunks::<4>();
    lists.push(words.iter().map(|word| u32::from_le_bytes(*word)).collect());
    let owner = OwnerSeed::new([7; 32]);
    let mut detector = Detector::default();
    for scheme in Scheme::ALL {
        let watermark = Watermark::new(&owner, scheme);
        for ids in &lists {
            let found = detector
                .detect(&watermark, ids)
                .expect("a short text is tested");
            assert!(found.ln_p_value <= 0.0 && found.mean.is_finite());
            assert!(found.scored as usize <= ids.len());
        }
    }
});
