//! Files for somebody else: age encryption to a prover's public key (`age1…`), opened with its identity file.
//!
//! Format: age-encryption.org/v1, X25519 recipients. Encryption draws its own randomness, so the same contents give other
//! bytes each time; what is inside is the domain's and the same.

use std::io::{Read as _, Write as _};
use std::path::Path;

use age::secrecy::ExposeSecret as _;
use age::x25519::{Identity, Recipient};
use age::{DecryptError, Decryptor, Encryptor};
use anyhow::{Context as _, anyhow, bail};
use zeroize::Zeroizing;

use crate::error::WithHint as _;
use crate::files::{self, Access, Existing};

/// How every encrypted file begins.
const MAGIC: &[u8] = b"age-encryption.org/v1\n";
const IDENTITY_LIMIT: usize = 1 << 16;

/// Whether a file is encrypted with age.
pub(crate) fn is_sealed(bytes: &[u8]) -> bool {
    bytes.starts_with(MAGIC)
}

/// Reads a public key, for a flag.
pub(crate) fn recipient(text: &str) -> Result<String, String> {
    let parsed = text.parse::<Recipient>();
    parsed
        .map(|recipient| recipient.to_string())
        .map_err(|_| "expected an age public key, age1 and 58 more letters".to_owned())
}

/// Encrypts `contents` to a public key.
///
/// # Errors
/// When the key is none.
pub(crate) fn seal(contents: &[u8], to: &str) -> anyhow::Result<Vec<u8>> {
    let to: Recipient = to
        .parse()
        .map_err(|fault| anyhow!("{to}: expected an age public key: {fault}"))?;
    let recipients = [&to as &dyn age::Recipient];
    let mut sealed = Vec::with_capacity(contents.len() + 4096);
    let mut writer =
        Encryptor::with_recipients(recipients.into_iter())?.wrap_output(&mut sealed)?;
    writer.write_all(contents)?;
    writer.finish()?;
    Ok(sealed)
}

/// Decrypts a file of at most `limit` bytes with the identities of a prover.
///
/// # Errors
/// When no identity fits, or the file is damaged or too large.
pub(crate) fn open(
    sealed: &[u8],
    identities: &[Identity],
    limit: usize,
) -> anyhow::Result<Zeroizing<Vec<u8>>> {
    let identities = identities
        .iter()
        .map(|identity| identity as &dyn age::Identity);
    let opened = Decryptor::new(sealed).and_then(|decryptor| decryptor.decrypt(identities));
    let reader = match opened {
        Err(DecryptError::NoMatchingKeys) => {
            bail!("identity: expected one that the file was encrypted to, got none of them")
        }
        other => other?,
    };
    // Room for the whole file, so that growing leaves no copy of it behind.
    let mut contents = Zeroizing::new(Vec::with_capacity(sealed.len().min(limit)));
    reader
        .take(limit as u64 + 1)
        .read_to_end(&mut contents)
        .context("expected what was encrypted, got altered or damaged contents")?;
    if contents.len() > limit {
        bail!("expected at most {limit} bytes inside");
    }
    Ok(contents)
}

/// Writes a new identity into a new file, readable by its user alone; returns its public key.
///
/// # Errors
/// When the file exists or cannot be written.
pub(crate) fn make_identity(path: &Path) -> anyhow::Result<String> {
    let identity = Identity::generate();
    let public = identity.to_public().to_string();
    let secret = identity.to_string();
    let text = format!("# public key: {public}\n{}\n", secret.expose_secret());
    let text = Zeroizing::new(text);
    files::write_whole(path, text.as_bytes(), Access::Private, Existing::Refuse)?;
    Ok(public)
}

/// Reads an identity file: lines of `AGE-SECRET-KEY-1…`, and comments after `#`.
///
/// # Errors
/// When the file is missing, or a line is no identity; none of them is quoted.
pub(crate) fn identities(path: &Path) -> anyhow::Result<Vec<Identity>> {
    let text = Zeroizing::new(files::read_text(path, IDENTITY_LIMIT).hint(
        "Make a prover's identity with `oml keygen --prover`, or name yours with --identity FILE.",
    )?);
    let mut identities = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        identities.push(line.parse().map_err(|fault| {
            anyhow!(
                "{}: line {}: expected an age identity, got one with a fault: {fault}",
                path.display(),
                number + 1
            )
        })?);
    }
    if identities.is_empty() {
        bail!("{}: expected an age identity, got none", path.display());
    }
    Ok(identities)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_recipient_opens() {
        let (own, other) = ([Identity::generate()], [Identity::generate()]);
        let sealed = seal(b"secret", &own[0].to_public().to_string()).unwrap();
        assert!(is_sealed(&sealed));
        assert_eq!(*open(&sealed, &own, 6).unwrap(), b"secret");
        assert!(open(&sealed, &own, 5).is_err());
        let error = open(&sealed, &other, 6).unwrap_err().to_string();
        assert!(error.starts_with("identity: expected one"), "{error}");
        for position in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[position] ^= 1;
            assert!(open(&changed, &own, 6).is_err(), "byte {position}");
            assert!(open(&sealed[..position], &own, 6).is_err());
        }
    }

    #[test]
    fn recipients_are_judged() {
        let public = Identity::generate().to_public().to_string();
        assert_eq!(recipient(&public).as_deref(), Ok(public.as_str()));
        assert!(recipient(&public[1..]).is_err());
    }
}
