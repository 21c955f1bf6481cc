//! Texts to test, one JSON object per line: `{"text": text, "id": text (optional), …}`; other fields are passed over.

use serde::Deserialize;

use super::field::Text;
use super::{FileError, Kind};

/// Most texts of a file.
pub const MAX_TEXTS: usize = 1 << 16;
/// Most bytes of one text.
pub const MAX_TEXT_BYTES: usize = 1 << 20;
/// Most bytes of such a file.
pub const MAX_BYTES: usize = 256 << 20;
const MAX_ID_BYTES: usize = 256;
const KIND: Kind = Kind {
    format: "texts file",
    version: 1,
    max_bytes: MAX_BYTES,
};

#[derive(Deserialize)]
struct Line {
    text: Text<MAX_TEXT_BYTES>,
    id: Option<Text<MAX_ID_BYTES>>,
}

/// One text, and what its owner calls it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedText {
    /// The `id`, where there is one.
    pub id: Option<String>,
    /// The text.
    pub text: String,
}

/// Reads the texts in order; empty lines are passed over.
///
/// # Errors
/// Any fault of a line, which it names, no text at all, or more than [`MAX_TEXTS`].
pub fn parse(bytes: &[u8]) -> Result<Vec<NamedText>, FileError> {
    KIND.judge_size(bytes.len())?;
    let count = |expected: String, got: &str| FileError::Field {
        file: KIND.format,
        field: "lines",
        expected,
        got: got.to_owned(),
    };
    let mut texts = Vec::new();
    for (number, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
        if line.trim_ascii().is_empty() {
            continue;
        }
        if texts.len() == MAX_TEXTS {
            return Err(count(format!("at most {MAX_TEXTS}"), "more"));
        }
        let line = KIND.json::<Line>(line);
        let Line { text, id } = line.map_err(|error| error.at_line(number + 1))?;
        texts.push(NamedText {
            id: id.map(|id| id.0),
            text: text.0,
        });
    }
    if texts.is_empty() {
        return Err(count("at least one".to_owned(), "none"));
    }
    Ok(texts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_texts() {
        let bytes = b"{\"text\":\"a b\",\"id\":\"1\",\"score\":[1,{}]}\r\n\n{\"text\":\"\"}";
        let texts = parse(bytes).unwrap();
        assert_eq!(texts.len(), 2);
        assert_eq!(
            (texts[0].id.as_deref(), &*texts[0].text),
            (Some("1"), "a b")
        );
        assert_eq!((texts[1].id.as_deref(), &*texts[1].text), (None, ""));
    }

    #[test]
    fn faults_name_their_line() {
        let fault = |bytes: &[u8]| parse(bytes).unwrap_err().to_string();
        let second = fault(b"{\"text\":\"a\"}\n{\"txt\":\"b\"}\n");
        assert!(second.starts_with("texts file: line 2, column"), "{second}");
        assert_eq!(
            fault(b" \n"),
            "texts file lines: expected at least one, got none"
        );
        let long = format!("{{\"text\":\"{}\"}}", "a".repeat(MAX_TEXT_BYTES + 1));
        assert!(fault(long.as_bytes()).contains("too long"));
        let many = b"{\"text\":\"\"}\n".repeat(MAX_TEXTS + 1);
        assert!(fault(&many).ends_with("got more"));
    }
}
