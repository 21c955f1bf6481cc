//! A time stamp after RFC 3161, verified offline against a root certificate that the judge trusts.
//!
//! ```text
//! TimeStampResp ::= SEQUENCE { status PKIStatusInfo, timeStampToken ContentInfo OPTIONAL }     (or the token alone)
//! TSTInfo       ::= SEQUENCE { version 1, policy, SEQUENCE { SHA-256, OCTET STRING imprint }, serial INTEGER, genTime,
//!                              accuracy OPTIONAL, ordering, nonce, [0] tsa, [1] extensions }
//! ```
//!
//! The token around TSTInfo is in `cms`. Certificates are judged by `rustls-webpki` (RFC 5280 paths, validity at the time stamped,
//! ECDSA on P-256 and P-384 with SHA-256 and SHA-384, RSA of 2048 to 8192 bits with PKCS #1 v1.5 or PSS and SHA-256, SHA-384 or
//! SHA-512). The certificates in the token only fill the path between the signer and the judge's root. Revocation is not looked up:
//! it cannot be, offline. Source: RFC 3161.

use std::time::Duration;

use der::asn1::{AnyRef, ObjectIdentifier, OctetStringRef};
use der::{DateTime, Decode as _, Tag, Tagged as _};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, UnixTime};
use sha2::{Digest as _, Sha256};
use webpki::{ALL_VERIFICATION_ALGS, EndEntityCert, KeyUsage, anchor_from_trusted_cert};
use x509_cert::Certificate;
use x509_cert::ext::pkix::ExtendedKeyUsage;

use super::cms::{Attributes, SHA_256, Signed, Signer, algorithm, bounded, field};
use super::reader::{Fields, context};
use crate::manifest::hex;

/// Most bytes of a time stamp.
pub const MAX_BYTES: usize = 1 << 18;
/// Most bytes of the file with the roots that the judge trusts.
pub const MAX_ROOTS_BYTES: usize = 1 << 22;
/// Most roots that the judge trusts.
const MAX_ROOTS: usize = 1024;
/// Most bytes of a serial number (RFC 3161 asks for 160 bits) with its sign.
const MAX_SERIAL: usize = 21;

const TIME_STAMPING: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.8");
/// `id-kp-timeStamping` as an extended key usage is compared: the identifier's bytes alone.
const TIME_STAMPING_BYTES: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 8];

/// A time stamp whose signature is right; who made it is for [`TimeStamp::trusted`] to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimeStamp {
    /// The time stamped, in seconds since 1970.
    pub time: u64,
    /// How much later than `time` the message may have come, in seconds, rounded up.
    pub accuracy: u64,
    /// The authority's policy, as dotted numbers.
    pub policy: String,
    /// The token's serial number, in hexadecimal.
    pub serial: String,
    /// Whom the signer's certificate names.
    pub authority: String,
    signer: Vec<u8>,
    certificates: Vec<Vec<u8>>,
}

/// One way a time stamp can be wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TimeStampError {
    /// More bytes than a time stamp has.
    #[error("time stamp: expected at most {MAX_BYTES} bytes, got {got}")]
    TooLarge {
        /// Bytes found.
        got: usize,
    },
    /// Not DER, or other fields than RFC 3161 and CMS have there.
    #[error("time stamp {field}: expected DER of this form, got other or cut bytes")]
    Der {
        /// Name of the structure.
        field: &'static str,
    },
    /// The authority refused.
    #[error("time stamp status: expected 0 (granted) or 1 (granted with modifications), got {got}")]
    Status {
        /// The status.
        got: u64,
    },
    /// A field with another value than it must have.
    #[error("time stamp {field}: expected {expected}, got {got}")]
    Field {
        /// Name of the field.
        field: &'static str,
        /// What must be there.
        expected: String,
        /// What is there.
        got: String,
    },
    /// An algorithm that is unsafe or not known here.
    #[error("time stamp {field}: expected {expected}, got algorithm {got}")]
    Algorithm {
        /// Where it is named.
        field: &'static str,
        /// The algorithms that are known here.
        expected: &'static str,
        /// The algorithm's identifier.
        got: String,
    },
    /// The message is another one.
    #[error("time stamp imprint: expected SHA-256 {expected} of the message, got {got}")]
    Imprint {
        /// Digest of the message at hand.
        expected: String,
        /// Digest that was stamped.
        got: String,
    },
    /// The signer's certificate is not in the token.
    #[error(
        "time stamp certificates: expected the signer's, got none of it (the request must ask for it with -cert)"
    )]
    NoCertificate,
    /// The signer's certificate may not sign time stamps.
    #[error(
        "time stamp certificate: expected a critical extended key usage of time stamping alone, got {got}"
    )]
    Usage {
        /// What the certificate has.
        got: &'static str,
    },
    /// The signature is not the signer's.
    #[error("time stamp signature: expected one by the signer's certificate, got another")]
    Signature,
    /// The signer's certificate does not lead to a trusted root.
    #[error(
        "time stamp certificate: expected a path to a trusted root at the time stamped, got none: {fault}"
    )]
    Path {
        /// What is wrong with it.
        fault: String,
    },
    /// The file of trusted roots cannot be used.
    #[error("trusted roots: expected 1 to {MAX_ROOTS} certificates in PEM, got {got}")]
    Roots {
        /// What was found.
        got: String,
    },
}

/// Root certificates that the judge trusts.
#[derive(Debug, Clone)]
pub struct Roots(Vec<CertificateDer<'static>>);

/// Reads the roots that the judge trusts, in PEM.
///
/// # Errors
/// [`TimeStampError::Roots`].
pub fn roots(pem: &[u8]) -> Result<Roots, TimeStampError> {
    let wrong = |got: &str| TimeStampError::Roots { got: got.into() };
    if pem.len() > MAX_ROOTS_BYTES {
        return Err(wrong("a larger file"));
    }
    let roots: Vec<_> = CertificateDer::pem_slice_iter(pem)
        .take(MAX_ROOTS + 1)
        .collect::<Result<_, _>>()
        .map_err(|_| wrong("broken PEM"))?;
    if roots.is_empty() || roots.len() > MAX_ROOTS {
        return Err(wrong(&roots.len().to_string()));
    }
    if roots
        .iter()
        .any(|root| anchor_from_trusted_cert(root).is_err())
    {
        return Err(wrong("one that is no certificate"));
    }
    Ok(Roots(roots))
}

/// Reads a response or a bare token, and checks all that needs no trust: it stamps `message`, its attributes belong to its
/// contents and to the signer's certificate, and the signature is that certificate's.
///
/// # Errors
/// The first fault found.
pub fn verify(bytes: &[u8], message: &[u8]) -> Result<TimeStamp, TimeStampError> {
    if bytes.len() > MAX_BYTES {
        return Err(TimeStampError::TooLarge { got: bytes.len() });
    }
    let signed = Signed::parse(token(bytes)?)?;
    let info = Info::parse(signed.content)?;
    info.check_imprint(message)?;
    let signer = Signer::parse(signed.signer)?;
    let attributes = Attributes::parse(signer.attributes)?;
    attributes.check_content(signed.content, signer.digest)?;
    let (certificate, parsed) = signer.certificate(&signed.certificates)?;
    attributes.check_certificate(certificate)?;
    check_usage(&parsed)?;
    signer.check_signature(certificate)?;
    Ok(TimeStamp {
        time: info.time,
        accuracy: info.accuracy,
        policy: info.policy.to_string(),
        serial: hex(info.serial),
        authority: parsed.tbs_certificate().subject().to_string(),
        signer: certificate.to_vec(),
        certificates: signed.certificates.iter().map(|c| c.to_vec()).collect(),
    })
}

impl TimeStamp {
    /// Follows the signer's certificate to one of `roots`, at the time stamped, and says which.
    ///
    /// # Errors
    /// [`TimeStampError::Path`].
    pub fn trusted(&self, roots: &Roots) -> Result<String, TimeStampError> {
        let signer = CertificateDer::from(self.signer.as_slice());
        let path = |fault: webpki::Error| TimeStampError::Path {
            fault: words(&fault),
        };
        let signer = EndEntityCert::try_from(&signer).map_err(path)?;
        let between: Vec<_> = self
            .certificates
            .iter()
            .map(|bytes| CertificateDer::from(bytes.as_slice()))
            .collect();
        let time = UnixTime::since_unix_epoch(Duration::from_secs(self.time));
        let mut fault = webpki::Error::UnknownIssuer;
        for root in &roots.0 {
            let anchor = [anchor_from_trusted_cert(root).map_err(path)?];
            let usage = KeyUsage::required_if_present(TIME_STAMPING_BYTES);
            match signer.verify_for_usage(
                ALL_VERIFICATION_ALGS,
                &anchor,
                &between,
                time,
                usage,
                None,
                None,
            ) {
                Ok(_) => return Ok(subject(root)),
                Err(webpki::Error::UnknownIssuer) => (),
                Err(other) => fault = other,
            }
        }
        Err(path(fault))
    }
}

/// What a certificate calls itself.
fn subject(certificate: &[u8]) -> String {
    let parsed = Certificate::from_der(certificate);
    parsed.map_or_else(
        |_| "a root without a readable name".into(),
        |certificate| certificate.tbs_certificate().subject().to_string(),
    )
}

pub(super) fn words(fault: &webpki::Error) -> String {
    match fault {
        webpki::Error::UnknownIssuer => "its issuer is not trusted".into(),
        webpki::Error::CertExpired { .. } => "a certificate had expired".into(),
        webpki::Error::CertNotValidYet { .. } => "a certificate was not valid yet".into(),
        webpki::Error::RequiredEkuNotFoundContext(_) => {
            "a certificate is for another use than time stamping".into()
        }
        webpki::Error::InvalidSignatureForPublicKey => {
            "a certificate's signature is not its issuer's".into()
        }
        other => other.to_string(),
    }
}

/// The token in a response, or the bare token.
fn token(bytes: &[u8]) -> Result<AnyRef<'_>, TimeStampError> {
    const RESPONSE: &str = "response";
    let field = RESPONSE;
    let whole = AnyRef::from_der(bytes).map_err(|_| TimeStampError::Der { field })?;
    let mut fields = Fields::of(RESPONSE, whole, Tag::Sequence)?;
    let first = fields.any()?;
    if first.tag() == Tag::ObjectIdentifier {
        return Ok(whole);
    }
    let mut status = Fields::of("status", first, Tag::Sequence)?;
    match status.next::<u64>()? {
        0 | 1 => (),
        got => return Err(TimeStampError::Status { got }),
    }
    let token = fields.any()?;
    fields.end()?;
    Ok(token)
}

/// What was stamped and when.
struct Info<'a> {
    policy: ObjectIdentifier,
    imprint: &'a [u8],
    serial: &'a [u8],
    time: u64,
    accuracy: u64,
}

impl<'a> Info<'a> {
    fn parse(content: &'a [u8]) -> Result<Self, TimeStampError> {
        let info = "TSTInfo";
        let whole = AnyRef::from_der(content).map_err(|_| TimeStampError::Der { field: info })?;
        let mut fields = Fields::of(info, whole, Tag::Sequence)?;
        let version = fields.next::<u8>()?;
        if version != 1 {
            return Err(field("version", "1", &version.to_string()));
        }
        let policy = fields.next()?;
        let imprint = imprint(fields.any()?)?;
        let serial = fields.any()?;
        if serial.tag() != Tag::Integer {
            return Err(TimeStampError::Der { field: "serial" });
        }
        bounded("serial bytes", serial.value().len(), MAX_SERIAL)?;
        let time = generalized_time(fields.any()?)?;
        let accuracy = match fields.optional(Tag::Sequence)? {
            None => 0,
            Some(value) => accuracy(value)?,
        };
        fields.optional(Tag::Boolean)?;
        fields.optional(Tag::Integer)?;
        fields.optional(context(0))?;
        if let Some(extensions) = fields.optional(context(1))? {
            refuse_critical(extensions)?;
        }
        fields.end()?;
        Ok(Self {
            policy,
            imprint,
            serial: serial.value(),
            time,
            accuracy,
        })
    }

    fn check_imprint(&self, message: &[u8]) -> Result<(), TimeStampError> {
        let expected = Sha256::digest(message);
        if self.imprint != &expected[..] {
            return Err(TimeStampError::Imprint {
                expected: hex(&expected),
                got: hex(&self.imprint[..self.imprint.len().min(64)]),
            });
        }
        Ok(())
    }
}

fn imprint(value: AnyRef<'_>) -> Result<&[u8], TimeStampError> {
    let mut fields = Fields::of("imprint", value, Tag::Sequence)?;
    let algorithm = algorithm("imprint", fields.any()?)?;
    if algorithm != SHA_256 {
        return Err(TimeStampError::Algorithm {
            field: "imprint",
            expected: "SHA-256",
            got: algorithm.to_string(),
        });
    }
    let digest: &OctetStringRef = fields.next()?;
    fields.end()?;
    Ok(digest.as_bytes())
}

/// `YYYYMMDDhhmmss[.f…]Z`; what is stamped may have a fraction, unlike times in certificates.
fn generalized_time(value: AnyRef<'_>) -> Result<u64, TimeStampError> {
    let wrong = || TimeStampError::Der { field: "genTime" };
    if value.tag() != Tag::GeneralizedTime {
        return Err(wrong());
    }
    let text = value.value().strip_suffix(b"Z").ok_or_else(wrong)?;
    let (digits, rest) = text.split_at_checked(14).ok_or_else(wrong)?;
    let fraction = match rest {
        [] => &[],
        [b'.', fraction @ ..] if !fraction.is_empty() => fraction,
        _ => return Err(wrong()),
    };
    if !digits.iter().chain(fraction).all(u8::is_ascii_digit) {
        return Err(wrong());
    }
    let number = |from: usize, to: usize| {
        digits[from..to]
            .iter()
            .fold(0_u16, |sum, digit| 10 * sum + u16::from(digit - b'0'))
    };
    let pair = |from: usize| number(from, from + 2) as u8;
    DateTime::new(number(0, 4), pair(4), pair(6), pair(8), pair(10), pair(12))
        .map(|time| time.unix_duration().as_secs())
        .map_err(|_| wrong())
}

/// Seconds, with any milliseconds and microseconds rounded up.
fn accuracy(value: AnyRef<'_>) -> Result<u64, TimeStampError> {
    const LONGEST: u64 = 366 * 24 * 3600;
    let mut fields = Fields::of("accuracy", value, Tag::Sequence)?;
    let seconds = match fields.optional(Tag::Integer)? {
        None => 0,
        Some(value) => value
            .decode_as::<u64>()
            .map_err(|_| TimeStampError::Der { field: "accuracy" })?,
    };
    let finer = !fields.is_finished();
    while !fields.is_finished() {
        fields.any()?;
    }
    if seconds > LONGEST {
        return Err(field("accuracy", "at most a year", &format!("{seconds} s")));
    }
    Ok(seconds + u64::from(finer))
}

fn refuse_critical(extensions: AnyRef<'_>) -> Result<(), TimeStampError> {
    let mut list = Fields::inside("extensions", extensions.value())?;
    while !list.is_finished() {
        let mut extension = Fields::of("extensions", list.any()?, Tag::Sequence)?;
        let name: ObjectIdentifier = extension.next()?;
        if extension.optional(Tag::Boolean)?.is_some() {
            return Err(field(
                "extensions",
                "none that is critical",
                &name.to_string(),
            ));
        }
    }
    Ok(())
}

/// RFC 3161, 2.3: the usage is there, critical, and the only one.
fn check_usage(certificate: &Certificate) -> Result<(), TimeStampError> {
    let usage = certificate
        .tbs_certificate()
        .get_extension::<ExtendedKeyUsage>();
    let got = match usage {
        Ok(Some((true, usage))) if usage.0 == [TIME_STAMPING] => return Ok(()),
        Ok(Some((false, usage))) if usage.0 == [TIME_STAMPING] => "one that is not critical",
        Ok(Some(_)) => "another",
        Ok(None) => "none",
        Err(_) => "one that cannot be read",
    };
    Err(TimeStampError::Usage { got })
}
