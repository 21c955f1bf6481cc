//! A permission, grants, an issuers' file, revocations or a request of any bytes are read, or refused with an error; what was read comes
//! back, and no permission that was not signed counts.
#![no_main]

use data_encoding::BASE64URL_NOPAD;
use libfuzzer_sys::fuzz_target;
use oml_core::manifest::{grant_file, issuers_file, permission_file, revocations_file};
use oml_core::permission::{
    Call, Chain, FileAuthority, GrantCache, Input, InputSalt, Issuers, Token, canonical,
    input_of_request,
};

/// A text that was read is the one that is written.
fn text(text: &str) {
    if let Ok(token) = Token::from_text(text) {
        assert_eq!(token.to_text().as_deref(), Ok(text), "one spelling");
        judge(&token);
    }
    if let Ok(chain) = Chain::from_text(text) {
        assert_eq!(chain.to_text().as_deref(), Ok(text), "one spelling");
        let _ = chain.check();
    }
}

/// Nobody is an issuer here, so nothing may count.
fn judge(token: &Token) {
    let issuers = Issuers {
        domain: token.domain,
        max_age: None,
        issuers: Vec::new(),
    };
    let authority = FileAuthority::new(&issuers, &[]).expect("no issuers and no lists");
    let salt = InputSalt::new([6; 32]);
    let call = Call {
        model: token.permission.model,
        host: token.permission.host,
        now: token.permission.issued_at,
        skew: 30,
        input: Some(Input {
            canonical: br#"{"prompt":"Hi"}"#,
            salt: &salt,
        }),
        purpose: Some("research"),
        region: Some("eu"),
        model_version: Some("1"),
        max_tokens: Some(1),
    };
    let refused = token.verify(&call, &authority, &GrantCache::new(4));
    let refused = refused.expect_err("no issuer signed it");
    assert!(!refused.code().is_empty() && !refused.to_string().is_empty());
}

fuzz_target!(|bytes: &[u8]| {
    if let Ok(own) = std::str::from_utf8(bytes) {
        text(own);
    }
    // The bytes inside, so that the fields are reached.
    let inside = BASE64URL_NOPAD.encode(bytes);
    text(&format!("oml1.{inside}"));
    text(&format!("omlg1.{inside}"));
    if let Ok(token) = permission_file::parse(bytes) {
        judge(&token);
        let rendered = permission_file::render(&token).expect("what was read can be written");
        assert_eq!(permission_file::parse(&rendered).expect("and read"), token);
    }
    if let Ok(chain) = grant_file::parse(bytes) {
        let _ = chain.check();
        let rendered = grant_file::render(&chain).expect("what was read can be written");
        assert_eq!(grant_file::parse(&rendered).expect("and read"), chain);
    }
    if let Ok(issuers) = issuers_file::parse(bytes) {
        let _ = FileAuthority::new(&issuers, &[]);
        let rendered = issuers_file::render(&issuers).expect("what was read can be written");
        assert_eq!(issuers_file::parse(&rendered).expect("and read"), issuers);
    }
    if let Ok(signed) = revocations_file::parse(bytes) {
        let _ = signed.signer();
        let rendered = revocations_file::render(&signed).expect("what was read can be written");
        assert_eq!(
            revocations_file::parse(&rendered).expect("and read"),
            signed
        );
    }
    if let Ok(request) = serde_json::from_slice(bytes) {
        let _ = input_of_request(&request);
        if let Ok(written) = canonical(&request) {
            let again = serde_json::from_slice(&written).expect("canonical JSON is JSON");
            assert_eq!(request, again, "the same value");
            assert_eq!(canonical(&again).as_ref(), Ok(&written), "one spelling");
        }
    }
});
