//! The folder beside the result in which a run keeps what it needs to go on: `OUT.state`, gone when the result is there.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};
use serde::{Deserialize, Serialize};

use crate::error::WithHint as _;
use crate::files::{self, Access, Existing};
use crate::report::Moment;

const FORMAT: &str = "oml-training";
const VERSION: u32 = 1;
const LIMIT: usize = 64 << 20;

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

/// The folder of one run.
pub(super) struct StateFolder {
    path: PathBuf,
}

impl StateFolder {
    /// The folder that belongs to the result `out`; made where it is missing.
    ///
    /// # Errors
    /// When there is a state and there must be none, or the other way round.
    pub(super) fn open(out: &Path, resume: Resume) -> anyhow::Result<Self> {
        let mut name = out
            .file_name()
            .map(ToOwned::to_owned)
            .unwrap_or_else(|| "model".into());
        name.push(".state");
        let folder = Self {
            path: out.with_file_name(name),
        };
        let found: anyhow::Result<()> = match (resume, folder.state().is_file()) {
            (Resume::Never, true) => Err(anyhow!(
                "{} holds the state of a run that was stopped",
                folder.path.display()
            )),
            (Resume::Required, false) => Err(anyhow!(
                "{} holds no state to go on from",
                folder.path.display()
            )),
            _ => Ok(()),
        };
        found.hint(match resume {
            Resume::Never => "Go on with it with --resume, or remove it.",
            _ => "Leave --resume away to start, or name the --out of the run that was stopped.",
        })?;
        fs::create_dir_all(&folder.path)
            .with_context(|| format!("cannot make folder {}", folder.path.display()))?;
        Ok(folder)
    }

    /// The training state.
    pub(super) fn state(&self) -> PathBuf {
        self.path.join("state")
    }

    /// Where the result is put together.
    ///
    /// # Errors
    /// When what an earlier run left there cannot be removed.
    pub(super) fn fresh_model(&self) -> anyhow::Result<PathBuf> {
        let path = self.path.join("model");
        if path.exists() {
            fs::remove_dir_all(&path)
                .with_context(|| format!("cannot remove {}", path.display()))?;
        }
        Ok(path)
    }

    /// Removes the folder with everything in it.
    pub(super) fn remove(self) {
        // The result is complete; a rest of the state does no harm.
        let _ = fs::remove_dir_all(&self.path);
    }

    /// Keeps the course of training so far.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(super) fn keep(&self, course: &Course) -> anyhow::Result<()> {
        files::write_whole(
            &self.path.join("training.json"),
            &course.render()?,
            Access::Shared,
            Existing::Replace,
        )
    }

    /// The course of training that was kept; empty where there is none.
    pub(super) fn course(&self) -> Course {
        Course::read(&self.path.join("training.json")).unwrap_or_default()
    }
}

/// How training went: `{"format":"oml-training","version":1,"kept_seconds","moments":[[seconds, loss, recall or null], …]}`.
#[derive(Debug, Clone, Default)]
pub(crate) struct Course {
    /// In order of time.
    pub(crate) moments: Vec<Moment>,
    /// When the state that is kept was reached.
    pub(crate) kept_seconds: Option<f64>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct CourseFile {
    format: String,
    version: u32,
    kept_seconds: Option<f64>,
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
        state
            .keep(&Course {
                moments: vec![moment],
                kept_seconds: Some(1.5),
            })
            .unwrap();
        let course = state.course();
        assert_eq!(
            (course.moments.len(), course.kept_seconds, course.seconds()),
            (1, Some(1.5), 1.5)
        );
    }

    #[test]
    fn a_state_is_neither_ignored_nor_invented() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("out");
        assert!(StateFolder::open(&out, Resume::Required).is_err());
        let state = StateFolder::open(&out, Resume::Never).unwrap();
        fs::write(state.state(), "x").unwrap();
        assert!(StateFolder::open(&out, Resume::Never).is_err());
        assert!(StateFolder::open(&out, Resume::IfAny).is_ok());
    }
}
