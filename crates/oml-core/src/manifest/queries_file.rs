//! A user's own queries: `["text", …]`, or objects whose `key` is the query, as other fingerprinting tools write them.
//!
//! Other fields of the objects are passed over, so a fingerprints file of those tools serves too.

use std::fmt;

use serde::de::{Error, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::field::{List, Text};
use super::{FileError, Kind};
use crate::fingerprint::{MAX_COUNT, MAX_TEXT_BYTES};

const KIND: Kind = Kind {
    format: "queries file",
    version: 1,
    max_bytes: 64 << 20,
};

struct Query(String);

/// Reads a list of queries, in order.
///
/// # Errors
/// Any fault of the file. Whether a query can be used is judged when fingerprints are made.
pub fn parse(bytes: &[u8]) -> Result<Vec<String>, FileError> {
    KIND.judge_size(bytes.len())?;
    let queries: List<Query, MAX_COUNT> = KIND.json(bytes)?;
    Ok(queries.0.into_iter().map(|query| query.0).collect())
}

impl<'de> Deserialize<'de> for Query {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct QueryVisitor;
        impl<'de> Visitor<'de> for QueryVisitor {
            type Value = Query;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(
                    f,
                    "a text of at most {MAX_TEXT_BYTES} bytes or an object with such a text as its key"
                )
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Query, E> {
                if text.len() > MAX_TEXT_BYTES {
                    return Err(E::invalid_length(text.len(), &self));
                }
                Ok(Query(text.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Query, A::Error> {
                let mut query = None;
                while let Some(name) = fields.next_key::<Text<MAX_TEXT_BYTES>>()? {
                    if name.0 != "key" {
                        fields.next_value::<IgnoredAny>()?;
                    } else if query.is_some() {
                        return Err(A::Error::duplicate_field("key"));
                    } else {
                        query = Some(Query(fields.next_value::<Text<MAX_TEXT_BYTES>>()?.0));
                    }
                }
                query.ok_or_else(|| A::Error::missing_field("key"))
            }
        }
        deserializer.deserialize_any(QueryVisitor)
    }
}
