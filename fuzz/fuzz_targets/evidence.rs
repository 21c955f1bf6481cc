//! An opening, a slice or a usage log of any bytes is read, or refused with an error; what was read comes back.
#![no_main]

use libfuzzer_sys::fuzz_target;
use oml_core::manifest::{opening_file, slice_file, usage_log};
use oml_core::usage::Tally;

fuzz_target!(|bytes: &[u8]| {
    if let Ok((opening, proof)) = opening_file::parse(bytes) {
        let _ = opening.verify(&[0; 32], &proof);
        let rendered =
            opening_file::render(&opening, &proof).expect("what was read can be written");
        assert_eq!(
            opening_file::parse(&rendered).expect("and read"),
            (opening, proof)
        );
    }
    if let Ok(slice) = slice_file::parse(bytes) {
        let rendered = slice_file::render(&slice).expect("what was read can be written");
        assert_eq!(slice_file::parse(&rendered).expect("and read"), slice);
    }
    let mut tally = Tally::new([3; 32], 10);
    if usage_log::read(bytes, &mut tally).is_ok() {
        assert!(tally.pairs(|_| true).len() <= 10);
        assert!(
            tally
                .events()
                .all(|(_, times, pairs)| times > 0 && pairs <= 10)
        );
    }
});
