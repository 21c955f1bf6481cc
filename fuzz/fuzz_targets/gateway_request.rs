//! A request of any bytes is read, or refused with an error of the client's; what was read has one input and goes on as it was read.
#![no_main]

use libfuzzer_sys::fuzz_target;
use oml_server::gateway::{Request, Route};

fuzz_target!(|bytes: &[u8]| {
    for route in [Route::Chat, Route::Text] {
        let Ok(mut request) = Request::read(route, bytes) else {
            continue;
        };
        let input = request.canonical_input();
        let _ = request.question();
        request.limit(7);
        if let Ok(fields) = request.passed_on() {
            let again = serde_json::to_vec(fields).expect("JSON as it was read");
            let again = Request::read(route, &again).expect("the same request");
            assert_eq!(again.max_tokens, Some(7));
            assert_eq!(again.canonical_input().ok(), input.ok());
        }
    }
});
