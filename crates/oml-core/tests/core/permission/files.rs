//! Text and files of permissions: what is written comes back, with one spelling, and faults are named.

use std::fs;
use std::path::Path;

use oml_core::manifest::{
    grant_file, issuers_file, permission_file, receipt_file, revocations_file,
};
use oml_core::permission::{ScopeError, TextError, UNLIMITED_CALLS, UNLIMITED_SPEND};
use oml_core::receipt::{InferenceReceipt, SignedReceipt};

use super::*;

#[test]
fn text_has_one_spelling_and_every_cut_is_noticed() {
    let token = under_two(|_| (), scope());
    let text = token.to_text().unwrap();
    assert!(
        text.starts_with("oml1.") && text.len() < 2000,
        "{}",
        text.len()
    );
    assert_eq!(Token::from_text(&text), Ok(token.clone()));
    let code = |text: &str| Token::from_text(text).map_or_else(|fault| fault.code(), |_| "read");
    for length in 0..text.len() {
        let fault = code(&text[..length]);
        // A cut of one to three characters can fall between bytes, or leave bits that nobody writes.
        let expected = [
            "text_truncated",
            "text_encoding",
            "text_prefix",
            "text_scope",
        ];
        assert!(expected.contains(&fault), "{length}: {fault}");
    }
    for (changed, expected) in [
        (format!("{text}AAAA"), "text_trailing"),
        (format!("{text}="), "text_encoding"),
        (format!("{text}\n"), "text_encoding"),
        (format!(" {text}"), "text_prefix"),
        (text.replacen("oml1.", "oml2.", 1), "text_prefix"),
        (text.replacen("oml1.", "OML1.", 1), "text_prefix"),
        (text.replacen("oml1.A", "oml1.+", 1), "text_encoding"),
        (text.replacen("oml1.A", "oml1.B", 1), "text_domain"),
        ("é".repeat(10), "text_prefix"),
        (format!("oml1.{}", "A".repeat(8188)), "text_too_long"),
    ] {
        assert_eq!(code(&changed), expected, "{changed:.20}");
    }
    // The number of grants is the second byte.
    let many = text.replacen("oml1.AAI", "oml1.AAU", 1);
    assert_eq!(
        Token::from_text(&many),
        Err(TextError::Grants { least: 0, got: 5 })
    );
    assert_eq!(
        Chain::from_text("omlg1.AAA"),
        Err(TextError::Grants { least: 1, got: 0 })
    );
    // A scope's other spelling would be another text of the same token.
    let mut other = token.clone();
    other.grants[0].scope.purposes.reverse();
    let fault = Token::from_text(&other.to_text().unwrap()).unwrap_err();
    assert_eq!(fault.code(), "text_scope");
}

#[test]
fn what_is_too_long_is_not_written() {
    let words = |letter: &str| {
        (10..26)
            .map(|n| format!("{n}{}", letter.repeat(36)))
            .collect()
    };
    let wide = Scope {
        purposes: words("a"),
        regions: words("b"),
        model_versions: words("c"),
        ..Scope::default()
    };
    wide.validate().unwrap();
    let mut chain = chain_of(grant(), wide.clone());
    while chain.grants.len() < 4 {
        chain = attenuated(
            chain,
            |grant| grant.delegate = delegate().address(),
            wide.clone(),
        );
    }
    let fault = chain.to_text().unwrap_err();
    assert_eq!(fault.code(), "text_too_long");
    chain.grants.truncate(2);
    assert_eq!(Chain::from_text(&chain.to_text().unwrap()), Ok(chain));
}

#[test]
fn a_scope_that_nobody_would_write_is_refused() {
    let scope = |change: fn(&mut Scope)| {
        let mut scope = scope();
        change(&mut scope);
        scope.validate().unwrap_err()
    };
    let field = "regions";
    assert_eq!(
        scope(|scope| scope.regions = vec!["a".into(); 17]),
        ScopeError::Words { field, got: 17 }
    );
    for word in ["", "ä", "a\n", &"a".repeat(65)] {
        let changed = Scope {
            regions: vec![word.into()],
            ..Scope::default()
        };
        assert_eq!(
            changed.validate(),
            Err(ScopeError::Word { field, index: 0 })
        );
    }
    for change in [
        (|scope| scope.regions = vec!["b".into(), "a".into()]) as fn(&mut Scope),
        |scope| scope.regions = vec!["a".into(), "a".into()],
    ] {
        assert_eq!(scope(change), ScopeError::Order { field, index: 1 });
    }
    assert!(matches!(
        scope(|scope| {
            let words = |n: u8| {
                (10..26)
                    .map(|i| format!("{n}{i}{}", "a".repeat(60)))
                    .collect()
            };
            (scope.regions, scope.purposes) = (words(1), words(2));
        }),
        ScopeError::TooLarge { got: 2049.. }
    ));
    let messy = Scope {
        regions: vec!["b".into(), "a".into(), "b".into()],
        ..Scope::default()
    };
    assert_eq!(messy.sorted().regions, ["a", "b"]);
}

#[test]
fn the_scopes_bytes_are_canonical_json() {
    assert_eq!(Scope::default().canonical(), b"{}");
    let everything = Scope {
        any_input: true,
        replay: Replay::Sequence,
        ..scope()
    };
    let expected = r#"{"any_input":true,"calls_per_minute":60,"max_tokens":256,"model_versions":["1","2"],"purposes":["research","support"],"regions":["eu"],"replay":"sequence"}"#;
    assert_eq!(everything.canonical(), expected.as_bytes());
    let value = serde_json::from_str(expected).unwrap();
    let canonical = oml_core::permission::canonical(&value).unwrap();
    assert_eq!(canonical, expected.as_bytes());
}

#[test]
fn files_come_back_and_name_their_faults() {
    let token = under_two(|grant| (grant.max_calls, grant.max_spend) = (3, 4), scope());
    let chain = Chain {
        domain: Domain {
            chain_id: Some(5),
            verifying_contract: Some(host()),
        },
        grants: token.grants.clone(),
    };
    let bytes = permission_file::render(&token).unwrap();
    assert_eq!(permission_file::parse(&bytes).unwrap(), token);
    let bytes = grant_file::render(&chain).unwrap();
    assert_eq!(grant_file::parse(&bytes).unwrap(), chain);
    let lists = list(NOW, &[([2; 32], 5), ([1; 32], 6)]);
    let bytes = revocations_file::render(&lists).unwrap();
    assert_eq!(revocations_file::parse(&bytes).unwrap(), lists);
    let mut all = issuers();
    all.max_age = Some(3600);
    all.issuers[0].tenure.revoked_at = Some(NOW);
    let bytes = issuers_file::render(&all).unwrap();
    assert_eq!(issuers_file::parse(&bytes).unwrap(), all);

    let short = format!(
        r#"{{"format":"oml-issuers","version":1,"issuers":[{{"model":"{MODEL}","address":"{}"}}]}}"#,
        host()
    );
    let read = issuers_file::parse(short.as_bytes()).unwrap();
    assert_eq!((read.max_age, read.issuers[0].tenure.from), (None, 0));

    let unlimited = permission_file::render(&under(|grant, _| {
        (grant.max_calls, grant.max_spend) = (UNLIMITED_CALLS, UNLIMITED_SPEND);
    }));
    let unlimited = String::from_utf8(unlimited.unwrap()).unwrap();
    assert!(unlimited.contains(r#""max_calls":"unlimited","max_spend":"unlimited""#));
    let read = permission_file::parse(unlimited.as_bytes()).unwrap();
    assert_eq!(read.grants[0].grant.max_spend, UNLIMITED_SPEND);

    let text = String::from_utf8(permission_file::render(&token).unwrap()).unwrap();
    let field = "expected JSON of this form, got a field that is missing, unknown, repeated, too long or of another type";
    for (old, new, expected) in [
        (
            "\"oml-permission\"",
            "\"oml-grant\"",
            r#"format: expected "oml-permission", got "oml-grant""#,
        ),
        (
            "\"version\":1",
            "\"version\":2",
            "oml-permission version: expected 1, got 2",
        ),
        ("\"nonce\":\"9\"", "\"nonce\":\"09\"", field),
        ("\"nonce\":\"9\"", "\"nonce\":\"+9\"", field),
        ("\"nonce\":\"9\"", "\"nonce\":9", field),
        (
            "\"max_calls\":\"3\"",
            "\"max_calls\":\"18446744073709551615\"",
            field,
        ),
        (
            "\"max_calls\":\"3\"",
            "\"max_calls\":\"18446744073709551616\"",
            field,
        ),
        (
            "\"cumulative\":\"100\"",
            "\"cumulative\":\"340282366920938463463374607431768211456\"",
            field,
        ),
        ("\"model\":\"0x03", "\"model\":\"03", field),
        ("\"permission\":", "\"more\":1,\"permission\":", field),
        (
            "\"eu\"",
            "\"ä\"",
            "oml-permission entries[0].scope: expected a scope (scope regions[0]: expected 1 to 64 characters of printable ASCII), got another",
        ),
    ] {
        let changed = text.replacen(old, new, 1);
        assert_ne!(changed, text, "{old}");
        let error = permission_file::parse(changed.as_bytes()).unwrap_err();
        assert!(error.to_string().contains(expected), "{new}: {error}");
    }
    let falling =
        String::from_utf8(revocations_file::render(&list(NOW, &[([2; 32], 5)])).unwrap()).unwrap();
    let entry = format!(r#"{{"id":"0x{}","at":5}}"#, "02".repeat(32));
    let twice = falling.replace(&entry, &format!("{entry},{entry}"));
    let error = revocations_file::parse(twice.as_bytes()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "oml-revocations entries: expected ids that rise, each once, got others"
    );
    for grants in ["[]".to_owned(), format!("[{}]", ["{}"; 5].join(","))] {
        let file = format!(r#"{{"format":"oml-grant","version":1,"grants":{grants}}}"#);
        assert!(grant_file::parse(file.as_bytes()).is_err());
    }
    let large = vec![b' '; permission_file::MAX_BYTES + 1];
    assert!(
        permission_file::parse(&large)
            .unwrap_err()
            .to_string()
            .contains("expected at most 65536 bytes")
    );
}

/// With OML_WRITE_SEEDS they are written anew.
#[test]
fn the_fuzz_seeds_are_read() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds");
    let receipt = InferenceReceipt {
        model: MODEL,
        host: host(),
        input_hash: permission().input_hash,
        output_hash: [2; 32],
        permission_id: token().id(),
        issued_at: NOW,
    };
    let receipt = SignedReceipt::sign(Domain::OFF_CHAIN, receipt, &key(4));
    let list = list(NOW, &[(token().id(), NOW)]);
    let seeds = [
        (
            "permission_text/token",
            token().to_text().unwrap().into_bytes(),
        ),
        (
            "permission_text/issuers_token",
            as_issuer(|_| ()).to_text().unwrap().into_bytes(),
        ),
        (
            "permission_text/chain",
            chain().to_text().unwrap().into_bytes(),
        ),
        (
            "permission_text/permission_json",
            permission_file::render(&token()).unwrap(),
        ),
        (
            "permission_text/grant_json",
            grant_file::render(&chain()).unwrap(),
        ),
        (
            "permission_text/issuers_json",
            issuers_file::render(&issuers()).unwrap(),
        ),
        (
            "permission_text/revocations_json",
            revocations_file::render(&list).unwrap(),
        ),
        (
            "permission_text/request_json",
            br#"{"model":"m","messages":[{"role":"user","content":"a\n\u20ac"}],"max_tokens":3}"#
                .to_vec(),
        ),
        ("receipt_text/text", receipt.to_text().into_bytes()),
        ("receipt_text/json", receipt_file::render(&receipt).unwrap()),
    ];
    for (name, bytes) in seeds {
        let path = folder.join(name);
        if std::env::var_os("OML_WRITE_SEEDS").is_some() {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, &bytes).unwrap();
        }
        assert_eq!(fs::read(&path).unwrap(), bytes, "{name}");
    }
}

mod any {
    use oml_core::signing::Signature;
    use proptest::prelude::*;

    use super::*;

    fn scope() -> impl Strategy<Value = Scope> {
        let words = || prop::collection::btree_set("[ -~]{1,12}", 0..4);
        let number = || prop::option::of(any::<u32>());
        (
            words(),
            words(),
            words(),
            number(),
            number(),
            any::<(bool, bool)>(),
        )
            .prop_map(
                |(
                    purposes,
                    regions,
                    versions,
                    max_tokens,
                    calls_per_minute,
                    (any_input, rises),
                )| Scope {
                    purposes: purposes.into_iter().collect(),
                    regions: regions.into_iter().collect(),
                    model_versions: versions.into_iter().collect(),
                    max_tokens,
                    calls_per_minute,
                    any_input,
                    replay: if rises { Replay::Sequence } else { Replay::Set },
                },
            )
    }

    fn domain() -> impl Strategy<Value = Domain> {
        any::<(Option<u64>, Option<[u8; 20]>)>().prop_map(|(chain_id, contract)| Domain {
            chain_id,
            verifying_contract: contract.map(Address),
        })
    }

    fn signature() -> impl Strategy<Value = Signature> {
        any::<([u8; 32], [u8; 32], u8)>().prop_map(|(r, s, v)| {
            let mut bytes = [v; 65];
            bytes[..32].copy_from_slice(&r);
            bytes[32..64].copy_from_slice(&s);
            Signature(bytes)
        })
    }

    fn grant() -> impl Strategy<Value = SignedGrant> {
        let words = any::<([u8; 32], [u8; 32], [[u8; 20]; 3])>();
        let numbers = any::<(u64, u128, u64, u64, u128)>();
        (words, numbers, scope(), signature()).prop_map(
            |((model, parent, [licensee, delegate, host]), numbers, scope, signature)| {
                let (max_calls, max_spend, not_before, not_after, nonce) = numbers;
                let grant = Grant {
                    model: ModelId(model),
                    parent,
                    licensee: Address(licensee),
                    delegate: Address(delegate),
                    host: Address(host),
                    max_calls,
                    max_spend,
                    scope_hash: scope.hash(),
                    not_before,
                    not_after,
                    nonce,
                };
                SignedGrant {
                    grant,
                    scope,
                    signature,
                }
            },
        )
    }

    fn token() -> impl Strategy<Value = Token> {
        let words = any::<([u8; 32], [u8; 32], [u8; 32], [u8; 20], [u8; 20])>();
        let numbers = any::<(u128, u128, u64, u64)>();
        let grants = prop::collection::vec(grant(), 0..=4);
        (domain(), grants, words, numbers, signature()).prop_map(
            |(domain, grants, (model, grant, input_hash, licensee, host), numbers, signature)| {
                let (nonce, cumulative, issued_at, deadline) = numbers;
                let permission = Permission {
                    model: ModelId(model),
                    grant,
                    licensee: Address(licensee),
                    host: Address(host),
                    input_hash,
                    nonce,
                    cumulative,
                    issued_at,
                    deadline,
                };
                Token {
                    domain,
                    grants,
                    permission,
                    signature,
                }
            },
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn tokens_come_back_from_text_and_files(token in token()) {
            let text = token.to_text().unwrap();
            prop_assert_eq!(Token::from_text(&text).unwrap(), token.clone());
            let bytes = permission_file::render(&token).unwrap();
            prop_assert_eq!(permission_file::parse(&bytes).unwrap(), token.clone());
            let (domain, grants) = (token.domain, token.grants);
            if !grants.is_empty() {
                let chain = Chain { domain, grants };
                let text = chain.to_text().unwrap();
                prop_assert_eq!(Chain::from_text(&text).unwrap(), chain.clone());
                let bytes = grant_file::render(&chain).unwrap();
                prop_assert_eq!(grant_file::parse(&bytes).unwrap(), chain);
            }
        }

        #[test]
        fn a_changed_character_is_another_token_or_none(place in 5_usize..400, letter in "[A-Za-z0-9_-]") {
            let token = super::token();
            let mut text = token.to_text().unwrap();
            let same = text[place..].starts_with(&letter);
            text.replace_range(place..=place, &letter);
            match Token::from_text(&text) {
                Ok(read) => {
                    prop_assert_eq!(read == token, same);
                    prop_assert_eq!(read.to_text().unwrap(), text);
                    prop_assert_eq!(super::code(&read) == "valid", same);
                }
                Err(_) => prop_assert!(!same),
            }
        }
    }
}
