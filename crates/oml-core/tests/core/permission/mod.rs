//! Permissions: what the tests are made of.

mod files;
mod refusals;
mod vectors;

use oml_core::eip712::Domain;
use oml_core::permission::{
    Authority, Call, Chain, FileAuthority, Grant, GrantCache, Input, InputSalt, Issuer, Issuers,
    ModelId, NONE, Permission, Refusal, Replay, RevocationList, Scope, SignedGrant,
    SignedRevocations, Tenure, Token, Verified, input_hash,
};
use oml_core::secret::OwnerSeed;
use oml_core::signing::{Address, SigningKey};

pub(super) const NOW: u64 = 1_800_000_000;
pub(super) const MODEL: ModelId = ModelId([3; 32]);
pub(super) const INPUT: &[u8] = br#"{"prompt":"Hi"}"#;
const SKEW: u64 = 30;

pub(super) fn key(number: u8) -> SigningKey {
    SigningKey::derive(&OwnerSeed::new([number; 32]))
}

fn issuer() -> SigningKey {
    key(1)
}
/// Signs under the issuer's grant.
pub(super) fn delegate() -> SigningKey {
    key(2)
}
/// Signs under the delegate's grant.
fn inner() -> SigningKey {
    key(3)
}
pub(super) fn host() -> Address {
    key(4).address()
}
fn licensee() -> Address {
    key(5).address()
}
pub(super) fn salt() -> InputSalt {
    InputSalt::new([6; 32])
}

/// A scope that limits everything.
fn scope() -> Scope {
    Scope {
        purposes: vec!["research".into(), "support".into()],
        regions: vec!["eu".into()],
        model_versions: vec!["1".into(), "2".into()],
        max_tokens: Some(256),
        calls_per_minute: Some(60),
        any_input: false,
        replay: Replay::Set,
    }
}

fn grant() -> Grant {
    Grant {
        model: MODEL,
        parent: NONE,
        licensee: licensee(),
        delegate: delegate().address(),
        host: Address::ZERO,
        max_calls: 1000,
        max_spend: 5_000_000,
        scope_hash: NONE,
        not_before: NOW - 1000,
        not_after: NOW + 1000,
        nonce: 7,
    }
}

/// A chain of the issuer's grant alone.
pub(super) fn chain_of(grant: Grant, scope: Scope) -> Chain {
    Chain {
        domain: Domain::OFF_CHAIN,
        grants: vec![SignedGrant::sign(
            &Domain::OFF_CHAIN,
            grant,
            scope,
            &issuer(),
        )],
    }
}

fn chain() -> Chain {
    chain_of(grant(), scope())
}

/// The chain with one more grant, which may break every rule.
fn attenuated(mut chain: Chain, change: impl Fn(&mut Grant), scope: Scope) -> Chain {
    let above = chain.grants.last().unwrap().grant;
    let mut grant = Grant {
        parent: above.id(&chain.domain),
        delegate: inner().address(),
        host: host(),
        nonce: 8,
        ..above
    };
    change(&mut grant);
    let signed = SignedGrant::sign(&chain.domain, grant, scope, &delegate());
    chain.grants.push(signed);
    chain
}

fn permission() -> Permission {
    Permission {
        model: MODEL,
        grant: NONE,
        licensee: licensee(),
        host: host(),
        input_hash: input_hash(&salt(), INPUT),
        nonce: 9,
        cumulative: 100,
        issued_at: NOW - 10,
        deadline: NOW + 300,
    }
}

/// A token under the issuer's grant.
pub(super) fn token() -> Token {
    Token::sign_under(&chain(), permission(), &delegate())
}

fn token_with(change: impl Fn(&mut Permission)) -> Token {
    let mut permission = permission();
    change(&mut permission);
    Token::sign_under(&chain(), permission, &delegate())
}

/// A token under a grant that is changed before it is signed.
fn under(change: impl Fn(&mut Grant, &mut Scope)) -> Token {
    let (mut grant, mut scope) = (grant(), scope());
    change(&mut grant, &mut scope);
    Token::sign_under(&chain_of(grant, scope), permission(), &delegate())
}

/// A token under two grants, the inner one changed before it is signed.
fn under_two(change: impl Fn(&mut Grant), inner_scope: Scope) -> Token {
    let chain = attenuated(chain(), change, inner_scope);
    Token::sign_under(&chain, permission(), &inner())
}

fn as_issuer(change: impl Fn(&mut Permission)) -> Token {
    let mut permission = permission();
    change(&mut permission);
    Token::sign_as_issuer(Domain::OFF_CHAIN, permission, &issuer())
}

fn issuers() -> Issuers {
    Issuers {
        domain: Domain::OFF_CHAIN,
        max_age: None,
        issuers: vec![Issuer {
            model: MODEL,
            address: issuer().address(),
            tenure: Tenure {
                from: NOW - 5000,
                revoked_at: None,
            },
        }],
    }
}

fn authority() -> FileAuthority {
    FileAuthority::new(&issuers(), &[]).unwrap()
}

fn authority_with(change: impl Fn(&mut Issuers), lists: &[SignedRevocations]) -> FileAuthority {
    let mut issuers = issuers();
    change(&mut issuers);
    FileAuthority::new(&issuers, lists).unwrap()
}

fn list(issued_at: u64, entries: &[([u8; 32], u64)]) -> SignedRevocations {
    let mut list = RevocationList::new(MODEL, issued_at);
    for (id, at) in entries {
        assert!(list.revoke(*id, *at));
    }
    SignedRevocations::sign(Domain::OFF_CHAIN, list, &issuer())
}

/// Verifies a call that the scope allows, changed before it is made.
fn verify(
    token: &Token,
    authority: &dyn Authority,
    change: impl Fn(&mut Call<'_>),
) -> Result<Verified, Refusal> {
    let salt = salt();
    let mut call = Call {
        model: MODEL,
        host: host(),
        now: NOW,
        skew: SKEW,
        input: Some(Input {
            canonical: INPUT,
            salt: &salt,
        }),
        purpose: Some("research"),
        region: Some("eu"),
        model_version: Some("2"),
        max_tokens: Some(256),
    };
    change(&mut call);
    token.verify(&call, authority, &GrantCache::new(8))
}

fn code(token: &Token) -> &'static str {
    code_of(verify(token, &authority(), |_| ()))
}

fn code_of(verified: Result<Verified, Refusal>) -> &'static str {
    verified.map_or_else(|refusal| refusal.code(), |_| "valid")
}

fn code_called(token: &Token, change: impl Fn(&mut Call<'_>)) -> &'static str {
    code_of(verify(token, &authority(), change))
}

/// n − s with the other v, which everybody can make of a signature.
pub(super) fn high_s(signature: &mut [u8; 65]) {
    const ORDER: [u8; 32] = [
        0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
        0xfe, 0xba, 0xae, 0xdc, 0xe6, 0xaf, 0x48, 0xa0, 0x3b, 0xbf, 0xd2, 0x5e, 0x8c, 0xd0, 0x36,
        0x41, 0x41,
    ];
    let mut borrow = 0;
    for place in (0..32).rev() {
        let own = i16::from(signature[32 + place]);
        let difference = i16::from(ORDER[place]) - own - borrow;
        borrow = i16::from(difference < 0);
        signature[32 + place] = difference.rem_euclid(256) as u8;
    }
    signature[64] = 27 + 28 - signature[64];
}
