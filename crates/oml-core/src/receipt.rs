//! The receipt of an answer: what the host signs, as typed data (EIP-712).
//!
//! ```text
//! InferenceReceipt(bytes32 modelId,address host,bytes32 inputHash,bytes32 outputHash,bytes32 permissionId,uint64 issuedAt)
//! outputHash  keccak256 of the answer's text in UTF-8
//! text        "omlr1." ‖ base64url(domain ‖ model (32) ‖ host (20) ‖ input hash (32) ‖ output hash (32) ‖ permission id (32) ‖
//!             issued at (8) ‖ signature (65)); see permission/wire.rs
//! ```
//!
//! A receipt counts where its signer is the host that it names. It defends the host with the permission under which it answered:
//! same model, host and input, and issued within the permission's life.

use std::sync::OnceLock;

use crate::eip712::{Domain, Typed, address, text, uint};
use crate::merkle::{Hash, keccak256};
use crate::permission::wire::{self, Reader};
use crate::permission::{Input, ModelId, NONE, PermissionId, TextError, Token, input_hash};
use crate::signing::{Address, Signature, SigningError, SigningKey};

const PREFIX: &str = "omlr1.";

/// What names a receipt: its digest.
pub type ReceiptId = Hash;

/// What a host signs of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InferenceReceipt {
    /// The model.
    pub model: ModelId,
    /// The host that answered, whose key signs.
    pub host: Address,
    /// Salted hash of the input.
    pub input_hash: Hash,
    /// Hash of the answer; see [`output_hash`].
    pub output_hash: Hash,
    /// The permission under which it was answered.
    pub permission_id: PermissionId,
    /// When the permission was accepted, in seconds since 1970.
    pub issued_at: u64,
}

impl Typed for InferenceReceipt {
    const TYPE: &'static str = "InferenceReceipt(bytes32 modelId,address host,bytes32 inputHash,bytes32 outputHash,\
         bytes32 permissionId,uint64 issuedAt)";

    fn words(&self) -> Vec<Hash> {
        vec![
            self.model.0,
            address(&self.host),
            self.input_hash,
            self.output_hash,
            self.permission_id,
            uint(self.issued_at),
        ]
    }

    fn type_hash() -> Hash {
        static KEPT: OnceLock<Hash> = OnceLock::new();
        *KEPT.get_or_init(|| text(Self::TYPE))
    }
}

/// The hash of an answer's text.
#[must_use]
pub fn output_hash(output: &[u8]) -> Hash {
    keccak256(&[output])
}

/// A receipt with the host's signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SignedReceipt {
    /// Where the signature counts.
    pub domain: Domain,
    /// The receipt.
    pub receipt: InferenceReceipt,
    /// The host's signature.
    pub signature: Signature,
}

/// What a receipt is held against; what is none is not looked at.
#[derive(Debug, Clone, Copy, Default)]
pub struct Expected<'a> {
    /// Where signatures count.
    pub domain: Domain,
    /// The model.
    pub model: Option<ModelId>,
    /// The host.
    pub host: Option<Address>,
    /// The permission under which it was answered, whose own signatures are not looked at.
    pub token: Option<&'a Token>,
    /// The input with its salt.
    pub input: Option<Input<'a>>,
    /// The answer's text.
    pub output: Option<&'a [u8]>,
}

/// Why a receipt does not count.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReceiptRefusal {
    /// The text is none of a receipt.
    #[error(transparent)]
    Text(#[from] TextError),
    /// For another chain or contract.
    #[error("domain: expected the chain and contract at hand, got others")]
    WrongDomain,
    /// Of another model.
    #[error("model: expected {expected}, got {got}")]
    WrongModel {
        /// The model at hand.
        expected: ModelId,
        /// The model named.
        got: ModelId,
    },
    /// Of another host.
    #[error("host: expected {expected}, got {got}")]
    WrongHost {
        /// The host at hand.
        expected: Address,
        /// The host named.
        got: Address,
    },
    /// Of another permission.
    #[error("permission: expected the id of the permission at hand, got another")]
    WrongPermission,
    /// Issued outside the permission's life.
    #[error("issued at: expected {from} to {until}, the life of the permission, got {got}")]
    WrongTime {
        /// First second.
        from: u64,
        /// Last second.
        until: u64,
        /// The receipt's time.
        got: u64,
    },
    /// Of another input, or the salt is another.
    #[error("input: expected the one that the receipt's salted hash names, got another")]
    WrongInput,
    /// Of another answer.
    #[error("output: expected the one that the receipt's hash names, got another")]
    WrongOutput,
    /// Bytes that are no signature.
    #[error("{0}")]
    BadSignature(SigningError),
    /// Signed by somebody else than the host.
    #[error("signer: expected the host {expected}, got {got}")]
    WrongSigner {
        /// The host named.
        expected: Address,
        /// Who signed.
        got: Address,
    },
}

impl ReceiptRefusal {
    /// The reason as machines name it; stable.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Text(fault) => fault.code(),
            Self::WrongDomain => "wrong_domain",
            Self::WrongModel { .. } => "wrong_model",
            Self::WrongHost { .. } => "wrong_host",
            Self::WrongPermission => "wrong_permission",
            Self::WrongTime { .. } => "wrong_time",
            Self::WrongInput => "wrong_input",
            Self::WrongOutput => "wrong_output",
            Self::BadSignature(SigningError::HighS) => "malleable_signature",
            Self::BadSignature(_) => "bad_signature",
            Self::WrongSigner { .. } => "wrong_signer",
        }
    }
}

impl SignedReceipt {
    /// Signs a receipt with the host's key.
    #[must_use]
    pub fn sign(domain: Domain, receipt: InferenceReceipt, key: &SigningKey) -> Self {
        Self {
            domain,
            receipt,
            signature: key.sign(&domain.digest(&receipt)),
        }
    }

    /// The receipt's id.
    #[must_use]
    pub fn id(&self) -> ReceiptId {
        self.domain.digest(&self.receipt)
    }

    /// Whether the host that it names signed it, and it is of what is at hand.
    ///
    /// # Errors
    /// The first reason against it.
    pub fn verify(&self, expected: &Expected<'_>) -> Result<(), ReceiptRefusal> {
        let receipt = &self.receipt;
        if self.domain != expected.domain {
            return Err(ReceiptRefusal::WrongDomain);
        }
        let token = expected.token;
        let permission = token.map(|token| &token.permission);
        let models = [expected.model, permission.map(|own| own.model)];
        for expected in models.into_iter().flatten() {
            if receipt.model != expected {
                let got = receipt.model;
                return Err(ReceiptRefusal::WrongModel { expected, got });
            }
        }
        let hosts = [expected.host, permission.map(|own| own.host)];
        for expected in hosts.into_iter().flatten() {
            if receipt.host != expected {
                let got = receipt.host;
                return Err(ReceiptRefusal::WrongHost { expected, got });
            }
        }
        if let Some(token) = token {
            self.check_permission(token)?;
        }
        if let Some(Input { canonical, salt }) = expected.input
            && input_hash(salt, canonical) != receipt.input_hash
        {
            return Err(ReceiptRefusal::WrongInput);
        }
        if let Some(output) = expected.output
            && output_hash(output) != receipt.output_hash
        {
            return Err(ReceiptRefusal::WrongOutput);
        }
        let got = self.signature.recover(&self.id());
        let got = got.map_err(ReceiptRefusal::BadSignature)?;
        if got != receipt.host {
            let expected = receipt.host;
            return Err(ReceiptRefusal::WrongSigner { expected, got });
        }
        Ok(())
    }

    fn check_permission(&self, token: &Token) -> Result<(), ReceiptRefusal> {
        let (receipt, permission) = (&self.receipt, &token.permission);
        if token.domain != self.domain {
            return Err(ReceiptRefusal::WrongDomain);
        }
        if receipt.permission_id != token.id() {
            return Err(ReceiptRefusal::WrongPermission);
        }
        if permission.input_hash != NONE && permission.input_hash != receipt.input_hash {
            return Err(ReceiptRefusal::WrongInput);
        }
        let (from, until, got) = (permission.issued_at, permission.deadline, receipt.issued_at);
        if !(from..=until).contains(&got) {
            return Err(ReceiptRefusal::WrongTime { from, until, got });
        }
        Ok(())
    }

    /// The compact text.
    #[must_use]
    pub fn to_text(&self) -> String {
        let receipt = &self.receipt;
        let mut bytes = Vec::new();
        wire::write_domain(&self.domain, &mut bytes);
        bytes.extend_from_slice(&receipt.model.0);
        bytes.extend_from_slice(&receipt.host.0);
        bytes.extend_from_slice(&receipt.input_hash);
        bytes.extend_from_slice(&receipt.output_hash);
        bytes.extend_from_slice(&receipt.permission_id);
        bytes.extend_from_slice(&receipt.issued_at.to_be_bytes());
        bytes.extend_from_slice(&self.signature.0);
        wire::encode_short(PREFIX, &bytes)
    }

    /// Reads the compact text.
    ///
    /// # Errors
    /// Any fault of the text; the signature is not looked at.
    pub fn from_text(text: &str) -> Result<Self, TextError> {
        let bytes = wire::decode(PREFIX, text)?;
        let mut reader = Reader::new(&bytes);
        let signed = Self {
            domain: reader.domain()?,
            receipt: InferenceReceipt {
                model: ModelId(reader.array("model")?),
                host: reader.address("host")?,
                input_hash: reader.array("input hash")?,
                output_hash: reader.array("output hash")?,
                permission_id: reader.array("permission id")?,
                issued_at: reader.u64("issued at")?,
            },
            signature: reader.signature()?,
        };
        reader.end()?;
        Ok(signed)
    }
}
