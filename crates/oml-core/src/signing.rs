//! The owner's signature: ECDSA on secp256k1 with a key derived from the owner's seed, in Ethereum's form.
//!
//! ```text
//! secret     derive(owner seed, "signing-key", OWNER, counter): the first counter from 0 whose 32 bytes lie in 1..n
//! address    last 20 bytes of keccak256(x ‖ y) of the public point; written in hexadecimal with EIP-55's capitals
//! signature  r (32 bytes) ‖ s (32 bytes, at most n/2) ‖ v (1 byte, 27 or 28), nonce after RFC 6979
//! ```
//!
//! Who verifies recovers the address from digest and signature and compares; a signature has one spelling, since a high s and any
//! other v are refused. Sources: SEC 1 and SEC 2, RFC 6979, Ethereum's yellow paper (appendix F), EIP-2, EIP-55.

use std::fmt;
use std::str::FromStr;

use data_encoding::HEXLOWER_PERMISSIVE;
use secp256k1::ecdsa::{RecoverableSignature, RecoveryId};
use secp256k1::{Message, PublicKey, SecretKey};

use crate::derive::{Purpose, Scope, derive_numbered};
use crate::manifest::hex;
use crate::merkle::{Hash, keccak256};
use crate::secret::OwnerSeed;

/// What Ethereum adds to the number of the recovered point.
const V: u8 = 27;

/// Who signed: the public name of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address(pub [u8; 20]);

/// A signature whose signer can be recovered: r ‖ s ‖ v.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signature(pub [u8; 65]);

/// The owner's signing key.
pub struct SigningKey(SecretKey);

/// Bytes that are no signature, or text that is no address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SigningError {
    /// The last byte of a signature is neither 27 nor 28.
    #[error("signature v: expected {V} or 28, got {got}")]
    V {
        /// The byte found.
        got: u8,
    },
    /// The signature's s is in the upper half, where every signature has a second spelling.
    #[error("signature s: expected at most half of the group's order, got more")]
    HighS,
    /// No public key makes this a signature of the digest.
    #[error("signature: expected one that a key made, got other bytes")]
    NoSigner,
    /// Not an address.
    #[error("address: expected 0x and 40 hexadecimal digits")]
    Address,
    /// Capitals that are not those of EIP-55: a digit was mistyped.
    #[error("address: expected its own capitals (EIP-55), got others; a digit may be mistyped")]
    Checksum,
}

impl SigningKey {
    /// Derives the key of `owner`.
    #[must_use]
    pub fn derive(owner: &OwnerSeed) -> Self {
        let mut counter = 0;
        loop {
            let key = derive_numbered(owner, Purpose::SigningKey, Scope::OWNER, counter);
            match SecretKey::from_secret_bytes(*key.expose()) {
                Ok(secret) => return Self(secret),
                // Out of range once in 2^128.
                Err(_) => counter += 1,
            }
        }
    }

    /// The key's address.
    #[must_use]
    pub fn address(&self) -> Address {
        Address::of(&self.0.public_key())
    }

    /// Signs a digest; the same digest gives the same signature.
    #[must_use]
    pub fn sign(&self, digest: &Hash) -> Signature {
        let message = Message::from_digest(*digest);
        let signature = RecoverableSignature::sign_ecdsa_recoverable(message, &self.0);
        let (recovery, compact) = signature.serialize_compact();
        let mut bytes = [0; 65];
        bytes[..64].copy_from_slice(&compact);
        // A recovery number above 1 means r at or above the order, once in 2^127.
        bytes[64] = V + recovery.to_u8();
        Signature(bytes)
    }
}

impl Drop for SigningKey {
    fn drop(&mut self) {
        self.0.non_secure_erase();
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningKey(secret)")
    }
}

impl Signature {
    /// The address whose key signed `digest`.
    ///
    /// # Errors
    /// When these bytes are the signature of no key.
    pub fn recover(&self, digest: &Hash) -> Result<Address, SigningError> {
        let v = self.0[64];
        let recovery = match v.wrapping_sub(V) {
            0 => RecoveryId::Zero,
            1 => RecoveryId::One,
            _ => return Err(SigningError::V { got: v }),
        };
        let signature = RecoverableSignature::from_compact(&self.0[..64], recovery)
            .map_err(|_| SigningError::NoSigner)?;
        let mut normal = signature.to_standard();
        normal.normalize_s();
        if normal.serialize_compact() != self.0[..64] {
            return Err(SigningError::HighS);
        }
        let key = signature
            .recover_ecdsa(Message::from_digest(*digest))
            .map_err(|_| SigningError::NoSigner)?;
        Ok(Address::of(&key))
    }
}

impl Address {
    /// The address of nobody.
    pub const ZERO: Self = Self([0; 20]);

    fn of(key: &PublicKey) -> Self {
        let point = key.serialize_uncompressed();
        let hash = keccak256(&[&point[1..]]);
        let mut address = [0; 20];
        address.copy_from_slice(&hash[12..]);
        Self(address)
    }
}

impl fmt::Display for Address {
    /// EIP-55: a letter is a capital where the digit of the hash at its place is 8 or more.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = hex(&self.0);
        let hash = hex(&keccak256(&[digits.as_bytes()]));
        let capital = |(digit, mark): (char, char)| match mark {
            '8'.. => digit.to_ascii_uppercase(),
            _ => digit,
        };
        let digits: String = digits.chars().zip(hash.chars()).map(capital).collect();
        write!(f, "0x{digits}")
    }
}

impl FromStr for Address {
    type Err = SigningError;

    /// Reads an address; one with capitals must have the right ones.
    fn from_str(text: &str) -> Result<Self, SigningError> {
        let digits = text.strip_prefix("0x").ok_or(SigningError::Address)?;
        let bytes = HEXLOWER_PERMISSIVE.decode(digits.as_bytes());
        let bytes = bytes.map_err(|_| SigningError::Address)?;
        let address = Self(bytes.try_into().map_err(|_| SigningError::Address)?);
        let mixed = digits.contains(|c: char| c.is_ascii_uppercase());
        if mixed && address.to_string() != text {
            return Err(SigningError::Checksum);
        }
        Ok(address)
    }
}
