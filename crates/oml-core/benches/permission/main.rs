//! What it costs a host to verify permissions that come as text with a request: one, with and without the issuer's grant known, and
//! many on two threads.
//!
//! ```sh
//! cargo bench -p oml-core --bench permission
//! ```
//!
//! Each permission is under one grant with a scope, for one input of about 200 bytes, and is read from its text, verified against a file
//! authority with a thousand revocations, and given back with its ids. Replay and budgets, which a store counts, are not in these figures.

#![allow(missing_docs, clippy::unwrap_used, reason = "a bench")]

use std::hint::black_box;
use std::thread;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use oml_core::eip712::Domain;
use oml_core::merkle::keccak256;
use oml_core::permission::{
    Call, Chain, FileAuthority, Grant, GrantCache, Input, InputSalt, Issuer, Issuers, ModelId,
    NONE, Permission, RevocationList, Scope, SignedGrant, SignedRevocations, Tenure, Token,
    input_hash,
};
use oml_core::receipt::{InferenceReceipt, SignedReceipt, output_hash};
use oml_core::secret::OwnerSeed;
use oml_core::signing::{Address, SigningKey};

const NOW: u64 = 1_800_000_000;
const MODEL: ModelId = ModelId([3; 32]);
const INPUT: &[u8] = br#"{"messages":[{"content":"You are a helpful assistant.","role":"system"},{"content":"Which of the large rivers of Europe flow into the Black Sea, and through which countries do they run on the way?","role":"user"}]}"#;
const REVOKED: u32 = 1000;
const BATCH: usize = 4096;
const THREADS: usize = 2;

fn key(number: u8) -> SigningKey {
    SigningKey::derive(&OwnerSeed::new([number; 32]))
}

fn salt() -> InputSalt {
    InputSalt::new([6; 32])
}

fn authority() -> FileAuthority {
    let issuer = Issuer {
        model: MODEL,
        address: key(1).address(),
        tenure: Tenure {
            from: 0,
            revoked_at: None,
        },
    };
    let mut list = RevocationList::new(MODEL, NOW);
    for number in 0..REVOKED {
        list.revoke(keccak256(&[&number.to_be_bytes()]), NOW);
    }
    let issuers = Issuers {
        domain: Domain::OFF_CHAIN,
        max_age: Some(60),
        issuers: vec![issuer],
    };
    let list = SignedRevocations::sign(Domain::OFF_CHAIN, list, &key(1));
    FileAuthority::new(&issuers, &[list]).unwrap()
}

fn texts(count: usize) -> Vec<String> {
    let scope = Scope {
        purposes: vec!["research".into()],
        max_tokens: Some(256),
        calls_per_minute: Some(600),
        ..Scope::default()
    };
    let grant = Grant {
        model: MODEL,
        parent: NONE,
        licensee: key(2).address(),
        delegate: key(2).address(),
        host: Address::ZERO,
        max_calls: 1_000_000,
        max_spend: 1_000_000,
        scope_hash: NONE,
        not_before: NOW - 1000,
        not_after: NOW + 1000,
        nonce: 1,
    };
    let chain = Chain {
        domain: Domain::OFF_CHAIN,
        grants: vec![SignedGrant::sign(&Domain::OFF_CHAIN, grant, scope, &key(1))],
    };
    let delegate = key(2);
    let permission = |nonce: usize| Permission {
        model: MODEL,
        grant: NONE,
        licensee: key(2).address(),
        host: Address([4; 20]),
        input_hash: input_hash(&salt(), INPUT),
        nonce: nonce as u128,
        cumulative: nonce as u128,
        issued_at: NOW,
        deadline: NOW + 60,
    };
    let text = |nonce| Token::sign_under(&chain, permission(nonce), &delegate).to_text();
    (0..count).map(|nonce| text(nonce).unwrap()).collect()
}

fn verify(text: &str, salt: &InputSalt, authority: &FileAuthority, cache: &GrantCache) {
    let call = Call {
        model: MODEL,
        host: Address([4; 20]),
        now: NOW,
        skew: 30,
        input: Some(Input {
            canonical: INPUT,
            salt,
        }),
        purpose: Some("research"),
        region: None,
        model_version: None,
        max_tokens: Some(16),
    };
    let token = Token::from_text(text).unwrap();
    black_box(token.verify(&call, authority, cache).unwrap());
}

fn permission(criterion: &mut Criterion) {
    let (authority, salt, texts) = (authority(), salt(), texts(BATCH));
    let one = &texts[0];
    let mut group = criterion.benchmark_group("permission");

    let known = GrantCache::new(1024);
    group.bench_function("verify one, grant known", |bencher| {
        bencher.iter(|| verify(black_box(one), &salt, &authority, &known));
    });
    group.bench_function("verify one, grant new", |bencher| {
        let new = || GrantCache::new(2);
        let one = |cache| verify(black_box(one), &salt, &authority, &cache);
        bencher.iter_batched(new, one, BatchSize::SmallInput);
    });
    group.bench_function("read one", |bencher| {
        bencher.iter(|| Token::from_text(black_box(one)).unwrap());
    });

    group.throughput(Throughput::Elements(BATCH as u64));
    group.sample_size(20);
    group.bench_function(format!("verify {BATCH} on {THREADS} threads"), |bencher| {
        bencher.iter(|| {
            thread::scope(|scope| {
                let (salt, authority, known) = (&salt, &authority, &known);
                for part in texts.chunks(BATCH / THREADS) {
                    scope.spawn(move || {
                        for text in part {
                            verify(text, salt, authority, known);
                        }
                    });
                }
            });
        });
    });
    group.finish();
}

fn receipt(criterion: &mut Criterion) {
    let (host, salt) = (key(4), salt());
    let mut group = criterion.benchmark_group("receipt");
    group.bench_function("sign one of a 64-byte answer", |bencher| {
        bencher.iter(|| {
            let receipt = InferenceReceipt {
                model: MODEL,
                host: Address([4; 20]),
                input_hash: input_hash(&salt, INPUT),
                output_hash: output_hash(black_box(&[b'a'; 64])),
                permission_id: [5; 32],
                issued_at: NOW,
            };
            SignedReceipt::sign(Domain::OFF_CHAIN, receipt, &host).to_text()
        });
    });
    group.finish();
}

criterion_group!(benches, permission, receipt);
criterion_main!(benches);
