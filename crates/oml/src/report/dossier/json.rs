//! A report as JSON: `{"format":"oml-report","version":1,"kind":…, …}`, the fields of [`Dossier`] in their order.

use anyhow::Context as _;
use serde::Serialize;

use super::Dossier;

const FORMAT: &str = "oml-report";
const VERSION: u32 = 1;

#[derive(Serialize)]
struct ReportFile<'a> {
    format: &'static str,
    version: u32,
    #[serde(flatten)]
    dossier: &'a Dossier,
}

/// The text of the file.
///
/// # Errors
/// When a number cannot be written.
pub(super) fn render(dossier: &Dossier) -> anyhow::Result<String> {
    let file = ReportFile {
        format: FORMAT,
        version: VERSION,
        dossier,
    };
    let mut text =
        serde_json::to_string_pretty(&file).context("cannot write the report as JSON")?;
    text.push('\n');
    Ok(text)
}
