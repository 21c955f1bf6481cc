//! What the owner's secret files are encrypted in, with the same bytes for the same seed and contents.
//!
//! ```text
//! {"format": as the kind of file, "version": its version, "cipher":"AES-256-GCM-SIV",
//!  "owner": hex of the owner's identifier (16 bytes), "nonce": hex (12 bytes), "body": base64}
//!
//! body  = AES-256-GCM-SIV(key, nonce, plaintext, associated data)                  (RFC 8452; ciphertext ‖ 16-byte tag)
//! key   = derive(owner, "file-key")          nonce = first 12 bytes of derive(owner, "file-nonce", SHA-256(plaintext))
//! associated data = format ‖ "/" ‖ version ‖ "/AES-256-GCM-SIV/" ‖ the owner's identifier as in the file
//! ```
//!
//! The nonce depends on the plaintext, so two contents never share one, and SIV mode would only reveal equality if they did.
//! The file has no white space and one spelling, so every changed byte is noticed.

use aes_gcm_siv::aead::{Aead, KeyInit, Payload};
use aes_gcm_siv::{Aes256GcmSiv, Nonce};
use data_encoding::BASE64;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::field::{Hex, Text};
use super::fingerprint_file::MAX_BYTES;
use super::{FileError, Kind, hex};
use crate::derive::{Purpose, Scope, derive, owner_id};
use crate::secret::OwnerSeed;

const CIPHER: &str = "AES-256-GCM-SIV";

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Envelope {
    format: Text<64>,
    version: u32,
    cipher: Text<64>,
    owner: Hex<16>,
    nonce: Hex<12>,
    body: Text<MAX_BYTES>,
}

/// Encrypts `plaintext` for `owner`.
///
/// # Errors
/// [`FileError::TooLarge`] for more than the cipher takes.
pub(super) fn seal(kind: Kind, plaintext: &[u8], owner: &OwnerSeed) -> Result<Vec<u8>, FileError> {
    let id = owner_id(owner);
    let digest = Sha256::digest(plaintext);
    let nonce_key = derive(owner, Purpose::FileNonce, Scope::OWNER, &digest);
    let mut nonce = [0; 12];
    nonce.copy_from_slice(&nonce_key.expose()[..12]);
    let aad = associated_data(kind, &id);
    let payload = Payload {
        msg: plaintext,
        aad: aad.as_bytes(),
    };
    let body = cipher(owner)
        .encrypt(&Nonce::from(nonce), payload)
        .map_err(|_| FileError::TooLarge {
            file: kind.format,
            limit: kind.max_bytes,
            got: plaintext.len(),
        })?;
    let envelope = Envelope {
        format: Text(kind.format.into()),
        version: kind.version,
        cipher: Text(CIPHER.into()),
        owner: Hex(id),
        nonce: Hex(nonce),
        body: Text(BASE64.encode(&body)),
    };
    serde_json::to_vec(&envelope).map_err(|error| FileError::json(kind.format, &error))
}

/// Decrypts a file.
///
/// # Errors
/// When it is too large, not of this kind, another owner's, or altered.
pub(super) fn open(
    kind: Kind,
    bytes: &[u8],
    owner: &OwnerSeed,
) -> Result<Zeroizing<Vec<u8>>, FileError> {
    let envelope: Envelope = kind.parse(bytes)?;
    if envelope.cipher.0 != CIPHER {
        return Err(FileError::Field {
            file: kind.format,
            field: "cipher",
            expected: CIPHER.into(),
            got: envelope.cipher.0,
        });
    }
    let id = owner_id(owner);
    if envelope.owner.0 != id {
        return Err(FileError::Owner {
            file: kind.format,
            expected: hex(&id),
            got: hex(&envelope.owner.0),
        });
    }
    let altered = || FileError::Altered { file: kind.format };
    let body = BASE64
        .decode(envelope.body.0.as_bytes())
        .map_err(|_| altered())?;
    let aad = associated_data(kind, &id);
    let payload = Payload {
        msg: &body,
        aad: aad.as_bytes(),
    };
    let plaintext = cipher(owner)
        .decrypt(&Nonce::from(envelope.nonce.0), payload)
        .map_err(|_| altered())?;
    Ok(Zeroizing::new(plaintext))
}

fn cipher(owner: &OwnerSeed) -> Aes256GcmSiv {
    Aes256GcmSiv::new(
        derive(owner, Purpose::FileKey, Scope::OWNER, &[])
            .expose()
            .into(),
    )
}

fn associated_data(kind: Kind, owner_id: &[u8; 16]) -> String {
    format!(
        "{}/{}/{CIPHER}/{}",
        kind.format,
        kind.version,
        hex(owner_id)
    )
}
