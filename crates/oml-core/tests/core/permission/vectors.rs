//! Types, hashes, digests and signatures of permissions equal those of `eth_account`; see scripts/make_permission_vectors.py.

use data_encoding::HEXLOWER;
use oml_core::eip712::{Domain, Typed, hash_struct, text};
use oml_core::manifest::hex;
use oml_core::permission::{Grant, ModelId, Permission, Revocation, RevocationList};
use oml_core::receipt::InferenceReceipt;
use oml_core::secret::OwnerSeed;
use oml_core::signing::{Address, Signature, SigningKey};
use serde_json::Value;

/// The fields of one vector.
struct Message<'a>(&'a Value);

impl Message<'_> {
    fn text(&self, name: &str) -> &str {
        self.0[name].as_str().unwrap()
    }

    fn word(&self, name: &str) -> [u8; 32] {
        bytes(&self.0[name])
    }

    fn address(&self, name: &str) -> Address {
        self.text(name).parse().unwrap()
    }

    fn u64(&self, name: &str) -> u64 {
        self.text(name).parse().unwrap()
    }

    fn u128(&self, name: &str) -> u128 {
        self.text(name).parse().unwrap()
    }
}

fn bytes<const N: usize>(value: &Value) -> [u8; N] {
    let digits = value.as_str().unwrap().as_bytes();
    HEXLOWER.decode(digits).unwrap().try_into().unwrap()
}

fn check<T: Typed>(golden: &Value, value: &T) {
    assert_eq!(T::TYPE, golden["type"].as_str().unwrap());
    assert_eq!(text(T::TYPE), bytes(&golden["type_hash"]));
    assert_eq!(hash_struct(value), bytes(&golden["struct_hash"]));
    let contract = golden["domain"]["verifyingContract"].as_str();
    let domain = Domain {
        chain_id: golden["domain"]["chainId"].as_u64(),
        verifying_contract: contract.map(|text| text.parse().unwrap()),
    };
    let digest = domain.digest(value);
    assert_eq!(digest, bytes(&golden["digest"]));
    let signature = Signature(bytes(&golden["signature"]));
    let signer = signature.recover(&digest).unwrap();
    assert_eq!(signer.to_string(), golden["address"].as_str().unwrap());
    let key = SigningKey::derive(&OwnerSeed::new(bytes(&golden["seed"])));
    assert_eq!(hex(&key.sign(&digest).0), hex(&signature.0));
}

#[test]
fn permissions_equal_eth_accounts() {
    let goldens: Vec<Value> =
        serde_json::from_str(include_str!("../../goldens/permission.json")).unwrap();
    assert_eq!(goldens.len(), 24);
    for golden in &goldens {
        let message = Message(&golden["message"]);
        let model = ModelId(message.word("modelId"));
        match golden["kind"].as_str().unwrap() {
            "Grant" => check(
                golden,
                &Grant {
                    model,
                    parent: message.word("parent"),
                    licensee: message.address("licensee"),
                    delegate: message.address("delegate"),
                    host: message.address("host"),
                    max_calls: message.u64("maxCalls"),
                    max_spend: message.u128("maxSpend"),
                    scope_hash: message.word("scopeHash"),
                    not_before: message.u64("notBefore"),
                    not_after: message.u64("notAfter"),
                    nonce: message.u128("nonce"),
                },
            ),
            "Permission" => check(
                golden,
                &Permission {
                    model,
                    grant: message.word("grantId"),
                    licensee: message.address("licensee"),
                    host: message.address("host"),
                    input_hash: message.word("inputHash"),
                    nonce: message.u128("nonce"),
                    cumulative: message.u128("cumulative"),
                    issued_at: message.u64("issuedAt"),
                    deadline: message.u64("deadline"),
                },
            ),
            "InferenceReceipt" => check(
                golden,
                &InferenceReceipt {
                    model,
                    host: message.address("host"),
                    input_hash: message.word("inputHash"),
                    output_hash: message.word("outputHash"),
                    permission_id: message.word("permissionId"),
                    issued_at: message.u64("issuedAt"),
                },
            ),
            kind => {
                assert_eq!(kind, "RevocationList");
                let (ids, times) = (&message.0["ids"], &message.0["times"]);
                let pairs = ids
                    .as_array()
                    .unwrap()
                    .iter()
                    .zip(times.as_array().unwrap());
                let entries = pairs.map(|(id, at)| Revocation {
                    id: bytes(id),
                    at: at.as_str().unwrap().parse().unwrap(),
                });
                let issued_at = message.u64("issuedAt");
                let list = RevocationList::from_entries(model, issued_at, entries.collect());
                check(golden, &list.unwrap());
            }
        }
    }
}
