//! Fields that a contract knows: words with `0x`, addresses, numbers as decimal text, and the domain.

use std::fmt;

use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{hex, parse_hash};
use crate::eip712::Domain;
use crate::merkle::Hash;
use crate::signing::Address;

/// 32 bytes as `0x` and 64 lower-case hexadecimal digits.
#[derive(Clone, Copy)]
pub(super) struct Word(pub(super) Hash);

/// An address; one with capitals must have the right ones.
#[derive(Clone, Copy)]
pub(super) struct Account(pub(super) Address);

/// A whole number as decimal text, since JSON readers keep 53 bits of a number.
#[derive(Clone, Copy)]
pub(super) struct Decimal(pub(super) u128);

/// A limit as decimal text; `MOST` is none, and written `unlimited`.
#[derive(Clone, Copy)]
pub(super) struct Limit<const MOST: u128>(pub(super) u128);

const UNLIMITED: &str = "unlimited";

/// Chain and contract, each where there is one.
#[derive(Clone, Copy, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DomainFile {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    chain_id: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    verifying_contract: Option<Account>,
}

impl DomainFile {
    pub(super) fn of(domain: &Domain) -> Self {
        Self {
            chain_id: domain.chain_id,
            verifying_contract: domain.verifying_contract.map(Account),
        }
    }

    pub(super) fn domain(self) -> Domain {
        Domain {
            chain_id: self.chain_id,
            verifying_contract: self.verifying_contract.map(|contract| contract.0),
        }
    }

    pub(super) fn is_off_chain(&self) -> bool {
        self.domain() == Domain::OFF_CHAIN
    }
}

impl Serialize for Word {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("0x{}", hex(&self.0)))
    }
}

impl Serialize for Account {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl Serialize for Decimal {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<const MOST: u128> Serialize for Limit<MOST> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0 == MOST {
            return serializer.serialize_str(UNLIMITED);
        }
        serializer.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Word {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        const EXPECTED: &str = "0x and 64 lower-case hexadecimal digits";
        let parse = |text: &str| text.strip_prefix("0x").and_then(parse_hash).map(Self);
        text(deserializer, EXPECTED, parse)
    }
}

impl<'de> Deserialize<'de> for Account {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let parse = |text: &str| text.parse().ok().map(Self);
        text(deserializer, "0x and 40 hexadecimal digits", parse)
    }
}

impl<'de> Deserialize<'de> for Decimal {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let parse = |text: &str| decimal(text).map(Self);
        text(deserializer, "a whole number as decimal text", parse)
    }
}

impl<'de, const MOST: u128> Deserialize<'de> for Limit<MOST> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let parse = |text: &str| match text {
            UNLIMITED => Some(Self(MOST)),
            _ => decimal(text).filter(|limit| *limit < MOST).map(Self),
        };
        text(
            deserializer,
            "a whole number as decimal text, or unlimited",
            parse,
        )
    }
}

/// Digits without a sign or leading zeros, so that a number has one spelling.
fn decimal(text: &str) -> Option<u128> {
    let leading = text.len() > 1 && text.starts_with('0');
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| digits && !leading)
}

fn text<'de, D: Deserializer<'de>, T>(
    deserializer: D,
    expected: &'static str,
    parse: impl Fn(&str) -> Option<T>,
) -> Result<T, D::Error> {
    struct TextVisitor<P>(&'static str, P);
    impl<T, P: Fn(&str) -> Option<T>> Visitor<'_> for TextVisitor<P> {
        type Value = T;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
            (self.1)(text).ok_or_else(|| E::custom(format_args!("expected {}", self.0)))
        }
    }
    deserializer.deserialize_str(TextVisitor(expected, parse))
}
