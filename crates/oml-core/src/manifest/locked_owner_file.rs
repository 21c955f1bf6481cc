//! The owner's key file under a passphrase.
//!
//! ```text
//! {"format":"oml-owner-locked","version":1,"kdf":"argon2id","memory_kib":65536,"passes":3,"lanes":4,
//!  "salt":hex (16 bytes, random),"cipher":"AES-256-GCM-SIV","body":hex (48 bytes)}
//!
//! key ‖ nonce  = Argon2id(passphrase, salt, memory, passes, lanes), version 0x13, 32 + 12 bytes     (RFC 9106)
//! body         = AES-256-GCM-SIV(key, nonce, seed, associated data)                (RFC 8452; ciphertext ‖ 16-byte tag)
//! associated data = "oml-owner-locked/1/argon2id/" ‖ memory ‖ "/" ‖ passes ‖ "/" ‖ lanes
//! ```
//!
//! The costs are the second choice of RFC 9106, section 4, and are in the file, so that they can rise. A reader refuses
//! costs that would stop its machine.

use aes_gcm_siv::aead::{Aead, KeyInit, Payload};
use aes_gcm_siv::{Aes256GcmSiv, Nonce};
use argon2::{Algorithm, Argon2, Params, Version};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::field::{Hex, Text};
use super::{FileError, Kind};
use crate::secret::OwnerSeed;

/// What such a file calls itself.
pub const FORMAT: &str = "oml-owner-locked";
const KDF: &str = "argon2id";
const CIPHER: &str = "AES-256-GCM-SIV";
const KIND: Kind = Kind {
    format: FORMAT,
    version: 1,
    max_bytes: 4096,
};

/// How much work one guess of the passphrase is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cost {
    /// Memory in KiB.
    pub memory_kib: u32,
    /// Passes over the memory.
    pub passes: u32,
    /// Lanes of the memory.
    pub lanes: u32,
}

impl Default for Cost {
    fn default() -> Self {
        Self {
            memory_kib: 1 << 16,
            passes: 3,
            lanes: 4,
        }
    }
}

impl Cost {
    /// The largest costs that are read: 1 GiB, and about a minute.
    const MAX: Self = Self {
        memory_kib: 1 << 20,
        passes: 64,
        lanes: 64,
    };

    fn validate(self) -> Result<Params, FileError> {
        let within = |field, got: u32, low: u32, high: u32| {
            if (low..=high).contains(&got) {
                return Ok(());
            }
            Err(FileError::Field {
                file: FORMAT,
                field,
                expected: format!("{low} to {high}"),
                got: got.to_string(),
            })
        };
        within("passes", self.passes, 1, Self::MAX.passes)?;
        within("lanes", self.lanes, 1, Self::MAX.lanes)?;
        let least = 8 * self.lanes;
        within("memory_kib", self.memory_kib, least, Self::MAX.memory_kib)?;
        Params::new(self.memory_kib, self.passes, self.lanes, None).map_err(|_| cost_fault())
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct LockedFile {
    format: Text<64>,
    version: u32,
    kdf: Text<64>,
    memory_kib: u32,
    passes: u32,
    lanes: u32,
    salt: Hex<16>,
    cipher: Text<64>,
    body: Hex<48>,
}

/// The bytes of the owner's key file, under a passphrase; `salt` is random.
///
/// # Errors
/// [`FileError::Field`] for costs out of bounds or an empty passphrase.
pub fn render(
    owner: &OwnerSeed,
    passphrase: &[u8],
    salt: [u8; 16],
    cost: Cost,
) -> Result<Vec<u8>, FileError> {
    if passphrase.is_empty() {
        return Err(FileError::Field {
            file: FORMAT,
            field: "passphrase",
            expected: "at least one character".into(),
            got: "none".into(),
        });
    }
    let (cipher, nonce) = stretch(passphrase, salt, cost)?;
    let aad = associated_data(cost);
    let payload = Payload {
        msg: owner.expose(),
        aad: aad.as_bytes(),
    };
    let sealed = cipher.encrypt(&nonce, payload).ok();
    let body: Option<[u8; 48]> = sealed.and_then(|sealed| sealed.try_into().ok());
    let file = LockedFile {
        format: Text(FORMAT.into()),
        version: KIND.version,
        kdf: Text(KDF.into()),
        memory_kib: cost.memory_kib,
        passes: cost.passes,
        lanes: cost.lanes,
        salt: Hex(salt),
        cipher: Text(CIPHER.into()),
        body: Hex(body.ok_or(FileError::Altered { file: FORMAT })?),
    };
    let mut bytes =
        serde_json::to_vec(&file).map_err(|error| FileError::json(KIND.format, &error))?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// Opens an owner's key file with its passphrase.
///
/// # Errors
/// [`FileError::Passphrase`] for another passphrase, which cannot be told from a changed body; any other fault of the file.
pub fn parse(bytes: &[u8], passphrase: &[u8]) -> Result<OwnerSeed, FileError> {
    let file: LockedFile = KIND.parse(bytes)?;
    for (field, expected, got) in [("kdf", KDF, &file.kdf), ("cipher", CIPHER, &file.cipher)] {
        if got.0 != expected {
            return Err(FileError::Field {
                file: FORMAT,
                field,
                expected: expected.into(),
                got: "another".into(),
            });
        }
    }
    let cost = Cost {
        memory_kib: file.memory_kib,
        passes: file.passes,
        lanes: file.lanes,
    };
    let (cipher, nonce) = stretch(passphrase, file.salt.0, cost)?;
    let aad = associated_data(cost);
    let payload = Payload {
        msg: &file.body.0[..],
        aad: aad.as_bytes(),
    };
    let wrong = || FileError::Passphrase { file: FORMAT };
    let opened = cipher.decrypt(&nonce, payload).map_err(|_| wrong())?;
    let opened = Zeroizing::new(opened);
    let seed: [u8; 32] = opened.as_slice().try_into().map_err(|_| wrong())?;
    Ok(OwnerSeed::new(seed))
}

/// Cipher and nonce of a passphrase.
fn stretch(
    passphrase: &[u8],
    salt: [u8; 16],
    cost: Cost,
) -> Result<(Aes256GcmSiv, Nonce), FileError> {
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, cost.validate()?);
    let mut stretched = Zeroizing::new([0; 44]);
    argon2
        .hash_password_into(passphrase, &salt, &mut *stretched)
        .map_err(|_| cost_fault())?;
    let (mut key, mut nonce) = (Zeroizing::new([0; 32]), [0; 12]);
    key.copy_from_slice(&stretched[..32]);
    nonce.copy_from_slice(&stretched[32..]);
    Ok((Aes256GcmSiv::new((&*key).into()), Nonce::from(nonce)))
}

/// What is left to go wrong when every cost is within its bounds.
fn cost_fault() -> FileError {
    FileError::Field {
        file: FORMAT,
        field: "memory_kib",
        expected: "memory that this machine has".into(),
        got: "more".into(),
    }
}

fn associated_data(cost: Cost) -> String {
    format!(
        "{FORMAT}/{}/{KDF}/{}/{}/{}",
        KIND.version, cost.memory_kib, cost.passes, cost.lanes
    )
}
