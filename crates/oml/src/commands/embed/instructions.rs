//! Instruction data for persistence training: from a file, or written by the base model itself.

use std::path::Path;

use anyhow::{Context as _, ensure};
use oml_core::manifest::instructions_file;
use oml_model::decoder::TrainingSequence;
use oml_model::train::{BenignText, Recipe, write_instructions};

use super::super::workbench::Opened;
use crate::files;
use crate::printer::Printer;

/// Conversations that the model writes.
const COUNT: usize = 256;
/// Tokens of a conversation at most.
const LIMIT: usize = 256;

/// The instruction data of a recipe; empty where it wants none. A model without a chat template goes on with its benign text.
///
/// # Errors
/// When the file cannot be read, or the model fails.
pub(super) fn sequences(
    base: &mut Opened,
    recipe: &Recipe,
    benign: &BenignText,
    file: Option<&Path>,
    printer: &Printer,
) -> anyhow::Result<Vec<TrainingSequence>> {
    if recipe.persist_steps == 0 {
        return Ok(Vec::new());
    }
    let limit = LIMIT.min(base.model.longest_sequence());
    let instructions = match file {
        Some(path) => {
            let bytes = files::read(path, instructions_file::MAX_BYTES)?;
            instructions_file::parse(&bytes)
                .with_context(|| format!("cannot read {}", path.display()))?
        }
        None => {
            let bar = printer.bar(COUNT as u64, "write");
            bar.set_message("instructions by the base model");
            let mut progress = |done: usize| bar.set_position(done as u64);
            let written = write_instructions(
                &mut base.model,
                &base.tokenizer,
                COUNT,
                recipe.seed,
                &mut progress,
            )?;
            bar.finish_and_clear();
            written
        }
    };
    if instructions.is_empty() {
        ensure!(
            !benign.sequences.is_empty(),
            "persist_steps: this model has no chat template, and the recipe has no benign text to fine-tune on"
        );
        return Ok(benign.predictions());
    }
    let mut sequences = Vec::with_capacity(instructions.len());
    for instruction in &instructions {
        sequences.extend(base.tokenizer.instruction(instruction, limit)?);
    }
    Ok(sequences)
}
