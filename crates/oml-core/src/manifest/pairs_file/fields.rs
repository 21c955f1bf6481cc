//! One entry of a file of pairs: its fields, read loosely, and the pair they make.

use std::fmt;

use serde::de::{Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::{Pair, PairResponse, fault};
use crate::fingerprint::MAX_TEXT_BYTES;
use crate::manifest::FileError;
use crate::manifest::field::Text;
use crate::manifest::loose::Loose;

/// The fields of one entry that mean something here.
#[derive(Default)]
pub(super) struct Fields {
    key: Option<Loose>,
    effective_key: Option<Loose>,
    query: Option<Loose>,
    response: Option<Loose>,
    signature: Option<Loose>,
    response_prob: Option<Loose>,
    query_ids: Option<Loose>,
    response_ids: Option<Loose>,
    /// A field that is there twice.
    repeated: Option<&'static str>,
    /// What the entry is, where it is no text and no object.
    other: Option<&'static str>,
}

impl Fields {
    fn other(kind: &'static str) -> Self {
        Self {
            other: Some(kind),
            ..Self::default()
        }
    }

    /// Where a field is kept, and its name.
    fn place(&mut self, name: &str) -> Option<(&mut Option<Loose>, &'static str)> {
        Some(match name {
            "key" => (&mut self.key, "key"),
            "effective_key" => (&mut self.effective_key, "effective_key"),
            "query" => (&mut self.query, "query"),
            "response" => (&mut self.response, "response"),
            "signature" => (&mut self.signature, "signature"),
            "response_prob" => (&mut self.response_prob, "response_prob"),
            "query_ids" => (&mut self.query_ids, "query_ids"),
            "response_ids" => (&mut self.response_ids, "response_ids"),
            _ => return None,
        })
    }

    /// Whether the entry is one of our plain export.
    pub(super) const fn is_plain(&self) -> bool {
        self.query.is_some()
    }

    /// The pair that the fields of entry `entry` make.
    pub(super) fn pair(self, entry: usize) -> Result<Pair, FileError> {
        let fault = |field, expected: &str, got: &str| Err(fault(entry, field, expected, got));
        if let Some(kind) = self.other {
            return fault("entry", "a text or an object", kind);
        }
        if let Some(name) = self.repeated {
            return fault(name, "the field once", "it twice");
        }
        let (name, query) = match (self.effective_key, self.key, self.query) {
            (None, None, Some(query)) => ("query", query),
            (None, Some(key), None) => ("key", key),
            (Some(effective), _, None) => ("effective_key", effective),
            (None, None, None) => return fault("key", "a text", "nothing"),
            _ => return fault("query", "key or query", "both"),
        };
        let query = text(entry, name, query)?;
        let (name, texts) = match (self.response, self.signature) {
            (Some(response), None) => ("response", texts(entry, "response", response)?),
            (None, Some(signature)) => ("signature", texts(entry, "signature", signature)?),
            (None, None) => ("response", Vec::new()),
            _ => return fault("signature", "response or signature", "both"),
        };
        if (1..texts.len()).any(|later| texts[..later].contains(&texts[later])) {
            return fault(name, "responses that differ", "a repeated one");
        }
        let response_ids = ids(entry, "response_ids", self.response_ids)?;
        if response_ids.is_some() && texts.len() != 1 {
            return fault(
                "response_ids",
                "one response beside them",
                "none or several",
            );
        }
        let probabilities = probabilities(entry, texts.len(), self.response_prob)?;
        let responses = texts.into_iter().zip(probabilities);
        Ok(Pair {
            entry,
            query,
            query_ids: ids(entry, "query_ids", self.query_ids)?,
            responses: responses
                .map(|(text, probabilities)| PairResponse {
                    text,
                    ids: response_ids.clone(),
                    probabilities,
                })
                .collect(),
        })
    }
}

fn text(entry: usize, field: &'static str, value: Loose) -> Result<String, FileError> {
    let limit = format!("a text of at most {MAX_TEXT_BYTES} bytes");
    match value {
        Loose::Text(text) if text.trim().is_empty() => {
            Err(fault(entry, field, limit, "nothing but white space"))
        }
        Loose::Text(text) if text.contains('\0') => {
            Err(fault(entry, field, "a text without NUL", "one with it"))
        }
        Loose::Text(text) => Ok(text),
        other => Err(fault(entry, field, limit, other.kind())),
    }
}

fn texts(entry: usize, field: &'static str, value: Loose) -> Result<Vec<String>, FileError> {
    match value {
        Loose::Texts(list) => list
            .into_iter()
            .map(|item| text(entry, field, Loose::Text(item)))
            .collect(),
        other => Ok(vec![text(entry, field, other)?]),
    }
}

fn ids(
    entry: usize,
    field: &'static str,
    value: Option<Loose>,
) -> Result<Option<Vec<u32>>, FileError> {
    let wrong = |got| fault(entry, field, "a list of token ids", got);
    match value {
        None => Ok(None),
        Some(Loose::Numbers(numbers)) => {
            let id =
                |number: &f64| (*number == f64::from(*number as u32)).then_some(*number as u32);
            let ids: Option<Vec<u32>> = numbers.iter().map(id).collect();
            ids.map(Some).ok_or_else(|| wrong("another number"))
        }
        Some(other) => Err(wrong(other.kind())),
    }
}

/// The probabilities of each of `count` responses; empty where the file does not have them.
fn probabilities(
    entry: usize,
    count: usize,
    value: Option<Loose>,
) -> Result<Vec<Vec<f32>>, FileError> {
    const FIELD: &str = "response_prob";
    let mut lists = vec![Vec::new(); count];
    let given = match value {
        None => return Ok(lists),
        Some(Loose::Number(number)) => vec![vec![number]],
        Some(Loose::Numbers(numbers)) => vec![numbers],
        Some(Loose::Lists(given)) if given.len() == count => given,
        Some(Loose::Lists(given)) => {
            return Err(fault(
                entry,
                FIELD,
                format!("{count} lists, one per response"),
                given.len().to_string(),
            ));
        }
        Some(other) => {
            return Err(fault(
                entry,
                FIELD,
                "a number, a list of numbers, or a list of such lists",
                other.kind(),
            ));
        }
    };
    if let Some(wrong) = given.iter().flatten().find(|p| !(0.0..=1.0).contains(*p)) {
        let got = wrong.to_string();
        return Err(fault(entry, FIELD, "values from 0 to 1", got));
    }
    for (list, given) in lists.iter_mut().zip(given) {
        *list = given.into_iter().map(|p| p as f32).collect();
    }
    Ok(lists)
}

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct FieldsVisitor;
        impl<'de> Visitor<'de> for FieldsVisitor {
            type Value = Fields;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text or an object")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Fields, E> {
                Ok(Fields {
                    key: Some(if text.len() > MAX_TEXT_BYTES {
                        Loose::Other("a longer text")
                    } else {
                        Loose::Text(text.to_owned())
                    }),
                    ..Fields::default()
                })
            }

            fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Fields, A::Error> {
                let mut found = Fields::default();
                while let Some(name) = fields.next_key::<Text<MAX_TEXT_BYTES>>()? {
                    let repeated = match found.place(&name.0) {
                        None => {
                            fields.next_value::<IgnoredAny>()?;
                            None
                        }
                        Some((place, name)) => place.replace(fields.next_value()?).map(|_| name),
                    };
                    found.repeated = found.repeated.or(repeated);
                }
                Ok(found)
            }

            fn visit_f64<E: Error>(self, _: f64) -> Result<Fields, E> {
                Ok(Fields::other("a number"))
            }

            fn visit_u64<E: Error>(self, _: u64) -> Result<Fields, E> {
                Ok(Fields::other("a number"))
            }

            fn visit_i64<E: Error>(self, _: i64) -> Result<Fields, E> {
                Ok(Fields::other("a number"))
            }

            fn visit_bool<E: Error>(self, _: bool) -> Result<Fields, E> {
                Ok(Fields::other("true or false"))
            }

            fn visit_unit<E: Error>(self) -> Result<Fields, E> {
                Ok(Fields::other("null"))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Fields, A::Error> {
                while items.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Fields::other("a list"))
            }
        }
        deserializer.deserialize_any(FieldsVisitor)
    }
}
