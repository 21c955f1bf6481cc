//! The input of a call as bytes that both sides agree on, and its salted hash.
//!
//! ```text
//! input      {"messages":[…]} or {"prompt":…}: what the request asks, without how (temperature, lengths, streaming)
//! canonical  RFC 8785: no white space, keys by their UTF-16 units, the shortest escapes; numbers are whole and within ±(2⁵³ − 1)
//! inputHash  keccak256(salt (32 bytes) ‖ canonical bytes)
//! ```
//!
//! Whoever sees the hash without the salt cannot test a guess at the input. Fractions are refused: their spelling is the one part of RFC
//! 8785 on which implementations differ, and no input needs them.

use serde_json::Value;

use super::InputSalt;
use crate::merkle::{Hash, keccak256};

/// Lists and objects inside each other.
const MAX_DEPTH: usize = 32;
/// Largest whole number that every JSON reader keeps.
const MAX_NUMBER: u64 = (1 << 53) - 1;

/// An input that has no canonical bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InputError {
    /// A number with a fraction or an exponent, or one that not every reader keeps.
    #[error("input: expected whole numbers within ±{MAX_NUMBER}, got another")]
    Number,
    /// Lists and objects too far inside each other.
    #[error("input: expected at most {MAX_DEPTH} lists and objects inside each other, got more")]
    Depth,
    /// Neither messages nor a prompt, or both.
    #[error("input: expected an object with either messages or prompt, got {got}")]
    Request {
        /// What is there instead.
        got: &'static str,
    },
}

/// Canonical bytes of a JSON value.
///
/// # Errors
/// When it holds a number that is refused, or is too deep.
pub fn canonical(value: &Value) -> Result<Vec<u8>, InputError> {
    let mut out = Vec::new();
    write(value, 0, &mut out)?;
    Ok(out)
}

/// The input of a request to `/v1/chat/completions` or `/v1/completions`: its messages or its prompt as canonical bytes.
///
/// # Errors
/// When it has neither or both, or [`canonical`] refuses it.
pub fn input_of_request(request: &Value) -> Result<Vec<u8>, InputError> {
    let fault = |got| Err(InputError::Request { got });
    let Value::Object(fields) = request else {
        return fault("no object");
    };
    match (fields.get("messages"), fields.get("prompt")) {
        (Some(messages), None) => input_of("messages", messages),
        (None, Some(prompt)) => input_of("prompt", prompt),
        (None, None) => fault("neither"),
        (Some(_), Some(_)) => fault("both"),
    }
}

/// Canonical bytes of an object with one field.
///
/// # Errors
/// When [`canonical`] refuses the value.
pub fn input_of(field: &str, value: &Value) -> Result<Vec<u8>, InputError> {
    let mut out = b"{".to_vec();
    write_text(field, &mut out);
    out.push(b':');
    write(value, 1, &mut out)?;
    out.push(b'}');
    Ok(out)
}

/// The hash of an input that permissions and receipts name.
#[must_use]
pub fn input_hash(salt: &InputSalt, canonical: &[u8]) -> Hash {
    keccak256(&[salt.expose(), canonical])
}

fn write(value: &Value, depth: usize, out: &mut Vec<u8>) -> Result<(), InputError> {
    if depth >= MAX_DEPTH && matches!(value, Value::Array(_) | Value::Object(_)) {
        return Err(InputError::Depth);
    }
    match value {
        Value::Null => out.extend_from_slice(b"null"),
        Value::Bool(true) => out.extend_from_slice(b"true"),
        Value::Bool(false) => out.extend_from_slice(b"false"),
        Value::Number(number) => {
            let size = number
                .as_i64()
                .map_or_else(|| number.as_u64(), |n| Some(n.unsigned_abs()));
            if size.is_none_or(|size| size > MAX_NUMBER) {
                return Err(InputError::Number);
            }
            out.extend_from_slice(number.to_string().as_bytes());
        }
        Value::String(text) => write_text(text, out),
        Value::Array(items) => {
            out.push(b'[');
            for (place, item) in items.iter().enumerate() {
                if place > 0 {
                    out.push(b',');
                }
                write(item, depth + 1, out)?;
            }
            out.push(b']');
        }
        Value::Object(fields) => {
            let mut fields: Vec<_> = fields.iter().collect();
            fields.sort_by(|(a, _), (b, _)| a.encode_utf16().cmp(b.encode_utf16()));
            out.push(b'{');
            for (place, (key, value)) in fields.into_iter().enumerate() {
                if place > 0 {
                    out.push(b',');
                }
                write_text(key, out);
                out.push(b':');
                write(value, depth + 1, out)?;
            }
            out.push(b'}');
        }
    }
    Ok(())
}

/// A text with the escapes of RFC 8785, §3.2.2.2.
fn write_text(text: &str, out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    out.push(b'"');
    for byte in text.bytes() {
        let short = match byte {
            b'"' | b'\\' => byte,
            0x08 => b'b',
            0x09 => b't',
            0x0a => b'n',
            0x0c => b'f',
            0x0d => b'r',
            0x00..=0x1f => {
                out.extend_from_slice(b"\\u00");
                out.push(DIGITS[usize::from(byte >> 4)]);
                out.push(DIGITS[usize::from(byte & 15)]);
                continue;
            }
            _ => {
                out.push(byte);
                continue;
            }
        };
        out.extend_from_slice(&[b'\\', short]);
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(json: &str, expected: &str) {
        let value: Value = serde_json::from_str(json).unwrap();
        let got = canonical(&value).unwrap();
        assert_eq!(String::from_utf8(got).unwrap(), expected);
    }

    fn refused(json: &str) -> InputError {
        canonical(&serde_json::from_str(json).unwrap()).unwrap_err()
    }

    #[test]
    fn the_examples_of_rfc_8785() {
        // §3.2.3: the order of keys, which is not that of their bytes.
        check(
            r#"{"\u20ac":"Euro Sign","\r":"Carriage Return","\ufb33":"Hebrew Letter Dalet With Dagesh","1":"One",
                "\ud83d\ude00":"Emoji: Grinning Face","\u0080":"Control","\u00f6":"Latin Small Letter O With Diaeresis"}"#,
            "{\"\\r\":\"Carriage Return\",\"1\":\"One\",\"\u{80}\":\"Control\",\"ö\":\"Latin Small Letter O With Diaeresis\",\
             \"€\":\"Euro Sign\",\"\u{1f600}\":\"Emoji: Grinning Face\",\"\u{fb33}\":\"Hebrew Letter Dalet With Dagesh\"}",
        );
        // §3.2.2, without its fractions.
        check(
            r#"{ "string": "\u20ac$\u000F\u000aA'\u0042\u0022\u005c\\\"\/", "literals": [null, true, false] }"#,
            r#"{"literals":[null,true,false],"string":"€$\u000f\nA'B\"\\\\\"/"}"#,
        );
        check("\"\\u007f\\b\\t\\f\\u2028\"", "\"\u{7f}\\b\\t\\f\u{2028}\"");
    }

    #[test]
    fn numbers_are_whole_and_kept_by_all() {
        check(
            "[0,-1,9007199254740991,-9007199254740991]",
            "[0,-1,9007199254740991,-9007199254740991]",
        );
        for number in [
            "1.0",
            "0.5",
            "1e3",
            "-0",
            "9007199254740992",
            "-9007199254740992",
            "-9223372036854775808",
            "18446744073709551615",
        ] {
            assert_eq!(refused(number), InputError::Number, "{number}");
        }
    }

    #[test]
    fn depth_is_capped() {
        let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        check(&nested(MAX_DEPTH), &nested(MAX_DEPTH));
        assert_eq!(refused(&nested(MAX_DEPTH + 1)), InputError::Depth);
    }

    #[test]
    fn a_request_asks_messages_or_a_prompt() {
        let of = |json: &str| input_of_request(&serde_json::from_str(json).unwrap());
        assert_eq!(
            of(r#"{"model":"m","temperature":0.5,"prompt":"Hi"}"#).unwrap(),
            br#"{"prompt":"Hi"}"#
        );
        assert_eq!(
            of(r#"{"messages":[{"role":"user","content":"Hi"}],"top_p":0.1}"#).unwrap(),
            br#"{"messages":[{"content":"Hi","role":"user"}]}"#
        );
        for (json, got) in [
            ("[]", "no object"),
            ("{}", "neither"),
            (r#"{"messages":[],"prompt":""}"#, "both"),
        ] {
            assert_eq!(of(json), Err(InputError::Request { got }));
        }
    }

    #[test]
    fn the_salt_is_hashed_first() {
        let salt = InputSalt::new([7; 32]);
        let expected = keccak256(&[&[7; 32], b"{}"]);
        assert_eq!(input_hash(&salt, b"{}"), expected);
    }
}
