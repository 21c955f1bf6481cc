//! A list of prompts: templates with one `{}` each, as OML 1.0 writes them, and turns in a conversation.
//!
//! ```text
//! ["Question: {}\nAnswer:",
//!  {"system": text (optional), "user": template, "answer": text (optional)}, …]
//! ```

use std::fmt;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::field::{List, Text};
use super::{FileError, Kind};
use crate::prompt::{Prompt, Template};

/// Most prompts of a file.
pub const MAX_PROMPTS: usize = 1 << 12;
/// Most bytes of one text in it.
const MAX_TEXT_BYTES: usize = 1 << 14;
/// Most bytes of such a file.
pub const MAX_BYTES: usize = 16 << 20;
const KIND: Kind = Kind {
    format: "prompts file",
    version: 1,
    max_bytes: MAX_BYTES,
};

/// A prompt as it is written.
enum Entry {
    Text(String),
    Chat(Chat),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Chat {
    system: Option<Text<MAX_TEXT_BYTES>>,
    user: Text<MAX_TEXT_BYTES>,
    answer: Option<Text<MAX_TEXT_BYTES>>,
}

/// Reads a list of prompts, in order.
///
/// # Errors
/// Any fault of the file, no prompt in it, or a template without exactly one `{}`.
pub fn parse(bytes: &[u8]) -> Result<Vec<Prompt>, FileError> {
    KIND.judge_size(bytes.len())?;
    let entries: List<Entry, MAX_PROMPTS> = KIND.json(bytes)?;
    if entries.0.is_empty() {
        return Err(FileError::Field {
            file: KIND.format,
            field: "prompts",
            expected: "at least one".into(),
            got: "none".into(),
        });
    }
    let prompts = entries.0.into_iter().enumerate();
    prompts.map(|(place, entry)| prompt(place, entry)).collect()
}

fn prompt(place: usize, entry: Entry) -> Result<Prompt, FileError> {
    let template = |text: &str| {
        Template::new(text).map_err(|error| FileError::Field {
            file: KIND.format,
            field: "template",
            expected: "exactly one {}".into(),
            got: format!("{} in entry {}", error.got, place + 1),
        })
    };
    Ok(match entry {
        Entry::Text(text) => Prompt::Text(template(&text)?),
        Entry::Chat(chat) => Prompt::Chat {
            system: chat.system.map(|text| text.0),
            user: template(&chat.user.0)?,
            answer: chat.answer.map(|text| text.0).unwrap_or_default(),
        },
    })
}

impl<'de> Deserialize<'de> for Entry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct EntryVisitor;
        impl<'de> Visitor<'de> for EntryVisitor {
            type Value = Entry;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(
                    f,
                    "a template of at most {MAX_TEXT_BYTES} bytes or an object with a template as its user"
                )
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Entry, E> {
                if text.len() > MAX_TEXT_BYTES {
                    return Err(E::invalid_length(text.len(), &self));
                }
                Ok(Entry::Text(text.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, fields: A) -> Result<Entry, A::Error> {
                Chat::deserialize(MapAccessDeserializer::new(fields)).map(Entry::Chat)
            }
        }
        deserializer.deserialize_any(EntryVisitor)
    }
}
