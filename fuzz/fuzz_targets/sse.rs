//! A stream of any bytes gives the same events wherever it is cut, or the same error.
#![no_main]

use libfuzzer_sys::fuzz_target;
use oml_server::gateway::SseReader;

fuzz_target!(|bytes: &[u8]| {
    let Some((cut, stream)) = bytes.split_first() else {
        return;
    };
    let whole = SseReader::default().read(stream);
    let mut reader = SseReader::default();
    let mut events = Vec::new();
    let size = usize::from(*cut).max(1);
    let pieces: Result<(), _> = stream.chunks(size).try_for_each(|piece| {
        events.extend(reader.read(piece)?);
        Ok(())
    });
    assert_eq!(pieces.map(|()| events), whole);
});
