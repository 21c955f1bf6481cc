//! Flags of a command that generates text for others: whether it is marked, and with whose key.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use oml_core::watermark::Watermark;

use super::SchemeName;
use crate::commands::workbench;
use crate::files;

/// Flags that mark what is generated.
#[derive(Debug, Args)]
#[command(next_help_heading = "Watermark")]
pub(crate) struct MarkArgs {
    /// Mark all answers with the owner's watermark; temperature 0 is marked by kgw alone [default: none]
    #[arg(long, value_name = "SCHEME", value_enum, conflicts_with = "upstream")]
    watermark: Option<SchemeName>,
    /// Owner file whose secret gives the watermark's key [default: oml/owner.json in the user's config folder]
    #[arg(long, value_name = "FILE", requires = "watermark")]
    watermark_owner: Option<PathBuf>,
}

impl MarkArgs {
    /// The watermark that is asked for.
    ///
    /// # Errors
    /// When the owner file cannot be read.
    pub(in crate::commands) fn watermark(&self) -> anyhow::Result<Option<Arc<Watermark>>> {
        let Some(name) = self.watermark else {
            return Ok(None);
        };
        let path = self.watermark_owner.clone();
        let path = path.map_or_else(files::default_owner_file, Ok)?;
        let owner = workbench::owner(&path)?;
        Ok(Some(Arc::new(Watermark::new(&owner, name.scheme()))))
    }
}
