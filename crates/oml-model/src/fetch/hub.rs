//! Models of the Hugging Face hub, through the `hf-hub` crate: its cache folder, its token and, from the environment,
//! its endpoint.

use std::path::Path;

use hf_hub::api::sync::{ApiBuilder, ApiError, ApiRepo};
use hf_hub::{Cache, Repo, RepoType};

use super::{FetchError, Progress, copy};
use crate::checkpoint::{COMPANIONS, Checkpoint, DType, INDEX, WEIGHTS};

const RETRIES: usize = 3;

pub(super) fn fetch(
    name: &str,
    to: &Path,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<(), FetchError> {
    fetch_with(
        ApiBuilder::from_env(),
        &Cache::from_env(),
        name,
        to,
        progress,
    )
}

pub(super) fn fetch_with(
    builder: ApiBuilder,
    cache: &Cache,
    name: &str,
    to: &Path,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<(), FetchError> {
    let (model, revision) = name.split_once('@').unwrap_or((name, "main"));
    let failed = |file: &str| {
        let (model, file) = (name.to_owned(), file.to_owned());
        |source: ApiError| FetchError::Hub {
            model,
            file,
            source: Box::new(source),
        }
    };
    let api = builder
        .with_progress(false)
        .with_retries(RETRIES)
        .build()
        .map_err(failed("client"))?;
    let named = Repo::with_revision(model.to_owned(), RepoType::Model, revision.to_owned());
    let info = api.repo(named).info().map_err(failed("list of files"))?;
    let files: Vec<&str> = info
        .siblings
        .iter()
        .map(|file| file.rfilename.as_str())
        .collect();
    // one commit for all files, though the branch may move meanwhile
    let commit = Repo::with_revision(model.to_owned(), RepoType::Model, info.sha.clone());
    let (repo, cached) = (api.repo(commit.clone()), cache.repo(commit));
    let mut get = |file: &str| match cached.get(file) {
        Some(path) => Ok(path),
        None => download(&repo, file, progress).map_err(failed(file)),
    };
    let missing = |file: &'static str| FetchError::NotOnHub {
        model: name.to_owned(),
        file,
    };
    if !files.contains(&"config.json") {
        return Err(missing("config.json"));
    }
    let config = get("config.json")?;
    for file in COMPANIONS.iter().filter(|file| files.contains(file)) {
        get(file)?;
    }
    if files.contains(&INDEX) {
        get(INDEX)?;
        let shard = |file: &&&str| file.starts_with("model-") && file.ends_with(".safetensors");
        for file in files.iter().filter(shard) {
            get(file)?;
        }
    } else if files.contains(&WEIGHTS) {
        get(WEIGHTS)?;
    } else {
        return Err(missing(WEIGHTS));
    }
    let source = Checkpoint::open(config.parent().unwrap_or(&config))?;
    let stored = source.tensors().map(|tensor| tensor.dtype);
    let dtype = stored.reduce(|a, b| if a == b { a } else { DType::F32 });
    copy(&source, to, dtype.unwrap_or(DType::F32), progress)
}

/// Downloads the file into the cache.
fn download(
    repo: &ApiRepo,
    file: &str,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<std::path::PathBuf, ApiError> {
    struct Bytes<'a, 'b> {
        file: &'a str,
        done: u64,
        total: u64,
        progress: &'b mut dyn FnMut(Progress<'_>),
    }
    impl Bytes<'_, '_> {
        fn report(&mut self) {
            (self.progress)(Progress::Downloading {
                what: self.file,
                done: self.done,
                total: self.total,
            });
        }
    }
    impl hf_hub::api::Progress for Bytes<'_, '_> {
        fn init(&mut self, size: usize, _: &str) {
            (self.done, self.total) = (0, size as u64);
            self.report();
        }

        fn update(&mut self, size: usize) {
            self.done += size as u64;
            self.report();
        }

        fn finish(&mut self) {}
    }
    let bytes = Bytes {
        file,
        done: 0,
        total: 0,
        progress,
    };
    repo.download_with_progress(file, bytes)
}
