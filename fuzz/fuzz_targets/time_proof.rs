//! A time proof of any bytes is verified, or refused with an error; roots too.
#![no_main]

use libfuzzer_sys::fuzz_target;
use oml_core::manifest::parse_hash;
use oml_core::time_proof::{Kind, git, ledger, rfc3161};

/// What the seeds stamp and hold.
const LINE: &str = include_str!("../../crates/oml-core/tests/goldens/time_proof/root.txt");
const ROOTS: &[u8] = include_bytes!("../../crates/oml-core/tests/goldens/time_proof/trusted.pem");

fuzz_target!(|bytes: &[u8]| {
    let _ = Kind::of(bytes);
    let _ = rfc3161::roots(bytes);
    if let Ok(stamp) = rfc3161::verify(bytes, LINE.as_bytes()) {
        let roots = rfc3161::roots(ROOTS).expect("the golden is a root");
        let _ = stamp.trusted(&roots);
    }
    if let Ok(commit) = git::verify(bytes, LINE) {
        assert!(bytes.starts_with(commit.id.as_bytes()));
    }
    let mut words = LINE.split_whitespace().skip(2).step_by(2);
    let root = words
        .next()
        .and_then(|word| parse_hash(word.strip_prefix("0x")?));
    let owner = words.next().and_then(|word| word.parse().ok());
    let (root, owner) = root.zip(owner).expect("the golden is a line");
    if ledger::verify(bytes, &root, &owner).is_ok() {
        assert_eq!(Kind::of(bytes), Kind::Ledger);
    }
});
