//! One secret becomes many: every random choice is `HKDF-SHA256` (RFC 5869) of the owner's seed and what the choice is for.
//!
//! Byte by byte:
//!
//! ```text
//! PRK  = HKDF-Extract(salt = "oml.owner-seed.v1" (17 bytes ASCII), IKM = owner seed (32 bytes))
//! info = field("oml.derive.v1") ‖ field(purpose) ‖ field(model digest) ‖ field(copy id) ‖ field(item)
//! key  = HKDF-Expand(PRK, info, 32)
//! field(x) = length of x in bytes as u32 big-endian (4 bytes) ‖ x
//! ```
//!
//! | purpose | item |
//! |---|---|
//! | `owner-id`, `file-key` | empty; digest 32 zero bytes, copy id empty |
//! | `file-nonce` | SHA-256 of the plaintext; digest 32 zero bytes, copy id empty |
//! | `signing-key` | counter as u64 big-endian (8 bytes); digest 32 zero bytes, copy id empty |
//! | `seed-words` | empty |
//! | `query`, `first-token`, `random-words` | candidate number as u64 big-endian (8 bytes) |
//! | `response` | UTF-8 bytes of the query, so that a query has one response and reordering changes nothing |
//! | `leaf-salt` | fingerprint index as u64 big-endian (8 bytes) |
//! | `imported-salt` | SHA-256 of index as u64 big-endian (8 bytes) ‖ field(query) ‖ field(response) for each response |
//! | `slices` | Merkle root of the set (32 bytes) ‖ number of slices as u64 big-endian (8 bytes) |
//! | `copy-classes` | Merkle root of the set (32 bytes) |
//! | `copy-members` | Merkle root of the set (32 bytes), then the copy's number as u64 big-endian (8 bytes) |
//! | `watermark` | UTF-8 name of the scheme; digest 32 zero bytes, copy id empty |
//! | `training`, `evaluation` | free for the recipe and the measurements, named by their own documents |
//!
//! Every field carries its length, so two different tuples never share an `info`.

use hkdf::Hkdf;
use sha2::Sha256;

use crate::secret::{DerivedKey, OwnerSeed};

const EXTRACT_SALT: &[u8] = b"oml.owner-seed.v1";
const DOMAIN: &[u8] = b"oml.derive.v1";

/// What a derived value is used for; two purposes never see the same value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Public identifier of the owner.
    OwnerId,
    /// Key of the fingerprint file.
    FileKey,
    /// Nonce of the fingerprint file.
    FileNonce,
    /// Secret of the owner's signing key.
    SigningKey,
    /// Order of the seed words.
    SeedWords,
    /// Sampling seed of a natural query.
    Query,
    /// Token that a natural query begins with.
    FirstToken,
    /// Words of a random query and its response.
    RandomWords,
    /// Choice of the response among the candidates.
    Response,
    /// Blinding value of a commitment leaf.
    LeafSalt,
    /// Blinding value of the leaf of an imported pair.
    ImportedSalt,
    /// Who gets which fingerprints when a set is dealt.
    Slices,
    /// Share of the copies that hold each fingerprint.
    CopyClasses,
    /// Fingerprints that one copy holds.
    CopyMembers,
    /// Key of a watermark in generated text.
    Watermark,
    /// Order and noise of training.
    Training,
    /// Samples drawn for measurements.
    Evaluation,
}

impl Purpose {
    /// The name that enters the derivation.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::OwnerId => "owner-id",
            Self::FileKey => "file-key",
            Self::FileNonce => "file-nonce",
            Self::SigningKey => "signing-key",
            Self::SeedWords => "seed-words",
            Self::Query => "query",
            Self::FirstToken => "first-token",
            Self::RandomWords => "random-words",
            Self::Response => "response",
            Self::LeafSalt => "leaf-salt",
            Self::ImportedSalt => "imported-salt",
            Self::Slices => "slices",
            Self::CopyClasses => "copy-classes",
            Self::CopyMembers => "copy-members",
            Self::Watermark => "watermark",
            Self::Training => "training",
            Self::Evaluation => "evaluation",
        }
    }
}

/// The model and the licensee's copy a derived value belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scope<'a> {
    /// Digest of the base model.
    pub model_digest: &'a [u8; 32],
    /// Name of the copy; empty for the owner's own set.
    pub copy_id: &'a str,
}

impl Scope<'static> {
    /// The scope of values that belong to the owner and no model.
    pub const OWNER: Self = Self {
        model_digest: &[0; 32],
        copy_id: "",
    };
}

/// Derives the 32 bytes of `purpose` and `item` within `scope`.
#[must_use]
pub fn derive(owner: &OwnerSeed, purpose: Purpose, scope: Scope<'_>, item: &[u8]) -> DerivedKey {
    let lengths = [
        DOMAIN,
        purpose.name().as_bytes(),
        scope.model_digest,
        scope.copy_id.as_bytes(),
        item,
    ]
    .map(|field| ((field.len() as u32).to_be_bytes(), field));
    let info: Vec<&[u8]> = lengths
        .iter()
        .flat_map(|(length, field)| [&length[..], field])
        .collect();

    let mut key = [0; 32];
    // 32 bytes are one SHA-256 block: far below the 255 blocks where expansion would be refused.
    let expanded =
        Hkdf::<Sha256>::new(Some(EXTRACT_SALT), owner.expose()).expand_multi_info(&info, &mut key);
    debug_assert!(expanded.is_ok());
    DerivedKey::new(key)
}

/// As [`derive()`], with a number as the item.
#[must_use]
pub fn derive_numbered(
    owner: &OwnerSeed,
    purpose: Purpose,
    scope: Scope<'_>,
    number: u64,
) -> DerivedKey {
    derive(owner, purpose, scope, &number.to_be_bytes())
}

/// The owner's public identifier: 16 bytes that say which seed made a file and nothing about the seed.
#[must_use]
pub fn owner_id(owner: &OwnerSeed) -> [u8; 16] {
    let key = derive(owner, Purpose::OwnerId, Scope::OWNER, &[]);
    let mut id = [0; 16];
    id.copy_from_slice(&key.expose()[..16]);
    id
}

/// As [`derive_numbered`], cut to its first 8 bytes read little-endian: a seed for somebody else's generator.
#[must_use]
pub fn derive_seed(owner: &OwnerSeed, purpose: Purpose, scope: Scope<'_>, number: u64) -> u64 {
    let key = derive_numbered(owner, purpose, scope, number);
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&key.expose()[..8]);
    u64::from_le_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::hex;

    fn owner() -> OwnerSeed {
        OwnerSeed::new(std::array::from_fn(|i| i as u8))
    }

    #[test]
    fn bytes_equal_an_independent_hkdf() {
        // Python's hmac, after the layout in the module's documentation.
        let scope = Scope {
            model_digest: &[0x11; 32],
            copy_id: "copy-7",
        };
        let key = derive_numbered(&owner(), Purpose::LeafSalt, scope, 5);
        assert_eq!(
            hex(key.expose()),
            "7dd3eccf56c7eb9629ce67e195607039cba4d48efd06ba523de7eb8f31a996e4"
        );
        assert_eq!(hex(&owner_id(&owner())), "736622c88e287ac461ed3447f1f91b5b");
        assert_eq!(
            derive_seed(&owner(), Purpose::LeafSalt, scope, 5),
            0x96eb_c756_cfec_d37d
        );
    }

    #[test]
    fn every_field_matters_and_none_runs_into_the_next() {
        let base = Scope {
            model_digest: &[1; 32],
            copy_id: "ab",
        };
        let keys = [
            derive(&owner(), Purpose::Query, base, b"c"),
            derive(&owner(), Purpose::Response, base, b"c"),
            derive(
                &owner(),
                Purpose::Query,
                Scope {
                    copy_id: "a",
                    ..base
                },
                b"bc",
            ),
            derive(
                &owner(),
                Purpose::Query,
                Scope {
                    copy_id: "abc",
                    ..base
                },
                b"",
            ),
            derive(
                &owner(),
                Purpose::Query,
                Scope {
                    model_digest: &[2; 32],
                    ..base
                },
                b"c",
            ),
            derive(&OwnerSeed::new([9; 32]), Purpose::Query, base, b"c"),
        ];
        for (i, key) in keys.iter().enumerate() {
            assert!(keys[..i].iter().all(|earlier| earlier != key));
        }
    }
}
