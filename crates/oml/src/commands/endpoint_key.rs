//! An endpoint's key: from a file, or from the environment. Never from an argument, which others on the machine can read.

use std::path::Path;

use anyhow::Context as _;
use oml_server::endpoint::ApiKey;
use zeroize::Zeroizing;

use crate::files;

const LIMIT: usize = 1 << 14;

/// The key in `file`, or else in the environment's `variable`; none where neither is.
///
/// # Errors
/// When the file cannot be read, or holds no key.
pub(super) fn read(file: Option<&Path>, variable: &str) -> anyhow::Result<Option<ApiKey>> {
    let (text, source) = match file {
        Some(path) => (files::read_text(path, LIMIT)?, path.display().to_string()),
        None => (
            std::env::var(variable).unwrap_or_default(),
            variable.to_owned(),
        ),
    };
    let text = Zeroizing::new(text);
    if file.is_none() && text.is_empty() {
        return Ok(None);
    }
    let key = ApiKey::new(&text).with_context(|| format!("cannot use {source}"))?;
    Ok(Some(key))
}
