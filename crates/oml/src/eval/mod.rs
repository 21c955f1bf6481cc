//! What `oml eval` measures on: a text and two-choice questions, built in or from files.

pub(crate) mod choices;

use std::path::Path;

use crate::files;

const TEXT_LIMIT: usize = 256 << 20;

/// Text to measure on, and how to call it.
pub(crate) struct Text {
    pub(crate) name: String,
    pub(crate) text: String,
}

/// Our own texts, written for this purpose: seven styles, about 5,000 words.
const BUILT_IN: [&str; 7] = [
    include_str!("builtin/text/encyclopaedia.txt"),
    include_str!("builtin/text/narrative.txt"),
    include_str!("builtin/text/howto.txt"),
    include_str!("builtin/text/dialogue.txt"),
    include_str!("builtin/text/news.txt"),
    include_str!("builtin/text/science.txt"),
    include_str!("builtin/text/essay.txt"),
];

impl Text {
    /// The built-in text.
    pub(crate) fn built_in() -> Self {
        Self {
            name: "the built-in text".to_owned(),
            text: BUILT_IN.join("\n"),
        }
    }

    /// The text of a file.
    ///
    /// # Errors
    /// When the file cannot be read, is too large, or is not UTF-8.
    pub(crate) fn read(path: &Path) -> anyhow::Result<Self> {
        let name = path.file_name().map_or_else(
            || path.display().to_string(),
            |n| n.to_string_lossy().into_owned(),
        );
        Ok(Self {
            name,
            text: files::read_text(path, TEXT_LIMIT)?,
        })
    }

    /// The file that is named, or the built-in text.
    ///
    /// # Errors
    /// As [`Text::read`].
    pub(crate) fn named(path: Option<&Path>) -> anyhow::Result<Self> {
        path.map_or_else(|| Ok(Self::built_in()), Self::read)
    }
}
