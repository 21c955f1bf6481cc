//! A proof that a transaction stands in a block of an Ethereum chain, as `scripts/make_ledger_proof.py` writes it.
//!
//! ```text
//! {"format":"oml-ledger-proof","version":1,"chain_id":1,"header":hex,"index":17,"proof":[hex,…],"transaction":hex}
//! header       the block's header (RLP)
//! index        place of the transaction in the block, from 0
//! proof        nodes of the trie of transactions from the root to the leaf (RLP)
//! transaction  as the block holds it (EIP-2718)
//! ```
//!
//! There is one spelling: fields in this order, no white space but one line feed at the end. What it proves is in
//! [`crate::time_proof::ledger`].

use serde::{Deserialize, Serialize};

use super::field::{HexBytes, List, Text};
use super::{FileError, Kind};

/// Most bytes of a proof.
pub const MAX_BYTES: usize = 4 << 20;
/// Most bytes of a header; today's have some 600.
const MAX_HEADER: usize = 1 << 14;
/// Most bytes of a node: sixteen hashes with their prefixes, or the transaction.
const MAX_NODE: usize = MAX_TRANSACTION + 64;
/// Most bytes of a transaction; nodes relay eight times less.
const MAX_TRANSACTION: usize = 1 << 20;
/// Most nodes: one for each half byte of the key, and the leaf.
const MAX_NODES: usize = 20;
const KIND: Kind = Kind {
    format: "oml-ledger-proof",
    version: 1,
    max_bytes: MAX_BYTES,
};

/// A proof as it was read; nothing of it was followed yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerProof {
    /// Number of the chain (EIP-155).
    pub chain_id: u64,
    /// The block's header.
    pub header: Vec<u8>,
    /// Place of the transaction in the block.
    pub index: u64,
    /// Nodes from the root to the leaf.
    pub nodes: Vec<Vec<u8>>,
    /// The transaction.
    pub transaction: Vec<u8>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    format: Text<64>,
    version: u32,
    chain_id: u64,
    header: HexBytes<MAX_HEADER>,
    index: u64,
    proof: List<HexBytes<MAX_NODE>, MAX_NODES>,
    transaction: HexBytes<MAX_TRANSACTION>,
}

/// The file's bytes.
///
/// # Errors
/// [`FileError::Json`], which a correct serialiser never gives.
pub fn render(proof: &LedgerProof) -> Result<Vec<u8>, FileError> {
    let file = File {
        format: Text(KIND.format.into()),
        version: KIND.version,
        chain_id: proof.chain_id,
        header: HexBytes(proof.header.clone()),
        index: proof.index,
        proof: List(proof.nodes.iter().cloned().map(HexBytes).collect()),
        transaction: HexBytes(proof.transaction.clone()),
    };
    let mut bytes =
        serde_json::to_vec(&file).map_err(|error| FileError::json(KIND.format, &error))?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// Reads a proof.
///
/// # Errors
/// Any fault of the JSON, of a field, or of the spelling.
pub fn parse(bytes: &[u8]) -> Result<LedgerProof, FileError> {
    let file: File = KIND.parse(bytes)?;
    let proof = LedgerProof {
        chain_id: file.chain_id,
        header: file.header.0,
        index: file.index,
        nodes: file.proof.0.into_iter().map(|node| node.0).collect(),
        transaction: file.transaction.0,
    };
    if render(&proof)? != bytes {
        return Err(FileError::Field {
            file: KIND.format,
            field: "spelling",
            expected: "the fields in their order, no white space, and a line feed at the end"
                .into(),
            got: "another".into(),
        });
    }
    Ok(proof)
}
