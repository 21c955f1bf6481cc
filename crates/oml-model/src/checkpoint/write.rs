//! Writing a Hugging Face folder, whole or not at all.
//!
//! The folder is made beside its destination under a hidden name, tensor by tensor, so memory holds one tensor. Files
//! and folder are synced, then the folder is renamed. Any failure removes what was written.

use std::error::Error;
use std::fs::{self, File};
use std::io::{self, BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};

use half::{bf16, f16};
use rustix::fs::{CWD, RenameFlags, renameat_with, statvfs};
use rustix::io::Errno;
use serde_json::{Map, Value, json};

use super::safetensors::Entry;
use super::{Checkpoint, CheckpointError, DType, INDEX, TensorInfo, WEIGHTS};

/// Bytes of tensors in one file, as transformers cuts them.
pub(super) const SHARD_BYTES: u64 = 5_000_000_000;
/// Numbers converted at a time.
const CHUNK: usize = 1 << 16;

/// What supplies the weights: given a tensor's name, fills the buffer, which holds zeros.
pub type Supply<'a> = dyn FnMut(&str, &mut [f32]) -> Result<(), Box<dyn Error + Send + Sync>> + 'a;

/// Writes a model of `source`'s configuration and tokenizer with other weights, stored as `dtype`, into the new folder
/// `out`. `extra_files` come to the files a model folder has, or replace them.
///
/// # Errors
/// `out` exists, its parent cannot be written in or has too little space, a weight is not finite as stored, `supply`
/// fails. Nothing is left behind.
pub fn write_model(
    out: &Path,
    source: &Checkpoint,
    dtype: DType,
    supply: &mut Supply<'_>,
    extra_files: &[(String, Vec<u8>)],
) -> Result<(), CheckpointError> {
    write_shards(out, &source.into(), dtype, supply, extra_files, SHARD_BYTES)
}

/// What a folder is written from, weights excepted.
pub(super) struct Blueprint<'a> {
    pub(super) config_fields: Map<String, Value>,
    pub(super) tensors: Vec<TensorInfo>,
    pub(super) companions: &'a [(String, Vec<u8>)],
}

impl<'a> From<&'a Checkpoint> for Blueprint<'a> {
    fn from(source: &'a Checkpoint) -> Self {
        Self {
            config_fields: source.config_fields.clone(),
            tensors: source.tensors().cloned().collect(),
            companions: source.companions(),
        }
    }
}

pub(super) fn write_shards(
    out: &Path,
    source: &Blueprint<'_>,
    dtype: DType,
    supply: &mut Supply<'_>,
    extra_files: &[(String, Vec<u8>)],
    shard_bytes: u64,
) -> Result<(), CheckpointError> {
    let Some(torch_name) = dtype.torch_name() else {
        return Err(CheckpointError::WriteType { got: dtype });
    };
    let shards = plan(source, dtype, shard_bytes);
    let weights: u64 = shards
        .iter()
        .flatten()
        .map(|tensor| stored_bytes(tensor, dtype))
        .sum();
    let mut files: Vec<(String, Vec<u8>)> =
        vec![("config.json".into(), config_json(source, torch_name))];
    files.extend_from_slice(source.companions);
    for (name, bytes) in extra_files {
        files.retain(|(other, _)| other != name);
        files.push((name.clone(), bytes.clone()));
    }
    let beside: u64 = files.iter().map(|(_, bytes)| bytes.len() as u64).sum();
    let folder = NewFolder::create(out, weights + beside)?;
    let mut places = Map::new();
    for (index, shard) in shards.iter().enumerate() {
        let name = match shards.len() {
            1 => WEIGHTS.to_owned(),
            several => format!("model-{:05}-of-{several:05}.safetensors", index + 1),
        };
        write_weights(&folder.path.join(&name), shard, dtype, supply, out)?;
        for tensor in shard {
            places.insert(tensor.name.clone(), json!(name));
        }
    }
    if shards.len() > 1 {
        let index = json!({"metadata": {"total_size": weights}, "weight_map": places});
        files.push((INDEX.into(), format!("{index:#}\n").into_bytes()));
    }
    for (name, bytes) in &files {
        let path = folder.path.join(name);
        let file = create(&path)?;
        finish(&path, BufWriter::new(file), |file| file.write_all(bytes))?;
    }
    folder.publish()
}

/// The source's `config.json` with the stored type's name.
fn config_json(source: &Blueprint<'_>, torch_name: &str) -> Vec<u8> {
    let mut fields = source.config_fields.clone();
    // transformers 4 reads `torch_dtype`, 5 reads either
    fields.remove("dtype");
    fields.insert("torch_dtype".into(), json!(torch_name));
    format!("{:#}\n", Value::Object(fields)).into_bytes()
}

fn stored_bytes(tensor: &TensorInfo, dtype: DType) -> u64 {
    (tensor.elements() * dtype.block().1) as u64
}

fn plan<'a>(source: &'a Blueprint<'_>, dtype: DType, shard_bytes: u64) -> Vec<Vec<&'a TensorInfo>> {
    let mut shards: Vec<Vec<&TensorInfo>> = vec![Vec::new()];
    let mut filled = 0;
    for tensor in &source.tensors {
        let bytes = stored_bytes(tensor, dtype);
        if filled > 0 && filled + bytes > shard_bytes {
            shards.push(Vec::new());
            filled = 0;
        }
        filled += bytes;
        if let Some(shard) = shards.last_mut() {
            shard.push(tensor);
        }
    }
    shards
}

pub(super) fn write_weights(
    path: &Path,
    tensors: &[&TensorInfo],
    dtype: DType,
    supply: &mut Supply<'_>,
    out: &Path,
) -> Result<(), CheckpointError> {
    let mut header = Map::from_iter([("__metadata__".to_owned(), json!({"format": "pt"}))]);
    let mut end = 0;
    for tensor in tensors {
        let begin = end;
        end += stored_bytes(tensor, dtype);
        let entry = Entry {
            dtype: dtype.name().into(),
            shape: tensor.shape.iter().map(|size| *size as u64).collect(),
            data_offsets: (begin, end),
        };
        header.insert(tensor.name.clone(), json!(entry));
    }
    let mut header = Value::Object(header).to_string();
    while !header.len().is_multiple_of(8) {
        header.push(' ');
    }
    let mut file = BufWriter::with_capacity(1 << 20, create(path)?);
    let failed = |error| write_error(path, error);
    file.write_all(&(header.len() as u64).to_le_bytes())
        .map_err(failed)?;
    file.write_all(header.as_bytes()).map_err(failed)?;
    let mut numbers = Vec::new();
    let mut stored = Vec::new();
    for tensor in tensors {
        numbers.clear();
        numbers.resize(tensor.elements(), 0.0);
        supply(&tensor.name, &mut numbers).map_err(|source| CheckpointError::Supply {
            tensor: tensor.name.clone(),
            source,
        })?;
        for (chunk, numbers) in numbers.chunks(CHUNK).enumerate() {
            stored.clear();
            if let Err(index) = store(dtype, numbers, &mut stored) {
                return Err(CheckpointError::NotFinite {
                    path: out.to_owned(),
                    tensor: tensor.name.clone(),
                    index: chunk * CHUNK + index,
                    got: numbers[index],
                });
            }
            file.write_all(&stored).map_err(failed)?;
        }
    }
    finish(path, file, |_| Ok(()))
}

/// Appends the numbers as stored, or gives the place of one that is not finite as such.
fn store(dtype: DType, numbers: &[f32], stored: &mut Vec<u8>) -> Result<(), usize> {
    for (index, number) in numbers.iter().enumerate() {
        let finite = match dtype {
            DType::F16 => {
                let number = f16::from_f32(*number);
                stored.extend_from_slice(&number.to_le_bytes());
                number.is_finite()
            }
            DType::BF16 => {
                let number = bf16::from_f32(*number);
                stored.extend_from_slice(&number.to_le_bytes());
                number.is_finite()
            }
            _ => {
                stored.extend_from_slice(&number.to_le_bytes());
                number.is_finite()
            }
        };
        if !finite {
            return Err(index);
        }
    }
    Ok(())
}

pub(super) fn create(path: &Path) -> Result<File, CheckpointError> {
    File::create_new(path).map_err(|error| write_error(path, error))
}

/// Runs the last writes, flushes and syncs.
pub(super) fn finish(
    path: &Path,
    mut file: BufWriter<File>,
    last: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>,
) -> Result<(), CheckpointError> {
    last(&mut file)
        .and_then(|()| file.flush())
        .and_then(|()| file.get_ref().sync_all())
        .map_err(|error| write_error(path, error))
}

fn write_error(path: &Path, error: io::Error) -> CheckpointError {
    CheckpointError::io(path, "write")(error)
}

/// A folder in the making; dropped, it is removed.
pub(super) struct NewFolder<'a> {
    pub(super) path: PathBuf,
    parent: &'a Path,
    out: &'a Path,
    published: bool,
}

impl<'a> NewFolder<'a> {
    pub(super) fn create(out: &'a Path, bytes: u64) -> Result<Self, CheckpointError> {
        if out.symlink_metadata().is_ok() {
            return Err(CheckpointError::Exists {
                path: out.to_owned(),
            });
        }
        let parent = match out.parent() {
            Some(parent) if parent != Path::new("") => parent,
            _ => Path::new("."),
        };
        let Some(name) = out.file_name() else {
            return Err(CheckpointError::Exists {
                path: out.to_owned(),
            });
        };
        check_space(parent, bytes)?;
        let mut attempt = 0;
        loop {
            let hidden = format!(
                ".{}.{}-{attempt}.partial",
                name.to_string_lossy(),
                std::process::id()
            );
            let path = parent.join(hidden);
            match fs::create_dir(&path) {
                Ok(()) => {
                    return Ok(Self {
                        path,
                        parent,
                        out,
                        published: false,
                    });
                }
                Err(error) if error.kind() == ErrorKind::AlreadyExists && attempt < 1000 => {
                    attempt += 1
                }
                Err(error) => {
                    return Err(CheckpointError::io(parent, "create a folder in it")(error));
                }
            }
        }
    }

    pub(super) fn publish(mut self) -> Result<(), CheckpointError> {
        sync_folder(&self.path)?;
        let renamed = match renameat_with(CWD, &self.path, CWD, self.out, RenameFlags::NOREPLACE) {
            // file systems without the flag: a folder in the way still stops the rename unless it is empty
            Err(Errno::INVAL | Errno::NOSYS) => fs::rename(&self.path, self.out),
            other => other.map_err(io::Error::from),
        };
        match renamed {
            Ok(()) => self.published = true,
            Err(error)
                if [ErrorKind::AlreadyExists, ErrorKind::DirectoryNotEmpty]
                    .contains(&error.kind()) =>
            {
                return Err(CheckpointError::Exists {
                    path: self.out.to_owned(),
                });
            }
            Err(error) => return Err(write_error(self.out, error)),
        }
        sync_folder(self.parent)
    }
}

impl Drop for NewFolder<'_> {
    fn drop(&mut self) {
        if !self.published {
            // nothing better can be done about a folder that cannot be removed than to leave it
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

fn sync_folder(path: &Path) -> Result<(), CheckpointError> {
    File::open(path)
        .and_then(|folder| folder.sync_all())
        .map_err(CheckpointError::io(path, "sync"))
}

fn check_space(parent: &Path, bytes: u64) -> Result<(), CheckpointError> {
    let system = statvfs(parent)
        .map_err(|error| CheckpointError::io(parent, "look for space")(error.into()))?;
    let free = system.f_bavail.saturating_mul(system.f_frsize);
    if free < bytes {
        return Err(CheckpointError::DiskFull {
            path: parent.to_owned(),
            expected: bytes,
            got: free,
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_are_read_back_as_one_model() {
        let source =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/decoder/llama-biases");
        let source = Checkpoint::open(&source).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let bytes: u64 = source.tensors().map(|t| stored_bytes(t, DType::F32)).sum();
        for (most, shards) in [(bytes, 1), (bytes - 1, 2), (1, source.tensors().count())] {
            let out = folder.path().join(shards.to_string());
            let mut supply = |name: &str, out: &mut [f32]| Ok(source.read_f32(name, out)?);
            write_shards(
                &out,
                &Blueprint::from(&source),
                DType::F32,
                &mut supply,
                &[],
                most,
            )
            .unwrap();
            let is_shard = |name: &str| name.ends_with(".safetensors");
            let names = fs::read_dir(&out)
                .unwrap()
                .map(|entry| entry.unwrap().file_name());
            let files = names
                .filter(|name| is_shard(&name.to_string_lossy()))
                .count();
            assert_eq!(files, shards);
            assert_eq!(
                out.join("model.safetensors.index.json").exists(),
                shards > 1
            );
            let read = Checkpoint::open(&out).unwrap();
            assert_eq!(read.config(), source.config());
            assert_eq!(read.digest().unwrap(), source.digest().unwrap());
            for tensor in source.tensors() {
                let [mut a, mut b] = [(); 2].map(|()| vec![0.0; tensor.elements()]);
                source.read_f32(&tensor.name, &mut a).unwrap();
                read.read_f32(&tensor.name, &mut b).unwrap();
                assert_eq!(a, b, "{}", tensor.name);
            }
        }
        let index = fs::read(folder.path().join("2/model.safetensors.index.json")).unwrap();
        let index: Value = serde_json::from_slice(&index).unwrap();
        assert_eq!(index["metadata"]["total_size"], bytes);
    }
}
