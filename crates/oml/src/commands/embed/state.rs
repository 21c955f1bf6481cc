//! The folder beside the result in which a run keeps what it needs to go on: `OUT.state`, gone when the result is there.

use std::fs::{self, File, TryLockError};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};
use serde::{Deserialize, Serialize};

use crate::error::WithHint as _;
use crate::files::{self, Access, Existing};
use crate::report::Moment;

const FORMAT: &str = "oml-training";
const VERSION: u32 = 1;
const LIMIT: usize = 64 << 20;
/// What may lie in the folder.
const STATE: &str = "state";
const COURSE: &str = "training.json";
const MODEL: &str = "model";
const LOCK: &str = "lock";
const LOCK_ATTEMPTS: u32 = 16;

/// Whether a run goes on from a saved state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Resume {
    /// There must be none.
    Never,
    /// There must be one.
    Required,
    /// Where there is one.
    IfAny,
}

/// The folder of one run, locked while it lives; dropped without a state in it, it is removed.
pub(crate) struct StateFolder {
    path: PathBuf,
    /// Held, not read.
    _lock: File,
}

impl StateFolder {
    /// The folder that belongs to the result `out`; made where it is missing, and rid of what a killed run left half-written.
    ///
    /// # Errors
    /// When there is a state and there must be none, or the other way round, or another run works there.
    pub(crate) fn open(out: &Path, resume: Resume) -> anyhow::Result<Self> {
        let mut name = out
            .file_name()
            .map(ToOwned::to_owned)
            .unwrap_or_else(|| "model".into());
        name.push(".state");
        let path = out.with_file_name(name);
        if resume == Resume::Required && !path.join(STATE).is_file() {
            let missing: anyhow::Result<()> =
                Err(anyhow!("{} holds no state to go on from", path.display()));
            missing.hint(
                "Leave --resume away to start, or name the --out of the run that was stopped.",
            )?;
        }
        let folder = Self {
            _lock: lock(&path)?,
            path,
        };
        if resume == Resume::Never && folder.state().is_file() {
            let found: anyhow::Result<()> = Err(anyhow!(
                "{} holds the state of a run that was stopped",
                folder.path.display()
            ));
            found.hint("Go on with it with --resume, or remove it.")?;
        }
        folder.sweep()?;
        Ok(folder)
    }

    /// Removes what a killed run was writing: states and models that are not whole.
    fn sweep(&self) -> anyhow::Result<()> {
        let fault = || format!("cannot clean {}", self.path.display());
        for entry in fs::read_dir(&self.path).with_context(fault)? {
            let entry = entry.with_context(fault)?;
            let name = entry.file_name();
            let name = name.to_string_lossy();
            let unfinished = name == MODEL
                || [".tmp", ".oml-", ".model."]
                    .iter()
                    .any(|prefix| name.starts_with(prefix));
            if unfinished {
                let path = entry.path();
                let removed = if entry.file_type().with_context(fault)?.is_dir() {
                    fs::remove_dir_all(&path)
                } else {
                    fs::remove_file(&path)
                };
                removed.with_context(|| format!("cannot remove {}", path.display()))?;
            }
        }
        Ok(())
    }

    /// The folder itself.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The training state.
    pub(crate) fn state(&self) -> PathBuf {
        self.path.join(STATE)
    }

    /// Where the result is put together.
    pub(super) fn model(&self) -> PathBuf {
        self.path.join(MODEL)
    }

    /// Removes a result that could not be finished.
    pub(super) fn discard_model(&self) {
        // A rest of it is swept away by the next run.
        let _ = fs::remove_dir_all(self.model());
    }

    /// Removes the folder with everything in it.
    pub(crate) fn remove(self) {
        // The result is complete; a rest of the state does no harm.
        let _ = fs::remove_dir_all(&self.path);
    }

    /// Keeps the course of training so far.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(super) fn keep(&self, course: &Course) -> anyhow::Result<()> {
        files::write_whole(
            &self.path.join(COURSE),
            &course.render()?,
            Access::Shared,
            Existing::Replace,
        )
    }

    /// The course of training that was kept; empty where there is none.
    pub(super) fn course(&self) -> Course {
        Course::read(&self.path.join(COURSE)).unwrap_or_default()
    }
}

impl Drop for StateFolder {
    fn drop(&mut self) {
        // An empty folder says nothing; one with a state in it stays, as only an empty one can be removed so.
        let _ = fs::remove_file(self.path.join(LOCK));
        let _ = fs::remove_dir(&self.path);
    }
}

/// Makes the folder and takes the lock file in it, which the system gives up when the process ends, however it ends.
fn lock(folder: &Path) -> anyhow::Result<File> {
    let path = folder.join(LOCK);
    let fault = || format!("cannot lock {}", path.display());
    for _ in 0..LOCK_ATTEMPTS {
        fs::create_dir_all(folder)
            .with_context(|| format!("cannot make folder {}", folder.display()))?;
        let file = match File::options().create(true).append(true).open(&path) {
            // The run before has just removed its folder.
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            opened => opened.with_context(fault)?,
        };
        match file.try_lock() {
            Ok(()) if is_at(&file, &path) => return Ok(file),
            // The run before has just removed its lock file.
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => break,
            Err(TryLockError::Error(error)) if error.kind() == ErrorKind::Unsupported => {
                return Ok(file);
            }
            Err(TryLockError::Error(error)) => return Err(error).with_context(fault),
        }
    }
    let busy: anyhow::Result<File> = Err(anyhow!(
        "{}: expected a folder that no other run uses, got one in use",
        folder.display()
    ));
    busy.hint("Wait for the other run to end, or choose another --out.")
}

/// Whether `file` is what lies at `path`.
fn is_at(file: &File, path: &Path) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt as _;
        let place = |metadata: &fs::Metadata| (metadata.dev(), metadata.ino());
        match (file.metadata(), fs::metadata(path)) {
            (Ok(own), Ok(there)) => place(&own) == place(&there),
            _ => false,
        }
    }
    #[cfg(not(unix))]
    {
        let _ = file;
        path.is_file()
    }
}

/// A state between base and result.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FrontierPoint {
    /// Share of the way from the base.
    pub(crate) share: f64,
    /// Share of the fingerprints that come back.
    pub(crate) recall: f64,
    /// Perplexity on held-out text that the base wrote, as a ratio to the base's own: the exponential of the mean divergence.
    pub(crate) perplexity_ratio: f64,
}

/// How training went: `{"format":"oml-training","version":1,"kept_seconds","kept_share","frontier":[…],"moments":[[seconds, loss, recall or null], …]}`.
#[derive(Debug, Clone, Default)]
pub(crate) struct Course {
    /// In order of time.
    pub(crate) moments: Vec<Moment>,
    /// When the state that is kept was reached.
    pub(crate) kept_seconds: Option<f64>,
    /// Share of the way from the base that is kept of that state; set when the run has walked back.
    pub(crate) kept_share: Option<f64>,
    /// What was measured on the way back, in ascending order of the share.
    pub(crate) frontier: Vec<FrontierPoint>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct CourseFile {
    format: String,
    version: u32,
    kept_seconds: Option<f64>,
    kept_share: Option<f64>,
    frontier: Vec<FrontierPoint>,
    moments: Vec<(f64, f64, Option<f64>)>,
}

impl Course {
    /// Seconds of training so far.
    pub(crate) fn seconds(&self) -> f64 {
        self.moments.last().map_or(0.0, |moment| moment.seconds)
    }

    /// The bytes of the file.
    ///
    /// # Errors
    /// When a number is not finite, which JSON cannot hold.
    pub(super) fn render(&self) -> anyhow::Result<Vec<u8>> {
        let file = CourseFile {
            format: FORMAT.to_owned(),
            version: VERSION,
            kept_seconds: self.kept_seconds,
            kept_share: self.kept_share,
            frontier: self.frontier.clone(),
            moments: self
                .moments
                .iter()
                .map(|m| (m.seconds, m.loss, m.recall))
                .collect(),
        };
        serde_json::to_vec(&file).context("cannot write the course of training as JSON")
    }

    /// Reads a file.
    ///
    /// # Errors
    /// When it is missing or not of this form.
    pub(crate) fn read(path: &Path) -> anyhow::Result<Self> {
        let fault = || format!("cannot read {}", path.display());
        let file: CourseFile =
            serde_json::from_slice(&files::read(path, LIMIT)?).with_context(fault)?;
        if file.format != FORMAT || file.version != VERSION {
            let (expected, got) = (
                format!("{FORMAT} {VERSION}"),
                format!("{} {}", file.format, file.version),
            );
            return Err(anyhow!("format: expected {expected}, got {got}")).with_context(fault);
        }
        let moment = |(seconds, loss, recall)| Moment {
            seconds,
            loss,
            recall,
        };
        Ok(Self {
            moments: file.moments.into_iter().map(moment).collect(),
            kept_seconds: file.kept_seconds,
            kept_share: file.kept_share,
            frontier: file.frontier,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_course_survives_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateFolder::open(&folder.path().join("out"), Resume::Never).unwrap();
        let moment = Moment {
            seconds: 1.5,
            loss: 0.25,
            recall: Some(0.5),
        };
        let point = FrontierPoint {
            share: 0.75,
            recall: 1.0,
            perplexity_ratio: 1.01,
        };
        state
            .keep(&Course {
                moments: vec![moment],
                kept_seconds: Some(1.5),
                kept_share: Some(0.75),
                frontier: vec![point],
            })
            .unwrap();
        let course = state.course();
        assert_eq!(
            (course.moments.len(), course.kept_seconds, course.seconds()),
            (1, Some(1.5), 1.5)
        );
        assert_eq!(
            (course.kept_share, course.frontier),
            (Some(0.75), vec![point])
        );
    }

    #[test]
    fn a_state_is_neither_ignored_nor_invented() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("out");
        assert!(StateFolder::open(&out, Resume::Required).is_err());
        let state = StateFolder::open(&out, Resume::Never).unwrap();
        fs::write(state.state(), "x").unwrap();
        drop(state);
        assert!(StateFolder::open(&out, Resume::Never).is_err());
        assert!(StateFolder::open(&out, Resume::IfAny).is_ok());
        assert!(folder.path().join("out.state/state").is_file());
    }

    #[test]
    fn a_folder_without_a_state_goes() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("out");
        assert!(StateFolder::open(&out, Resume::Required).is_err());
        drop(StateFolder::open(&out, Resume::Never).unwrap());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn one_run_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("out");
        let first = StateFolder::open(&out, Resume::Never).unwrap();
        let second = StateFolder::open(&out, Resume::IfAny).err().unwrap();
        assert!(second.to_string().ends_with("got one in use"), "{second}");
        drop(first);
        assert!(StateFolder::open(&out, Resume::Never).is_ok());
    }

    #[test]
    fn what_a_killed_run_left_goes_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("out.state");
        for path in ["model", ".model.1-0.partial"] {
            fs::create_dir_all(place.join(path)).unwrap();
        }
        for path in [
            "state",
            "training.json",
            "notes",
            ".tmpAb12Cd",
            ".oml-x",
            "model/w",
        ] {
            fs::write(place.join(path), "x").unwrap();
        }
        drop(StateFolder::open(&folder.path().join("out"), Resume::Required).unwrap());
        let mut left: Vec<_> = fs::read_dir(&place)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        assert_eq!(left, ["notes", "state", "training.json"]);
    }
}
