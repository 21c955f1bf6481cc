//! What counts as a permission, and every reason against one by its code.

use std::collections::BTreeSet;

use oml_core::permission::{TextError, UNLIMITED_CALLS, UNLIMITED_SPEND};

use super::*;

#[test]
fn a_permission_under_a_grant_counts() {
    let token = token();
    let verified = verify(&token, &authority(), |_| ()).unwrap();
    let id = token.grants[0].grant.id(&Domain::OFF_CHAIN);
    assert_eq!(verified.id, token.id());
    assert_eq!(verified.budget_key, id);
    assert_eq!(verified.grants.len(), 1);
    assert_eq!(verified.grants[0].id, id);
    assert_eq!(verified.grants[0].max_calls, 1000);
    assert_eq!(verified.grants[0].max_spend, 5_000_000);
    assert!(verified.grants[0].limits_calls() && verified.grants[0].limits_spend());
    assert_eq!(verified.licensee, licensee());
    assert_eq!(verified.issuer, issuer().address());
    assert_eq!(verified.signer, delegate().address());
    assert_eq!(verified.replay, Replay::Set);
    assert_eq!((verified.nonce, verified.cumulative), (9, 100));
    assert_eq!(verified.purpose.as_deref(), Some("research"));
    assert_eq!(verified.max_tokens, Some(256));
    assert_eq!(verified.calls_per_minute, Some(60));
}

#[test]
fn a_permission_of_the_issuer_needs_no_grant() {
    let open = as_issuer(|permission| permission.input_hash = NONE);
    for token in [as_issuer(|_| ()), open] {
        let verified = verify(&token, &authority(), |call| call.purpose = None).unwrap();
        assert_eq!(verified.budget_key, token.id());
        assert_eq!(verified.issuer, verified.signer);
        assert!(verified.grants.is_empty());
    }
}

#[test]
fn four_grants_count_and_the_innermost_limits() {
    let mut chain = chain();
    let mut scope = scope();
    for depth in 1..4_u32 {
        scope.max_tokens = Some(256 - depth);
        scope.calls_per_minute = Some(60 - depth);
        chain = attenuated(
            chain,
            |grant| {
                grant.delegate = delegate().address();
                grant.max_calls = 1000 - u64::from(depth);
            },
            scope.clone(),
        );
    }
    let token = Token::sign_under(&chain, permission(), &delegate());
    let verified = verify(&token, &authority(), |call| call.max_tokens = Some(253)).unwrap();
    assert_eq!(verified.grants.len(), 4);
    assert_eq!(verified.grants[3].max_calls, 997);
    assert_eq!(verified.grants[2].calls_per_minute, Some(58));
    assert_eq!(verified.max_tokens, Some(253));
    assert_eq!(code(&token), "too_many_tokens");

    let five = attenuated(chain, |grant| grant.delegate = delegate().address(), scope);
    let token = Token::sign_under(&five, permission(), &delegate());
    assert_eq!(code(&token), "too_many_grants");
    assert_eq!(token.to_text(), Err(TextError::Grants { least: 0, got: 5 }));
}

#[test]
fn another_place_or_time_is_refused() {
    let token = token();
    assert_eq!(code(&token), "valid");
    let domains = [
        Domain {
            chain_id: Some(1),
            ..Domain::OFF_CHAIN
        },
        Domain {
            chain_id: Some(31337),
            verifying_contract: Some(host()),
        },
    ];
    for domain in domains {
        let elsewhere = authority_with(|issuers| issuers.domain = domain, &[]);
        let refused = verify(&token, &elsewhere, |_| ());
        assert_eq!(code_of(refused), "wrong_domain");
        // What is signed for no chain does not count on one that is written over it.
        let mut moved = token.clone();
        moved.domain = domain;
        let refused = verify(&moved, &elsewhere, |_| ());
        assert_eq!(code_of(refused), "broken_chain");
        let mut moved = as_issuer(|_| ());
        moved.domain = domain;
        let refused = verify(&moved, &elsewhere, |_| ());
        assert_eq!(code_of(refused), "unknown_issuer");
    }
    let other_model = |call: &mut Call<'_>| call.model = ModelId([4; 32]);
    let other_host = |call: &mut Call<'_>| call.host = key(9).address();
    assert_eq!(code_called(&token, other_model), "wrong_model");
    assert_eq!(code_called(&token, other_host), "wrong_host");
    let elsewhere = under(|grant, _| grant.host = key(9).address());
    assert_eq!(code(&elsewhere), "wrong_host");
    let of_another = under(|grant, _| grant.model = ModelId([4; 32]));
    assert_eq!(code(&of_another), "wrong_model");

    let at = |now| code_called(&token, |call| call.now = now);
    assert_eq!(at(NOW - 10 - SKEW), "valid");
    assert_eq!(at(NOW - 10 - SKEW - 1), "not_yet_valid");
    assert_eq!(at(NOW + 300 + SKEW), "valid");
    assert_eq!(at(NOW + 300 + SKEW + 1), "expired");
    assert_eq!(at(0), "not_yet_valid");
    assert_eq!(at(u64::MAX), "expired");
    let backwards = token_with(|permission| permission.deadline = permission.issued_at - 1);
    assert_eq!(code(&backwards), "impossible_times");
    let backwards = under(|grant, _| {
        grant.not_after = NOW;
        grant.not_before = NOW + 1;
    });
    assert_eq!(code(&backwards), "impossible_times");
    let early = under(|grant, _| grant.not_before = NOW + SKEW + 1);
    assert_eq!(code(&early), "grant_not_yet_valid");
    let late = under(|grant, _| grant.not_after = NOW - SKEW - 1);
    assert_eq!(code(&late), "grant_expired");
    let before = token_with(|permission| permission.issued_at = NOW - 1001);
    assert_eq!(code(&before), "wider_time");
    let after = token_with(|permission| permission.deadline = NOW + 1001);
    assert_eq!(code(&after), "wider_time");
}

#[test]
fn another_input_is_refused() {
    let token = token();
    let other_salt = InputSalt::new([7; 32]);
    let missing = code_called(&token, |call| call.input = None);
    assert_eq!(missing, "salt_missing");
    let salt = salt();
    for (canonical, salt) in [(INPUT, &other_salt), (br#"{"prompt":"Ho"}"#, &salt)] {
        let call = token.verify(
            &Call {
                model: MODEL,
                host: host(),
                now: NOW,
                skew: 0,
                input: Some(Input { canonical, salt }),
                purpose: Some("research"),
                region: Some("eu"),
                model_version: Some("1"),
                max_tokens: Some(1),
            },
            &authority(),
            &GrantCache::new(8),
        );
        assert_eq!(code_of(call), "wrong_input");
    }
    let open = token_with(|permission| permission.input_hash = NONE);
    assert_eq!(code(&open), "any_input");
    let mut allowed = chain_of(grant(), {
        let mut scope = scope();
        scope.any_input = true;
        scope
    });
    let mut any = permission();
    any.input_hash = NONE;
    let token = Token::sign_under(&allowed, any, &delegate());
    assert_eq!(code_called(&token, |call| call.input = None), "valid");
    // The innermost grant decides.
    allowed = attenuated(allowed, |_| (), scope());
    let token = Token::sign_under(&allowed, any, &inner());
    assert_eq!(code(&token), "any_input");
}

#[test]
fn a_chain_that_does_not_hang_together_is_refused() {
    assert_eq!(code(&under_two(|_| (), scope())), "valid");
    let of_issuer = under(|grant, _| grant.parent = [1; 32]);
    assert_eq!(code(&of_issuer), "broken_chain");
    let orphan = under_two(|grant| grant.parent = NONE, scope());
    assert_eq!(code(&orphan), "broken_chain");
    let mut without_outer = under_two(|_| (), scope());
    without_outer.grants.remove(0);
    assert_eq!(code(&without_outer), "broken_chain");
    let mut swapped = under_two(|_| (), scope());
    swapped.grants.swap(0, 1);
    assert_eq!(code(&swapped), "broken_chain");
    let mut without_inner = under_two(|_| (), scope());
    without_inner.grants.pop();
    assert_eq!(code(&without_inner), "broken_chain");
    let mut none = token();
    none.grants.clear();
    assert_eq!(code(&none), "broken_chain");
    let mut scope_of_another = token();
    scope_of_another.grants[0].scope.max_tokens = None;
    assert_eq!(code(&scope_of_another), "scope_hash");

    type Change = fn(&mut Grant);
    let wider: [(Change, &str); 8] = [
        (|grant| grant.model = ModelId([4; 32]), "wrong_model"),
        (|grant| grant.licensee = key(9).address(), "wrong_licensee"),
        (|grant| grant.max_calls = 1001, "wider_calls"),
        (|grant| grant.max_calls = UNLIMITED_CALLS, "wider_calls"),
        (|grant| grant.max_spend = UNLIMITED_SPEND, "wider_spend"),
        (|grant| grant.not_before -= 1, "wider_time"),
        (|grant| grant.not_after += 1, "wider_time"),
        (|grant| grant.delegate = key(9).address(), "wrong_signer"),
    ];
    for (change, expected) in wider {
        assert_eq!(code(&under_two(change, scope())), expected);
    }
    let mut grant = grant();
    grant.host = host();
    let narrow = attenuated(
        chain_of(grant, scope()),
        |grant| grant.host = Address::ZERO,
        scope(),
    );
    let token = Token::sign_under(&narrow, permission(), &inner());
    assert_eq!(code(&token), "wider_host");
    let other = token_with(|permission| permission.licensee = key(9).address());
    assert_eq!(code(&other), "wrong_licensee");
}

#[test]
fn budgets_bound_what_is_promised() {
    let spent = token_with(|permission| permission.cumulative = 5_000_000);
    assert_eq!(code(&spent), "valid");
    let over = token_with(|permission| permission.cumulative = 5_000_001);
    assert_eq!(code(&over), "over_spend");
    let no_calls = under(|grant, _| grant.max_calls = 0);
    assert_eq!(code(&no_calls), "over_calls");
    let unlimited = under(|grant, _| {
        (grant.max_calls, grant.max_spend) = (UNLIMITED_CALLS, UNLIMITED_SPEND);
    });
    let verified = verify(&unlimited, &authority(), |_| ()).unwrap();
    assert!(!verified.grants[0].limits_calls() && !verified.grants[0].limits_spend());
}

#[test]
fn a_scope_narrows_in_every_field() {
    type Change = fn(&mut Scope);
    let wider: [(Change, &str); 12] = [
        (|scope| scope.purposes.clear(), "purposes"),
        (|scope| scope.purposes = vec!["war".into()], "purposes"),
        (|scope| scope.regions.clear(), "regions"),
        (|scope| scope.regions.push("us".into()), "regions"),
        (|scope| scope.model_versions.clear(), "model_versions"),
        (
            |scope| scope.model_versions = vec!["3".into()],
            "model_versions",
        ),
        (|scope| scope.max_tokens = None, "max_tokens"),
        (|scope| scope.max_tokens = Some(257), "max_tokens"),
        (|scope| scope.calls_per_minute = None, "calls_per_minute"),
        (
            |scope| scope.calls_per_minute = Some(61),
            "calls_per_minute",
        ),
        (|scope| scope.any_input = true, "any_input"),
        (|scope| scope.replay = Replay::Sequence, "replay"),
    ];
    for (change, field) in wider {
        let mut inner = scope();
        change(&mut inner);
        assert_eq!(inner.narrows(&scope()), Err(Refusal::WiderScope { field }));
        assert_eq!(code(&under_two(|_| (), inner)), "wider_scope");
    }
    let narrower: [Change; 4] = [
        |scope| scope.purposes = vec!["research".into()],
        |scope| scope.model_versions = vec!["2".into()],
        |scope| scope.max_tokens = Some(0),
        |scope| scope.calls_per_minute = Some(1),
    ];
    for change in narrower {
        let mut inner = scope();
        change(&mut inner);
        assert_eq!(inner.narrows(&scope()), Ok(()));
    }
    assert_eq!(scope().narrows(&Scope::default()), Ok(()));
}

#[test]
fn a_call_outside_the_scope_is_refused() {
    type Change = fn(&mut Call<'_>);
    let outside: [(Change, &str); 8] = [
        (|call| call.purpose = Some("war"), "wrong_purpose"),
        (|call| call.purpose = None, "wrong_purpose"),
        (|call| call.region = Some("us"), "wrong_region"),
        (|call| call.region = None, "wrong_region"),
        (|call| call.model_version = Some("3"), "wrong_model_version"),
        (|call| call.model_version = None, "wrong_model_version"),
        (|call| call.max_tokens = Some(257), "too_many_tokens"),
        (|call| call.max_tokens = None, "too_many_tokens"),
    ];
    for (change, expected) in outside {
        assert_eq!(code_called(&token(), change), expected);
    }
    let open = under(|_, scope| *scope = Scope::default());
    for (change, _) in outside {
        assert_eq!(code_called(&open, change), "valid");
    }
}

#[test]
fn what_another_key_signed_is_refused() {
    let stranger = key(9);
    let forged = Token::sign_under(&chain(), permission(), &stranger);
    assert_eq!(code(&forged), "wrong_signer");
    let by_issuer = Token::sign_under(&chain(), permission(), &issuer());
    assert_eq!(code(&by_issuer), "wrong_signer");
    let forged = Token::sign_as_issuer(Domain::OFF_CHAIN, permission(), &stranger);
    assert_eq!(code(&forged), "unknown_issuer");
    let mut own_grant = chain();
    own_grant.grants[0] = SignedGrant::sign(&Domain::OFF_CHAIN, grant(), scope(), &stranger);
    let forged = Token::sign_under(&own_grant, permission(), &delegate());
    assert_eq!(code(&forged), "unknown_issuer");
    let mut by_itself = attenuated(chain(), |_| (), scope());
    by_itself.grants[1] = SignedGrant::sign(
        &Domain::OFF_CHAIN,
        by_itself.grants[1].grant,
        scope(),
        &inner(),
    );
    let forged = Token::sign_under(&by_itself, permission(), &inner());
    assert_eq!(code(&forged), "wrong_signer");
    // Altered after it was signed: somebody else's signature, of nobody known.
    let mut altered = token();
    altered.permission.cumulative = 1;
    assert_eq!(code(&altered), "wrong_signer");
}

#[test]
fn what_is_no_signature_is_refused() {
    let mut malleable = token();
    high_s(&mut malleable.signature.0);
    assert_eq!(code(&malleable), "malleable_signature");
    let mut malleable = token();
    high_s(&mut malleable.grants[0].signature.0);
    assert_eq!(code(&malleable), "malleable_signature");
    for bytes in [[0; 65], [0xff; 65]] {
        let mut none = token();
        none.signature.0 = bytes;
        assert_eq!(code(&none), "bad_signature");
    }
    let mut v = token();
    v.signature.0[64] -= 27;
    assert_eq!(code(&v), "bad_signature");
}

#[test]
fn an_issuer_signs_while_in_office() {
    let with = |from, revoked_at| {
        authority_with(
            |issuers| issuers.issuers[0].tenure = Tenure { from, revoked_at },
            &[],
        )
    };
    let under_grant = token();
    let direct = as_issuer(|_| ());
    let code = |token: &Token, authority: &FileAuthority| code_of(verify(token, authority, |_| ()));
    // The grant begins at NOW - 1000, the permission was issued at NOW - 10.
    assert_eq!(code(&under_grant, &with(NOW - 1000, None)), "valid");
    assert_eq!(code(&under_grant, &with(NOW - 999, None)), "issuer_not_yet");
    assert_eq!(code(&direct, &with(NOW - 10, None)), "valid");
    assert_eq!(code(&direct, &with(NOW - 9, None)), "issuer_not_yet");
    for token in [&under_grant, &direct] {
        assert_eq!(code(token, &with(0, Some(NOW + 1))), "valid");
        assert_eq!(code(token, &with(0, Some(NOW))), "issuer_revoked");
        // Long after it was signed, the key is revoked: what it signed no longer counts.
        assert_eq!(code(token, &with(0, Some(NOW - 1))), "issuer_revoked");
    }
    // Within the skew, a time of signing after the end does not count either.
    let ahead = as_issuer(|permission| permission.issued_at = NOW + 20);
    assert_eq!(code(&ahead, &with(0, Some(NOW + 10))), "issuer_revoked");
    let nobody = authority_with(|issuers| issuers.issuers[0].model = ModelId([4; 32]), &[]);
    assert_eq!(code(&direct, &nobody), "unknown_issuer");
}

#[test]
fn what_is_revoked_is_refused_from_its_time_on() {
    let token = under_two(|_| (), scope());
    let ids = Chain {
        domain: token.domain,
        grants: token.grants.clone(),
    };
    let ids = ids.check().unwrap();
    for (id, expected) in [
        (ids[0], "grant_revoked"),
        (ids[1], "grant_revoked"),
        (token.id(), "permission_revoked"),
        ([1; 32], "valid"),
    ] {
        let authority = authority_with(|_| (), &[list(NOW - 50, &[(id, NOW - 5)])]);
        assert_eq!(code_of(verify(&token, &authority, |_| ())), expected);
        let before = verify(&token, &authority, |call| call.now = NOW - 6);
        assert_eq!(code_of(before), "valid");
    }
    // Of two lists, everything in any of them counts, at the earliest time.
    let lists = [
        list(NOW - 50, &[(token.id(), NOW - 5)]),
        list(NOW - 40, &[(token.id(), NOW - 3)]),
        list(NOW - 30, &[]),
    ];
    let authority = authority_with(|_| (), &lists);
    assert_eq!(authority.revoked_at(&MODEL, &token.id()), Some(NOW - 5));
    // Another model's issuer revokes nothing of this one.
    assert_eq!(authority.revoked_at(&ModelId([4; 32]), &token.id()), None);
}

#[test]
fn a_view_that_is_too_old_is_refused() {
    let token = token();
    let bounded = |issuers: &mut Issuers| issuers.max_age = Some(60);
    let code = |lists: &[SignedRevocations], change: fn(&mut Issuers)| {
        let authority = authority_with(
            |issuers| {
                bounded(issuers);
                change(issuers);
            },
            lists,
        );
        code_of(verify(&token, &authority, |_| ()))
    };
    assert_eq!(code(&[], |_| ()), "stale_view");
    assert_eq!(code(&[list(NOW - 60, &[])], |_| ()), "valid");
    assert_eq!(code(&[list(NOW - 61, &[])], |_| ()), "stale_view");
    assert_eq!(
        code(&[list(NOW - 61, &[]), list(NOW - 1, &[])], |_| ()),
        "valid"
    );
    assert_eq!(code(&[list(NOW + SKEW, &[])], |_| ()), "valid");
    assert_eq!(code(&[list(NOW + SKEW + 1, &[])], |_| ()), "future_view");
    // A second issuer without a list makes the view as old as can be, until its key is revoked.
    let second = |revoked_at| Issuer {
        model: MODEL,
        address: key(8).address(),
        tenure: Tenure {
            from: 0,
            revoked_at,
        },
    };
    let lists = [list(NOW - 1, &[])];
    assert_eq!(
        code(&lists, |issuers| issuers.issuers.push(Issuer {
            model: MODEL,
            address: key(8).address(),
            tenure: Tenure {
                from: 0,
                revoked_at: None
            }
        })),
        "stale_view"
    );
    for (revoked_at, expected) in [(Some(NOW), "valid"), (Some(NOW + 1), "stale_view")] {
        let authority = authority_with(
            |issuers| {
                bounded(issuers);
                issuers.issuers.push(second(revoked_at));
            },
            &lists,
        );
        assert_eq!(code_of(verify(&token, &authority, |_| ())), expected);
    }
}

#[test]
fn lists_are_taken_from_issuers_alone() {
    let fault = |issuers: &Issuers, list: SignedRevocations| {
        FileAuthority::new(issuers, &[list])
            .unwrap_err()
            .to_string()
    };
    let stranger =
        SignedRevocations::sign(Domain::OFF_CHAIN, RevocationList::new(MODEL, NOW), &key(9));
    let signer = key(9).address();
    assert_eq!(
        fault(&issuers(), stranger),
        format!(
            "revocation list 0: expected a signature of an issuer of its model at its time, got one of {signer}"
        )
    );
    let mut altered = list(NOW, &[([1; 32], 5)]);
    altered.list.revoke([2; 32], 5);
    assert!(fault(&issuers(), altered).contains("expected a signature of an issuer"));
    let mut ended = issuers();
    ended.issuers[0].tenure.revoked_at = Some(NOW);
    assert!(fault(&ended, list(NOW, &[])).contains("expected a signature of an issuer"));
    assert!(FileAuthority::new(&ended, &[list(NOW - 1, &[])]).is_ok());
    assert!(fault(&issuers(), list(NOW - 5001, &[])).contains("expected a signature of an issuer"));
    let mut malleable = list(NOW, &[]);
    high_s(&mut malleable.signature.0);
    assert!(fault(&issuers(), malleable).contains("expected at most half of the group's order"));
    let mut elsewhere = issuers();
    elsewhere.domain.chain_id = Some(1);
    assert!(fault(&elsewhere, list(NOW, &[])).contains("expected the chain and contract"));
    let mut twice = issuers();
    twice.issuers.push(twice.issuers[0]);
    let error = FileAuthority::new(&twice, &[]).unwrap_err().to_string();
    assert!(error.starts_with("issuers[1]: expected each issuer of a model once"));
}

#[test]
fn known_grants_are_not_recovered_again_and_change_nothing() {
    let cache = GrantCache::new(64);
    let salt = salt();
    let call = |token: &Token| {
        let call = Call {
            model: MODEL,
            host: host(),
            now: NOW,
            skew: 0,
            input: Some(Input {
                canonical: INPUT,
                salt: &salt,
            }),
            purpose: Some("research"),
            region: Some("eu"),
            model_version: Some("2"),
            max_tokens: Some(1),
        };
        token.verify(&call, &authority(), &cache)
    };
    let token = under_two(|_| (), scope());
    let first = call(&token).unwrap();
    assert_eq!(call(&token).unwrap(), first);
    // A known grant with another signature, or under another permission, is judged as before.
    let mut malleable = token.clone();
    high_s(&mut malleable.grants[0].signature.0);
    assert_eq!(code_of(call(&malleable)), "malleable_signature");
    let mut stolen = token.clone();
    stolen.signature = key(9).sign(&stolen.id());
    assert_eq!(code_of(call(&stolen)), "wrong_signer");
}

#[test]
fn every_reason_has_a_code_of_its_own() {
    let source = include_str!("../../../src/permission/refusal.rs");
    let table = source.split("pub const fn code").nth(1).unwrap();
    let codes: Vec<_> = table.split('"').skip(1).step_by(2).collect();
    assert!(codes.len() > 35, "{codes:?}");
    assert_eq!(codes.iter().collect::<BTreeSet<_>>().len(), codes.len());
}
