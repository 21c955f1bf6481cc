//! Receipts: what counts, every reason against one by its code, and their text and files.

use std::collections::BTreeSet;

use oml_core::eip712::Domain;
use oml_core::manifest::receipt_file;
use oml_core::permission::{Input, InputSalt, ModelId, NONE, Token, input_hash};
use oml_core::receipt::{Expected, InferenceReceipt, SignedReceipt, output_hash};
use oml_core::signing::{Address, Signature};
use proptest::prelude::*;

use super::permission::{INPUT, MODEL, NOW, delegate, host, key, salt, token};

const OUTPUT: &[u8] = "Grüß Gott".as_bytes();

fn receipt() -> InferenceReceipt {
    InferenceReceipt {
        model: MODEL,
        host: host(),
        input_hash: input_hash(&salt(), INPUT),
        output_hash: output_hash(OUTPUT),
        permission_id: token().id(),
        issued_at: NOW,
    }
}

fn signed(change: impl Fn(&mut InferenceReceipt)) -> SignedReceipt {
    let mut receipt = receipt();
    change(&mut receipt);
    SignedReceipt::sign(Domain::OFF_CHAIN, receipt, &key(4))
}

/// The code of a receipt that is held against everything.
fn code(signed: &SignedReceipt) -> &'static str {
    code_against(signed, |_| ())
}

fn code_against(signed: &SignedReceipt, change: impl Fn(&mut Expected<'_>)) -> &'static str {
    let (salt, token) = (salt(), token());
    let mut expected = Expected {
        domain: Domain::OFF_CHAIN,
        model: Some(MODEL),
        host: Some(host()),
        token: Some(&token),
        input: Some(Input {
            canonical: INPUT,
            salt: &salt,
        }),
        output: Some(OUTPUT),
    };
    change(&mut expected);
    let verified = signed.verify(&expected);
    verified.map_or_else(|refusal| refusal.code(), |()| "valid")
}

#[test]
fn a_receipt_of_the_host_counts() {
    let signed = signed(|_| ());
    assert_eq!(code(&signed), "valid");
    assert_eq!(signed.verify(&Expected::default()), Ok(()));
}

#[test]
fn every_reason_against_a_receipt() {
    type Change = fn(&mut InferenceReceipt);
    let changes: [(Change, &str); 8] = [
        (|receipt| receipt.model = ModelId([4; 32]), "wrong_model"),
        (|receipt| receipt.host = key(9).address(), "wrong_host"),
        (
            |receipt| receipt.permission_id = [1; 32],
            "wrong_permission",
        ),
        (|receipt| receipt.issued_at = NOW - 11, "wrong_time"),
        (|receipt| receipt.issued_at = NOW + 301, "wrong_time"),
        (|receipt| receipt.input_hash = [1; 32], "wrong_input"),
        (|receipt| receipt.output_hash = [1; 32], "wrong_output"),
        (|receipt| receipt.issued_at = NOW + 300, "valid"),
    ];
    for (change, expected) in changes {
        assert_eq!(code(&signed(change)), expected);
    }
    let good = signed(|_| ());
    let other_salt = InputSalt::new([1; 32]);
    let input = Input {
        canonical: INPUT,
        salt: &other_salt,
    };
    let refused = good.verify(&Expected {
        input: Some(input),
        ..Expected::default()
    });
    assert_eq!(refused.unwrap_err().code(), "wrong_input");
    let refused = code_against(&good, |expected| expected.output = Some(b"other"));
    assert_eq!(refused, "wrong_output");
    let refused = code_against(&good, |expected| expected.domain.chain_id = Some(1));
    assert_eq!(refused, "wrong_domain");

    let mut altered = good;
    altered.receipt.output_hash = output_hash(b"other");
    let refused = altered.verify(&Expected::default()).unwrap_err();
    assert_eq!(refused.code(), "wrong_signer");
    let stranger = SignedReceipt::sign(Domain::OFF_CHAIN, receipt(), &key(9));
    assert_eq!(code(&stranger), "wrong_signer");
    let mut moved = good;
    moved.domain.chain_id = Some(1);
    let elsewhere = Expected {
        domain: moved.domain,
        ..Expected::default()
    };
    assert_eq!(moved.verify(&elsewhere).unwrap_err().code(), "wrong_signer");
    let mut none = good;
    none.signature = Signature([0; 65]);
    assert_eq!(code(&none), "bad_signature");
    let mut malleable = good;
    super::permission::high_s(&mut malleable.signature.0);
    assert_eq!(code(&malleable), "malleable_signature");
}

#[test]
fn a_permission_for_any_input_defends_any_answer() {
    let mut permission = token().permission;
    permission.input_hash = NONE;
    let open = Token::sign_as_issuer(Domain::OFF_CHAIN, permission, &delegate());
    let signed = signed(|receipt| receipt.permission_id = open.id());
    let expected = Expected {
        token: Some(&open),
        ..Expected::default()
    };
    assert_eq!(signed.verify(&expected), Ok(()));
}

#[test]
fn every_reason_has_a_code_of_its_own() {
    let source = include_str!("../../src/receipt.rs");
    let table = source.split("pub const fn code").nth(1).unwrap();
    let table = table.split("impl SignedReceipt").next().unwrap();
    let codes: Vec<_> = table.split('"').skip(1).step_by(2).collect();
    assert!(codes.len() > 9, "{codes:?}");
    assert_eq!(codes.iter().collect::<BTreeSet<_>>().len(), codes.len());
}

#[test]
fn text_has_one_spelling() {
    let good = signed(|_| ());
    let text = good.to_text();
    let code =
        |text: &str| SignedReceipt::from_text(text).map_or_else(|fault| fault.code(), |_| "read");
    assert_eq!(code(&text), "read");
    for (changed, expected) in [
        (text[..text.len() - 4].to_owned(), "text_truncated"),
        (format!("{text}AAAA"), "text_trailing"),
        (format!("{text}="), "text_encoding"),
        (text.replacen("omlr1.", "oml1.", 1), "text_prefix"),
        (text.replacen("omlr1.A", "omlr1.B", 1), "text_domain"),
        (format!("omlr1.{}", "A".repeat(8187)), "text_too_long"),
    ] {
        assert_eq!(code(&changed), expected);
    }
}

proptest! {
    #[test]
    fn receipts_come_back(
        words in any::<[[u8; 32]; 5]>(),
        host in any::<[u8; 20]>(),
        issued_at in any::<u64>(),
        v in any::<u8>(),
        domain in any::<(Option<u64>, Option<[u8; 20]>)>(),
    ) {
        let [model, input_hash, output_hash, permission_id, half] = words;
        let mut signature = [v; 65];
        signature[..32].copy_from_slice(&half);
        let signed = SignedReceipt {
            domain: Domain {
                chain_id: domain.0,
                verifying_contract: domain.1.map(Address),
            },
            receipt: InferenceReceipt {
                model: ModelId(model),
                host: Address(host),
                input_hash,
                output_hash,
                permission_id,
                issued_at,
            },
            signature: Signature(signature),
        };
        prop_assert_eq!(SignedReceipt::from_text(&signed.to_text()).unwrap(), signed);
        let bytes = receipt_file::render(&signed).unwrap();
        prop_assert_eq!(receipt_file::parse(&bytes).unwrap(), signed);
    }
}
