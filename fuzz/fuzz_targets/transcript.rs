//! Transcripts of audits: whatever is read is bound together, has terms that make sense, and comes back as it was.
#![no_main]

use libfuzzer_sys::fuzz_target;
use oml_core::audit::{Matcher, replay};
use oml_core::manifest::transcript_file::{self, Transcript};

fuzz_target!(|bytes: &[u8]| {
    let Ok((transcript, whole)) = transcript_file::recover(bytes) else {
        return;
    };
    assert!(whole <= bytes.len());
    transcript.terms.validate().unwrap();
    let (mut again, _) = Transcript::begin(transcript.terms.clone()).unwrap();
    for entry in &transcript.entries {
        again.push(entry.time, entry.event.clone()).unwrap();
    }
    assert_eq!(again.entries, transcript.entries);
    // Larger plans only cost time.
    if transcript.terms.most <= 1024 {
        let matcher = Matcher::new(transcript.terms.rule, None);
        let _ = replay(&transcript.terms, &transcript.entries, |_| None, &matcher);
    }
});
