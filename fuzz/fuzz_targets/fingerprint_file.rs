//! A fingerprint file of any bytes, sealed or opened, is read or refused with an error.
#![no_main]

use libfuzzer_sys::fuzz_target;
use oml_core::manifest::fingerprint_file::{open, parse_set, seal};
use oml_core::secret::OwnerSeed;

fuzz_target!(|bytes: &[u8]| {
    let owner = OwnerSeed::new([7; 32]);
    let _ = open(bytes, &owner);
    if let Ok(set) = parse_set(bytes) {
        let sealed = seal(&set, &owner).expect("a set that was read can be sealed");
        open(&sealed, &owner).expect("a sealed set can be opened");
    }
});
