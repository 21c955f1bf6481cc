//! A transaction of an Ethereum chain whose input holds a root and its owner's address, followed to the block that it stands in.
//!
//! ```text
//! input ⊂ transaction = value at rlp(index) in the trie whose root is header.transactionsRoot; block = keccak256(header)
//! input        holds the line of the root anywhere, or the root's 32 bytes and the address's 20, as a contract's arguments do
//! transaction  legacy with a chain's number (EIP-155), or of type 1 to 4 (EIP-2718): its chain is the one that is stated
//! trie         modified Merkle–Patricia (Yellow Paper, appendix D): node 0 hashes to the root, each node holds the hash of the next
//! ```
//!
//! Everything is computed from the file but one thing: that the block with this hash **is in the chain**. Any explorer or node of the chain
//! says so, so its hash is what a judge compares; a header that nobody confirmed is its author's word, for it costs nothing to make one.
//! The time is the block's own: the chain's rules hold it between its parent's and the clocks of those who accepted it.
//!
//! Source: Ethereum Yellow Paper, sections 4.3 and appendices B to D; EIP-155, 2718, 2930, 1559, 4844, 7702.

use alloy_rlp::{Header, PayloadView};

use crate::manifest::ledger_proof_file::{self, LedgerProof};
use crate::manifest::{FileError, hex};
use crate::merkle::{Hash, keccak256};
use crate::signing::Address;

pub use crate::manifest::ledger_proof_file::MAX_BYTES;

/// Places of the fields in a header.
const TRANSACTIONS_ROOT: usize = 4;
const NUMBER: usize = 8;
const TIMESTAMP: usize = 11;
/// Fields of a header before the first fork that added one.
const FEWEST_FIELDS: usize = 15;

/// A transaction with the line, and the block that it stands in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inclusion {
    /// Hash of the block, which a judge compares.
    pub block: Hash,
    /// Number of the chain.
    pub chain_id: u64,
    /// Number of the block.
    pub number: u64,
    /// The block's time, in seconds since 1970.
    pub time: u64,
    /// Hash of the transaction.
    pub transaction: Hash,
}

/// One way a proof can be wrong; nodes are counted from 0, the root.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The file.
    #[error(transparent)]
    File(#[from] FileError),
    /// Bytes that are not RLP of the right form.
    #[error("ledger proof {part}: expected {expected}, got other or cut bytes")]
    Form {
        /// The part.
        part: String,
        /// What should be there.
        expected: &'static str,
    },
    /// A node is not the one that the header or the node before names.
    #[error("ledger proof node {node}: expected the bytes of 0x{expected}, got those of 0x{got}")]
    Node {
        /// Number of the node.
        node: usize,
        /// The hash that is named.
        expected: String,
        /// The hash of what is there.
        got: String,
    },
    /// A path leads elsewhere, or on after the leaf, or ends before it.
    #[error("ledger proof node {node}: expected the way to transaction {index}, got {got}")]
    Path {
        /// Number of the node.
        node: usize,
        /// Place of the transaction in the block.
        index: u64,
        /// What is there.
        got: &'static str,
    },
    /// The leaf holds something else than the transaction.
    #[error("ledger proof transaction: expected the one in the leaf, got another")]
    Transaction,
    /// A transaction of another chain, or of any.
    #[error("ledger proof chain_id: expected {expected} as in the transaction, got {got}")]
    Chain {
        /// What the transaction says.
        expected: String,
        /// What the file says.
        got: u64,
    },
    /// The input holds no such line.
    #[error(
        "ledger proof input: expected the line of this root and owner, or the bytes of both, got none"
    )]
    Line,
}

/// Follows a proof from a transaction whose input holds `root` and `owner` to the header of its block.
///
/// # Errors
/// The first fault found.
pub fn verify(bytes: &[u8], root: &Hash, owner: &Address) -> Result<Inclusion, LedgerError> {
    let proof = ledger_proof_file::parse(bytes)?;
    let header = HeaderFields::parse(&proof.header)?;
    if follow(&proof, &header.transactions_root)? != proof.transaction {
        return Err(LedgerError::Transaction);
    }
    let sent = Sent::parse(&proof.transaction)?;
    if sent.chain_id != Some(proof.chain_id) {
        return Err(LedgerError::Chain {
            expected: sent
                .chain_id
                .map_or_else(|| "none".into(), |id| id.to_string()),
            got: proof.chain_id,
        });
    }
    let line = super::line(root, owner);
    let holds = |part: &[u8]| sent.input.windows(part.len()).any(|window| window == part);
    if !(holds(line.trim_end().as_bytes()) || holds(root) && holds(&owner.0)) {
        return Err(LedgerError::Line);
    }
    Ok(Inclusion {
        block: keccak256(&[&proof.header]),
        chain_id: proof.chain_id,
        number: header.number,
        time: header.time,
        transaction: keccak256(&[&proof.transaction]),
    })
}

/// The fields of a header that are used.
struct HeaderFields {
    transactions_root: Hash,
    number: u64,
    time: u64,
}

impl HeaderFields {
    fn parse(bytes: &[u8]) -> Result<Self, LedgerError> {
        let form = |expected| form("header", expected);
        let fields = list(bytes).ok_or_else(|| form("a list in RLP"))?;
        if fields.len() < FEWEST_FIELDS {
            return Err(form("at least 15 fields"));
        }
        let root = string(fields[TRANSACTIONS_ROOT]).and_then(|root| root.try_into().ok());
        let number = |place: usize| string(fields[place]).and_then(number);
        Ok(Self {
            transactions_root: root.ok_or_else(|| form("32 bytes as the transactions' root"))?,
            number: number(NUMBER).ok_or_else(|| form("a number of the block below 2^64"))?,
            time: number(TIMESTAMP).ok_or_else(|| form("a timestamp below 2^64"))?,
        })
    }
}

/// The parts of a transaction that are used.
struct Sent<'a> {
    /// None in an old transaction that is valid on any chain.
    chain_id: Option<u64>,
    input: &'a [u8],
}

impl<'a> Sent<'a> {
    fn parse(bytes: &'a [u8]) -> Result<Self, LedgerError> {
        let form = |expected| form("transaction", expected);
        // Fields, place of the input among them, and of what says the chain.
        let (fields, input, chain) = match bytes {
            [kind @ 1..=4, fields @ ..] => (fields, if *kind == 1 { 6 } else { 7 }, 0),
            [0xc0..=0xff, ..] => (bytes, 5, 6),
            _ => return Err(form("an old transaction, or one of type 1 to 4")),
        };
        let is_old = chain != 0;
        let fields = list(fields).ok_or_else(|| form("a list in RLP"))?;
        let field = |place: usize| fields.get(place).copied().and_then(string);
        let input = field(input).ok_or_else(|| form("an input"))?;
        let chain = field(chain).and_then(number);
        let chain = chain.ok_or_else(|| form("a number that says the chain"))?;
        Ok(Self {
            // v is 35 or 36 more than twice the chain's number, and 27 or 28 without one.
            chain_id: match is_old {
                true => chain.checked_sub(35).map(|v| v / 2),
                false => Some(chain),
            },
            input,
        })
    }
}

/// What the trie with this root has at the transaction's place.
fn follow<'a>(proof: &'a LedgerProof, root: &Hash) -> Result<&'a [u8], LedgerError> {
    let index = proof.index;
    let key = nibbles(&alloy_rlp::encode(index));
    let (mut expected, mut rest) = (*root, key.as_slice());
    let mut nodes = proof.nodes.iter().enumerate().peekable();
    while let Some((node, bytes)) = nodes.next() {
        let form = |expected| form(&format!("node {node}"), expected);
        let path = |got| LedgerError::Path { node, index, got };
        let got = keccak256(&[bytes]);
        if got != expected {
            return Err(LedgerError::Node {
                node,
                expected: hex(&expected),
                got: hex(&got),
            });
        }
        let items = list(bytes).ok_or_else(|| form("a list in RLP"))?;
        let (next, is_leaf) = match items.as_slice() {
            [step, next] => {
                let step = string(step).and_then(Step::parse);
                let step = step.ok_or_else(|| form("a path of half bytes"))?;
                let after = rest.strip_prefix(step.nibbles.as_slice());
                rest = after.ok_or_else(|| path("another path"))?;
                (*next, step.is_leaf)
            }
            children if children.len() == 17 => match rest.split_first() {
                Some((nibble, after)) => {
                    rest = after;
                    (children[usize::from(*nibble)], false)
                }
                None => (children[16], true),
            },
            _ => return Err(form("2 or 17 items")),
        };
        let next = string(next).ok_or_else(|| form("the hash of a node, or a value"))?;
        if is_leaf {
            return match (rest.is_empty(), nodes.peek()) {
                (false, _) => Err(path("another path")),
                (true, Some(_)) => Err(path("more nodes")),
                (true, None) => Ok(next),
            };
        }
        // A transaction is longer than a hash, so no node on the way to one is written in place.
        expected = next.try_into().map_err(|_| path("nothing there"))?;
    }
    Err(LedgerError::Path {
        node: proof.nodes.len(),
        index,
        got: "an early end",
    })
}

/// The path of an extension or a leaf (Yellow Paper, appendix C).
struct Step {
    nibbles: Vec<u8>,
    is_leaf: bool,
}

impl Step {
    fn parse(bytes: &[u8]) -> Option<Self> {
        let nibbles = nibbles(bytes);
        let (flag, rest) = nibbles.split_first()?;
        let rest = match flag {
            0 | 2 => rest.strip_prefix(&[0])?,
            1 | 3 => rest,
            _ => return None,
        };
        Some(Self {
            nibbles: rest.to_vec(),
            is_leaf: *flag >= 2,
        })
    }
}

fn nibbles(bytes: &[u8]) -> Vec<u8> {
    bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .collect()
}

/// The items of a list that is all of `bytes`, each still encoded.
fn list(mut bytes: &[u8]) -> Option<Vec<&[u8]>> {
    match Header::decode_raw(&mut bytes).ok()? {
        PayloadView::List(items) => bytes.is_empty().then_some(items),
        PayloadView::String(_) => None,
    }
}

/// The bytes that are all of `bytes`, decoded.
fn string(mut bytes: &[u8]) -> Option<&[u8]> {
    let string = Header::decode_bytes(&mut bytes, false).ok()?;
    bytes.is_empty().then_some(string)
}

/// A number without zeros in front.
fn number(bytes: &[u8]) -> Option<u64> {
    if bytes.len() > 8 || bytes.first() == Some(&0) {
        return None;
    }
    Some(
        bytes
            .iter()
            .fold(0, |sum, byte| sum << 8 | u64::from(*byte)),
    )
}

fn form(part: &str, expected: &'static str) -> LedgerError {
    LedgerError::Form {
        part: part.to_owned(),
        expected,
    }
}
