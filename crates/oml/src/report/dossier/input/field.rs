//! Fields of a file that a stranger wrote: bounds, and errors that name the field.

use std::path::Path;

use anyhow::{bail, ensure};

/// Most bytes of a name, a path or a URL.
pub(super) const NAME: usize = 4096;
/// Most bytes of a sentence or a prompt.
pub(super) const WORDS: usize = 64 << 10;
/// Figures of two computations are the same up to this share: logarithms differ between machines in their last digits.
const TOLERANCE: f64 = 1e-6;

/// A text of at most `most` bytes, without what would change how the text around it is read: control characters and the signs
/// that turn the direction of writing.
///
/// # Errors
/// When it is longer.
pub(super) fn text(field: &str, text: &str, most: usize) -> anyhow::Result<String> {
    ensure!(
        text.len() <= most,
        "{field}: expected at most {most} bytes, got {}",
        text.len()
    );
    let shown = |c: char| match c {
        '\n' | '\t' => ' ',
        '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
            char::REPLACEMENT_CHARACTER
        }
        c if c.is_control() => char::REPLACEMENT_CHARACTER,
        c => c,
    };
    Ok(text.chars().map(shown).collect())
}

/// A number of `low` to `high`.
///
/// # Errors
/// When it is any other, or none.
pub(super) fn number(field: &str, value: f64, low: f64, high: f64) -> anyhow::Result<f64> {
    ensure!(
        value.is_finite() && (low..=high).contains(&value),
        "{field}: expected a number of {low} to {high}, got {value}"
    );
    Ok(value)
}

/// A share of 0 to 1.
///
/// # Errors
/// When it is any other number.
pub(super) fn share(field: &str, value: f64) -> anyhow::Result<f64> {
    number(field, value, 0.0, 1.0)
}

/// A whole number of at most `most`.
///
/// # Errors
/// When it is larger.
pub(super) fn at_most(field: &str, value: u64, most: u64) -> anyhow::Result<u64> {
    ensure!(
        value <= most,
        "{field}: expected at most {most}, got {value}"
    );
    Ok(value)
}

/// 32 bytes as hexadecimal digits, after `prefix`.
///
/// # Errors
/// When it is anything else.
pub(super) fn hash(field: &str, value: &str, prefix: &str) -> anyhow::Result<String> {
    let digits = value.strip_prefix(prefix);
    if digits.and_then(oml_core::manifest::parse_hash).is_none() {
        bail!("{field}: expected {prefix}64 lower-case hexadecimal digits, got another text");
    }
    Ok(value.to_owned())
}

/// A figure that follows from others.
///
/// # Errors
/// When the file says another one.
pub(super) fn follows(field: &str, got: f64, expected: f64) -> anyhow::Result<f64> {
    let close = (got - expected).abs() <= TOLERANCE * expected.abs().max(1.0);
    ensure!(
        got == expected || close,
        "{field}: expected {expected}, which follows from the file’s other numbers, got {got}"
    );
    Ok(expected)
}

/// The last part of a path: where it lies on this machine is nobody else's business.
///
/// # Errors
/// When it is longer than names are.
pub(super) fn file_name(field: &str, path: &Path) -> anyhow::Result<String> {
    let name = path.file_name().unwrap_or(path.as_os_str());
    text(field, &name.to_string_lossy(), NAME)
}

/// A text as one word of a command line.
pub(super) fn quoted(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@%+,".contains(c);
    if !text.is_empty() && !text.starts_with('-') && text.chars().all(is_plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_lose_what_would_change_how_they_are_read() {
        assert_eq!(
            text("model", "a\u{202e}b\u{1b}[1mc\nd", NAME).unwrap(),
            "a\u{fffd}b\u{fffd}[1mc d"
        );
        let error = text("model", "abcd", 3).unwrap_err().to_string();
        assert_eq!(error, "model: expected at most 3 bytes, got 4");
    }

    #[test]
    fn words_of_a_command_line_do_nothing_else() {
        assert_eq!(quoted("a2.jsonl"), "a2.jsonl");
        assert_eq!(quoted("x; rm -r $(pwd)"), "'x; rm -r $(pwd)'");
        assert_eq!(
            file_name("file", Path::new("/home/me/a.jsonl")).unwrap(),
            "a.jsonl"
        );
        assert_eq!(quoted("it's"), r"'it'\''s'");
        assert_eq!(quoted("--out"), "'--out'");
    }

    #[test]
    fn figures_have_to_follow() {
        assert!(follows("recall", 0.5 + 1e-12, 0.5).is_ok());
        assert!(follows("log10_p_value", f64::NEG_INFINITY, f64::NEG_INFINITY).is_ok());
        assert!(follows("recall", 0.6, 0.5).is_err());
        assert!(share("null", f64::NAN).is_err());
        assert!(hash("root", "0xAB", "0x").is_err());
    }
}
