//! Every reason not to answer, by its code. Whatever the gate does not check itself is held to its codes in oml-core.

use std::sync::{Arc, Mutex};

use oml_core::eip712::Domain;
use oml_core::merkle::Hash;
use oml_core::permission::{
    Authority, FileAuthority, Grant, ModelId, Permission, Replay, Scope, Tenure, Token, View,
};
use oml_core::signing::Address;
use oml_server::gateway::Limits;
use serde_json::{Value, json};

use super::server::*;

fn body() -> Value {
    json!({"model": "m", "messages": [{"role": "user", "content": "one two"}]})
}

/// What the gateway says to a permission that is used once.
fn said(server: &Server, header: &str) -> (u16, String) {
    let answer = server.ask(Some(header), CHAT, &body());
    (answer.status, answer.code())
}

fn refused(server: &Server, header: &str, status: u16, code: &str) {
    assert_eq!(said(server, header), (status, code.to_owned()));
}

#[test]
fn no_permission_gets_an_offer() {
    let server = Server::start(Setup::default());
    let answer = server.ask(None, CHAT, &body());
    assert_eq!(answer.status, 402);
    assert_eq!(answer.header("oml-code"), Some("no_permission"));
    let offer = data_encoding::BASE64
        .decode(answer.header("payment-required").unwrap().as_bytes())
        .unwrap();
    let offer: Value = serde_json::from_slice(&offer).unwrap();
    assert_eq!(offer["x402Version"], 2);
    assert_eq!(offer["resource"]["url"], CHAT);
    let own = &offer["extensions"]["oml"];
    assert_eq!(own["model"], MODEL.to_string());
    assert_eq!(own["host"], host().to_string());
    assert_eq!(
        (&own["price"], &own["issuer"]),
        (&json!("3"), &json!("https://issuer.example"))
    );
    assert_eq!(answer.json()["extensions"], offer["extensions"]);
}

#[test]
fn a_used_permission_is_used() {
    let server = Server::start(Setup::default());
    let token = issued(permission());
    assert_eq!(server.ask(Some(&token), CHAT, &body()).status, 200);
    refused(&server, &token, 403, "replayed");
    // Other spellings of the same permission are the same.
    refused(&server, &format!("{token}; purpose=x"), 403, "replayed");
    refused(
        &server,
        &format!("{token}; salt={}", "ab".repeat(32)),
        403,
        "replayed",
    );
}

#[test]
fn of_many_at_once_one_is_answered() {
    let server = Server::start(Setup::default());
    for _ in 0..5 {
        let token = issued(permission());
        let answered = Mutex::new(0);
        std::thread::scope(|scope| {
            for _ in 0..16 {
                scope.spawn(|| {
                    let answer = server.ask(Some(&token), CHAT, &body());
                    match answer.status {
                        200 => *answered.lock().unwrap() += 1,
                        _ => assert_eq!(answer.code(), "replayed"),
                    }
                });
            }
        });
        assert_eq!(answered.into_inner().unwrap(), 1);
    }
}

#[test]
fn a_restart_forgets_nothing() {
    let token = issued(permission());
    let server = Server::start(Setup::default());
    assert_eq!(server.ask(Some(&token), CHAT, &body()).status, 200);
    let folder = Some(server.folder.clone());
    drop(server);
    let server = Server::start(Setup {
        folder,
        ..Setup::default()
    });
    refused(&server, &token, 403, "replayed");
}

#[test]
fn permissions_of_others_and_other_times() {
    let server = Server::start(Setup::default());
    let own = permission();
    let with = |change: &dyn Fn(&mut Permission)| {
        let mut permission = own;
        change(&mut permission);
        issued(permission)
    };
    for (change, status, code) in [
        (
            &(|p: &mut Permission| p.model = ModelId([8; 32])) as &dyn Fn(&mut Permission),
            403,
            "wrong_model",
        ),
        (&|p| p.host = key(4).address(), 403, "wrong_host"),
        (&|p| p.issued_at += 30, 403, "not_yet_valid"),
        (
            &|p| (p.issued_at, p.deadline) = (p.issued_at - 60, p.issued_at - 10),
            403,
            "expired",
        ),
        (&|p| p.deadline = p.issued_at + 3601, 403, "life_too_long"),
        (&|p| p.input_hash = [1; 32], 403, "salt_missing"),
    ] {
        refused(&server, &with(change), status, code);
    }
    let stranger = Token::sign_as_issuer(Domain::OFF_CHAIN, own, &key(4));
    refused(&server, &stranger.to_text().unwrap(), 401, "unknown_issuer");
    let chain = Domain {
        chain_id: Some(1),
        verifying_contract: None,
    };
    let elsewhere = Token::sign_as_issuer(chain, own, &key(1));
    refused(&server, &elsewhere.to_text().unwrap(), 401, "wrong_domain");
    let revoked = Server::start(Setup {
        authority: Arc::new(authority(Some(now() - 1))),
        ..Setup::default()
    });
    refused(&revoked, &issued(own), 403, "issuer_revoked");
}

#[test]
fn a_permission_is_for_its_input() {
    let server = Server::start(Setup::default());
    let header = bound(&body());
    let other = json!({"model": "m", "messages": [{"role": "user", "content": "one two "}]});
    let answer = server.ask(Some(&header), CHAT, &other);
    assert_eq!(
        (answer.status, answer.code().as_str()),
        (403, "wrong_input")
    );
    refused(&server, &header.replace("09", "0a"), 403, "wrong_input");
    // The refusals used nothing.
    assert_eq!(server.ask(Some(&header), CHAT, &body()).status, 200);
}

#[test]
fn headers_that_are_none() {
    let server = Server::start(Setup::default());
    let token = issued(permission());
    // Whole groups of four digits, so that it is the bytes that are missing.
    let cut = &token[..5 + (token.len() - 9) / 4 * 4];
    for (header, code) in [
        ("", "text_prefix"),
        ("Bearer x", "text_prefix"),
        ("oml1.", "text_truncated"),
        (cut, "text_truncated"),
        (&format!("{token}AAAA"), "text_trailing"),
        (&format!("{token}="), "text_encoding"),
        (&format!("oml1.{}", "A".repeat(9000)), "text_too_long"),
        (&format!("oml1.{}", "A".repeat(11_000)), "header"),
        (&format!("{token}; salt=zz"), "header"),
        (
            &format!("{token}; salt={0}; salt={0}", "ab".repeat(32)),
            "header",
        ),
        (&format!("{token}; purpose="), "header"),
        (&format!("{token}; other=1"), "header"),
    ] {
        refused(&server, header, 401, code);
    }
    // High s: the same signature in its other spelling.
    let mut malleable = Token::from_text(&token).unwrap();
    let order = data_encoding::HEXUPPER
        .decode(b"FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141")
        .unwrap();
    let mut borrow = 0i16;
    for i in (0..32).rev() {
        let digit = i16::from(order[i]) - i16::from(malleable.signature.0[32 + i]) - borrow;
        borrow = i16::from(digit < 0);
        malleable.signature.0[32 + i] = digit.rem_euclid(256) as u8;
    }
    malleable.signature.0[64] ^= 27 ^ 28;
    refused(
        &server,
        &malleable.to_text().unwrap(),
        401,
        "malleable_signature",
    );
    assert_eq!(server.ask(Some(&token), CHAT, &body()).status, 200);
}

#[test]
fn budgets_end() {
    let mut setup = Setup::default();
    setup.terms.price = 5;
    let server = Server::start(setup);
    let calls = chain(
        Grant {
            max_calls: 2,
            ..grant()
        },
        open_scope(),
    );
    let promise = |cumulative| Permission {
        cumulative,
        ..permission()
    };
    refused(&server, &under(&calls, promise(4)), 402, "underpaid");
    assert_eq!(
        server
            .ask(Some(&under(&calls, promise(10))), CHAT, &body())
            .status,
        200
    );
    assert_eq!(
        server
            .ask(Some(&under(&calls, promise(5))), CHAT, &body())
            .status,
        200
    );
    let spent = server.ask(Some(&under(&calls, promise(15))), CHAT, &body());
    assert_eq!((spent.status, spent.code().as_str()), (402, "over_calls"));
    assert!(spent.header("payment-required").is_some());
    let spend = chain(
        Grant {
            max_spend: 9,
            ..grant()
        },
        open_scope(),
    );
    refused(&server, &under(&spend, promise(10)), 402, "over_spend");
    assert_eq!(
        server
            .ask(Some(&under(&spend, promise(9))), CHAT, &body())
            .status,
        200
    );
    refused(&server, &under(&spend, promise(9)), 402, "over_spend");
    // What the issuer signed itself is paid.
    assert_eq!(
        server
            .ask(Some(&issued(permission())), CHAT, &body())
            .status,
        200
    );
}

#[test]
fn a_sequence_rises() {
    let server = Server::start(Setup::default());
    let scope = Scope {
        replay: Replay::Sequence,
        ..open_scope()
    };
    let chain = chain(grant(), scope);
    let number = |nonce| {
        let deadline = now() + 60 - nonce as u64;
        let own = permission();
        under(
            &chain,
            Permission {
                nonce,
                deadline,
                ..own
            },
        )
    };
    assert_eq!(server.ask(Some(&number(5)), CHAT, &body()).status, 200);
    refused(&server, &number(5), 403, "replayed");
    // The same number in another permission.
    let other = Permission {
        nonce: 5,
        deadline: now() + 70,
        ..permission()
    };
    refused(&server, &under(&chain, other), 403, "out_of_sequence");
    refused(&server, &number(4), 403, "out_of_sequence");
    assert_eq!(server.ask(Some(&number(6)), CHAT, &body()).status, 200);
}

#[test]
fn scopes_limit() {
    let server = Server::start(Setup::default());
    let words = |word: &str| vec![word.to_owned()];
    for (scope, code) in [
        (
            Scope {
                purposes: words("research"),
                ..open_scope()
            },
            "wrong_purpose",
        ),
        (
            Scope {
                regions: words("us"),
                ..open_scope()
            },
            "wrong_region",
        ),
        (
            Scope {
                model_versions: words("v2"),
                ..open_scope()
            },
            "wrong_model_version",
        ),
        (Scope::default(), "any_input"),
    ] {
        refused(
            &server,
            &under(&chain(grant(), scope), permission()),
            403,
            code,
        );
    }
    let research = chain(
        grant(),
        Scope {
            purposes: words("research"),
            ..open_scope()
        },
    );
    let header = format!("{}; purpose=research", under(&research, permission()));
    assert_eq!(server.ask(Some(&header), CHAT, &body()).status, 200);
    let short = chain(
        grant(),
        Scope {
            max_tokens: Some(1),
            ..open_scope()
        },
    );
    let mut long = body();
    long["max_tokens"] = json!(2);
    let answer = server.ask(Some(&under(&short, permission())), CHAT, &long);
    assert_eq!(
        (answer.status, answer.code().as_str()),
        (403, "too_many_tokens")
    );
    // Who asks for no length gets what the grant allows.
    let answer = server.ask(Some(&under(&short, permission())), CHAT, &body());
    assert_eq!(answer.json()["choices"][0]["message"]["content"], "one ");
    let slow = chain(
        grant(),
        Scope {
            calls_per_minute: Some(1),
            ..open_scope()
        },
    );
    assert_eq!(
        server
            .ask(Some(&under(&slow, permission())), CHAT, &body())
            .status,
        200
    );
    refused(&server, &under(&slow, permission()), 429, "too_many_calls");
}

/// An authority that learns of a revocation while the admission is written, or whose view is old.
struct Changing {
    own: FileAuthority,
    asked: Mutex<usize>,
    revoked_from: usize,
    as_of: u64,
}

impl Authority for Changing {
    fn domain(&self) -> Domain {
        self.own.domain()
    }

    fn issuer(&self, model: &ModelId, signer: &Address) -> Option<Tenure> {
        self.own.issuer(model, signer)
    }

    fn revoked_at(&self, _: &ModelId, _: &Hash) -> Option<u64> {
        let mut asked = self.asked.lock().unwrap();
        *asked += 1;
        (*asked > self.revoked_from).then_some(1)
    }

    fn view(&self, _: &ModelId, _: u64) -> View {
        View {
            as_of: self.as_of,
            max_age: Some(60),
        }
    }
}

#[test]
fn what_is_revoked_between_check_and_use_is_not_answered() {
    let changing = |revoked_from, as_of| Setup {
        authority: Arc::new(Changing {
            own: authority(None),
            asked: Mutex::new(0),
            revoked_from,
            as_of,
        }),
        ..Setup::default()
    };
    let server = Server::start(changing(1, now()));
    refused(&server, &issued(permission()), 403, "permission_revoked");
    let server = Server::start(changing(usize::MAX, now() - 100));
    refused(&server, &issued(permission()), 503, "stale_view");
    assert_eq!(get(&format!("{}/healthz", server.url)).status, 503);
}

#[test]
fn one_call_too_many_is_refused_at_once_and_uses_nothing() {
    let limits = Limits {
        calls: 1,
        ..Limits::default()
    };
    let server = Server::start(Setup {
        limits,
        ..Setup::default()
    });
    let slow = json!({"model": "m", "messages": [{"role": "user", "content": "wait wait wait"}]});
    let token = issued(permission());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            assert_eq!(
                server.ask(Some(&issued(permission())), CHAT, &slow).status,
                200
            )
        });
        std::thread::sleep(std::time::Duration::from_millis(300));
        let answer = server.ask(Some(&token), CHAT, &body());
        assert_eq!((answer.status, answer.code().as_str()), (429, "overloaded"));
        assert_eq!(answer.header("retry-after"), Some("1"));
    });
    assert_eq!(server.ask(Some(&token), CHAT, &body()).status, 200);
}
