//! Typed data as Ethereum hashes it, so that a wallet, a contract and this program sign and check the same thing (EIP-712).
//!
//! ```text
//! digest          = keccak256(0x19 ‖ 0x01 ‖ domain separator ‖ hashStruct(value))
//! hashStruct(s)   = keccak256(keccak256(type of s) ‖ word of each field, in order)
//! type of s       = Name(type1 name1,type2 name2,…)
//! domain          = EIP712Domain(string name,string version[,uint256 chainId][,address verifyingContract]) of "OML", "1"
//! word            = 32 bytes: integers big-endian, addresses on the right, texts and bytes as their keccak256, arrays as that of their words
//! ```
//!
//! What is checked off-chain has no chain and no contract in its domain; what a contract checks has both.

use crate::merkle::{Hash, keccak256};
use crate::signing::Address;

/// Name of every domain here.
pub const NAME: &str = "OML";
/// Version of every domain here.
pub const VERSION: &str = "1";

/// Where a signature counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Domain {
    /// The chain whose contracts check it.
    pub chain_id: Option<u64>,
    /// The contract that checks it.
    pub verifying_contract: Option<Address>,
}

/// A struct whose fields are words, without structs inside.
pub trait Typed {
    /// The type as EIP-712 encodes it, such as `Claim(bytes32 root,uint64 time)`.
    const TYPE: &'static str;

    /// The words of the fields, in the order of [`Typed::TYPE`].
    fn words(&self) -> Vec<Hash>;

    /// keccak256 of [`Typed::TYPE`]; types that are hashed all the time keep it.
    #[must_use]
    fn type_hash() -> Hash {
        text(Self::TYPE)
    }
}

impl Domain {
    /// The domain of what no contract checks.
    pub const OFF_CHAIN: Self = Self {
        chain_id: None,
        verifying_contract: None,
    };

    /// The domain separator.
    #[must_use]
    pub fn separator(&self) -> Hash {
        let mut fields = "string name,string version".to_owned();
        let mut words = vec![text(NAME), text(VERSION)];
        if let Some(chain_id) = self.chain_id {
            fields.push_str(",uint256 chainId");
            words.push(uint(chain_id));
        }
        if let Some(contract) = &self.verifying_contract {
            fields.push_str(",address verifyingContract");
            words.push(address(contract));
        }
        hash_words(&text(&format!("EIP712Domain({fields})")), &words)
    }

    /// The 32 bytes that are signed for `value`.
    #[must_use]
    pub fn digest<T: Typed>(&self, value: &T) -> Hash {
        digest_under(&self.separator(), value)
    }
}

/// As [`Domain::digest`], for several values under one domain separator.
#[must_use]
pub fn digest_under<T: Typed>(separator: &Hash, value: &T) -> Hash {
    keccak256(&[&[0x19, 0x01], separator, &hash_struct(value)])
}

/// `hashStruct` of a value.
#[must_use]
pub fn hash_struct<T: Typed>(value: &T) -> Hash {
    hash_words(&T::type_hash(), &value.words())
}

/// The word of a `string`.
#[must_use]
pub fn text(text: &str) -> Hash {
    keccak256(&[text.as_bytes()])
}

/// The word of an unsigned integer.
#[must_use]
pub fn uint(value: u64) -> Hash {
    let mut word = [0; 32];
    word[24..].copy_from_slice(&value.to_be_bytes());
    word
}

/// The word of an unsigned integer of up to 128 bits.
#[must_use]
pub fn uint128(value: u128) -> Hash {
    let mut word = [0; 32];
    word[16..].copy_from_slice(&value.to_be_bytes());
    word
}

/// The word of an array whose items are words.
#[must_use]
pub fn array(words: &[Hash]) -> Hash {
    keccak256(&[words.as_flattened()])
}

/// The word of an `address`.
#[must_use]
pub fn address(address: &Address) -> Hash {
    let mut word = [0; 32];
    word[12..].copy_from_slice(&address.0);
    word
}

fn hash_words(type_hash: &Hash, words: &[Hash]) -> Hash {
    keccak256(&[type_hash, words.as_flattened()])
}
