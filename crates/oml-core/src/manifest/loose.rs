//! A field that other tools fill in several ways: text, number, or lists of them, told apart without failing.
//!
//! What does not fit is kept as a word for what it is, so that the reader of the file can name entry and field.

use std::fmt;

use serde::de::{DeserializeSeed, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::fingerprint::{MAX_RESPONSES, MAX_TEXT_BYTES, MAX_TOKENS};

/// One JSON value, as far as a pair can hold it.
pub(super) enum Loose {
    Text(String),
    Texts(Vec<String>),
    Number(f64),
    Numbers(Vec<f64>),
    Lists(Vec<Vec<f64>>),
    /// Anything else, in words.
    Other(&'static str),
}

impl Loose {
    /// What is there, without quoting it.
    pub(super) const fn kind(&self) -> &'static str {
        match self {
            Self::Text(_) => "a text",
            Self::Texts(_) => "a list of texts",
            Self::Number(_) => "a number",
            Self::Numbers(_) => "a list of numbers",
            Self::Lists(_) => "a list of lists of numbers",
            Self::Other(kind) => kind,
        }
    }

    /// A list with one more item; a list of mixed or other items, or beyond its cap, is [`Loose::Other`].
    fn with(list: Option<Self>, item: Self) -> Self {
        const OTHERS: Loose = Loose::Other("a list of other things");
        const LONG: Loose = Loose::Other("a list that is too long");
        match (list, item) {
            (None, Self::Text(text)) => Self::Texts(vec![text]),
            (None, Self::Number(number)) => Self::Numbers(vec![number]),
            (None, Self::Numbers(numbers)) => Self::Lists(vec![numbers]),
            (Some(Self::Texts(mut texts)), Self::Text(text)) => {
                if texts.len() == MAX_RESPONSES {
                    return LONG;
                }
                texts.push(text);
                Self::Texts(texts)
            }
            (Some(Self::Numbers(mut numbers)), Self::Number(number)) => {
                if numbers.len() == MAX_TOKENS {
                    return LONG;
                }
                numbers.push(number);
                Self::Numbers(numbers)
            }
            (Some(Self::Lists(mut lists)), Self::Numbers(numbers)) => {
                if lists.len() == MAX_RESPONSES {
                    return LONG;
                }
                lists.push(numbers);
                Self::Lists(lists)
            }
            _ => OTHERS,
        }
    }
}

impl<'de> Deserialize<'de> for Loose {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Depth(0).deserialize(deserializer)
    }
}

/// How many lists are around the value.
#[derive(Clone, Copy)]
struct Depth(u8);

impl<'de> DeserializeSeed<'de> for Depth {
    type Value = Loose;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Loose, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Depth {
    type Value = Loose;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Loose, E> {
        Ok(if text.len() > MAX_TEXT_BYTES {
            Loose::Other("a longer text")
        } else {
            Loose::Text(text.to_owned())
        })
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Loose, E> {
        Ok(Loose::Number(number))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Loose, E> {
        Ok(Loose::Number(number as f64))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Loose, E> {
        Ok(Loose::Number(number as f64))
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Loose, E> {
        Ok(Loose::Other("true or false"))
    }

    fn visit_unit<E: Error>(self) -> Result<Loose, E> {
        Ok(Loose::Other("null"))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Loose, A::Error> {
        while fields.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Loose::Other("an object"))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Loose, A::Error> {
        let mut list = (self.0 == 2).then_some(Loose::Other("a list in a list of lists"));
        let inner = Depth(self.0 + 1);
        loop {
            if let Some(Loose::Other(_)) = list {
                // Nothing of it is kept, so nothing of it is read into memory.
                while items.next_element::<IgnoredAny>()?.is_some() {}
                break;
            }
            let Some(item) = items.next_element_seed(inner)? else {
                break;
            };
            list = Some(Loose::with(list, item));
        }
        Ok(list.unwrap_or(Loose::Other("an empty list")))
    }
}
