//! The signed message around a time stamp: Cryptographic Message Syntax (RFC 5652), as far as RFC 3161 uses it.
//!
//! ```text
//! ContentInfo   ::= SEQUENCE { id-signedData, [0] SignedData }
//! SignedData    ::= SEQUENCE { version, digestAlgorithms SET, SEQUENCE { id-ct-TSTInfo, [0] OCTET STRING TSTInfo },
//!                              [0] certificates, [1] crls OPTIONAL, signerInfos SET OF one SignerInfo }
//! SignerInfo    ::= SEQUENCE { version, issuer and serial | [0] key id, digestAlgorithm, [0] signed attributes,
//!                              signatureAlgorithm, OCTET STRING signature, [1] unsigned attributes OPTIONAL }
//! signature     over the signed attributes as a SET: content type, digest of TSTInfo, hash of the signer's certificate
//! ```
//!
//! It is read here, as DER and as the bytes that were signed, because `cms` 0.3 is not released and `x509-tsp` rests on `cms` 0.2.
//! Sources: RFC 5652, RFC 5035 and 2634 (ESSCertIDv2, ESSCertID), RFC 5816, RFC 5754, RFC 4055.

use der::asn1::{AnyRef, ObjectIdentifier, OctetStringRef};
use der::{Decode as _, Encode as _, Tag, Tagged as _};
use rustls_pki_types::{CertificateDer, SignatureVerificationAlgorithm};
use sha1_checked::Sha1;
use sha2::{Digest as _, Sha256, Sha384, Sha512};
use webpki::{ALL_VERIFICATION_ALGS, EndEntityCert, ring};
use x509_cert::Certificate;
use x509_cert::ext::pkix::SubjectKeyIdentifier;

use super::reader::{Fields, context};
use super::rfc3161::{TimeStampError, words};

/// Most certificates in a time stamp.
const MAX_CERTIFICATES: usize = 32;

const SIGNED_DATA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.7.2");
const TST_INFO: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.16.1.4");
const CONTENT_TYPE: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.3");
const MESSAGE_DIGEST: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.4");
const SIGNING_CERTIFICATE: ObjectIdentifier =
    ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.16.2.12");
const SIGNING_CERTIFICATE_V2: ObjectIdentifier =
    ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.16.2.47");
const SHA_1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.14.3.2.26");
pub(super) const SHA_256: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.1");
const SHA_384: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.2");
const SHA_512: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.3");
const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
const RSA_PSS: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.10");
const RSA_SHA_256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.11");
const RSA_SHA_384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.12");
const RSA_SHA_512: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.13");
const ECDSA_SHA_256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.2");
const ECDSA_SHA_384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.3");

/// The parts of the CMS structure.
pub(super) struct Signed<'a> {
    pub(super) content: &'a [u8],
    pub(super) certificates: Vec<&'a [u8]>,
    pub(super) signer: AnyRef<'a>,
}

impl<'a> Signed<'a> {
    pub(super) fn parse(token: AnyRef<'a>) -> Result<Self, TimeStampError> {
        let mut fields = Fields::of("token", token, Tag::Sequence)?;
        is("token type", SIGNED_DATA, fields.next()?)?;
        let wrapped = fields.optional(context(0))?;
        fields.end()?;
        let data = "signed data";
        let mut fields = Fields::inside(data, wrapped.map_or(&[], AnyRef::value))?;
        let inner = fields.any()?;
        fields.end()?;

        let mut fields = Fields::of(data, inner, Tag::Sequence)?;
        fields.next::<u8>()?;
        fields.any()?;
        let content = Self::content(fields.any()?)?;
        let mut certificates = Vec::new();
        if let Some(set) = fields.optional(context(0))? {
            let mut set = Fields::inside("certificates", set.value())?;
            while !set.is_finished() {
                certificates.push(set.raw()?);
                bounded("certificates", certificates.len(), MAX_CERTIFICATES)?;
            }
        }
        fields.optional(context(1))?;
        let mut signers = Fields::of("signers", fields.any()?, Tag::Set)?;
        fields.end()?;
        let signer = signers.any()?;
        if !signers.is_finished() {
            return Err(field("signers", "one", "more"));
        }
        Ok(Self {
            content,
            certificates,
            signer,
        })
    }

    fn content(value: AnyRef<'a>) -> Result<&'a [u8], TimeStampError> {
        let mut fields = Fields::of("contents", value, Tag::Sequence)?;
        is("contents type", TST_INFO, fields.next()?)?;
        let wrapped = fields.optional(context(0))?;
        fields.end()?;
        let mut fields = Fields::inside("contents", wrapped.map_or(&[], AnyRef::value))?;
        let content: &OctetStringRef = fields.next()?;
        fields.end()?;
        Ok(content.as_bytes())
    }
}

/// Who signed, over what, and how.
pub(super) struct Signer<'a> {
    id: AnyRef<'a>,
    pub(super) digest: ObjectIdentifier,
    /// Contents of the set of signed attributes.
    pub(super) attributes: &'a [u8],
    signature_algorithm: AnyRef<'a>,
    signature: &'a [u8],
}

impl<'a> Signer<'a> {
    pub(super) fn parse(value: AnyRef<'a>) -> Result<Self, TimeStampError> {
        let mut fields = Fields::of("signer", value, Tag::Sequence)?;
        fields.next::<u8>()?;
        let id = fields.any()?;
        let digest = algorithm("digest algorithm", fields.any()?)?;
        let attributes = fields
            .optional(context(0))?
            .ok_or_else(|| field("signed attributes", "some", "none"))?;
        let signature_algorithm = fields.any()?;
        let signature: &OctetStringRef = fields.next()?;
        fields.optional(context(1))?;
        fields.end()?;
        Ok(Self {
            id,
            digest,
            attributes: attributes.value(),
            signature_algorithm,
            signature: signature.as_bytes(),
        })
    }

    /// The certificate that the signer's identifier names.
    pub(super) fn certificate<'c>(
        &self,
        certificates: &[&'c [u8]],
    ) -> Result<(&'c [u8], Certificate), TimeStampError> {
        for &bytes in certificates {
            let Ok(certificate) = Certificate::from_der(bytes) else {
                continue;
            };
            if self.names(&certificate) {
                return Ok((bytes, certificate));
            }
        }
        Err(TimeStampError::NoCertificate)
    }

    fn names(&self, certificate: &Certificate) -> bool {
        let certificate = certificate.tbs_certificate();
        if self.id.tag() == Tag::Sequence {
            let issuer = certificate.issuer().to_der();
            let serial = certificate.serial_number().to_der();
            return issuer
                .and_then(|issuer| Ok([issuer, serial?].concat()))
                .is_ok_and(|both| both == self.id.value());
        }
        let key = certificate.get_extension::<SubjectKeyIdentifier>();
        let key = key.ok().flatten().map(|(_, key)| key);
        key.is_some_and(|key| key.0.as_bytes() == self.id.value())
    }

    /// The signature over the attributes as a set, by the key of `certificate`.
    pub(super) fn check_signature(&self, certificate: &[u8]) -> Result<(), TimeStampError> {
        let certificate = CertificateDer::from(certificate);
        let certificate =
            EndEntityCert::try_from(&certificate).map_err(|fault| TimeStampError::Path {
                fault: words(&fault),
            })?;
        let field = "signed attributes";
        let set = AnyRef::new(Tag::Set, self.attributes)
            .and_then(|set| set.to_der())
            .map_err(|_| TimeStampError::Der { field })?;
        let verified = self.algorithms()?.iter().any(|algorithm| {
            certificate
                .verify_signature(*algorithm, &set, self.signature)
                .is_ok()
        });
        if verified {
            Ok(())
        } else {
            Err(TimeStampError::Signature)
        }
    }

    /// The algorithms that the signature may be of: one for each kind of key.
    fn algorithms(
        &self,
    ) -> Result<Vec<&'static dyn SignatureVerificationAlgorithm>, TimeStampError> {
        let name = algorithm("signature algorithm", self.signature_algorithm)?;
        let unknown = |name: ObjectIdentifier| TimeStampError::Algorithm {
            field: "signature",
            expected: "RSA with SHA-256, SHA-384 or SHA-512, or ECDSA with SHA-256 or SHA-384",
            got: name.to_string(),
        };
        Ok(match name {
            ECDSA_SHA_256 => vec![ring::ECDSA_P256_SHA256, ring::ECDSA_P384_SHA256],
            ECDSA_SHA_384 => vec![ring::ECDSA_P256_SHA384, ring::ECDSA_P384_SHA384],
            RSA_SHA_256 => vec![ring::RSA_PKCS1_2048_8192_SHA256],
            RSA_SHA_384 => vec![ring::RSA_PKCS1_2048_8192_SHA384],
            RSA_SHA_512 => vec![ring::RSA_PKCS1_2048_8192_SHA512],
            RSA => match self.digest {
                SHA_256 => vec![ring::RSA_PKCS1_2048_8192_SHA256],
                SHA_384 => vec![ring::RSA_PKCS1_2048_8192_SHA384],
                SHA_512 => vec![ring::RSA_PKCS1_2048_8192_SHA512],
                other => return Err(unknown(other)),
            },
            // Its parameters say which hash, as the known algorithms spell them.
            RSA_PSS => ALL_VERIFICATION_ALGS
                .iter()
                .copied()
                .filter(|known| {
                    known.signature_alg_id().as_ref() == self.signature_algorithm.value()
                })
                .collect(),
            other => return Err(unknown(other)),
        })
    }
}

/// The signed attributes that matter, each of which is there once.
pub(super) struct Attributes<'a> {
    content_type: ObjectIdentifier,
    message_digest: &'a [u8],
    /// Hash algorithm and hash of the signer's certificate.
    certificate: (ObjectIdentifier, &'a [u8]),
}

impl<'a> Attributes<'a> {
    pub(super) fn parse(set: &'a [u8]) -> Result<Self, TimeStampError> {
        let mut list = Fields::inside("signed attributes", set)?;
        let (mut content_type, mut message_digest, mut v1, mut v2) = (None, None, None, None);
        while !list.is_finished() {
            let mut attribute = Fields::of("signed attributes", list.any()?, Tag::Sequence)?;
            let name: ObjectIdentifier = attribute.next()?;
            let mut values = Fields::of("signed attributes", attribute.any()?, Tag::Set)?;
            attribute.end()?;
            let place = match name {
                CONTENT_TYPE => &mut content_type,
                MESSAGE_DIGEST => &mut message_digest,
                SIGNING_CERTIFICATE => &mut v1,
                SIGNING_CERTIFICATE_V2 => &mut v2,
                _ => continue,
            };
            if place.replace(values.any()?).is_some() {
                return Err(field("signed attributes", "each once", "one twice"));
            }
            values.end()?;
        }
        let missing = |name| move || field("signed attributes", name, "none");
        let content_type = content_type.ok_or_else(missing("a content type"))?;
        let message_digest = message_digest.ok_or_else(missing("a message digest"))?;
        let der = |field| move |_| TimeStampError::Der { field };
        let digest: &OctetStringRef = message_digest.decode_as().map_err(der("message digest"))?;
        let certificate = match (v2, v1) {
            (Some(v2), _) => certificate_id(v2, SHA_256)?,
            (None, Some(v1)) => certificate_id(v1, SHA_1)?,
            (None, None) => return Err(missing("the signer's certificate")()),
        };
        Ok(Self {
            content_type: content_type.decode_as().map_err(der("content type"))?,
            message_digest: digest.as_bytes(),
            certificate,
        })
    }

    pub(super) fn check_content(
        &self,
        content: &[u8],
        digest: ObjectIdentifier,
    ) -> Result<(), TimeStampError> {
        is("signed content type", TST_INFO, self.content_type)?;
        let expected = match digest {
            SHA_256 => Sha256::digest(content).to_vec(),
            SHA_384 => Sha384::digest(content).to_vec(),
            SHA_512 => Sha512::digest(content).to_vec(),
            other => {
                return Err(TimeStampError::Algorithm {
                    field: "message digest",
                    expected: "SHA-256, SHA-384 or SHA-512",
                    got: other.to_string(),
                });
            }
        };
        if self.message_digest != expected {
            return Err(field("message digest", "that of the contents", "another"));
        }
        Ok(())
    }

    /// SHA-1 only names the certificate here (ESSCertID); its signature is checked against the certificate itself.
    pub(super) fn check_certificate(&self, certificate: &[u8]) -> Result<(), TimeStampError> {
        let (algorithm, got) = self.certificate;
        let expected = match algorithm {
            SHA_1 => Sha1::try_digest(certificate).hash().to_vec(),
            SHA_256 => Sha256::digest(certificate).to_vec(),
            SHA_384 => Sha384::digest(certificate).to_vec(),
            SHA_512 => Sha512::digest(certificate).to_vec(),
            other => {
                return Err(TimeStampError::Algorithm {
                    field: "hash of the signer's certificate",
                    expected: "SHA-1, SHA-256, SHA-384 or SHA-512",
                    got: other.to_string(),
                });
            }
        };
        if got != expected {
            return Err(field(
                "hash of the signer's certificate",
                "that of the certificate",
                "another",
            ));
        }
        Ok(())
    }
}

/// `SigningCertificate ::= SEQUENCE { SEQUENCE OF ESSCertID, … }`, of which the first is the signer's;
/// `ESSCertIDv2 ::= SEQUENCE { AlgorithmIdentifier DEFAULT sha256, OCTET STRING, … }`, without the algorithm in version 1.
fn certificate_id(
    value: AnyRef<'_>,
    default: ObjectIdentifier,
) -> Result<(ObjectIdentifier, &[u8]), TimeStampError> {
    let name = "signing certificate";
    let mut fields = Fields::of(name, value, Tag::Sequence)?;
    let mut list = Fields::of(name, fields.any()?, Tag::Sequence)?;
    let mut id = Fields::of(name, list.any()?, Tag::Sequence)?;
    let hash_algorithm = match id.optional(Tag::Sequence)? {
        Some(value) => algorithm(name, value)?,
        None => default,
    };
    let hash: &OctetStringRef = id.next()?;
    Ok((hash_algorithm, hash.as_bytes()))
}

/// The name in an `AlgorithmIdentifier`.
pub(super) fn algorithm(
    field: &'static str,
    value: AnyRef<'_>,
) -> Result<ObjectIdentifier, TimeStampError> {
    Fields::of(field, value, Tag::Sequence)?.next()
}

pub(super) fn is(
    name: &'static str,
    expected: ObjectIdentifier,
    got: ObjectIdentifier,
) -> Result<(), TimeStampError> {
    if got == expected {
        return Ok(());
    }
    Err(field(name, &expected.to_string(), &got.to_string()))
}

pub(super) fn bounded(name: &'static str, got: usize, most: usize) -> Result<(), TimeStampError> {
    if got <= most {
        return Ok(());
    }
    Err(field(name, &format!("at most {most}"), "more"))
}

pub(super) fn field(field: &'static str, expected: &str, got: &str) -> TimeStampError {
    TimeStampError::Field {
        field,
        expected: expected.into(),
        got: got.into(),
    }
}
