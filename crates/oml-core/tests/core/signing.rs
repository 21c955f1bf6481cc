//! Keys, addresses, typed digests and signatures equal those of `eth_account`; see goldens/signing.py.

use data_encoding::HEXLOWER;
use oml_core::bundle::{ClaimMessage, ResponseMessage};
use oml_core::eip712::Domain;
use oml_core::manifest::hex;
use oml_core::secret::OwnerSeed;
use oml_core::signing::{Address, Signature, SigningError, SigningKey};
use serde_json::Value;

fn bytes<const N: usize>(value: &Value) -> [u8; N] {
    let digits = value.as_str().unwrap();
    HEXLOWER
        .decode(digits.as_bytes())
        .unwrap()
        .try_into()
        .unwrap()
}

fn goldens() -> Vec<Value> {
    serde_json::from_str(include_str!("../goldens/signing.json")).unwrap()
}

fn digest(golden: &Value) -> [u8; 32] {
    let (domain, message) = (&golden["domain"], &golden["message"]);
    let contract = domain["verifyingContract"].as_str();
    let domain = Domain {
        chain_id: domain["chainId"].as_u64(),
        verifying_contract: contract.map(|text| text.parse().unwrap()),
    };
    let time = message["time"].as_u64().unwrap();
    let root = bytes(&message["root"]);
    match golden["kind"].as_str().unwrap() {
        "Claim" => domain.digest(&ClaimMessage {
            root,
            statement: bytes(&message["statement"]),
            leaves: message["leaves"].as_u64().unwrap(),
            time,
        }),
        _ => domain.digest(&ResponseMessage {
            root,
            challenge: bytes(&message["challenge"]),
            openings: bytes(&message["openings"]),
            time,
        }),
    }
}

#[test]
fn signatures_equal_eth_accounts() {
    for golden in goldens() {
        let key = SigningKey::derive(&OwnerSeed::new(bytes(&golden["seed"])));
        let address = key.address();
        assert_eq!(address.to_string(), golden["address"].as_str().unwrap());
        let digest = digest(&golden);
        assert_eq!(hex(&digest), golden["digest"].as_str().unwrap());
        let signature = key.sign(&digest);
        assert_eq!(hex(&signature.0), golden["signature"].as_str().unwrap());
        assert_eq!(signature.recover(&digest), Ok(address));
    }
}

#[test]
fn a_signature_has_one_spelling_and_one_signer() {
    let golden = &goldens()[0];
    let (digest, honest) = (digest(golden), Signature(bytes(&golden["signature"])));
    let address = honest.recover(&digest).unwrap();
    for bit in 0..65 * 8 {
        let mut changed = honest;
        changed.0[bit / 8] ^= 1 << (bit % 8);
        assert_ne!(changed.recover(&digest), Ok(address), "bit {bit}");
    }
    let mut other = digest;
    other[31] ^= 1;
    assert_ne!(honest.recover(&other), Ok(address));

    // n − s with the other v is what everybody can make of a signature.
    let order: [u8; 32] = bytes(&Value::from(
        "fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141",
    ));
    let (mut high, mut borrow) = (honest, 0_i16);
    for i in (0..32).rev() {
        let difference = i16::from(order[i]) - i16::from(honest.0[32 + i]) - borrow;
        borrow = i16::from(difference < 0);
        high.0[32 + i] = difference.rem_euclid(256) as u8;
    }
    high.0[64] = 27 + 28 - honest.0[64];
    assert_eq!(high.recover(&digest), Err(SigningError::HighS));
    for v in [0, 1, 26, 29, 255] {
        let mut changed = honest;
        changed.0[64] = v;
        assert_eq!(changed.recover(&digest), Err(SigningError::V { got: v }));
    }
    for nothing in [[0; 65], [0xff; 65]] {
        let mut changed = Signature(nothing);
        changed.0[64] = 27;
        assert_eq!(changed.recover(&digest), Err(SigningError::NoSigner));
    }
}

#[test]
fn addresses_are_read_with_their_capitals() {
    let address: Address = "0x621c3C8731ca4f23faF67033A024f5482c3D9Cc3"
        .parse()
        .unwrap();
    let lower = address.to_string().to_lowercase();
    assert_eq!(lower.parse(), Ok(address));
    let mistyped = "0x621c3C8731ca4f23faF67033A024f5482c3D9Cc4";
    assert_eq!(mistyped.parse::<Address>(), Err(SigningError::Checksum));
    for wrong in [
        "",
        "0x",
        "621c3c8731ca4f23faf67033a024f5482c3d9cc3",
        "0x621c",
        &format!("{lower}0"),
    ] {
        assert_eq!(
            wrong.parse::<Address>(),
            Err(SigningError::Address),
            "{wrong}"
        );
    }
}

#[test]
fn a_key_shows_nothing() {
    let key = SigningKey::derive(&OwnerSeed::new([7; 32]));
    assert_eq!(format!("{key:?}"), "SigningKey(secret)");
}
