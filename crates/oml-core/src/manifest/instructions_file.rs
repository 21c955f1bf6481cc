//! Instructions with their answers, for fine-tuning: `[{"instruction": text, "input": text (optional), "output": text}, …]`.
//!
//! This is the form that Stanford Alpaca introduced; other fields of the records are passed over.

use serde::Deserialize;

use super::field::{List, Text};
use super::{FileError, Kind};

/// Most records of a file.
pub const MAX_RECORDS: usize = 1 << 20;
/// Most bytes of one text in it.
const MAX_TEXT_BYTES: usize = 1 << 18;
/// Most bytes of such a file.
pub const MAX_BYTES: usize = 512 << 20;
const KIND: Kind = Kind {
    format: "instructions file",
    version: 1,
    max_bytes: MAX_BYTES,
};

/// What a user says, and what is to be answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instruction {
    /// The user's turn: the instruction, and below it the input where there is one.
    pub user: String,
    /// The answer.
    pub answer: String,
}

#[derive(Deserialize)]
struct Record {
    instruction: Text<MAX_TEXT_BYTES>,
    input: Option<Text<MAX_TEXT_BYTES>>,
    output: Text<MAX_TEXT_BYTES>,
}

/// Reads a list of instructions, in order.
///
/// # Errors
/// Any fault of the file, or no record in it.
pub fn parse(bytes: &[u8]) -> Result<Vec<Instruction>, FileError> {
    KIND.judge_size(bytes.len())?;
    let records: List<Record, MAX_RECORDS> = KIND.json(bytes)?;
    if records.0.is_empty() {
        return Err(FileError::Field {
            file: KIND.format,
            field: "records",
            expected: "at least one".into(),
            got: "none".into(),
        });
    }
    let instruction = |record: Record| {
        let mut user = record.instruction.0;
        if let Some(input) = record.input.filter(|input| !input.0.is_empty()) {
            user = format!("{user}\n\n{}", input.0);
        }
        Instruction {
            user,
            answer: record.output.0,
        }
    };
    Ok(records.0.into_iter().map(instruction).collect())
}
