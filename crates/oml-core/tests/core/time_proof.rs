//! Time stamps by OpenSSL, commits by git and blocks by anvil are verified, and every fault is named; see goldens/time_proof/generate.py and
//! generate_ledger.py.

use std::fs;
use std::path::Path;

use oml_core::manifest::ledger_proof_file::{self, LedgerProof};
use oml_core::manifest::{hex, parse_hash};
use oml_core::merkle::keccak256;
use oml_core::time_proof::git::{self, GitError};
use oml_core::time_proof::ledger::{self, Inclusion, LedgerError};
use oml_core::time_proof::rfc3161::{self, TimeStamp, TimeStampError};
use oml_core::time_proof::{Kind, line};
use proptest::prelude::*;

fn golden(name: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/time_proof");
    fs::read(folder.join(name)).unwrap()
}

fn message() -> String {
    let root = parse_hash(&"5a".repeat(32)).unwrap();
    let owner = "0x621c3C8731ca4f23faF67033A024f5482c3D9Cc3".parse();
    line(&root, &owner.unwrap())
}

fn stamp(name: &str) -> Result<TimeStamp, TimeStampError> {
    rfc3161::verify(&golden(name), message().as_bytes())
}

/// What a stamp proves.
fn facts(stamp: &TimeStamp) -> (u64, u64, &str, &str, &str) {
    let TimeStamp {
        policy,
        serial,
        authority,
        ..
    } = stamp;
    (stamp.time, stamp.accuracy, policy, serial, authority)
}

/// What is said of a golden, to the end of the path to the root.
fn said(name: &str, roots: &str) -> String {
    let roots = rfc3161::roots(&golden(roots)).unwrap();
    let trusted = stamp(name).and_then(|stamp| stamp.trusted(&roots));
    trusted.unwrap_or_else(|error| error.to_string())
}

#[test]
fn the_line_is_what_users_stamp() {
    assert_eq!(message().as_bytes(), golden("root.txt"));
}

#[test]
fn stamps_of_real_authorities_are_verified() {
    for (name, authority) in [
        ("rsa.tsr", "rsa"),
        ("bare.tst", "rsa"),
        ("rsa_sha512.tsr", "rsa"),
        ("rsa_v2.tsr", "rsa"),
        ("pss.tst", "rsa"),
        ("p256.tsr", "p256"),
        ("key_id.tst", "p256"),
        ("p384.tsr", "p384"),
        ("between.tsr", "between"),
    ] {
        assert_eq!(Kind::of(&golden(name)), Kind::Rfc3161, "{name}");
        let stamp = stamp(name).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(
            stamp.authority,
            format!("CN=OML test {authority}"),
            "{name}"
        );
        assert_eq!(stamp.policy, "1.2.3.4.1");
        assert_eq!(stamp.accuracy, 2);
        assert!(stamp.serial.starts_with("0a"), "{}", stamp.serial);
        // Made in 2026 or later.
        assert!((1_760_000_000..4_000_000_000).contains(&stamp.time));
        assert_eq!(said(name, "trusted.pem"), "CN=OML test trusted", "{name}");
        let untrusted = "time stamp certificate: expected a path to a trusted root at the time stamped, got none: its issuer is not trusted";
        assert_eq!(said(name, "other.pem"), untrusted, "{name}");
    }
}

#[test]
fn every_fault_of_a_stamp_is_named() {
    let path =
        "time stamp certificate: expected a path to a trusted root at the time stamped, got none:";
    let usage = "time stamp certificate: expected a critical extended key usage of time stamping alone, got";
    for (name, fault) in [
        ("refused.tsr", "time stamp status: expected 0 (granted) or 1 (granted with modifications), got 2".to_owned()),
        (
            "no_certificate.tsr",
            "time stamp certificates: expected the signer's, got none of it (the request must ask for it with -cert)".to_owned(),
        ),
        (
            "sha512.tsr",
            "time stamp imprint: expected SHA-256, got algorithm 2.16.840.1.101.3.4.2.3".to_owned(),
        ),
        ("expired.tsr", format!("{path} a certificate had expired")),
        ("untimely.tsr", format!("{path} a certificate was not valid yet")),
        ("no_usage.tst", format!("{usage} none")),
        ("two_usages.tst", format!("{usage} another")),
        ("not_critical.tst", format!("{usage} one that is not critical")),
        ("an_issuer.tst", format!("{path} CaUsedAsEndEntity")),
    ] {
        assert_eq!(said(name, "trusted.pem"), fault, "{name}");
    }
    let other = message().replace("5a5a", "5a5b");
    let error = rfc3161::verify(&golden("rsa.tsr"), other.as_bytes()).unwrap_err();
    assert!(matches!(error, TimeStampError::Imprint { .. }), "{error}");
    let huge = vec![0x30; rfc3161::MAX_BYTES + 1];
    let got = huge.len();
    assert_eq!(
        rfc3161::verify(&huge, b""),
        Err(TimeStampError::TooLarge { got })
    );
}

#[test]
fn another_time_is_noticed() {
    let bytes = golden("p256.tsr");
    let year = b"20";
    let at = bytes
        .windows(4)
        .position(|w| w[..2] == [0x18, 15] && w[2..] == *year)
        .unwrap();
    let mut changed = bytes.clone();
    changed[at + 5] -= 1;
    let error = rfc3161::verify(&changed, message().as_bytes()).unwrap_err();
    let expected = "time stamp message digest: expected that of the contents, got another";
    assert_eq!(error.to_string(), expected);
    changed[at + 2] = b'x';
    let error = rfc3161::verify(&changed, message().as_bytes()).unwrap_err();
    assert_eq!(error, TimeStampError::Der { field: "genTime" });
}

#[test]
fn cut_stamps_and_huge_lengths_are_refused() {
    let (bytes, message) = (golden("rsa.tsr"), message());
    for end in 0..bytes.len() {
        assert!(
            rfc3161::verify(&bytes[..end], message.as_bytes()).is_err(),
            "{end}"
        );
    }
    let honest = stamp("rsa.tsr").unwrap();
    for at in 0..bytes.len() - 6 {
        let mut changed = bytes.clone();
        changed[at + 1..at + 6].copy_from_slice(&[0x84, 0xff, 0xff, 0xff, 0xff]);
        // What nobody signed, such as the list of digest algorithms, is not looked into.
        if let Ok(stamp) = rfc3161::verify(&changed, message.as_bytes()) {
            assert_eq!(facts(&stamp), facts(&honest), "{at}");
        }
    }
    let longer = [bytes.as_slice(), &[0]].concat();
    let field = "response";
    assert_eq!(
        rfc3161::verify(&longer, message.as_bytes()),
        Err(TimeStampError::Der { field })
    );
}

/// Nothing that is signed can be changed; what is not (the response's status, unsigned fields, other certificates) proves nothing else.
#[test]
fn a_changed_byte_never_changes_what_is_proved() {
    let roots = rfc3161::roots(&golden("trusted.pem")).unwrap();
    for name in ["p256.tsr", "between.tsr"] {
        let (bytes, honest) = (golden(name), stamp(name).unwrap());
        let mut refused = 0;
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            let Ok(stamp) = rfc3161::verify(&changed, message().as_bytes()) else {
                refused += 1;
                continue;
            };
            if stamp.trusted(&roots).is_err() {
                refused += 1;
                continue;
            }
            assert_eq!(facts(&stamp), facts(&honest), "{name} {at}");
        }
        assert!(
            refused > bytes.len() * 9 / 10,
            "{name}: {refused} of {}",
            bytes.len()
        );
    }
}

#[test]
fn roots_are_certificates_in_pem() {
    let both = [golden("trusted.pem"), golden("other.pem")].concat();
    let roots = rfc3161::roots(&both).unwrap();
    let trusted = stamp("p256.tsr").unwrap().trusted(&roots);
    assert_eq!(trusted.as_deref(), Ok("CN=OML test trusted"));
    let text = String::from_utf8(golden("trusted.pem")).unwrap();
    let not_a_certificate = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    for (pem, got) in [
        ("", "0"),
        (&text.replace("-----END", "----END"), "broken PEM"),
        (not_a_certificate, "one that is no certificate"),
    ] {
        let error = rfc3161::roots(pem.as_bytes()).unwrap_err();
        assert_eq!(error, TimeStampError::Roots { got: got.into() });
    }
}

#[test]
fn commits_of_both_hashes_are_verified() {
    for (name, digits) in [("sha1.git", 40), ("sha256.git", 64)] {
        let bytes = golden(name);
        assert_eq!(Kind::of(&bytes), Kind::Git, "{name}");
        let commit = git::verify(&bytes, &message()).unwrap();
        assert_eq!(commit.time, 1_700_000_000);
        assert_eq!(commit.committer, "Ada Owner <ada@example.org>");
        assert_eq!(commit.path, "a/b/root.txt");
        assert_eq!(commit.id.len(), digits);
        assert!(bytes.starts_with(commit.id.as_bytes()));
    }
}

#[test]
fn no_byte_of_a_commit_can_change() {
    for name in ["sha1.git", "sha256.git"] {
        let bytes = golden(name);
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            assert!(git::verify(&changed, &message()).is_err(), "{name} {at}");
            assert!(
                git::verify(&bytes[..at], &message()).is_err(),
                "{name} {at}"
            );
        }
    }
}

fn included(bytes: &[u8]) -> Result<Inclusion, LedgerError> {
    let root = parse_hash(&"5a".repeat(32)).unwrap();
    let owner = "0x621c3C8731ca4f23faF67033A024f5482c3D9Cc3".parse();
    ledger::verify(bytes, &root, &owner.unwrap())
}

#[test]
fn transactions_are_followed_to_their_blocks() {
    for (name, number, block) in [
        (
            "ledger.json",
            1,
            "74c301d718bd7aaf27f8855be497967bcf384c63914722feca057ec1f4a87c13",
        ),
        (
            "ledger_legacy.json",
            2,
            "57112d5af4bb14a552f671105d43ccdc7dc43c5dccd71949aa945623a7c310d5",
        ),
        (
            "ledger_access.json",
            3,
            "d6d816c6af0117155789f5b98f016e95ab180b5ba3e93559569559b8fe1df52e",
        ),
    ] {
        let bytes = golden(name);
        assert_eq!(Kind::of(&bytes), Kind::Ledger, "{name}");
        let found = included(&bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!((found.chain_id, found.number), (31337, number));
        assert_eq!(found.time, 1_767_225_600 + 12 * number);
        assert_eq!(hex(&found.block), block, "{name}");
    }
    let fault = included(&golden("ledger_other.json"));
    assert!(matches!(fault, Err(LedgerError::Line)), "{fault:?}");
    // Root and owner have to be there both.
    let other = "0x621c3C8731ca4f23faF67033A024f5482c3D9Cc3"
        .parse()
        .unwrap();
    let fault = ledger::verify(&golden("ledger_legacy.json"), &[0x5b; 32], &other);
    assert!(matches!(fault, Err(LedgerError::Line)), "{fault:?}");
}

#[test]
fn a_changed_byte_of_a_transactions_proof_is_refused_or_is_another_block() {
    for name in ["ledger.json", "ledger_legacy.json"] {
        let bytes = golden(name);
        let whole = included(&bytes).unwrap();
        let mut headers = 0;
        for at in 0..bytes.len() {
            assert!(included(&bytes[..at]).is_err(), "{name} {at}");
            for bit in [1, 2] {
                let mut changed = bytes.clone();
                changed[at] ^= bit;
                if let Ok(found) = included(&changed) {
                    // A header is bound by its hash alone, which a judge compares.
                    assert_ne!(found.block, whole.block, "{name} {at}");
                    assert_eq!(found.transaction, whole.transaction);
                    headers += 1;
                }
            }
        }
        let header = ledger_proof_file::parse(&bytes).unwrap().header.len();
        assert!((1..4 * header).contains(&headers), "{headers}");
    }
}

/// A header whose transactions have this root.
fn header(root: [u8; 32]) -> Vec<u8> {
    let mut fields = vec![0x80; 15];
    fields.splice(4..5, [&[0xa0][..], &root].concat());
    let head = [0xc0 + u8::try_from(fields.len()).unwrap()];
    [&head[..], &fields].concat()
}

#[test]
fn every_fault_of_a_transactions_proof_is_named() {
    let bytes = golden("ledger.json");
    let good = ledger_proof_file::parse(&bytes).unwrap();
    let fault = |change: &dyn Fn(&mut LedgerProof)| {
        let mut proof = good.clone();
        change(&mut proof);
        let bytes = ledger_proof_file::render(&proof).unwrap();
        included(&bytes).unwrap_err().to_string()
    };
    type Change<'a> = &'a dyn Fn(&mut LedgerProof);
    let table: [(Change<'_>, &str); 13] = [
        (
            &|p| p.chain_id = 1,
            "ledger proof chain_id: expected 31337 as in the transaction, got 1",
        ),
        (
            &|p| p.index = 16,
            "ledger proof node 2: expected the bytes of ",
        ),
        (
            &|p| p.index = 1000,
            "ledger proof node 1: expected the bytes of ",
        ),
        (
            &|p| drop(p.nodes.pop()),
            "ledger proof node 2: expected the way to transaction 17, got an early end",
        ),
        (
            &|p| p.nodes.clear(),
            "ledger proof node 0: expected the way to transaction 17, got an early end",
        ),
        (
            &|p| p.nodes.push(vec![0x80]),
            "ledger proof node 2: expected the way to transaction 17, got more nodes",
        ),
        (
            &|p| p.nodes.swap(0, 1),
            "ledger proof node 0: expected the bytes of ",
        ),
        (
            &|p| drop(p.nodes.remove(0)),
            "ledger proof node 0: expected the bytes of ",
        ),
        (
            &|p| p.transaction.push(0),
            "ledger proof transaction: expected the one in the leaf, got another",
        ),
        (
            &|p| p.header.truncate(100),
            "ledger proof header: expected a list in RLP, got other or cut bytes",
        ),
        (
            &|p| p.header = vec![0xc1, 0x80],
            "ledger proof header: expected at least 15 fields, got other or cut bytes",
        ),
        (
            &|p| p.header.push(0),
            "ledger proof header: expected a list in RLP, got other or cut bytes",
        ),
        (
            &|p| {
                p.nodes = vec![vec![0x83, 1, 2, 3]];
                p.header = header(keccak256(&[&p.nodes[0]]));
            },
            "ledger proof node 0: expected a list in RLP, got other or cut bytes",
        ),
    ];
    for (change, expected) in table {
        let message = fault(change);
        assert!(message.starts_with(expected), "{message}\n{expected}");
    }
    let mut alone = ledger_proof_file::parse(&golden("ledger_legacy.json")).unwrap();
    alone.index = 1;
    let message = included(&ledger_proof_file::render(&alone).unwrap()).unwrap_err();
    assert_eq!(
        message.to_string(),
        "ledger proof node 0: expected the way to transaction 1, got another path"
    );
    // A leaf may hold anything; only a transaction that says its chain counts.
    for (transaction, expected) in [
        (
            vec![0x05, 0xc0],
            "expected an old transaction, or one of type 1 to 4",
        ),
        (vec![0x02, 0xc0], "expected an input"),
        (
            vec![0x7f],
            "expected an old transaction, or one of type 1 to 4",
        ),
        (
            vec![0xc7, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x1b],
            "chain_id: expected none as in the transaction, got 31337",
        ),
    ] {
        let value = match transaction.as_slice() {
            [one] => vec![*one],
            more => [&[0x80 + u8::try_from(more.len()).unwrap()], more].concat(),
        };
        // The only leaf of a trie, at 0x80, which is rlp(0).
        let path = [0x82, 0x20, 0x80];
        let head = 0xc0 + u8::try_from(path.len() + value.len()).unwrap();
        let node = [&[head][..], &path, &value].concat();
        let message = fault(&|p| {
            p.index = 0;
            p.header = header(keccak256(&[&node]));
            p.nodes = vec![node.clone()];
            p.transaction = transaction.clone();
        });
        assert!(message.contains(expected), "{message}\n{expected}");
    }
    let text = String::from_utf8(bytes).unwrap();
    for changed in [
        text.replace(",\"index\"", ", \"index\""),
        text.trim_end().to_owned(),
        text.replace("31337", "31337.0"),
        text.replace("\"version\":1", "\"version\":2"),
        text.replace("oml-ledger-proof", "oml-claim"),
        format!("{{{}", &text[text.find("\"version\"").unwrap()..]),
    ] {
        let fault = included(changed.as_bytes()).unwrap_err();
        assert!(matches!(fault, LedgerError::File(_)), "{fault}");
    }
    let got = vec![b' '; ledger::MAX_BYTES + 1];
    assert!(matches!(included(&got), Err(LedgerError::File(_))));
}

#[test]
fn every_fault_of_a_commit_is_named() {
    let whole = golden("sha1.git");
    let fault = |bytes: &[u8], line: &str| git::verify(bytes, line).unwrap_err().to_string();
    assert_eq!(
        fault(&golden("elsewhere.git"), &message()),
        "git object 0: expected one that names object 1, got another"
    );
    assert_eq!(
        fault(&whole, &message().replace("5a5a", "5a5b")),
        "git file a/b/root.txt: expected the line of this root and owner, got none"
    );
    assert_eq!(
        fault(b"", &message()),
        "git proof: expected a commit, 1 to 32 trees and a file, got nothing"
    );
    let objects = parts(&whole);
    let joined = |order: &[usize]| {
        order
            .iter()
            .flat_map(|i| objects[*i].clone())
            .collect::<Vec<_>>()
    };
    for (order, expected) in [
        (vec![0, 1, 2, 3, 4], None),
        (
            vec![0, 2, 1, 3, 4],
            Some("git object 0: expected one that names object 1, got another"),
        ),
        (
            vec![0, 1, 3, 4],
            Some("git object 1: expected one that names object 2, got another"),
        ),
        (
            vec![1, 0, 2, 3, 4],
            Some(
                "git proof: expected a commit, 1 to 32 trees and a file, got tree, commit, tree, tree, blob",
            ),
        ),
        (
            vec![0, 4],
            Some("git proof: expected a commit, 1 to 32 trees and a file, got commit, blob"),
        ),
        (
            [vec![0], vec![1; 33]].concat(),
            Some("git object 0: expected one that names object 1, got another"),
        ),
        (
            [vec![0], vec![1; 34]].concat(),
            Some("git proof: expected a commit, 1 to 32 trees and a file, got more objects"),
        ),
    ] {
        let got = git::verify(&joined(&order), &message());
        let got = got.err().map(|error| error.to_string());
        if order.len() == 34 {
            assert!(got.is_some(), "{order:?}");
        } else {
            assert_eq!(got.as_deref(), expected, "{order:?}");
        }
    }
    let mixed = [golden("sha1.git"), golden("sha256.git")].concat();
    assert!(
        fault(&mixed, &message()).starts_with("git object 5 id: expected the hash of the first")
    );
    let head = "git object 0 size: expected a decimal number, got other or cut bytes";
    let id = "0".repeat(40);
    for size in ["-1", "007", "999999999", "1e3", ""] {
        assert_eq!(
            fault(format!("{id} commit {size}\n").as_bytes(), ""),
            head,
            "{size}"
        );
    }
    assert_eq!(
        fault(format!("{id} blob 1048577\n").as_bytes(), ""),
        "git object 0 size: expected a file of at most a mebibyte, got other or cut bytes"
    );
    assert_eq!(
        fault(format!("{id} commit 99999999\n").as_bytes(), ""),
        "git object 0 bytes: expected as many as its size, and a line feed, got other or cut bytes"
    );
    assert_eq!(
        fault(format!("{id} tag 0\n\n").as_bytes(), ""),
        "git object 0 kind: expected commit, tree or blob, got other or cut bytes"
    );
    let got = git::MAX_BYTES + 1;
    assert_eq!(
        git::verify(&vec![0; got], ""),
        Err(GitError::TooLarge { got })
    );
}

/// The objects of a proof, each with its head and end.
fn parts(proof: &[u8]) -> Vec<Vec<u8>> {
    let (mut rest, mut parts) = (proof, Vec::new());
    while !rest.is_empty() {
        let end = rest.iter().position(|byte| *byte == b'\n').unwrap();
        let head = std::str::from_utf8(&rest[..end]).unwrap();
        let size: usize = head.rsplit(' ').next().unwrap().parse().unwrap();
        let (part, after) = rest.split_at(end + 1 + size + 1);
        parts.push(part.to_vec());
        rest = after;
    }
    parts
}

proptest! {
    #[test]
    fn any_bytes_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        prop_assert!(rfc3161::verify(&bytes, b"").is_err());
        prop_assert!(git::verify(&bytes, "").is_err());
    }
}
