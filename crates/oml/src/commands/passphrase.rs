//! The passphrase of an owner file: from the terminal, or from the file that `OML_PASSPHRASE_FILE` names.
//!
//! Never from an argument, which other users of the machine can see, nor from the environment itself.

use std::path::PathBuf;

use anyhow::{Context as _, anyhow, bail};
use console::Term;
use zeroize::Zeroizing;

use crate::error::WithHint as _;
use crate::files;

const VARIABLE: &str = "OML_PASSPHRASE_FILE";
const LIMIT: usize = 4096;

/// The passphrase of a file that exists.
///
/// # Errors
/// When there is neither a terminal nor a file, or it cannot be read.
pub(super) fn known(what: &str) -> anyhow::Result<Zeroizing<String>> {
    match of_file()? {
        Some(passphrase) => Ok(passphrase),
        None => ask(&format!("Passphrase of {what}: ")),
    }
}

/// A passphrase for a file to be made, asked for twice.
///
/// # Errors
/// As [`known`], and when the two differ or there is nothing.
pub(super) fn new() -> anyhow::Result<Zeroizing<String>> {
    let passphrase = match of_file()? {
        Some(passphrase) => passphrase,
        None => {
            let first = ask("New passphrase: ")?;
            if *ask("The same again: ")? != *first {
                bail!("passphrase: expected the same twice, got two");
            }
            first
        }
    };
    if passphrase.is_empty() {
        bail!("passphrase: expected at least one character, got none");
    }
    Ok(passphrase)
}

/// The first line of the file that the environment names.
fn of_file() -> anyhow::Result<Option<Zeroizing<String>>> {
    let path = std::env::var_os(VARIABLE).filter(|path| !path.is_empty());
    let Some(path) = path.map(PathBuf::from) else {
        return Ok(None);
    };
    let text = Zeroizing::new(files::read_text(&path, LIMIT).context(VARIABLE)?);
    let line = text.lines().next().unwrap_or_default();
    Ok(Some(Zeroizing::new(line.to_owned())))
}

fn ask(prompt: &str) -> anyhow::Result<Zeroizing<String>> {
    let terminal = Term::stderr();
    if !terminal.is_term() {
        let none: anyhow::Result<_> = Err(anyhow!(
            "passphrase: expected a terminal to ask on, got none"
        ));
        return none.hint(format!(
            "Name a file that holds the passphrase in {VARIABLE}."
        ));
    }
    let asking = || "cannot ask for the passphrase";
    terminal.write_str(prompt).with_context(asking)?;
    Ok(Zeroizing::new(
        terminal.read_secure_line().with_context(asking)?,
    ))
}
