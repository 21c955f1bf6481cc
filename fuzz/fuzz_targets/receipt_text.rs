//! A receipt of any bytes is read, or refused with an error; what was read comes back.
#![no_main]

use data_encoding::BASE64URL_NOPAD;
use libfuzzer_sys::fuzz_target;
use oml_core::manifest::receipt_file;
use oml_core::receipt::{Expected, SignedReceipt};

fn judge(signed: &SignedReceipt) {
    let expected = Expected {
        domain: signed.domain,
        model: Some(signed.receipt.model),
        host: Some(signed.receipt.host),
        output: Some(b"an answer that nobody gave"),
        ..Expected::default()
    };
    let refused = signed.verify(&expected).expect_err("no such answer");
    assert!(!refused.code().is_empty() && !refused.to_string().is_empty());
    let open = Expected {
        domain: signed.domain,
        ..Expected::default()
    };
    let _ = signed.verify(&open);
}

fn text(text: &str) {
    if let Ok(signed) = SignedReceipt::from_text(text) {
        assert_eq!(signed.to_text(), text, "one spelling");
        judge(&signed);
    }
}

fuzz_target!(|bytes: &[u8]| {
    if let Ok(own) = std::str::from_utf8(bytes) {
        text(own);
    }
    // The bytes inside, so that the fields are reached.
    text(&format!("omlr1.{}", BASE64URL_NOPAD.encode(bytes)));
    if let Ok(signed) = receipt_file::parse(bytes) {
        judge(&signed);
        let rendered = receipt_file::render(&signed).expect("what was read can be written");
        assert_eq!(receipt_file::parse(&rendered).expect("and read"), signed);
    }
});
