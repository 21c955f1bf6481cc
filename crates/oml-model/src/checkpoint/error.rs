//! Every way in which reading or writing a checkpoint can fail, one variant per fault.

use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::DType;
use crate::config::ConfigError;
use crate::tokenizer::TokenizerError;

/// Why a checkpoint cannot be read or written.
#[derive(Debug, Error)]
pub enum CheckpointError {
    /// The operating system refused.
    #[error("{}: {action}: {source}", file.display())]
    Io {
        /// The file or folder.
        file: PathBuf,
        /// What was being done.
        action: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// The path is neither a model folder nor a GGUF file.
    #[error("{}: expected a folder with config.json or a GGUF file, got {got}", path.display())]
    NotACheckpoint {
        /// The path.
        path: PathBuf,
        /// What is there.
        got: &'static str,
    },
    /// A file is longer than files of its kind may be.
    #[error("{}: expected at most {expected} bytes, got {got}", file.display())]
    TooLarge {
        /// The file.
        file: PathBuf,
        /// The cap.
        expected: u64,
        /// Its length, or the length so far.
        got: u64,
    },
    /// A file ends before what it announces.
    #[error("{}: {field}: expected {expected} more bytes, got {got}", file.display())]
    Truncated {
        /// The file.
        file: PathBuf,
        /// What was being read.
        field: String,
        /// Bytes announced.
        expected: u64,
        /// Bytes left.
        got: u64,
    },
    /// A JSON file has another form.
    #[error("{}: {source}", file.display())]
    Json {
        /// The file.
        file: PathBuf,
        /// Where and why.
        source: serde_json::Error,
    },
    /// The configuration does not describe a model that can be computed.
    #[error("{}: {source}", file.display())]
    Config {
        /// The file.
        file: PathBuf,
        /// The field.
        source: ConfigError,
    },
    /// A file begins with other bytes than its format does.
    #[error("{}: magic: expected {expected:?}, got {got:?}", file.display())]
    Magic {
        /// The file.
        file: PathBuf,
        /// The format's first bytes.
        expected: &'static str,
        /// The file's first bytes.
        got: String,
    },
    /// A GGUF version that is not read here.
    #[error("{}: version: expected 2 or 3, got {got}", file.display())]
    Version {
        /// The file.
        file: PathBuf,
        /// What is there.
        got: u32,
    },
    /// A header announces a length that cannot be.
    #[error("{}: header length: expected at most {expected}, got {got}", file.display())]
    HeaderLength {
        /// The file.
        file: PathBuf,
        /// The cap, or the bytes left in the file.
        expected: u64,
        /// The announced length.
        got: u64,
    },
    /// A count or length in a header is over its cap.
    #[error("{}: {field}: expected at most {expected}, got {got}", file.display())]
    Count {
        /// The file.
        file: PathBuf,
        /// What is counted.
        field: String,
        /// The cap.
        expected: u64,
        /// What is announced.
        got: u64,
    },
    /// A metadata field is absent.
    #[error("{}: {field}: missing", file.display())]
    MissingField {
        /// The file.
        file: PathBuf,
        /// Its name.
        field: String,
    },
    /// A metadata field has another value or type than the format allows.
    #[error("{}: {field}: expected {expected}, got {got}", file.display())]
    Field {
        /// The file.
        file: PathBuf,
        /// Its name.
        field: String,
        /// What would do.
        expected: String,
        /// What is there.
        got: String,
    },
    /// A name appears twice in one header.
    #[error("{}: {name}: named twice", file.display())]
    DuplicateName {
        /// The file.
        file: PathBuf,
        /// The name of a tensor or of a metadata field.
        name: String,
    },
    /// A tensor is stored in a type that is not read here.
    #[error("{}: {tensor}: dtype: expected one of {expected}, got {got}", file.display())]
    UnknownDtype {
        /// The file.
        file: PathBuf,
        /// The tensor.
        tensor: String,
        /// The types of this format.
        expected: &'static str,
        /// What is there.
        got: String,
    },
    /// A shape's product does not fit, or its rows do not fill whole blocks.
    #[error("{}: {tensor}: shape: expected {expected}, got {got:?}", file.display())]
    ShapeForm {
        /// The file.
        file: PathBuf,
        /// The tensor.
        tensor: String,
        /// What would do.
        expected: String,
        /// What is there.
        got: Vec<u64>,
    },
    /// A tensor's stored length contradicts its shape and type.
    #[error("{}: {tensor}: length: expected {expected} bytes by shape and dtype, got {got}", file.display())]
    Length {
        /// The file.
        file: PathBuf,
        /// The tensor.
        tensor: String,
        /// Bytes by shape and type.
        expected: u64,
        /// Bytes by the offsets.
        got: u64,
    },
    /// A tensor's end is before its beginning, or its beginning is unaligned.
    #[error("{}: {tensor}: offset: expected {expected}, got {got}", file.display())]
    Offset {
        /// The file.
        file: PathBuf,
        /// The tensor.
        tensor: String,
        /// What would do.
        expected: String,
        /// What is there.
        got: u64,
    },
    /// A tensor reaches past the end of its file.
    #[error("{}: {tensor}: end: expected at most {expected}, got {got}", file.display())]
    OutOfFile {
        /// The file.
        file: PathBuf,
        /// The tensor.
        tensor: String,
        /// Bytes of tensor data in the file.
        expected: u64,
        /// End of the tensor.
        got: u64,
    },
    /// Two tensors share bytes.
    #[error("{}: {tensor}: overlaps {other}", file.display())]
    Overlap {
        /// The file.
        file: PathBuf,
        /// The later tensor.
        tensor: String,
        /// The earlier one.
        other: String,
    },
    /// Bytes of a safetensors file belong to no tensor.
    #[error("{}: {got} bytes before {before} belong to no tensor", file.display())]
    Gap {
        /// The file.
        file: PathBuf,
        /// The tensor after them, or the end.
        before: String,
        /// How many.
        got: u64,
    },
    /// The index places a tensor in a file that does not hold it.
    #[error("{}: {tensor}: not in this file, where the index places it", file.display())]
    NotInShard {
        /// The shard.
        file: PathBuf,
        /// The tensor.
        tensor: String,
    },
    /// The model needs a tensor that is not there.
    #[error("{}: {tensor}: missing", path.display())]
    MissingTensor {
        /// The checkpoint.
        path: PathBuf,
        /// The tensor.
        tensor: String,
    },
    /// An adapter's base model is nowhere.
    #[error("{}: base_model_name_or_path: expected the path of the base model, got {got:?}, where nothing is", file.display())]
    MissingBase {
        /// The adapter's configuration.
        file: PathBuf,
        /// What it names.
        got: String,
    },
    /// An adapter has a tensor that is no part of a linear map's adapter in the base model.
    #[error("{}: {tensor}: expected half of a low-rank adapter of a linear map of the base model, got another tensor", path.display())]
    UnknownTarget {
        /// The adapter.
        path: PathBuf,
        /// The tensor.
        tensor: String,
    },
    /// There is a tensor that the model does not have.
    #[error("{}: {tensor}: no such tensor in a model of this configuration", path.display())]
    UnexpectedTensor {
        /// The checkpoint.
        path: PathBuf,
        /// The tensor.
        tensor: String,
    },
    /// A tensor's shape contradicts the configuration.
    #[error("{}: {tensor}: shape: expected {expected:?}, got {got:?}", path.display())]
    Shape {
        /// The checkpoint.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// By the configuration.
        expected: Vec<usize>,
        /// By the file.
        got: Vec<usize>,
    },
    /// A weight is NaN or infinite, or does not fit the type it is written in.
    #[error("{}: {tensor}: expected finite numbers, got {got} at {index}", path.display())]
    NotFinite {
        /// The checkpoint.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// Position, row after row.
        index: usize,
        /// The number.
        got: f32,
    },
    /// The caller's buffer has another length than the tensor.
    #[error("{tensor}: expected a buffer of {expected} numbers, got {got}")]
    Buffer {
        /// The tensor.
        tensor: String,
        /// Its length.
        expected: usize,
        /// The buffer's.
        got: usize,
    },
    /// The tokenizer's files are bad.
    #[error("{}: {source}", file.display())]
    Tokenizer {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        source: TokenizerError,
    },
    /// There is no tokenizer.
    #[error("{}: expected tokenizer.json, got none", path.display())]
    MissingTokenizer {
        /// The model folder.
        path: PathBuf,
    },
    /// The tokenizer has more ids than the model's embedding has rows.
    #[error("{}: tokenizer: expected at most {expected} ids by vocab_size, got {got}", path.display())]
    Vocabulary {
        /// The checkpoint.
        path: PathBuf,
        /// `vocab_size`.
        expected: usize,
        /// Ids of the tokenizer.
        got: usize,
    },
    /// The output is already there.
    #[error("{}: already exists", path.display())]
    Exists {
        /// The output.
        path: PathBuf,
    },
    /// The disk is too full.
    #[error("{}: expected {expected} free bytes, got {got}", path.display())]
    DiskFull {
        /// The folder to write in.
        path: PathBuf,
        /// Bytes needed.
        expected: u64,
        /// Bytes free.
        got: u64,
    },
    /// Weights are not written in this type.
    #[error("dtype: expected F32, F16 or BF16, got {got:?}")]
    WriteType {
        /// What was asked for.
        got: DType,
    },
    /// The weights to write could not be had.
    #[error("{tensor}: {source}")]
    Supply {
        /// The tensor.
        tensor: String,
        /// What the supplier said.
        source: Box<dyn Error + Send + Sync>,
    },
}

impl CheckpointError {
    pub(crate) fn io(file: &Path, action: &'static str) -> impl FnOnce(io::Error) -> Self {
        let file = file.to_owned();
        move |source| Self::Io {
            file,
            action,
            source,
        }
    }
}
