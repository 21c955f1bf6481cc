//! What a run keeps beside its output to go on from: the pairs it has found, encrypted for their owner.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use oml_core::manifest::fingerprint_file::MAX_BYTES;
use oml_core::manifest::partial_file;
use oml_core::secret::OwnerSeed;
use oml_core::strategy::PartialSet;

use super::super::embed::{Resume, StateFolder};
use crate::error::WithHint as _;
use crate::files::{self, Access, Existing};
use crate::interrupt;

/// The folder of one run, and what is in it.
pub(super) struct Kept<'a> {
    folder: StateFolder,
    identity: [u8; 32],
    owner: &'a OwnerSeed,
    every: Duration,
    saved: Instant,
    /// Why nothing more can be saved.
    fault: Option<anyhow::Error>,
}

impl<'a> Kept<'a> {
    /// The folder of the output `out`, and what an earlier run found, where `resume` asks for it.
    ///
    /// # Errors
    /// When there is something and must not be, or the other way round, or it belongs to another set.
    pub(super) fn open(
        out: &Path,
        resume: bool,
        identity: [u8; 32],
        owner: &'a OwnerSeed,
        every: Duration,
    ) -> anyhow::Result<(Self, PartialSet)> {
        let folder = match resume {
            true => StateFolder::open(out, Resume::Required)?,
            false => StateFolder::open(out, Resume::Never)?,
        };
        let start = match resume {
            true => {
                let path = folder.state();
                let opened = partial_file::open(&files::read(&path, MAX_BYTES)?, &identity, owner);
                let opened = opened.with_context(|| format!("cannot read {}", path.display()));
                opened.hint("The flags, the owner, the models or the version differ from those of the run that was stopped: use the same, or remove its state and start again.")?
            }
            false => PartialSet::default(),
        };
        let kept = Self {
            folder,
            identity,
            owner,
            every,
            saved: Instant::now(),
            fault: None,
        };
        Ok((kept, start))
    }

    /// Saves what is found when it is time to, or the run is asked to stop; true where it must stop.
    pub(super) fn watch(&mut self, found: &PartialSet) -> bool {
        let stop = interrupt::requested();
        if found.attempts > 0 && (stop || self.saved.elapsed() >= self.every) {
            self.fault = self.save(found).err();
            self.saved = Instant::now();
        }
        stop || self.fault.is_some()
    }

    fn save(&self, found: &PartialSet) -> anyhow::Result<()> {
        let bytes = partial_file::seal(found, &self.identity, self.owner)?;
        let path = self.folder.state();
        files::write_whole(&path, &bytes, Access::Private, Existing::Replace)
    }

    /// Why the run had to stop, if it was not asked to.
    pub(super) fn fault(&mut self) -> Option<anyhow::Error> {
        self.fault.take()
    }

    /// Removes everything, once the result is there.
    pub(super) fn remove(self) {
        self.folder.remove();
    }
}
