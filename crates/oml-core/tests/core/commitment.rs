//! Roots, layouts and proofs equal those of `@openzeppelin/merkle-tree`; see goldens/merkle.mjs.

use data_encoding::HEXLOWER;
use oml_core::commitment::Opening;
use oml_core::merkle::{Hash, MerkleTree, verify};
use oml_core::secret::Salt;
use serde_json::Value;

fn hash(value: &Value) -> Hash {
    let digits = value.as_str().unwrap().strip_prefix("0x").unwrap();
    HEXLOWER
        .decode(digits.as_bytes())
        .unwrap()
        .try_into()
        .unwrap()
}

fn hashes(value: &Value) -> Vec<Hash> {
    value.as_array().unwrap().iter().map(hash).collect()
}

fn opening(value: &Value) -> Opening {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    Opening {
        index: value["index"].as_u64().unwrap(),
        salt: Salt::new(hash(&value["salt"])),
        query: text(&value["query"]),
        responses: value["responses"]
            .as_array()
            .unwrap()
            .iter()
            .map(text)
            .collect(),
    }
}

fn goldens() -> Vec<Value> {
    serde_json::from_str(include_str!("../goldens/merkle.json")).unwrap()
}

#[test]
fn trees_equal_openzeppelins() {
    for golden in goldens() {
        let openings = golden["openings"].as_array().unwrap();
        let leaves: Vec<Hash> = openings.iter().map(|value| opening(value).leaf()).collect();
        let tree = MerkleTree::new(&leaves);
        assert_eq!(tree.root(), hash(&golden["root"]));
        assert_eq!(tree.nodes(), hashes(&golden["nodes"]));
        for (i, value) in openings.iter().enumerate() {
            assert_eq!(leaves[i], hash(&value["leaf"]));
            let proof = tree.proof(i).unwrap();
            assert_eq!(proof, hashes(&value["proof"]));
            assert!(opening(value).verify(&tree.root(), &proof));
        }
        assert_eq!(tree.proof(openings.len()), None);
    }
}

#[test]
fn any_change_breaks_the_proof() {
    let golden = &goldens()[5];
    let root = hash(&golden["root"]);
    let value = &golden["openings"][2];
    let proof = hashes(&value["proof"]);
    let honest = opening(value);
    assert!(honest.verify(&root, &proof));

    let changes: [&dyn Fn(&mut Opening); 6] = [
        &|o| o.index += 1,
        &|o| o.salt = Salt::new([0; 32]),
        &|o| o.query.push(' '),
        &|o| o.responses[0].push('s'),
        &|o| o.responses.swap(0, 1),
        &|o| drop(o.responses.pop()),
    ];
    for change in changes {
        let mut changed = honest.clone();
        change(&mut changed);
        assert!(!changed.verify(&root, &proof));
    }
    for byte in 0..32 * proof.len() {
        let mut proof = proof.clone();
        proof[byte / 32][byte % 32] ^= 1;
        assert!(!honest.verify(&root, &proof));
    }
    assert!(!honest.verify(&root, &proof[1..]));
    assert!(!verify(&MerkleTree::new(&[]).root(), &honest.leaf(), &[]));
}
