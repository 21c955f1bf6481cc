//! A claim's bundle of any bytes, and each file in one, is judged or refused with an error; what was read comes back.
#![no_main]

use libfuzzer_sys::fuzz_target;
use oml_core::bundle::{Judge, check_response};
use oml_core::manifest::{
    bundle_archive, bundle_file, challenge_file, claim_file, controls_file, openings_file,
    response_file, signature_file,
};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(entries) = bundle_archive::parse(bytes) {
        let rendered = bundle_archive::render(&entries).expect("what was read can be written");
        assert_eq!(rendered, bytes, "an archive has one spelling");
    }
    if let Ok(bundle) = bundle_file::parse(bytes) {
        let checks = Judge::default().check(&bundle);
        assert!(checks.len() > 10, "every check is made");
    }
    if let Ok(statement) = claim_file::parse(bytes) {
        let rendered = claim_file::render(&statement).expect("what was read can be written");
        assert_eq!(claim_file::parse(&rendered).expect("and read"), statement);
    }
    if let Ok(opened) = openings_file::parse(bytes) {
        let rendered = openings_file::render(&opened).expect("what was read can be written");
        assert_eq!(openings_file::parse(&rendered).expect("and read"), opened);
    }
    if let Ok(controls) = controls_file::parse(bytes) {
        let rendered = controls_file::render(&controls).expect("what was read can be written");
        assert_eq!(controls_file::parse(&rendered).expect("and read"), controls);
    }
    if let Ok((owner, signature)) = signature_file::parse(bytes) {
        let rendered =
            signature_file::render(&owner, &signature).expect("what was read can be written");
        assert_eq!(rendered, bytes, "a signature has one spelling");
    }
    if let Ok(challenge) = challenge_file::parse(bytes) {
        assert_eq!(challenge.indices().len() as u64, challenge.count);
        let rendered = challenge_file::render(&challenge).expect("what was read can be written");
        assert_eq!(
            challenge_file::parse(&rendered).expect("and read"),
            challenge
        );
    }
    if let Ok(response) = response_file::parse(bytes) {
        let seed = include_bytes!("../seeds/bundle/small");
        let bundle = bundle_file::parse(seed).expect("the seed is a bundle");
        let challenge = include_bytes!("../seeds/bundle/challenge");
        let challenge = challenge_file::parse(challenge).expect("the seed is a challenge");
        let _ = check_response(&bundle, &challenge, &[0; 32], &response);
    }
});
