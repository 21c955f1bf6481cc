//! An endpoint's answer or a logged request of any bytes is read, or refused with an error; a request that was read is the one
//! that its question gives.
#![no_main]

use libfuzzer_sys::fuzz_target;
use oml_server::endpoint::{Api, Asker, EndpointOptions, read_prompt, read_reply};

fuzz_target!(|bytes: &[u8]| {
    for api in Api::ALL {
        if let Ok(reply) = read_reply(api, bytes) {
            let tokens = reply.tokens.iter().flatten();
            let scores = tokens.flat_map(|token| token.log_probability);
            assert!(scores.into_iter().all(|score| score <= 1e-3));
            assert!(reply.without_echo("a").len() <= reply.text.len());
        }
        if let Ok(prompt) = read_prompt(api, bytes) {
            let options = EndpointOptions::new("http://localhost", &prompt.model);
            let asker = Asker::new(options, api).expect("a URL of loopback");
            let request = asker
                .request(&prompt.question())
                .expect("a question of the API");
            assert_eq!(request, bytes);
        }
    }
});
